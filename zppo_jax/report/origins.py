"""What was trained: model, task, method, command, machine, versions, and the
difference of the config and its base."""

from collections.abc import Callable, Sequence
from typing import Any

from zppo_jax import configs
from zppo_jax.report import frame
from zppo_jax.report.curves import RunGroup
from zppo_jax.report.frame import esc
from zppo_jax.report.reading import RecordedRun
from zppo_jax.study import tables

MOST_VALUES = 4  # of one fact, where the runs differ in it


def base_config(run: RecordedRun) -> dict:
  """The fields of configs/base.py (of `zppo sft`: configs/sft.py) as they are
  now, by dotted name."""
  config = configs.load('sft' if run.supervised else 'base')
  return tables.flatten(config.to_dict())


def _like_json(value: Any) -> Any:
  return list(map(_like_json, value)) if isinstance(value, tuple) else value


def differences(run: RecordedRun) -> list[tuple[str, Any, Any]]:
  """(field, value of the base, value of the run), in the order of the run's
  config."""
  base = {k: _like_json(v) for k, v in base_config(run).items()}
  flat = tables.flatten(run.config)
  out = [(k, base.get(k, tables.ABSENT), v) for k, v in flat.items()
         if k not in base or base[k] != v]
  # A section that a run fills is empty in the base, and the other way round.
  return [(k, was, v) for k, was, v in out
          if not (v == {} and any(b.startswith(f'{k}.') for b in base))]


def _field(name: str) -> Callable[[RecordedRun], str]:
  def get(run: RecordedRun) -> str:
    value = tables.flatten(run.config).get(name, '')
    return str(value)
  return get


def _student(run: RecordedRun) -> str:
  flat = tables.flatten(run.config)
  words = [str(flat.get('student.weights', ''))]
  if flat.get('student.dtype'):
    words.append(str(flat['student.dtype']))
  if flat.get('lora.rank'):
    words.append(f'adapters of rank {flat["lora.rank"]}')
  return ', '.join(filter(None, words))


def _teacher(run: RecordedRun) -> str:
  flat = tables.flatten(run.config)
  kind = flat.get('teacher.kind', '')
  if kind == 'endpoint':
    return f'endpoint: {flat.get("teacher.endpoint.model", "")}'
  if kind == 'in_process':
    return str(flat.get('teacher.weights', ''))
  if kind == 'own':
    return f'the student\'s own weights ({flat.get("teacher.own.weights", "")})'
  return str(kind)


def _task(run: RecordedRun) -> str:
  data = run.config.get('data', {})
  sources = data.get('sources') or data.get('pool', {}).get('sources') or {}
  named = '; '.join(f'{name}: {of.get("path", "")}'
                    for name, of in sources.items() if isinstance(of, dict))
  return ' - '.join(filter(None, (str(data.get('task', '')), named)))


def _last(run: RecordedRun) -> dict:
  return run.attempts[-1] if run.attempts else {}


def _machine(run: RecordedRun) -> str:
  last = _last(run)
  devices = last.get('devices')
  words = []
  if devices:
    words.append(f'{devices["count"]} x {devices["kind"]} '
                 f'({devices["platform"]})')
  if 'cores' in last:
    words.append(f'{last["cores"]} cores')
  if 'processes' in last:
    words.append(f'{last["processes"]} processes')
  if 'host' in last:
    words.append(f'host {last["host"]}')
  return ', '.join(words)


def _of_summary(run: RecordedRun, name: str) -> str:
  """What summary.json says under a name, e.g. of the best evaluation."""
  of = (run.summary or {}).get(name) or {}
  if 'why' in of:
    return str(of['why'])
  return ', '.join(f'{k} {v:.4g}' if isinstance(v, float) else f'{k} {v}'
                   for k, v in of.items())


def _starts(run: RecordedRun) -> str:
  if not run.attempts:
    return ''
  count = len(run.attempts)
  return (f'{run.attempts[0].get("started", "")}'
          + (f', {count} starts in all' if count > 1 else ''))


FACTS: tuple[tuple[str, Callable[[RecordedRun], str]], ...] = (
    ('Student', _student),
    ('Teacher', _teacher),
    ('Task', _task),
    ('Method', lambda run: run.method),
    ('Learning rate', _field('optimizer.learning_rate')),
    ('Command', lambda run: str(_last(run).get('command', ''))),
    ('Machine', _machine),
    ('Started', _starts),
    ('Best', lambda run: _of_summary(run, 'best')),
    ('Stopped early', lambda run: _of_summary(run, 'stopped')),
    ('Forked from', lambda run: str(run.forked_from or '')),
    ('Versions', lambda run: ', '.join(
        f'{k} {v}' for k, v in run.versions.items())),
    ('Code', lambda run: run.revision),
)
CODE = ('Command', 'Code', 'Versions')


def facts(runs: Sequence[RecordedRun]) -> str:
  """FACTS of runs as a definition list; one that no run tells is left out."""
  out = []
  for name, get in FACTS:
    by_value: dict[str, list[str]] = {}
    for run in runs:
      by_value.setdefault(get(run), []).append(run.name)
    by_value.pop('', None)
    if not by_value:
      continue
    cells = []
    for value, names in list(by_value.items())[:MOST_VALUES]:
      text = esc(value)
      if name in CODE:
        text = f'<code>{text}</code>'
      if len(by_value) > 1:
        text += f' <span class="soft">{esc(", ".join(names))}</span>'
      cells.append(f'<dd>{text}</dd>')
    if len(by_value) > MOST_VALUES:
      cells.append(f'<dd class="soft">and {len(by_value) - MOST_VALUES} more'
                   '</dd>')
    out.append(f'<div><dt>{name}</dt>{"".join(cells)}</div>')
  return f'<dl class="facts">{"".join(out)}</dl>'


def config_table(groups: Sequence[RunGroup]) -> str:
  """How the config of each group differs from its base."""
  parts = []
  for group in groups:
    rows = differences(group.runs[0])
    of = f' of {esc(group.label)}' if len(groups) > 1 else ''
    name = 'configs/sft.py' if group.runs[0].supervised else 'configs/base.py'
    shown = [['field', 'base', 'this run']] + [
        [f'<code>{esc(k)}</code>', esc(was), esc(value)]
        for k, was, value in rows]
    parts.append(
        f'<details class="config"><summary>Config{of}: '
        f'{len(rows)} fields differ from <code>{name}</code></summary>'
        + (frame.table(shown, 'config') if rows else '') + '</details>')
  return ''.join(parts)
