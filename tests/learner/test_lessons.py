"""A teacher that reads other prompts than the policy, in every layout."""

import jax
import numpy as np
import pytest

from benchmarks import random_models
from tests.long import long
from zppo_jax.arrays import LessonRows, PromptBatch
from zppo_jax.learner import forward, layouts, packing
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  TokenSequence,
  Verdict,
)
from zppo_jax.rollout import weight_sync

pytestmark = pytest.mark.usefixtures('quick_compile')


def _groups(draw):
  return [Group(
      Prompt(Question(str(p), '', '', ''), PromptKind.PLAIN, draw(3 + p)),
      tuple(Rollout(draw(n), (-1.0,) * n, '', StopReason.END, Verdict.WRONG, '')
            for n in (2 + p, 5))) for p in range(3)]


def _prompt(tokens):
  return Prompt(Question('t', '', '', ''), PromptKind.PLAIN, tokens)


def _dense(copy, model, sequences):
  """[R, D] of each sequence: the hidden states that predict its response."""
  batch = packing.pad_rows([packing.to_score(s) for s in sequences],
                           len(sequences), 16, 0, model.num_axes)
  hidden = jax.jit(lambda params, batch: forward.frozen_output(
      params, batch, model=model).hidden_BTD)(copy, batch)
  return [np.asarray(hidden)[i, len(s.prompt):len(s)]
          for i, s in enumerate(sequences)]


@pytest.mark.parametrize('family, questions', [
    ('qwen3', (True, False)), long('qwen3_5', (False,))])
def test_hidden_states_are_those_of_each_sequence_alone(family, questions):
  """Behind lessons of a question and of a rollout, recurrent states too."""
  model, params = random_models.build(family)
  copy = weight_sync.rollout_copy(params, np.float32)
  rng = np.random.default_rng(0)
  draw = lambda n: tuple(rng.integers(2, 40, n).tolist())
  groups = _groups(draw)
  places = [(p, g) for p in range(3) for g in range(2)]
  name = iter(range(1, 1000))
  targets = {(p, g): {'name': np.float32([
      next(name) for _ in groups[p].rollouts[g].tokens])} for p, g in places}
  shared = [_prompt(draw(7 - p)) for p in range(3)]
  reading = {True: {(p, g): shared[p] for p, g in places},
             False: {(p, g): _prompt(draw(4 + 2 * g + p)) for p, g in places}}
  for of_question in questions:
    lessons, want = reading[of_question], {}
    hidden = _dense(copy, model, [TokenSequence(
        prompt=lessons[p, g].tokens, response=groups[p].rollouts[g].tokens)
        for p, g in places])
    for at, of_sequence in zip(places, hidden, strict=True):
      want |= dict(zip(targets[at]['name'].tolist(), of_sequence, strict=True))
    for kind in layouts.LAYOUTS:
      of = layouts.Layout(
          kind=kind, max_tokens=192, multiple=1, rollouts=2, row_buckets=(16,),
          prompt_buckets=(8,), response_buckets=(8,), patch_buckets=(),
          num_axes=model.num_axes, lessons=packing.LessonTable(
              of_question=of_question, prompt_buckets=(8,), row_buckets=(16,),
              patch_buckets=()))
      got = {}
      batches = layouts.micro_batches(groups, targets, of, lessons)
      for batch in batches:
        assert isinstance(batch.lessons, PromptBatch if kind == 'shared'
                          else LessonRows)
        hidden = jax.jit(lambda params, batch: forward.frozen_output(
            params, batch, model=model, lessons=True).hidden_BTD)(copy, batch)
        for b, t in zip(*np.nonzero(batch.mask_BT), strict=True):
          got[float(batch.targets['name'][b, t])] = np.asarray(hidden[b, t])
      assert got.keys() == want.keys()
      for key, x in want.items():
        np.testing.assert_allclose(got[key], x, atol=2e-5, err_msg=kind)
      if kind == 'shared':
        rows = [b.tokens_BT.shape[0] for b in batches]
        assert [b.lessons.tokens_PT.shape[0] for b in batches] == (
            [n // 2 for n in rows] if of_question else rows)


def test_lessons_take_room():
  """A micro-batch with lessons has fewer rows; empty ones have lessons too."""
  bare = layouts.Layout(
      kind='shared', max_tokens=400, multiple=1, rollouts=4, row_buckets=(64,),
      prompt_buckets=(8, 40), response_buckets=(16,), patch_buckets=(),
      num_axes=1)
  table = packing.LessonTable(of_question=True, prompt_buckets=(8, 40),
                              row_buckets=(64,), patch_buckets=())
  units = lambda of: [s.units for s in layouts.shapes(of)]
  assert units(bare) == [5, 3]
  assert units(bare._replace(lessons=table)) == [3, 2]
  assert units(bare._replace(
      lessons=table._replace(of_question=False))) == [1, 1]
  for kind in layouts.LAYOUTS:
    of = bare._replace(kind=kind, lessons=table)
    for shape in layouts.shapes(of):
      batch = layouts.empty(of, shape, {'x': np.zeros(1, np.float32)})
      assert batch.lessons.tokens_PT.shape == (shape.units, 40) if (
          kind == 'shared') else (
              batch.lessons.tokens_BT.shape == (shape.units, 64))


def test_a_pack_may_have_longer_lessons_than_the_largest_row():
  table = packing.LessonTable(of_question=False, prompt_buckets=(8,),
                              row_buckets=(8, 16), patch_buckets=())
  assert [table.row(n) for n in (3, 8, 9, 16, 17, 33)] == [
      8, 8, 16, 16, 32, 48]
