"""Signs that a run worked in vain, from the numbers of its steps.

Each rule is a function of the rows of metrics.jsonl and of the config, by
dotted name. It gives a sentence, or '' where all is well or the run recorded
nothing of the kind.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax.runs import same_config

Rows = Sequence[Mapping[str, Any]]

LAST = 20  # steps that count where the end of a run matters
PROBES = 5  # evaluations of the probe; fewer than 3 say nothing
IDLE = 0.5  # share of the steps without a gradient
TRUNCATED = 0.5  # share of the rollouts that the token limit cut
COPYING = 0.2  # probe/plain - probe/bcq
# Largest |log p of the sampler - of the trainer| of a token, in nats, that
# rounding explains in float32; in other types the mean tells.
ROUNDING = 1e-2
MEAN_GAP = 0.1


def _last(rows: Rows, name: str, count: int) -> list[float]:
  return [row[name] for row in rows
          if row.get(name) is not None][-count:]


def nothing_trained(rows: Rows, config: Mapping[str, Any]) -> str:
  """Most steps had no gradient."""
  del config
  trained = [row for row in rows if 'update/trained_tokens' in row]
  idle = [row for row in trained if row['update/trained_tokens'] == 0]
  if not trained or len(idle) < IDLE * len(trained):
    return ''
  untaught = all(row.get('distil/lessons') == 0 for row in idle)
  return (f'{len(idle)} of {len(trained)} steps trained nothing: '
          + ('no answer of the teacher was kept to learn from.' if untaught else
             'in each of their groups all rollouts have one reward.'))


def truncated(rows: Rows, config: Mapping[str, Any]) -> str:
  """Most rollouts of the last steps were cut at their limit."""
  del config
  cut = _last(rows, 'stop/length', LAST)
  if not cut or (share := float(np.mean(cut))) < TRUNCATED:
    return ''
  return (f'{share:.0%} of the rollouts of the last {len(cut)} steps were cut '
          'at algorithm.max_tokens, which makes them wrong.')


def useless_teacher(rows: Rows, config: Mapping[str, Any]) -> str:
  """The teacher never answered rightly."""
  del config
  asked = [(row['hard/asked'], row['teacher/answered']) for row in rows
           if row.get('hard/asked') and 'teacher/answered' in row]
  total = sum(count for count, _ in asked)
  if not total or any(share for _, share in asked):
    return ''
  return f'The teacher was right on none of the {total} questions it was asked.'


def copying(rows: Rows, config: Mapping[str, Any]) -> str:
  """The student does worse beside candidates than alone."""
  del config
  plain, bcq = (_last(rows, f'probe/{kind}', PROBES) for kind in ('plain',
                                                                 'bcq'))
  if min(len(plain), len(bcq)) < 3 or np.mean(plain) - np.mean(bcq) < COPYING:
    return ''
  return ('Candidate copying: of questions that it solves alone with '
          f'{np.mean(plain):.2f}, the student solves {np.mean(bcq):.2f} beside '
          f'two candidates (the last {len(bcq)} probes).')


def gap(rows: Rows, config: Mapping[str, Any]) -> str:
  """Sampler and trainer differ by more than rounding."""
  name = 'sampler_trainer/logp_gap_'
  exact = (config.get('student.dtype') == 'float32'
           and config.get('student.rollout_weights', 'same') == 'same')
  values = _last(rows, name + ('max' if exact else 'mean'), LAST)
  bound = ROUNDING if exact else MEAN_GAP
  if not values or max(values) <= bound:
    return ''
  return (f'Sampler and trainer differ by up to {max(values):.3g} nats '
          f'({"a token" if exact else "the mean"}), more than {bound:g}: the '
          'policy that is updated is not the one that was sampled.')


RULES: dict[str, Callable[[Rows, Mapping[str, Any]], str]] = {
    rule.__name__: rule for rule in (
        nothing_trained, truncated, useless_teacher, copying, gap)}


def of_rows(rows: Rows, config: Mapping[str, Any]) -> dict[str, str]:
  """Rule -> its sentence, of the rules that a run sets off.

  Args:
    rows: of metrics.jsonl.
    config: values by dotted name.
  """
  return {name: text for name, rule in RULES.items()
          if (text := rule(rows, config))}


def in_summary(path: pathlib.Path, config: Any) -> dict[str, dict[str, str]]:
  """The field `alarms` of a finished run's summary; nothing if all is well.

  Args:
    path: the workdir.
    config: of the run.
  """
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  found = of_rows([json.loads(line) for line in lines], same_config.flat(
      same_config.config_values(config)))
  return {'alarms': found} if found else {}
