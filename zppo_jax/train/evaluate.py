"""Plain accuracy of a policy on evaluation splits."""

import dataclasses
from collections.abc import Mapping, Sequence

from zppo_jax import allowed
from zppo_jax.algorithms import zppo
from zppo_jax.arrays import TrainState
from zppo_jax.randomness import Purpose
from zppo_jax.records import Group, Question
from zppo_jax.rollout import collect
from zppo_jax.runs import metrics
from zppo_jax.statistics import pass_at_k, wilson_interval
from zppo_jax.train.run import Measured, Run
from zppo_jax.verdicts.rewards import TOTAL, Scoring


def answer(sampler: collect.Sampler, params,
           splits: Mapping[str, Sequence[Question]],
           seed: int) -> dict[str, list[Group]]:
  """Graded groups by split; each question is asked as a plain prompt.

  Args:
    sampler: it has the evaluation's decoding and rollouts per question.
    params: the policy, in the rollout sharding.
    splits: split -> questions; all splits are sampled together.
    seed: the seed of the draws, if the decoding draws.
  """
  everything = [q for questions in splits.values() for q in questions]
  prompts = zppo.plain_prompts(everything, sampler.chat)
  groups = collect.collect(sampler, params, prompts, seed=seed, step=0,
                           purpose=Purpose.EVALUATION)
  by_split, start = {}, 0
  for split, questions in splits.items():
    by_split[split] = groups[start:start + len(questions)]
    start += len(questions)
  return by_split


def _points(group: Group) -> float:
  """The mean points of a group: its mean reward, unless its kind gives parts of
  a point."""
  return sum(r.points for r in group.rollouts) / len(group.rollouts)


def accuracy(answered: Mapping[str, Sequence[Group]]) -> dict[str, float]:
  """Mean points by split. A rollout without a verdict earns 0 here, so that
  leaving questions out does not raise a score.

  Args:
    answered: what `answer` returns.
  """
  return {split: sum(map(_points, groups)) / len(groups)
          for split, groups in answered.items()}


def _reward(split: str, name: str) -> str:
  return f'{metrics.REWARD}{split}/{name}'


def names(run: Run) -> tuple[str, ...]:
  """The names of the numbers of `of_state`."""
  rewards = (*run.scoring.names, TOTAL) if run.scoring else ()
  return (*run.splits, *(_reward(split, name)
                         for split in run.splits for name in rewards))


def of_state(run: Run, state: TrainState) -> Measured:
  """Greedy accuracy of a state's policy on the run's splits, by split; beside
  it the means of the graded rewards, where the run has some."""
  params = run.reshard_fn(state.params)
  answered = answer(run.greedy, params, run.splits, run.seed)
  run.greedy.engine.release()
  return Measured(accuracy(answered), {
      _reward(split, name): value
      for split, groups in answered.items()
      for name, value in metrics.of_rewards(groups, run.scoring).items()})


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean over questions with its 95 % Wilson interval."""
  mean: float
  low: float
  high: float


def check_ks(ks: Sequence[int], num: int) -> None:
  """ValueError unless `num` rollouts are enough for pass@k, for each k."""
  for k in ks:
    allowed.number('k', k, f'[1, {num}]', whole=True, note=(
        f', because pass@k is measured from {num} rollouts per question'))


def estimates(groups: Sequence[Group], ks: Sequence[int]) -> dict:
  """avg@n and pass@k of one split.

  avg@n is the mean reward of all n rollouts of a question, which is its
  unbiased pass@1 (a rollout without a verdict earns 0); for a kind that gives
  parts of a point it is their mean. pass@k is that of Chen et al.
  (statistics.pass_at_k), by right and wrong. Intervals are over questions.

  Returns:
    {'avg@n': Estimate, 'pass@k': Estimate for each k}.
  """
  num = len(groups[0].rollouts)
  check_ks(ks, num)
  out = {f'avg@{num}': Estimate(*wilson_interval(
      list(map(_points, groups))))}
  for k in ks:
    out[f'pass@{k}'] = Estimate(*wilson_interval(
        [pass_at_k(num, len(g.correct), k) for g in groups]))
  return out


def sample_rows(groups: Sequence[Group],
                scoring: Scoring | None = None) -> list[dict]:
  """One row per rollout; docs/metrics.md describes the columns.

  Args:
    groups: the groups of a split.
    scoring: tells the components of rewards; None without any.
  """
  rewarded = scoring is not None and scoring.names
  rewards = [scoring.of_group(g) if rewarded else [{}] * len(g.rollouts)
             for g in groups]
  return [
      {'id': g.prompt.question.id, 'split': g.prompt.question.split,
       'question': g.prompt.question.text, 'gold': g.prompt.question.answer,
       'sample': i, 'text': r.text, 'verdict': r.verdict.name.lower(),
       'answer': r.answer, 'reward': r.reward, 'length': len(r.tokens),
       'stop': r.stop.name.lower(), **({'rewards': of} if of else {}),
       **({} if r.score is None else {'score': r.score})}
      for g, values in zip(groups, rewards, strict=True)
      for i, (r, of) in enumerate(zip(g.rollouts, values, strict=True))]
