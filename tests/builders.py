"""Questions, rollouts and groups for tests, in the embedded world's words."""

import json
import pathlib
import re
import runpy
from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy import stats

from zppo_jax.algorithms import targets
from zppo_jax.arrays import PromptBatch
from zppo_jax.chat import renderers
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.learner import layouts, packing
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  TokenSequence,
  TrainingSequence,
  Verdict,
)
from zppo_jax.tasks import micro

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / 'configs' / 'micro.py'
RIGHT = '4 h 9 A 9'  # right by decree: the builders' gold answer is 9


def small_config(**changes):
  """Two steps of eight new questions; one shape per engine."""
  c = runpy.run_path(str(CONFIG))['get_config']()
  c.steps, c.algorithm.num_new = 2, 8
  c.seed = 3  # of most others, no group of the first steps has an advantage
  c.data.pool.update(size=64, hard_share=0.75)
  c.shapes.update(group_buckets=(2,), prompt_buckets=(184,),
                  row_buckets=(200,), micro_tokens=3200)
  c.eval.update(size=8, splits=('hard', 'easy'), every=0)
  c.compile_ahead = False  # a thread would compile what few tests call
  with c.unlocked():
    for name, value in changes.items():
      c[name] = value
  return c


def json_rows(file: pathlib.Path) -> list:
  """The rows of a file that holds one JSON value per line."""
  return [json.loads(line) for line in file.read_text().splitlines()]


def documented_metrics() -> list[re.Pattern]:
  """The names of docs/metrics.md; capitals stand for any word."""
  out = []
  for line in (ROOT / 'docs' / 'metrics.md').read_text().splitlines():
    cells = re.split(r'(?<!\\)\|', line)
    if len(cells) == 5 and '`' in cells[1]:
      assert cells[2].strip() and cells[3].strip(), line
      first = None
      for name in re.findall(r'`([^`]+)`', cells[1]):
        if name.startswith('/'):  # `a/b`, `/c` stands for a/c
          name = first.rpartition('/')[0] + name
        first = first or name
        out.append(re.compile(re.sub(r'[A-Z]+', '[a-z0-9_]+', name)))
  return out


def question(name='q', text='C h 4', answer='9', split='hard') -> Question:
  return Question(name, text, answer, split)


def rollout(text=RIGHT, verdict=Verdict.CORRECT,
            stop=StopReason.END) -> Rollout:
  tokens = CHAT.response(text)
  if stop == StopReason.LENGTH:
    tokens = tokens[:-1]  # it never came to its end token
  return Rollout(tokens, (-1.0,) * len(tokens), text, stop, verdict,
                 micro.parse_answer(text))


def wrong(value: int) -> Rollout:
  """A wrong rollout that answers `value`."""
  return rollout(f'4 h {value} A {value}', Verdict.WRONG)


def group(of: Question | str, right: int, size: int = 8,
          kind: PromptKind = PromptKind.PLAIN) -> Group:
  """`right` correct rollouts, then wrong ones that answer 0, 1, 2, ..."""
  if isinstance(of, str):
    of = question(of)
  rollouts = [rollout()] * right + [wrong(i) for i in range(size - right)]
  return Group(Prompt(of, kind, CHAT.plain(of.text).tokens), tuple(rollouts))


def rendered(chat, kind, text, candidates=(), answers=(), media=()):
  """The prompt of a kind around a question's text."""
  return renderers.render(kind, chat, renderers.Exhibit(
      question=text, media=media, candidates=tuple(candidates),
      answers=tuple(answers)))


def uneven_groups(vocab: int) -> list[Group]:
  """Two groups of two rollouts: prompts of 2 and 5 tokens, responses of 1, 6, 3
  and 4. UNEVEN is a layout that holds them."""
  rng = np.random.default_rng(0)
  draw = lambda n: tuple(rng.integers(1, vocab, n).tolist())
  return [
      Group(Prompt(Question(str(p), '', '', ''), PromptKind.PLAIN,
                   draw(prompt)),
            tuple(Rollout(draw(n), (-1.0,) * n, '', StopReason.END,
                          Verdict.WRONG, '') for n in lengths))
      for p, (prompt, lengths) in enumerate(((2, (1, 6)), (5, (3, 4))))]


UNEVEN = layouts.Layout(
    kind='padded', max_tokens=96, multiple=1, rollouts=2, row_buckets=(16,),
    prompt_buckets=(8,), response_buckets=(8,), patch_buckets=(), num_axes=1)


def training(prompt, response, logps=0.0, advantage=1.0, media=None,
             mask=True) -> TrainingSequence:
  """A sequence with the targets of the clipped surrogate."""
  return packing.weighted(
      TokenSequence(prompt=prompt, response=response, media=media),
      mask=mask, advantage=advantage,
      sampler_logp=np.broadcast_to(np.float32(logps), len(response)))


def advantage_targets(groups, advantages, zeros=True) -> dict:
  """Targets of groups by `targets.of_advantage`, those of 0 too if `zeros`."""
  return {(p, g): targets.of_advantage(rollout, advantage)
          for p, (group, row) in enumerate(zip(groups, advantages, strict=True))
          for g, (rollout, advantage) in enumerate(
              zip(group.rollouts, row, strict=True))
          if zeros or advantage != 0}


def old_is_sampler(batch):
  """A batch whose old policy is the sampler."""
  return batch.with_target('old_logp', batch.targets['sampler_logp'])


def assert_same_sums(got, want, padding=False) -> None:
  """Equal counts; sums and extremes equal up to rounding."""
  assert got.tokens == want.tokens
  assert got.total.keys() == want.total.keys()
  for name in ('clip_low', 'clip_high', 'clip_dual'):
    assert got.total[name] == want.total[name]
  for part in ('total', 'highest', 'lowest'):
    for name, x in getattr(want, part).items():
      np.testing.assert_allclose(getattr(got, part)[name], x, rtol=1e-5,
                                 atol=2e-5, err_msg=f'{part} {name}')
  np.testing.assert_allclose(got.loss, want.loss, rtol=1e-5)
  if padding:
    assert got.padding == want.padding


def prompt_batch(tokens_PT, length_P, num_axes=1) -> PromptBatch:
  """Prompts of text alone."""
  P, T = tokens_PT.shape
  positions = np.broadcast_to(np.arange(T, dtype=np.int32)[:, None],
                              (P, T, num_axes))
  length_P = np.int32(length_P)
  return PromptBatch(np.int32(tokens_PT), length_P, positions, length_P, None)


def assert_uniform(draws: Iterable, cells: Iterable) -> None:
  """Chi-square at level 1e-4: the draws are uniform over exactly `cells`."""
  counts, cells = Counter(draws), list(cells)
  assert set(counts) == set(cells)
  expected = counts.total() / len(cells)
  assert expected >= 20, 'too few draws for the chi-square approximation'
  chi2 = sum((n - expected)**2 / expected for n in counts.values())
  assert chi2 < stats.chi2.isf(1e-4, len(cells) - 1), counts


def sequences_of(batches):
  """(tokens, advantage) of every sequence."""
  out = []
  for b in batches:
    for i, j in ((i, j) for i, row in enumerate(b.segment_BT)
                 for j in range(1, row.max() + 1)):
      held = b.segment_BT[i] == j
      (adv,) = set(b.targets['advantage'][
          i, held & (b.mask_BT[i] > 0)].tolist())
      out.append((tuple(b.tokens_BT[i, held].tolist()), adv))
  return out
