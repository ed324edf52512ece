"""Launches to ratios; a number counts only where the work was the same."""

import statistics

from benchmarks.distillation import work
from benchmarks.side_by_side import work as shared
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

# Printed task -> its words.
TASKS = {'rl': 'RL step (GRPO)', 'reverse': 'reverse KL, whole vocabulary',
         'jensen_shannon': 'JSD 0.5, whole vocabulary',
         'reverse_top_64': 'reverse KL, 64 kept ids and the rest'}
# What is divided: (slower tool, its task), (faster tool, its task), goal.
RATIOS = {
    f'{words}, {tool} / ours': ((name, task), ('ours', task), goal)
    for task, words in TASKS.items() if task in work.BETAS
    for name, tool, goal in (
        ('trl_distillation', 'TRL DistillationTrainer', 'at least 2.5'),
        ('trl_gkd', 'TRL GKD', 'at least 3'))
} | {
    f'{TASKS[task]}, ours / our RL step': (('ours', task), ('ours', 'rl'), goal)
    for task, goal in (('reverse', 'at most 1.35'),
                       ('jensen_shannon', 'at most 1.35'),
                       ('reverse_top_64', ''))
}
MEMORY_RATIOS = {
    'ours / TRL GKD': ('update_ours', 'update_trl_gkd', 'at most 0.1'),
    'ours / TRL DistillationTrainer': (
        'update_ours', 'update_trl_distillation', ''),
    'ours / plain torch': ('update_ours', 'update_torch', ''),
    'ours / our RL update': ('update_ours', 'update_ours_rl', 'at most 1.1'),
}


def check_agreement(records) -> None:
  """ValueError unless loss and gradient norm of the fixed batch are the same.

  A check that lacks a tool is none: three must have been launched.
  """
  checks = {r['name']: r['check'] for r in records
            if r['name'].startswith('agree_')}
  if len(checks) < 3:
    raise ValueError(f'only {sorted(checks)} were launched; nothing is timed '
                     'before three tools agree')
  ours = checks.pop('agree_ours')
  for key, mine in ours.items():
    for name, check in checks.items():
      for field, number in check[key].items():
        if key.endswith(f'/{work.STUDENT}'):
          if max(abs(number), abs(mine[field])) > work.ZERO:
            raise ValueError(f'{name}, {key}: {field} is {number}, ours '
                             f'{mine[field]}; an equal teacher teaches nothing')
        elif abs(number - mine[field]) > work.AGREE * abs(mine[field]):
          raise ValueError(f'{name}, {key}: {field} is {number}, ours '
                           f'{mine[field]}; the work is not the same')


def check_tokens(records) -> None:
  """ValueError unless every step drew all of its tokens."""
  want = shared.ROWS * shared.RESPONSE
  for r in records:
    if set(r.get('tokens', ())) - {want}:
      raise ValueError(f'{r["name"]} generated {r["tokens"]} tokens; the work '
                       f'is {want} a step')


def ratio(records, first, second, unit: str) -> dict | None:
  """Median over launches of one step's seconds by another's of the launch."""
  (a, task_a), (b, task_b) = first, second
  times = {(r['name'], r['launch']): r['median_s'] for r in records
           if not r['name'].startswith(('agree_', 'update_'))}
  rounds = [i for name, i in times if name == a and (b, i) in times
            and task_a in times[a, i] and task_b in times[b, i]]
  found = sorted(times[a, i][task_a]['step' + unit]
                 / times[b, i][task_b]['step' + unit] for i in rounds)
  return {'median': statistics.median(found), 'min': found[0],
          'max': found[-1], 'launches': len(found)} if found else None


def _steps(records) -> list[dict]:
  """Medians over launches of every tool and task."""
  out = []
  for name, task in dict.fromkeys(
      (r['name'], task) for r in records for task in r['median_s']):
    of = [r for r in records if r['name'] == name and task in r['median_s']]
    phases = {phase: statistics.median(r['median_s'][task][phase] for r in of)
              for phase in of[0]['median_s'][task]}
    out.append({'tool': name, 'task': task, 'launches': len(of), **phases,
                'matmul_flops': statistics.median(
                    r['roofline']['flops'] for r in of),
                'peak_rss': statistics.median(r['peak_rss'] for r in of)})
  return out


def summarise(records) -> dict:
  """What is committed.

  Raises:
    ValueError: if some tool did other work.
  """
  check_agreement(records)
  check_tokens(records)
  timed = [r for r in records
           if not r['name'].startswith(('agree_', 'update_'))]
  return {
      'machine': machine(),
      'checks': {r['name']: r['check'] for r in records
                 if r['name'].startswith('agree_')},
      'steps': _steps(timed),
      'ratios': {
          name: {'goal': goal, 'wall': ratio(timed, a, b, ''),
                 'cpu': ratio(timed, a, b, work.CPU)}
          for name, (a, b, goal) in RATIOS.items()},
      'memory': {r['name']: r['memory'] for r in records
                 if r['name'].startswith('update_')},
      'versions': {r['name']: r['versions'] for r in timed},
      'launches': records}


def _ratio_cell(r: dict | None) -> str:
  return f'{r["median"]:.2f} ({r["min"]:.2f} to {r["max"]:.2f})' if r else ''


def _memory_tables(memory: dict) -> list[str]:
  rows = [['update alone', 'resident before GiB', 'peak GiB', 'added GiB']]
  added = {}
  for name, m in memory.items():
    added[name] = m['peak'] - m['before']
    rows.append([name.removeprefix('update_'), f'{m["before"] / 2**30:.2f}',
                 f'{m["peak"] / 2**30:.2f}', f'{added[name] / 2**30:.2f}'])
  shares = [['peak', 'of all that is resident', 'of what the update added',
             'goal']]
  for name, (a, b, goal) in MEMORY_RATIOS.items():
    if a in memory and b in memory:
      shares.append([name, f'{memory[a]["peak"] / memory[b]["peak"]:.3f}',
                     f'{added[a] / added[b]:.3f}', goal])
  return [markdown(rows), markdown(shares)]


def table(found: dict) -> str:
  """Markdown of `summarise`'s result."""
  rows = [['tool', 'task', 'sampling s', 'update s', 'step s',
           'step, processor s', 'matmul GFLOP/s', 'peak RSS GiB', 'launches']]
  for s in found['steps']:
    rows.append([s['tool'], TASKS[s['task']],
                 *(f'{s[k]:.2f}' for k in ('sampling', 'update', 'step',
                                           'step' + work.CPU)),
                 f'{s["matmul_flops"] / 1e9:.0f}',
                 f'{s["peak_rss"] / 2**30:.2f}', str(s['launches'])])
  ratios = [['ratio of steps', 'processor seconds', 'wall seconds', 'goal',
             'launches']]
  for name, r in found['ratios'].items():
    if r['wall']:
      ratios.append([name, _ratio_cell(r['cpu']), _ratio_cell(r['wall']),
                     r['goal'], str(r['wall']['launches'])])
  checks = [['divergence / teacher', 'tool', 'loss, nats', 'gradient norm']]
  for name, check in found['checks'].items():
    for key, of in check.items():
      checks.append([key, name.removeprefix('agree_'), f'{of["loss"]:.7f}',
                     f'{of["grad_norm"]:.7f}'])
  return '\n\n'.join([
      markdown(rows), markdown(ratios), 'The fixed batch:', markdown(checks),
      *(_memory_tables(found['memory']) if found['memory'] else [])])
