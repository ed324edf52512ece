"""Checks of a config before anything is loaded or compiled.

build.py makes the checks that need the loaded models.
"""

import math

from zppo_jax.devices import sharding
from zppo_jax.learner import layouts
from zppo_jax.records import Picture
from zppo_jax.teachers import Capabilities
from zppo_jax.verdicts import verifier


def known(name: str, table, what: str):
  """The row of a table; the KeyError for another name lists all names."""
  if name not in table:
    raise KeyError(f'unknown {what} {name!r}; known: {", ".join(table)}')
  return table[name]


def golds(questions, most: float) -> str:
  """Warns of gold answers that are not of their kind. ValueError if they are a
  larger share of the checked ones than `most`. Returns GoldCheck.judged."""
  found = verifier.check_golds(questions)
  if not found.unreadable:
    return found.judged
  name, why = next(iter(found.unreadable.items()))
  told = (f'{len(found.unreadable)} of {found.checked} gold answers are not of '
          f'their question\'s kind, the first of {name!r}: {why}')
  if len(found.unreadable) > most * found.checked:
    raise ValueError(f'{told}; guard.max_ungraded is {most:g}')
  print(f'{told}; answers to them are not graded', flush=True)
  return found.judged


def numbers(c) -> None:
  """ValueError for a number out of its range, or an empty bucket table."""
  algo, shapes = c.algorithm, c.shapes
  for name, value, lowest in (
      ('seed', c.seed, 0), ('steps', c.steps, 1),
      ('algorithm.num_new', algo.num_new, 1),
      ('algorithm.rollouts', algo.rollouts, 2),  # one rollout has no baseline
      ('algorithm.teacher_rollouts', algo.teacher_rollouts, 1),
      ('algorithm.max_tokens', algo.max_tokens, 1),
      ('algorithm.teacher_max_tokens', algo.teacher_max_tokens, 1),
      ('algorithm.updates', algo.updates, 1),
      ('algorithm.advantage_eps', algo.advantage_eps, 0),
      ('shapes.micro_tokens', shapes.micro_tokens, 1),
      ('shapes.logprob_chunk', shapes.logprob_chunk, 1),
      ('eval.every', c.eval.every, 0), ('eval.size', c.eval.size, 1)):
    if not lowest <= value < math.inf:
      raise ValueError(f'{name} is {value}; it must be >= {lowest} and finite')
  if algo.updates > algo.num_new:
    raise ValueError(
        f'algorithm.updates is {algo.updates}; a step of algorithm.num_new = '
        f'{algo.num_new} groups has no more mini-batches than that')
  if not 0 < c.guard.max_ungraded <= 1:
    raise ValueError(f'guard.max_ungraded is {c.guard.max_ungraded}; it must '
                     'be in (0, 1]')
  if not c.guard.max_ratio > 1:
    raise ValueError(f'guard.max_ratio is {c.guard.max_ratio}; it must be > 1')
  if shapes.layout not in layouts.LAYOUTS:
    raise ValueError(f'shapes.layout is {shapes.layout!r}; allowed: '
                     f'{", ".join(layouts.LAYOUTS)}')
  longest = max(shapes.response_buckets, default=algo.max_tokens)
  if longest < algo.max_tokens or min(shapes.response_buckets, default=1) < 1:
    raise ValueError(
        f'shapes.response_buckets is {tuple(shapes.response_buckets)}; it must '
        'be empty or hold sizes >= 1, the largest at least '
        f'algorithm.max_tokens = {algo.max_tokens}')
  for name in ('prompt_buckets', 'row_buckets', 'group_buckets'):
    table = shapes[name]
    if not table or min(table) < 1:
      raise ValueError(f'shapes.{name} is {tuple(table)}; it must hold at '
                       'least one size, each >= 1')


def slots(c, mesh) -> None:
  """ValueError for slots that whole groups do not fill on every device."""
  slots, algo = c.shapes.slots, c.algorithm
  group = math.lcm(algo.rollouts, algo.teacher_rollouts)
  shards = sharding.batch_shards(mesh)
  if slots is not None and (slots < 1 or slots % (group * shards)):
    raise ValueError(
        f'shapes.slots is {slots}; it must be None or a multiple of '
        f'{group * shards}: {shards} data device(s) (mesh.data x mesh.fsdp) '
        f'times {group} slots, in which groups of algorithm.rollouts = '
        f'{algo.rollouts} and of algorithm.teacher_rollouts = '
        f'{algo.teacher_rollouts} both come out even')


def responses(questions) -> None:
  """ValueError unless some question carries responses for a stored teacher."""
  if not any(q.responses for q in questions):
    raise ValueError(
        "teacher.kind is 'stored'; no question of data.pool carries a "
        'response. It needs a column of them (docs/teachers.md), or another '
        'kind: in_process, endpoint')


def media(questions, able: Capabilities, kind: str) -> None:
  """ValueError for media in the pool that the teacher cannot be shown."""
  for question in questions:
    for media in question.media:
      what = 'pictures' if isinstance(media, Picture) else 'clips'
      if not getattr(able, what):
        raise ValueError(f'question {question.id!r} has {what}; a teacher of '
                         f'kind {kind!r} is not shown any here')
