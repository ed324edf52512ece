"""Questions that a pass repeats, by how often the student was right before.

Uni-OPD draws some rollouts of every question with the untrained student and
then repeats the easy and the hard, so that right and wrong rollouts are fewer
apart (its offline balance). The draws are those of `zppo eval` over the files
of the pool:

  zppo eval --config=... --splits=SOURCE --rollouts=8 --temperature=1 --to=DIR
  c.data.balance.update(samples='DIR/samples.jsonl',
                        factors=(1, 2, 1.5, 1, 1, 1, 1.5, 2, 1))

`factors` has a number for each count of right rollouts, 0 to n. No question is
left out.
"""

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from zppo_jax import allowed
from zppo_jax.objectives.credit import balance


@dataclasses.dataclass(frozen=True)
class Balance:
  """How often each question is drawn in a pass.

  Attributes:
    right: question id -> how many of its n rollouts were right.
    factors: n + 1 numbers >= 1, by that count (balance.offline).
  """
  right: Mapping[str, int]
  factors: tuple[float, ...]

  def repeats(self, ids: Sequence[str]) -> np.ndarray:
    """Draws per pass of each question, int [N], at least 1.

    Raises:
      ValueError: for a question of which no rollout is known.
    """
    absent = [name for name in ids if name not in self.right]
    if absent:
      raise ValueError(
          f'data.balance.samples has no rollout of question {absent[0]!r} and '
          f'{len(absent) - 1} others of the pool; it must have all of them')
    return balance.offline(np.array([self.right[name] for name in ids]),
                           np.array(self.factors))


def _row(line: str, where: str) -> tuple[str, int]:
  """(question id, whether the rollout is right) of a line of samples.jsonl."""
  try:
    row = json.loads(line)
    name, reward = row['id'], row['reward']
  except (ValueError, RecursionError, KeyError, TypeError) as e:
    raise ValueError(f"{where} is no line of `zppo eval`'s samples.jsonl: it "
                     f"must be an object with 'id' and 'reward' ({e!r})"
                     ) from None
  if not isinstance(name, str) or reward not in (0, 1):
    raise ValueError(f"{where}: 'id' is {name!r:.60} and 'reward' "
                     f'{reward!r:.60}; they must be a text, and 0 or 1')
  return name, int(reward)


def read(samples: str, factors: Sequence[float]) -> Balance | None:
  """The section `data.balance`; None where it names no file.

  Args:
    samples: a samples.jsonl of `zppo eval`.
    factors: see Balance.

  Raises:
    FileNotFoundError: naming the field and the path.
    ValueError: for factors without a file, or the other way round; for another
      number of factors than n + 1; for questions of another number of rollouts
      than the first; for a factor below 1 or a line of another form.
  """
  if bool(samples) != bool(len(factors)):
    raise ValueError(f'data.balance.samples is {samples!r} and '
                     f'data.balance.factors {tuple(factors)}; both are needed, '
                     'or neither')
  if not samples:
    return None
  file = pathlib.Path(samples)
  if not file.is_file():
    raise FileNotFoundError(f'data.balance.samples is {samples!r}; no such '
                            f'file{allowed.looked_from(file)}')
  drawn: collections.Counter[str] = collections.Counter()
  right: collections.Counter[str] = collections.Counter()
  with open(file, encoding='utf-8') as lines:
    for number, line in enumerate(lines, 1):
      if line.strip():
        name, correct = _row(line, f'{samples}, line {number}')
        drawn[name] += 1
        right[name] += correct
  if not drawn:
    raise ValueError(f'data.balance.samples is {samples!r}, which is empty')
  count = next(iter(drawn.values()))
  other = next((name for name, n in drawn.items() if n != count), None)
  if other is not None:
    raise ValueError(
        f'{samples}: question {other!r} has {drawn[other]} rollouts, the first '
        f'one has {count}; counts of right ones are then no measure')
  if len(factors) != count + 1:
    raise ValueError(
        f'data.balance.factors has {len(factors)} numbers; {count} rollouts '
        f'per question have {count + 1} counts of right ones, 0 to {count}')
  for value in factors:
    allowed.number('data.balance.factors', value, '>= 1')
  return Balance({name: right[name] for name in drawn}, tuple(factors))


def dealt(repeats: np.ndarray, num_new: int,
          rng: np.random.Generator) -> np.ndarray:
  """The order of a pass in which question i is drawn repeats[i] times.

  The copies of a question lie in different steps: copies are dealt out like
  cards, in a random order of the questions, to the steps of the pass, whose
  order is then random too. What is left over waits for the next pass.

  Args:
    repeats: int [N].
    num_new: questions per step.
    rng: a generator that was made from names (randomness.host_rng).

  Returns:
    int [steps x num_new], places of questions.
  """
  steps = int(repeats.sum()) // num_new
  order = rng.permutation(len(repeats))
  copies = np.repeat(order, repeats[order])[:steps * num_new]
  # Row by row: num_new rows of one card for each step.
  by_step = copies.reshape(num_new, steps).T
  return by_step[rng.permutation(steps)].ravel()


def digest(repeats: np.ndarray) -> str:
  """A digest of how often each question is drawn."""
  return hashlib.blake2b(np.asarray(repeats, np.int64).tobytes(),
                         digest_size=8).hexdigest()
