"""`zppo plan`: makes a plan, prints it, and writes it as JSON."""

import json
import pathlib
import sys
from typing import Any

from zppo_jax import allowed
from zppo_jax.devices.memory import size
from zppo_jax.plan import (
  abstract,
  compiling,
  memory,
  planning,
  suggestions,
  topologies,
)
from zppo_jax.plan.planning import Entry, Plan
from zppo_jax.plan.suggestions import Suggestion
from zppo_jax.plan.workload import Assumptions
from zppo_jax.study.tables import markdown

VERSION = 1  # of the JSON


def cost(plan: Plan, price: float | None) -> float | None:
  """Money for the whole run; None without a price or without a time."""
  if price is None or not plan.seconds:
    return None
  hours = plan.seconds * plan.steps / 3600
  return hours * plan.topology.chips * price


def _program(entry: Entry) -> dict[str, Any]:
  peak, analysis = entry.peak, entry.analysis
  out = {'name': peak.program, 'phase': peak.phase,
         'shape': entry.program.shape, 'compiled': analysis is not None,
         'buffers': peak.buffers, 'temporaries': peak.temporaries,
         'code': peak.code, 'beside': peak.beside, 'total': peak.total,
         'usable': peak.usable, 'fits': peak.fits}
  if analysis is not None:
    out |= {'code_generated': analysis.code is not None,
            'refusal': analysis.refusal, 'collectives': analysis.collectives,
            'largest': [list(t) for t in analysis.tensors],
            'compile_seconds': round(analysis.seconds, 1)}
  return out


def record(plan: Plan, price: float | None,
           suggested: list[Suggestion]) -> dict[str, Any]:
  """The plan as JSON; docs/plan.md names its fields."""
  seconds = plan.seconds
  return {
      'version': VERSION, 'topology': plan.topology._asdict(),
      'mesh': plan.mesh, 'changed': plan.changed, 'fast': plan.fast,
      'student': plan.config.student.weights,
      'teacher': ', '.join(spec.weights for spec in abstract.with_weights(
          plan.config.teacher).values()),
      'method': plan.config.method, 'fits': plan.fits,
      'standing': plan.standing, 'phases': {phase: {
          'standing': memory.standing_of(phase, plan.standing),
          'peak': peak.total, 'program': peak.program, 'usable': peak.usable,
          'fits': peak.fits} for phase, peak in plan.phases.items()},
      'programs': [_program(entry) for entry in plan.entries],
      'assumptions': vars(plan.assumed),
      'step': {
          'tokens': plan.load.tokens, 'seconds': seconds,
          'tokens_per_second': plan.load.tokens / seconds if seconds else None,
          'micro_batches': {
              'x'.join(map(str, shape)): n
              for shape, n in plan.load.batches.items()},
          'decode_steps': [r.steps for r in plan.load.student],
          'phases': {phase: vars(work) for phase, work in plan.work.items()}},
      'limit': plan.limit,
      'run': {'steps': plan.steps, 'hours': plan.steps * seconds / 3600,
              'price': price, 'cost': cost(plan, price)},
      'suggestions': [{**s._asdict(), 'flags': s.words()} for s in suggested]}


def _memory_table(plan: Plan) -> str:
  rows = [['phase', 'standing', 'peak', 'of usable', 'largest program',
           'fits']]
  for phase, peak in plan.phases.items():
    rows.append([
        phase, size(memory.standing_of(phase, plan.standing)), size(peak.total),
        f'{peak.total / peak.usable:.0%}', peak.program,
        'yes' if peak.fits else f'no, {size(peak.over)} too much'
        if peak.over else 'no, the compiler refuses it'])
  return markdown(rows)


def _program_table(plan: Plan) -> str:
  rows = [['program', 'largest shape', 'buffers', 'temporaries',
           'collectives (count, bytes received)', 'compiled in']]
  for entry in plan.entries:
    analysis = entry.analysis
    said = 'not compiled: what stands beside it leaves no room'
    if analysis is not None:
      said = ', '.join(
          f'{kind} {of["count"]:,.0f} x, {size(of["moved"])}'
          for kind, of in analysis.collectives.items()) or 'none'
    rows.append([
        entry.peak.program, entry.program.shape, size(entry.peak.buffers),
        size(entry.peak.temporaries) if analysis else '', said,
        f'{analysis.seconds:.0f} s' if analysis else ''])
  return markdown(rows)


def _time_table(plan: Plan) -> str:
  rows = [['phase', 'TFLOP', 'read per device', 'received per device',
           'seconds', 'limited by']]
  for phase, work in plan.work.items():
    rows.append([
        phase, f'{work.flops / 1e12:.4g}', size(work.bytes), size(work.moved),
        f'{work.seconds:,.1f}' if plan.topology.flops else '', work.limit])
  return markdown(rows)


def _assumptions(plan: Plan) -> str:
  of, t = plan.assumed, plan.topology
  text = (
      f'Assumed: lengths of responses are lognormal with the median at '
      f'{of.median_response:.0%} of the longest response and the spread '
      f'{of.spread:g}, cut at the longest; prompts fill their buckets; replay '
      'and reformulations reach their caps; every group is trained.')
  if not t.flops:
    return (f'{text} The rates of this kind of device are not known ahead of '
            'time; `zppo train --dry-run --measure` runs steps.')
  return (
      f'{text} Prefill, scoring and update reach {of.mfu:.0%} of '
      f'{t.flops / 1e12:,.0f} TFLOP/s; decoding, optimizer and weight copy '
      f'{of.bandwidth:.0%} of {t.bandwidth / 1e9:,.0f} GB/s; collectives '
      f'{of.link:.0%} of {t.link / 1e9:,.0f} GB/s per device. Collectives run '
      'beside products, but after each decoding step. A decoding step reads '
      'the whole decode pool. Time of the host is not counted.')


def _summary(plan: Plan, price: float | None) -> list[str]:
  lines = [f'A step draws {plan.load.tokens:,} response tokens of the student.']
  if not plan.seconds:
    return lines
  slowest = max(plan.work, key=lambda phase: plan.work[phase].seconds)
  lines.append(
      f'{plan.seconds:,.0f} s per step, '
      f'{plan.load.tokens / plan.seconds:,.0f} tokens/s, '
      f'{plan.seconds * plan.steps / 3600:,.1f} hours for {plan.steps} steps '
      f'on {plan.topology.chips} chips. {slowest.capitalize()} takes longest, '
      f'{plan.work[slowest].seconds / plan.seconds:.0%} of the step, limited '
      f'by {plan.work[slowest].limit}.')
  money = cost(plan, price)
  lines.append(f'Cost of the run: {money:,.0f} at {price:g} per chip-hour.'
               if money is not None else
               'Cost: give --price, the price of a chip-hour.')
  return lines


def _blocked(plan: Plan, suggested: list[Suggestion]) -> list[str]:
  """What is largest where a plan does not fit, and what would help."""
  lines = []
  for phase, peak in plan.phases.items():
    if peak.fits:
      continue
    entry = next(e for e in plan.entries if e.peak is peak)
    parts = [(n, part) for part, n in plan.standing.items()
             if part in peak.beside or part in entry.program.reads]
    parts += [(n, f'{name} in the program {peak.program!r}')
              for n, name in (entry.analysis.tensors if entry.analysis else ())]
    lines.append(f'{phase} does not fit. Largest: ' + '; '.join(
        f'{name} {size(n)}' for n, name in sorted(parts, reverse=True)[:6]))
    if entry.analysis and entry.analysis.refusal:
      lines.append(f'  the compiler: {entry.analysis.refusal}')
  for one in suggested:
    lines.append(f'It would fit with {one.words()} (the fullest phase that was '
                 f'planned again takes {one.highest:.0%}).')
  if lines and not suggested:
    lines.append('None of the settings that were tried makes it fit.')
  return lines


def text(plan: Plan, price: float | None,
         suggested: list[Suggestion]) -> str:
  """The plan for a reader."""
  t = plan.topology
  lines = [
      f'{plan.config.method}, student {plan.config.student.weights}, '
      f'{t.name}: {t.count} devices, {size(t.usable)} usable on each, mesh '
      + ' x '.join(f'{axis} {n}' for axis, n in plan.mesh.items())]
  if plan.changed:
    lines.append('Changed for these devices: ' + ' '.join(
        f'--config.{field}={value}' for field, value in plan.changed.items()))
  if t.platform == 'gpu':
    lines.append(
        'Compiled for simulated CPU devices, with plain attention: temporaries '
        'are not those of a GPU program, whose attention keeps no scores.')
  if plan.fast and t.platform == 'tpu':
    lines.append('No code was generated; '
                 f'{size(memory.CODE_ROOM)} are left for each program\'s.')
  lines += ['', _memory_table(plan), '', _program_table(plan), '',
            _time_table(plan), '', _assumptions(plan), '',
            *_summary(plan, price), '',
            'It fits.' if plan.fits else 'It does not fit.',
            *([_limit(plan)] if plan.fits and t.platform == 'tpu' else []),
            *_blocked(plan, suggested)]
  return '\n'.join(lines)


def _limit(plan: Plan) -> str:
  """How the compiler is told that a program has not all memory to itself."""
  if plan.limit:
    return (f'A run on this slice sets LIBTPU_INIT_ARGS=--{compiling.LIMIT}='
            f'{plan.limit // compiling.MIB}, because the compiler does not '
            'know what stands beside a program.')
  peaks = [entry.peak for entry in plan.entries]
  tight = min(peaks, key=lambda peak: peak.room)
  return (f'No one value of --{compiling.LIMIT} serves all programs: '
          f'{tight.program!r} leaves {size(tight.room)}, and '
          f'{max(peaks, key=lambda peak: peak.buffers).program!r} needs more. '
          'Without a limit the compiler may use memory in which other parts '
          'stand.')


def _price(value: str | None) -> float | None:
  if value is None:
    return None
  try:
    number = float(value)
  except ValueError:
    number = float('nan')
  return allowed.number('--price', number, '>= 0')


def main(config, topology: str, fast: bool, to: str | None,
         price: str | None, assumed: dict[str, float]) -> bool:
  """Plans, prints the plan, and writes JSON to `to`.

  Args:
    config: the config of `zppo train`.
    topology: the name of the devices.
    fast: whether code is left out.
    to: a file, or None.
    price: of a chip-hour, or None.
    assumed: the fields of Assumptions.

  Returns:
    Whether the run fits.

  Raises:
    ValueError, KeyError, JaxRuntimeError: as planning.plan.
  """
  number, assumptions = _price(price), Assumptions(**assumed)
  where = topologies.parse(topology)
  topologies.prepare(where)
  say = lambda line: print(line, file=sys.stderr, flush=True)
  plan = planning.plan(config, where, fast=fast, assumed=assumptions, say=say)
  suggested = suggestions.of_plan(plan)
  if to is not None:
    path = pathlib.Path(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record(plan, number, suggested), indent=1)
                    + '\n')
  print(text(plan, number, suggested))
  return plan.fits
