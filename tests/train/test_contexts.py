"""A run whose teacher reads more than the student."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from tests.builders import documented_metrics
from tests.long import LONG, long
from tests.train.test_distillation import gradient as whole, make_config
from tests.train.test_step import recorded_groups
from zppo_jax import tasks
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.tasks import micro
from zppo_jax.train import build, step

pytestmark = pytest.mark.usefixtures('quick_compile')


def told_groups():
  """Three recorded groups whose questions carry a hint and their solution."""
  out = []
  for of in recorded_groups()[2:5]:
    question = of.prompt.question
    told = dataclasses.replace(
        question, hint=micro.first_step(question),
        responses=(micro.solution(question), f'A {question.answer}'))
    out.append(dataclasses.replace(
        of, prompt=dataclasses.replace(of.prompt, question=told),
        rollouts=tuple(dataclasses.replace(r, text=f'{g} {of.rollouts[g].text}')
                       for g, r in enumerate(of.rollouts[:4]))))
  return out


def gradient(run, groups):
  """The gradient alone; its mini-batches differ from form to form."""
  return whole(run, groups)[0]


def config(method, context, **changes):
  return make_config(method, **{'distil.context': context, **changes})


@LONG
@pytest.mark.parametrize('context, layout', [
    ('hint', 'shared'),
    long('demonstration', 'packed')])
def test_every_form_and_layout_reads_the_same_context(context, layout):
  """The pass inside the update, of a prompt per question and per rollout, has
  the gradient of the stored pass over all ids, which scores sequence by
  sequence. Without the context it is another one."""
  groups = told_groups()
  of = {name: gradient(build.build(config('opd_reverse', context, **changes)),
                       groups) for name, changes in {
      'stored': {'distil.support': 'student', 'distil.top': 36},
      'inside': {'shapes.layout': layout}}.items()}
  size = optax.tree.norm(of['stored'])
  apart = lambda one, two: optax.tree.norm(jax.tree.map(
      lambda x, y: x - y, one, two))
  assert apart(of['inside'], of['stored']) < 1e-4 * size
  if layout == 'shared':
    same = gradient(build.build(config('opd_reverse', 'same')), groups)
    assert apart(same, of['stored']) > 0.1 * size


def test_steps_with_a_context_are_counted():
  """Rollouts without a lesson are not trained by a pure row; names are those
  of docs/metrics.md."""
  run = build.build(config('opd_k2', 'sibling'))
  names = documented_metrics()
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
  assert all(math.isfinite(x) for x in row.values())
  untaught = sum(v for k, v in row.items()
                 if k.startswith('context/untaught/'))
  assert untaught == round(16 * (1 - row['context/taught']))
  taught = sum(len(made.groups[p].rollouts[g].tokens)
               for p, g in made.scored.lessons.prompts)
  trained = sum(float(np.sum(b.mask_BT)) for of in made.minibatches
                for b in of.batches)
  assert trained == taught and made.scored.tokens == taught
  assert made.minibatches[0].tokens == sum(
      len(r.tokens) for g in made.groups for r in g.rollouts)


@LONG
def test_untaught_rollouts_keep_their_advantages():
  """GRPO and distillation where no rollout has a lesson: GRPO's gradient."""
  groups = [dataclasses.replace(g, prompt=dataclasses.replace(
      g.prompt, question=dataclasses.replace(g.prompt.question, hint='')))
            for g in told_groups()]
  none = gradient(build.build(config('grpo_distill', 'hint')), groups)
  grpo = gradient(build.build(make_config('grpo')), groups)
  for x, y in zip(jax.tree.leaves(none), jax.tree.leaves(grpo), strict=True):
    assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y)


@pytest.mark.parametrize('method, changes, words', [
    ('opd_k2', {'distil.context': 'book'}, ("'book'", 'same, answer')),
    ('opd_k2', {'distil.context': 'notes'}, ("the field 'notes'", 'none')),
    ('opd_k2', {'distil.context_level': 5}, ('distil.context_level is 5',)),
    ('opd_k2', {'distil.context': 'notes', 'distil.material': 'x.jsonl'},
     ("distil.material is 'x.jsonl'",)),
    ('seqkd', {'distil.context': 'answer'}, ("'seqkd'", "allowed: 'same'")),
])
def test_bad_contexts_are_refused(method, changes, words):
  with pytest.raises((KeyError, ValueError, FileNotFoundError)) as e:
    build.build(make_config(method, **changes))
  assert all(word in str(e.value) for word in words), str(e.value)


@pytest.mark.parametrize('method', ['opd_k2', 'star'])
def test_a_chat_without_words_for_a_context_is_refused(method, monkeypatch):
  """Of the teacher's context, and of one under which rollouts are drawn."""
  task = tasks.TASKS['micro']
  words = {piece: of for piece, of in task.chat.wording.contexts.items()
           if piece != 'concise'}
  monkeypatch.setitem(tasks.TASKS, 'micro', task._replace(
      chat=dataclasses.replace(task.chat, wording=dataclasses.replace(
          task.chat.wording, contexts=words))))
  with pytest.raises(ValueError, match='no words for concise'):
    build.build(config(method, 'concise'))
