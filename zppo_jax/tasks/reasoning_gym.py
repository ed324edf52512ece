"""Questions made by the package reasoning-gym, text alone.

A question keeps what its own scorer needs: the data set with its config is
its source, the entry's number the end of its id (verdicts/kinds/gym.py). Data
sets whose scorers execute the model's text are refused there by name.

  c.data.task = 'reasoning_gym'
  c.data.pool = dict(name='chain_sum', size=2000, seed=0, config=dict())
  c.eval.splits = ('chain_sum', 'chain_sum?{"max_terms": 8}')

With `worked` in the pool's fields, questions carry a worked solution for a
stored teacher, where worked.py knows the data set.

A split is a data set, with fields of its config as JSON behind a question
mark. Without them the pool's own data set has the pool's config, so that both
ask alike, and another one its defaults. No pool may reach a split's entries.
"""

import json
from collections.abc import Mapping, Sequence

from zppo_jax.records import Question
from zppo_jax.tasks import worked as solutions
from zppo_jax.verdicts.kinds import gym

EVAL_SEED = 1_000_003  # of the splits; no pool may have it


def _made(name: str, size: int, seed: int, config: Mapping,
          split: str, worked: bool = False) -> list[Question]:
  try:
    gym.load()
  except ModuleNotFoundError as e:
    raise ValueError(f'data.task is reasoning_gym: {e}') from e
  from reasoning_gym import factory
  gym.check_name(name)
  # A composite's parts are chosen by its config: their scorers may execute.
  known = [n for n in factory.DATASETS
           if n not in (*gym.REFUSED, *gym.UNSOUND, 'composite')]
  if name not in known:
    raise KeyError(f'unknown data set {name!r} of reasoning-gym; known: '
                   f'{", ".join(known)}')
  fields = {**config, 'size': size, 'seed': seed}
  try:
    entries = factory.create_dataset(name, **fields)
  except (TypeError, AssertionError) as e:
    raise ValueError(f'reasoning_gym/{name} with {dict(config)}: {e}') from e
  source = gym.source(name, fields)
  made = [entries[i] for i in range(size)]
  for i, entry in enumerate(made):
    if not isinstance(entry['answer'], str) or not entry['answer'].strip():
      raise ValueError(
          f'reasoning_gym/{name}: entry {i} has the answer '
          f'{entry["answer"]!r}; a question needs one as text')
  return [
      Question(f'reasoning_gym/{split}/{seed}#{i}', entry['question'],
               entry['answer'], split, kind='reasoning_gym',
               source=source, responses=(
                   (solutions.solution(name, entry),) if worked else ()))
      for i, entry in enumerate(made)]


def pool(name: str, size: int, seed: int = 0,
         config: Mapping | None = None,
         worked: bool = False) -> Sequence[Question]:
  """Training questions: the first `size` entries of a data set.

  Args:
    name: of the data set.
    size: entries.
    seed: of the data set; entry i is drawn from seed + i.
    config: its other fields.
    worked: whether each question carries a worked solution as its response.

  Raises:
    KeyError: for an unknown data set, or one without worked solutions.
    ValueError: for one that is refused, fields it does not take, a seed that
      would draw entries of the splits, or without the package.
  """
  if not 0 <= seed <= seed + size <= EVAL_SEED:
    raise ValueError(f'data.pool.seed is {seed} and size {size}; seed + size '
                     f'must be in [0, {EVAL_SEED}], where the splits begin')
  return _made(name, size, seed, dict(config or {}), name, worked)


def evaluation(split: str, size: int, name: str = '',
               config: Mapping | None = None) -> Sequence[Question]:
  """The first `size` entries of a split, `NAME` or `NAME?JSON`.

  Args:
    split: with fields of its config, where it has any.
    size: entries.
    name, config: of the pool; a split of that name alone has that config.

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
  return _made(data_set, size, EVAL_SEED, fields, split)
