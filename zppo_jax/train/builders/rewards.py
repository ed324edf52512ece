"""The section `reward` of a run, checked against its method and its task."""

from typing import Any

from zppo_jax import tasks
from zppo_jax.algorithms import methods
from zppo_jax.verdicts import rewards
from zppo_jax.verdicts.rewards import RewardConfig


def with_rewards(c: Any, task: tasks.Task) -> tasks.Task:
  """The task whose grader follows the section `reward`.

  Args:
    c: the config.
    task: the task of the run.

  Raises:
    KeyError, ValueError: naming what does not fit; see rewards.with_rewards.
  """
  section = RewardConfig(**{
      **c.reward, 'weights': dict(c.reward.weights)})
  return task._replace(grader=rewards.with_rewards(
      task.grader, section, c.algorithm.max_tokens))


def check_method(c: Any, method: methods.Method) -> None:
  """ValueError for weights of components under a method without graded
  advantages."""
  if c.reward.weights and not method.graded:
    takes = [name for name, row in methods.METHODS.items() if row.graded]
    raise ValueError(
        f'reward.weights is {c.reward.weights.to_dict()}; method {c.method!r} '
        'reads which responses are right, and no advantages of graded rewards. '
        f'Those that do: {", ".join(takes)}. reward.threshold says what is '
        'right under any method; c.reward.weights = {} in the config file '
        'takes the weights away')
