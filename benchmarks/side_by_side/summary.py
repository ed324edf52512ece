"""Launches to ratios; a number counts only where the work was the same."""

import pathlib
import statistics

import numpy as np

from benchmarks.side_by_side import work
from zppo_jax import models
from zppo_jax.bench import counting
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

TOLERANCE = 1e-4  # nats, of a log-prob; relative, of a gradient norm
UNRESOLVED = 1.3
# Launches on the shared batch; those that have a loss.
UPDATES = ('ours', 'trl', 'tunix', 'trl_as_shipped', 'tunix_as_shipped')
GRPO = (*UPDATES, 'generate')
# (slower, phase of it), (ours, phase): the ratios that are reported
RATIOS = {
    'step, trl / ours': (('trl', 'step'), ('ours', 'step')),
    'step, tunix / ours': (('tunix', 'step'), ('ours', 'step')),
    'step, trl as shipped / ours': (
        ('trl_as_shipped', 'step'), ('ours', 'step')),
    'step, tunix as shipped / ours': (
        ('tunix_as_shipped', 'step'), ('ours', 'step')),
    'update, trl / ours': (('trl', 'update'), ('ours', 'update')),
    'update, tunix / ours': (('tunix', 'update'), ('ours', 'update')),
    'sampling, transformers / ours': (
        ('generate', 'sampling'), ('ours', 'sampling')),
    'sampling, tunix / ours': (('tunix', 'sampling'), ('ours', 'sampling')),
    'SmolLM2-135M sampling, transformers / ours': (
        ('smollm2_transformers', 'sampling'), ('smollm2_ours', 'sampling')),
    'long tail, static / continuous': (
        ('long_tail', 'static'), ('long_tail', 'continuous')),
}


def check_logps(folder: pathlib.Path, tools) -> None:
  """ValueError unless all tools give the fixed tokens the same log-probs."""
  ours = None
  of = dict.fromkeys(t.removesuffix(work.AS_SHIPPED) for t in GRPO
                     if t in tools)
  for tool in of:
    found = np.load(pathlib.Path(folder) / f'logp_{tool}.npy')
    ours = found if ours is None else ours
    gap = float(np.abs(found - ours).max())
    if not gap <= TOLERANCE:
      raise ValueError(f'{tool}: log-probs of the fixed batch differ by {gap} '
                       f'nats; at most {TOLERANCE} is the same work')


def check_same_work(records) -> None:
  """ValueError unless tokens, loss and gradient agree in every launch."""
  want = work.ROWS * work.RESPONSE
  norms = [r['check']['grad_norm'] for r in records
           if r['name'] in UPDATES]
  losses = [r['check']['loss'] for r in records
            if r['name'] in UPDATES]
  for r in records:
    if r['name'] in GRPO and set(r['tokens']) != {want}:
      raise ValueError(f'{r["name"]} generated {r["tokens"]} tokens; the work '
                       f'is {want} a step')
  if norms and max(norms) - min(norms) > TOLERANCE * max(norms):
    raise ValueError(f'gradient norms of the fixed batch differ: '
                     f'{min(norms)} to {max(norms)}')
  if losses and max(losses) - min(losses) > TOLERANCE:
    raise ValueError(f'losses of the fixed batch differ: {min(losses)} to '
                     f'{max(losses)}')
  counts = {count for r in records if r['name'].startswith('smollm2')
            for count in r['tokens']}
  if len(counts) > 1:
    raise ValueError(f'smollm2 launches generated {counts} tokens')


def ratio(records, first, second) -> dict | None:
  """Median over launches of one time by another's of the same launch."""
  times = {(r['name'], r['launch']): r['median_s'] for r in records}
  (a, phase_a), (b, phase_b) = first, second
  launches = [i for n, i in times if n == a and (b, i) in times]
  found = sorted(times[a, i][phase_a] / times[b, i][phase_b] for i in launches)
  if not found:
    return None
  median = statistics.median(found)
  return {'median': median, 'min': found[0], 'max': found[-1],
          'launches': len(found),
          'resolved': max(median, 1 / median) >= UNRESOLVED}


def limit(records) -> dict | None:
  """Counted FLOPs over the best matmul rate of each of our launches."""
  ours = [r for r in records if r['name'] == 'ours']
  if not ours:
    return None
  c = counting.count(models.build('qwen3', **work.SHAPE))
  sizes = (c, work.PROMPTS, work.PROMPT, work.GROUP, work.RESPONSE)
  shared, whole = (counting.step_flops(*sizes, shared=s) for s in (True, False))
  least = counting.step_flops(*sizes, shared_update=True)
  sampling = counting.sample_flops(*sizes)
  share = lambda r, flops, phase: (
      flops / r['roofline']['flops'] / r['median_s'][phase])
  median = lambda flops, phase: statistics.median(
      share(r, flops, phase) for r in ours)
  return {
      'step_flops': shared, 'step_flops_unshared_prefill': whole,
      'step_flops_shared_update': least, 'sample_flops': sampling,
      'matmul_flops': [r['roofline']['flops'] for r in ours],
      'step_share': median(shared, 'step'),
      'update_share': median(shared - sampling, 'update'),
      'step_share_shared_update': median(least, 'step'),
      'update_share_shared_update': median(least - sampling, 'update'),
      'sampling_share': median(sampling, 'sampling')}


def summarise(records) -> dict:
  """What is committed. Raises as check_same_work."""
  check_same_work(records)
  out = {'machine': machine(), 'work': {
      'shape': work.SHAPE, 'prompts': work.PROMPTS, 'prompt': work.PROMPT,
      'rollouts': work.GROUP, 'response': work.RESPONSE,
      'micro_rows': work.MICRO_ROWS}, 'by_threads': {}, 'launches': records}
  for threads in sorted({r['threads'] for r in records}):
    some = [r for r in records if r['threads'] == threads]
    tools = {}
    for name in dict.fromkeys(r['name'] for r in some):
      of = [r for r in some if r['name'] == name]
      over = lambda get, of=of: statistics.median(map(get, of))
      tools[name] = {
          'median_s': {k: over(lambda r, k=k: r['median_s'][k])
                       for k in of[0]['median_s']},
          'first_s': {k: over(lambda r, k=k: r['first_s'][k])
                      for k in of[0]['first_s']},
          'peak_rss': over(lambda r: r['peak_rss']),
          'versions': of[0]['versions']}
    ratios = {n: ratio(some, *pair) for n, pair in RATIOS.items()}
    out['by_threads'][str(threads)] = {
        'tools': tools, 'limit': limit(some),
        'ratios': {n: r for n, r in ratios.items() if r}}
  return out


def table(found: dict) -> str:
  """Markdown of `summarise`'s result."""
  parts = []
  for threads, of in found['by_threads'].items():
    rows = [['tool', 'sampling s', 'update s', 'step s', 'first step s',
             'peak RSS GiB']]
    for name, t in of['tools'].items():
      cell = lambda k, t=t: (
          f'{t["median_s"][k]:.2f}' if k in t['median_s'] else '')
      first = t['first_s'].get('step', sum(t['first_s'].values()))
      rows.append([name, cell('sampling'), cell('update'), cell('step'),
                   f'{first:.1f}', f'{t["peak_rss"] / 2**30:.2f}'])
    ratios = [['ratio', 'median', 'min to max', 'launches']]
    for name, r in of['ratios'].items():
      ratios.append([
          name, f'{r["median"]:.2f}' + ('' if r['resolved'] else
                                        ' (unresolved)'),
          f'{r["min"]:.2f} to {r["max"]:.2f}', str(r['launches'])])
    parts += [f'{threads} thread(s):', markdown(rows), markdown(ratios)]
    if of['limit']:
      x = of['limit']
      parts.append(
          f'The work: {x["step_flops"] / 1e9:.0f} GFLOP a step with prompts '
          f'shared in sampling ({x["step_flops_unshared_prefill"] / 1e9:.0f} '
          f'without); ours also shares them in the update and does '
          f'{x["step_flops_shared_update"] / 1e9:.0f}. Of the matmul limit of '
          f'the same launch the work is {x["step_share"]:.0%} of a step and '
          f'{x["update_share"]:.0%} of an update, what ours does '
          f'{x["step_share_shared_update"]:.0%} and '
          f'{x["update_share_shared_update"]:.0%}; sampling '
          f'{x["sampling_share"]:.0%}.')
  return '\n\n'.join(parts)
