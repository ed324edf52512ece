"""Questions made by the package reasoning-gym, text alone.

A question keeps what its own scorer needs: its source is the data set with its
config, and its id ends with the number of its entry (verdicts/kinds/gym.py).
That module refuses by name the data sets whose scorers execute the model's
text.

  c.data.task = 'reasoning_gym'
  c.data.pool = dict(name='chain_sum', size=2000, seed=0, config=dict())
  c.eval.splits = ('chain_sum', 'chain_sum?{"max_terms": 8}')

With `worked` in the pool's fields, questions carry a worked solution for a
stored teacher, where worked.py knows the data set.

A split is a data set, with fields of its config as JSON behind a question
mark. Without such fields, the pool's own data set has the pool's config, so
that both ask alike, and any other data set has its defaults. No pool may reach
the entries of a split.
"""

import json
from collections.abc import Mapping, Sequence

from zppo_jax import allowed
from zppo_jax.records import Question
from zppo_jax.tasks import worked as solutions
from zppo_jax.verdicts.kinds import gym

EVAL_SEED = 1_000_003  # the seed of the splits, which no pool may have


def _questions(name: str, size: int, seed: int, config: Mapping,
               split: str, worked: bool = False) -> list[Question]:
  try:
    gym.load()
  except ModuleNotFoundError as e:
    raise ValueError(f'data.task is reasoning_gym: {e}') from e
  from reasoning_gym import factory
  gym.check_name(name)
  # A composite is left out, because its config chooses its parts, whose scorers
  # may execute the model's text.
  allowed.one_of('data set of reasoning-gym', name, [
      n for n in factory.DATASETS
      if n not in (*gym.REFUSED, *gym.UNSOUND, 'composite')])
  fields = {**config, 'size': size, 'seed': seed}
  try:
    entries = factory.create_dataset(name, **fields)
  except (TypeError, AssertionError) as e:
    raise ValueError(f'reasoning_gym/{name} with {dict(config)}: {e}') from e
  source = gym.source(name, fields)
  rows = [entries[i] for i in range(size)]
  for i, entry in enumerate(rows):
    if not isinstance(entry['answer'], str) or not entry['answer'].strip():
      raise ValueError(
          f'reasoning_gym/{name}: entry {i} has the answer '
          f'{entry["answer"]!r}; a question needs one as text')
  return [
      Question(id=f'reasoning_gym/{split}/{seed}#{i}', text=entry['question'],
               answer=entry['answer'], split=split, kind='reasoning_gym',
               source=source, responses=(
                   (solutions.solution(name, entry),) if worked else ()))
      for i, entry in enumerate(rows)]


def pool(name: str, size: int, seed: int = 0,
         config: Mapping | None = None,
         worked: bool = False) -> Sequence[Question]:
  """Training questions: the first `size` entries of a data set.

  Args:
    name: the name of the data set.
    size: the number of entries.
    seed: the seed of the data set; entry i is drawn from seed + i.
    config: the other fields of the data set.
    worked: whether each question carries a worked solution as its response.

  Raises:
    KeyError: for an unknown data set, or one without worked solutions.
    ValueError: for a data set that is refused; for fields that it does not
      take; for a seed that would draw entries of the splits; without the
      package.
  """
  allowed.number('data.pool.seed', seed, '>= 0', whole=True)
  allowed.number('data.pool.seed + data.pool.size', seed + size,
                 f'[{seed}, {EVAL_SEED}]', whole=True,
                 note=', because the splits begin there')
  return _questions(name, size, seed, dict(config or {}), name, worked)


def evaluation(split: str, size: int, name: str = '',
               config: Mapping | None = None) -> Sequence[Question]:
  """The first `size` entries of a split, `NAME` or `NAME?JSON`.

  Args:
    split: the name of a data set, with fields of its config or without.
    size: the number of entries.
    name, config: the pool's fields; a split with this name and no fields of its
      own has this config.

  Raises:
    KeyError, ValueError: as `pool`.
  """
  data_set, mark, text = split.partition('?')
  try:
    fields = json.loads(text) if text else {}
  except json.JSONDecodeError as e:
    raise ValueError(f'the split {split!r} of reasoning_gym holds no JSON '
                     f'behind its question mark: {e}') from e
  if not isinstance(fields, dict):
    raise ValueError(f'the split {split!r} of reasoning_gym holds '
                     f'{type(fields).__name__} behind its question mark, not '
                     'an object')
  if data_set == name and not mark:
    fields = dict(config or {})
  return _questions(data_set, size, EVAL_SEED, fields, split)
