"""Signs that a run worked in vain, from what it recorded.

Each rule is a function of a run; it gives a sentence, or '' where all is well
or the run recorded nothing of the kind.
"""

from collections.abc import Callable, Sequence

import numpy as np

from zppo_jax.report.reading import RecordedRun
from zppo_jax.study import tables

LAST = 20  # steps that count where the end of a run matters
PROBES = 5  # evaluations of the probe; fewer than 3 say nothing
IDLE = 0.5  # share of the steps without a gradient
TRUNCATED = 0.5  # share of the rollouts that the token limit cut
COPYING = 0.2  # probe/plain - probe/bcq
# Largest |log p of the sampler - of the trainer| of a token, in nats, that
# rounding explains in float32; in other types the mean tells.
ROUNDING = 1e-2
MEAN_GAP = 0.1


def _last(run: RecordedRun, name: str, count: int) -> list[float]:
  return [row[name] for row in run.metrics
          if row.get(name) is not None][-count:]


def nothing_trained(run: RecordedRun) -> str:
  trained = [row['update/trained_tokens'] for row in run.metrics
             if 'update/trained_tokens' in row]
  idle = sum(share == 0 for share in trained)
  if not trained or idle < IDLE * len(trained):
    return ''
  return (f'{idle} of {len(trained)} steps trained nothing: in each of their '
          'groups all rollouts have one reward.')


def truncated(run: RecordedRun) -> str:
  cut = _last(run, 'stop/length', LAST)
  if not cut or (share := float(np.mean(cut))) < TRUNCATED:
    return ''
  return (f'{share:.0%} of the rollouts of the last {len(cut)} steps were cut '
          'at algorithm.max_tokens, which makes them wrong.')


def useless_teacher(run: RecordedRun) -> str:
  asked = [(row['hard/asked'], row['teacher/answered']) for row in run.metrics
           if row.get('hard/asked') and 'teacher/answered' in row]
  total = sum(count for count, _ in asked)
  if not total or any(share for _, share in asked):
    return ''
  return f'The teacher was right on none of the {total} questions it was asked.'


def copying(run: RecordedRun) -> str:
  plain, bcq = (_last(run, f'probe/{kind}', PROBES) for kind in ('plain',
                                                                 'bcq'))
  if min(len(plain), len(bcq)) < 3 or np.mean(plain) - np.mean(bcq) < COPYING:
    return ''
  return ('Candidate copying: of questions that it solves alone with '
          f'{np.mean(plain):.2f}, the student solves {np.mean(bcq):.2f} beside '
          f'two candidates (the last {len(bcq)} probes).')


def gap(run: RecordedRun) -> str:
  flat = tables.flatten(run.config)
  name = 'sampler_trainer/logp_gap_'
  exact = (flat.get('student.dtype') == 'float32'
           and flat.get('student.rollout_weights', 'same') == 'same')
  values = _last(run, name + ('max' if exact else 'mean'), LAST)
  bound = ROUNDING if exact else MEAN_GAP
  if not values or max(values) <= bound:
    return ''
  return (f'Sampler and trainer differ by up to {max(values):.3g} nats '
          f'({"a token" if exact else "the mean"}), more than {bound:g}: the '
          'policy that is updated is not the one that was sampled.')


RULES: tuple[Callable[[RecordedRun], str], ...] = (
    nothing_trained, truncated, useless_teacher, copying, gap)


def of_run(run: RecordedRun) -> Sequence[str]:
  """The sentences of all rules that a run sets off."""
  return [text for rule in RULES if (text := rule(run))]
