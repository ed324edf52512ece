"""Why BCQ groups saturate: what rollouts do with the two candidates.

It is read from a run's samples.jsonl.

A BCQ group saturates if it is all right or all wrong, and so has no advantage,
while plain rollouts of the same question are still partly right. Three causes
can be told apart: rollouts copy one candidate (`follows_right`,
`follows_wrong`); they take the one in a place (`follows_first`); or they all
decide alike in one prompt and otherwise in another, so that the choice has an
entropy over groups and none within them (`entropy_pooled`, `entropy_within`).

What a rollout follows is said by the first value in which the candidates
differ. In the embedded world an answer is its values with spaces between.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

RIGHT, WRONG, NEITHER = 'right', 'wrong', 'neither'


def followed(answer: str, right: str, wrong: str) -> str:
  """Which candidate an answer follows where they first differ.

  Args:
    answer, right, wrong: parsed answers of a rollout and of the candidates.

  Returns:
    RIGHT, WRONG or NEITHER; NEITHER too where a candidate ends before they
    differ, and for an answer that ends there.
  """
  given, good, bad = (text.split() for text in (answer, right, wrong))
  for i, (a, b) in enumerate(zip(good, bad, strict=False)):
    if a != b:
      value = given[i] if i < len(given) else ''
      return RIGHT if value == a else WRONG if value == b else NEITHER
  return NEITHER


def entropy(counts: Iterable[int]) -> float:
  """The entropy of a distribution by counts, in nats."""
  counts = [c for c in counts if c]
  total = sum(counts)
  return -sum(c / total * math.log(c / total) for c in counts)


def _groups(samples: Iterable[Mapping]) -> list[dict]:
  """The BCQ groups of samples with a right and a wrong candidate."""
  out = []
  for line in samples:
    for group in line['groups']:
      verdicts = [c['verdict'] for c in group['candidates']]
      if group['kind'] != 'bcq' or verdicts.count('correct') != 1 or (
          len(verdicts) != 2):
        continue
      place = verdicts.index('correct')
      right, wrong = (group['candidates'][i]['answer']
                      for i in (place, 1 - place))
      rewards = [r['reward'] for r in group['rollouts']]
      out.append({
          'first': RIGHT if place == 0 else WRONG, 'plain': line['accuracy'],
          'accuracy': sum(rewards) / len(rewards),
          'followed': Counter(followed(r['answer'], right, wrong)
                              for r in group['rollouts'])})
  return out


def _share(part: float, whole: float) -> float | None:
  return part / whole if whole else None


def _mean(values: Sequence[float]) -> float | None:
  return _share(sum(values), len(values))


def of_samples(samples: Sequence[Mapping]) -> dict[str, float | None]:
  """The counts of the BCQ groups in samples of hard questions.

  Args:
    samples: lines of samples.jsonl.

  Returns:
    Numbers by name, None where nothing was counted:
    `groups`; of these the shares `all_right`, `all_wrong`; `saturated`: the
    share of groups with one reward whose plain rollouts had two; the shares of
    rollouts `follows_right`, `follows_wrong`, `follows_neither`;
    `follows_first`, of those that follow one; the `accuracy` of BCQs, where the
    right candidate is first (`accuracy_right_first`) and second
    (`accuracy_right_second`); `plain`, the plain accuracy of the same
    questions; `entropy_within` and `entropy_pooled` of what is followed, nats.
  """
  groups = _groups(samples)
  pooled: Counter = Counter()
  for group in groups:
    pooled.update(group['followed'])
  rollouts, one = pooled.total(), pooled[RIGHT] + pooled[WRONG]
  trivial = lambda g: g['accuracy'] in (0.0, 1.0)
  by_place = {place: [g['accuracy'] for g in groups if g['first'] == place]
              for place in (RIGHT, WRONG)}
  return {
      'groups': len(groups),
      'all_right': _mean([float(g['accuracy'] == 1) for g in groups]),
      'all_wrong': _mean([float(g['accuracy'] == 0) for g in groups]),
      'saturated': _mean([
          float(trivial(g) and g['plain'] is not None and 0 < g['plain'] < 1)
          for g in groups]),
      **{f'follows_{what}': _share(pooled[what], rollouts)
         for what in (RIGHT, WRONG, NEITHER)},
      'follows_first': _share(
          sum(g['followed'][g['first']] for g in groups), one),
      'accuracy': _mean([g['accuracy'] for g in groups]),
      'accuracy_right_first': _mean(by_place[RIGHT]),
      'accuracy_right_second': _mean(by_place[WRONG]),
      'plain': _mean([g['plain'] for g in groups if g['plain'] is not None]),
      'entropy_within': _mean([entropy(g['followed'].values())
                               for g in groups]),
      'entropy_pooled': entropy(pooled.values()) if rollouts else None}


def by_steps(samples: Sequence[Mapping], width: int) -> dict[int, dict]:
  """First step of a window -> `of_samples` of its lines.

  Args:
    samples: lines of samples.jsonl.
    width: steps of a window.
  """
  windows: dict[int, list[Mapping]] = {}
  for line in samples:
    windows.setdefault(line['step'] // width * width, []).append(line)
  return {first: of_samples(lines) for first, lines in windows.items()}
