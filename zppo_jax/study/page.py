"""table.md of a study, made of its results.json alone."""

from collections.abc import Mapping, Sequence

from zppo_jax.statistics import with_interval
from zppo_jax.study import analysis
from zppo_jax.study.tables import (
  arm_table,
  cell,
  contrast_table,
  cost_table,
  markdown,
  spread_table,
)


def table(results: Mapping) -> str:
  """The tables of a study as Markdown.

  Args:
    results: the content of results.json.
  """
  study, reported = results['study'], results['reported']
  splits = tuple(study['splits'])
  parts = [f'# {study["title"]}', '']
  if results['development']:
    parts += ['Development seeds, all rates:', '',
              arm_table(results['development'], splits), '']
  if steps := results.get('matched_steps'):
    parts += ['Steps of the arms with an equal budget, from the development '
              'runs: ' + ', '.join(f'{arm} {n}' for arm, n in steps.items())
              + '.', '']
  parts += ['Reported seeds:', '', arm_table(reported, splits), '']
  if stopped := [r for r in reported if 'stopped' in r]:
    parts += ['Stopped by a guard, with its last evaluation above: '
              + '; '.join(f'{r["arm"]}, seed {r["seed"]}: {r["stopped"]}'
                          for r in stopped) + '.', '']
  if last := study.get('spread_steps', 0):
    parts += ['Different right answers of the student to a question, in the '
              f'recorded samples of the last {last} steps:', '',
              spread_table(reported), '']
    if any('endpoints' in r for r in reported):
      parts += ['Endpoints of study/endpoints.py that no column above has:', '',
                endpoint_table(reported, splits), '']
  if any('saturation' in r for r in reported):
    parts += ['BCQ groups in the recorded samples, by steps '
              '(study/saturation.py):', '', saturation_table(reported), '']
  parts += ['What a step costs:', '', cost_table(reported), '']
  if results['contrasts']:
    parts += [contrast_table(results['contrasts']), '']
  if found := results.get('confirmatory'):
    parts += [f'Confirmatory contrasts, one family of {len(found)} under '
              "Holm's method:", '', analysis_table(found), '']
  if found := results.get('exploratory'):
    parts += ['Exploratory contrasts, without any adjustment:', '',
              analysis_table(found), '']
  return '\n'.join(parts)


def digest(results: Mapping, endpoints: Sequence[str] = (
    'mean_hard', 'hard', 'hard_list', 'deep_mastered')) -> str:
  """The short form of `table` for a page of several studies: every arm with
  its accuracies and its cost, then the contrasts.

  Args:
    results: the content of results.json, of runs with endpoints.
    endpoints: those whose contrasts are shown; a family is shown whole.
  """
  study = results['study']
  splits = tuple(study['splits'])
  groups: dict[str, list[Mapping]] = {}
  for r in results['reported']:
    groups.setdefault(r['arm'], []).append(r)
  rows = [['arm', 'rate', 'seeds', 'mean_hard', *splits, 'graduated from 0',
           'student rollouts', 'tokens', 'TFLOP', 'seconds']]
  for arm, of_arm in groups.items():
    values = lambda name, of_arm=of_arm: [
        r['endpoints'][name] for r in of_arm if name in r['endpoints']]
    mean = lambda name, values=values: sum(values(name)) / len(values(name))
    rows.append([
        arm, f'{of_arm[0]["rate"]:g}', str(len(of_arm)),
        *(_shown(values(name)) for name in ('mean_hard', *splits)),
        (f'{mean("graduated_from_0"):.3f}' if values('graduated_from_0')
         else '-'),
        f'{mean("student_rollouts"):.0f}', f'{mean("tokens"):.3g}',
        f'{mean("flops") / 1e12:.3f}', f'{mean("seconds"):.0f}'])
  parts = [markdown(rows), '']
  if found := results.get('confirmatory'):
    parts += [f'The claims, one family of {len(found)} under Holm\'s method:',
              '', analysis_table(found), '']
  if found := [c for c in results.get('exploratory', ())
               if c['endpoint'] in endpoints]:
    parts += ['Exploratory, without any adjustment:', '',
              analysis_table(found), '']
  return '\n'.join(parts).rstrip()


def against(results: Mapping, first: str, labels: Mapping[str, str],
            endpoints: Sequence[str] = ('hard', 'hard_list')) -> str:
  """Markdown: arms beside one of them, and its difference from each.

  Args:
    results: the content of results.json, of runs with endpoints.
    first: the arm whose differences are shown, in the first of `endpoints`.
    labels: arm -> what the table calls it, in the order of the rows.
    endpoints: one column each.
  """
  reported = results['reported']
  rows = [['', *endpoints, 'graduated from 0',
           f'{labels[first]} minus this one, in {endpoints[0]}',
           'sign-flip p']]
  for arm, label in labels.items():
    of_arm = [r['endpoints'] for r in reported if r['arm'] == arm]
    from_0 = [of['graduated_from_0'] for of in of_arm
              if 'graduated_from_0' in of]
    rows.append([label, *(cell([of[name] for of in of_arm])
                          for name in endpoints),
                 f'{sum(from_0) / len(from_0):.0%}' if from_0 else '-'])
    if arm == first:
      rows[-1] += ['', '']
      continue
    c = analysis.contrast(
        reported, analysis.Contrast(first, arm, endpoints[0]))
    rows[-1] += [with_interval(c['mean'], c['low'], c['high'], '+.3f'),
                 f'{c["sign_flip_p"]:.4f}']
  return markdown(rows)


def endpoint_table(records: Sequence[Mapping], splits: Sequence[str]) -> str:
  """Markdown: the endpoints of every arm, mean [95 % t interval] over seeds;
  those of large numbers as means.

  Args:
    records: {'arm', 'endpoints'} of complete runs.
    splits: splits, whose own accuracy another table has.
  """
  groups: dict[str, list[Mapping]] = {}
  for r in records:
    groups.setdefault(r['arm'], []).append(r['endpoints'])
  names = sorted({name for of_arm in groups.values() for of in of_arm
                  for name in of if name not in splits})
  rows = [['arm', *names]]
  for arm, of_arm in groups.items():
    values = [[of[name] for of in of_arm if name in of] for name in names]
    rows.append([arm, *map(_shown, values)])
  return markdown(rows)


_SATURATION = ('groups', 'saturated', 'all_right', 'all_wrong', 'plain',
               'accuracy_right_first', 'accuracy_right_second',
               'follows_right', 'follows_wrong', 'follows_first',
               'entropy_within', 'entropy_pooled')


def saturation_table(records: Sequence[Mapping]) -> str:
  """Markdown: counts of BCQ groups of every arm and window of steps, means over
  seeds; groups are summed.

  Args:
    records: {'arm', 'saturation'} of complete runs.
  """
  found: dict[tuple[str, int], list[Mapping]] = {}
  for r in records:
    for first, counts in r['saturation'].items():
      if counts['groups']:
        found.setdefault((r['arm'], int(first)), []).append(counts)
  rows = [['arm', 'from step', *_SATURATION]]
  for (arm, first), of in sorted(found.items()):
    values = {name: [c[name] for c in of if c[name] is not None]
              for name in _SATURATION}
    rows.append([arm, str(first), str(sum(values['groups'])), *(
        f'{sum(values[name]) / len(values[name]):.3f}' if values[name] else '-'
        for name in _SATURATION[1:])])
  return markdown(rows)


def _shown(values: Sequence[float]) -> str:
  if not values:
    return '-'
  if max(map(abs, values)) < 1000:
    return cell(values)
  return f'{sum(values) / len(values):.3g}'


def analysis_table(contrasts: Sequence[Mapping]) -> str:
  """Markdown: contrasts of analysis.contrast; those of a family have Holm's p
  and a verdict."""
  judged = any('verdict' in c for c in contrasts)
  rows = [['contrast', 'endpoint', 'seeds',
           'mean difference [95 % t interval]', 'sign-flip p',
           *(['Holm p', 'the claim'] if judged else []),
           'seeds for 80 % power']]
  for c in contrasts:
    number = '.3g' if abs(c['mean']) >= 1000 else '+.3f'
    rows.append([
        f'{c["first"]} - {c["second"]}', c['endpoint'], str(len(c['seeds'])),
        with_interval(c['mean'], c['low'], c['high'], number),
        f'{c["sign_flip_p"]:.4f}',
        *([f'{c["holm_p"]:.4f}', c['verdict']] if judged else []),
        'more than 1000' if c['seeds_for_80'] is None
        else str(c['seeds_for_80'])])
  return markdown(rows)
