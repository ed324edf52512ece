"""Which attention kernel each shape of a run gets, and why.

The rules are in attention.choose; this module lists what a run will ask it for.
"""

import itertools
from typing import NamedTuple

from zppo_jax.learner import layouts
from zppo_jax.models import attention
from zppo_jax.rollout.programs import Programs
from zppo_jax.train.run import Run


class Use(NamedTuple):
  """One shape of tokens that see each other, and its kernel.

  Attributes:
    what: the program that meets the shape.
    rows, length: the shape of its batch.
    choice: the kernel, and why it was chosen.
  """
  what: str
  rows: int
  length: int
  choice: attention.KernelChoice


def _of(model, mesh, what: str, rows: int, length: int,
        patches: int) -> list[Use]:
  """The shapes of one program: the decoder's, and the tower's if there are
  patches."""
  c = model.config
  heads = attention.heads_of(c, mesh)
  parts = [('decoder', what, length)]
  if patches:
    parts.append(('vision', f'{what}, vision', patches))
  return [
      Use(name, rows, size, attention.choose(
          c.attention, mesh,
          attention.AttentionShape(rows, size, *heads[part], c.dtype)))
      for part, name, size in parts]


def of_engine(programs: Programs, who: str) -> list[Use]:
  """The shapes of prefills of every size, and of decoding in all slots."""
  s, model, mesh = programs.shapes, programs.model, programs.mesh
  out = []
  for length, patches in itertools.product(
      s.prompt_lengths, (0, *s.patches)):
    for rows in s.prefills(length, patches):
      out += _of(model, mesh, f'{who} prefill', rows, length, patches)
  return out + _of(model, mesh, f'{who} decoding', s.slots[-1], 1, 0)


def of_run(run: Run) -> list[Use]:
  """All shapes of a run, each once."""
  model = run.sampler.engine.programs.model
  out = of_engine(run.sampler.engine.programs, 'student')
  for role, teacher in run.answering.items():
    out += of_engine(teacher.answers.engine.programs, role)
  for s in layouts.shapes(run.layout):
    if not s.prompt:
      out += _of(model, run.mesh, 'training', s.units, s.length, s.patches)
      continue
    out += _of(model, run.mesh, 'training prompts', s.units, s.prompt,
               s.patches)
    out += _of(model, run.mesh, 'training responses', s.units * s.rows,
               s.prompt + s.length, 0)
  return list(dict.fromkeys(out))


def table(uses: list[Use]) -> list[str]:
  """One line per shape."""
  return [f'{u.what:28s} {u.rows:5d} x {u.length:<6d} {u.choice.kernel}: '
          f'{u.choice.why}' for u in uses]


def summary(uses: list[Use]) -> list[str]:
  """One line per kernel and reason, with the shapes that have it."""
  by_choice: dict[attention.KernelChoice, dict[str, list[str]]] = {}
  for u in uses:
    by_choice.setdefault(u.choice, {}).setdefault(u.what, []).append(
        f'{u.rows}x{u.length}')
  return [f'attention {choice.kernel}, {choice.why}: ' + '; '.join(
      f'{what} {" ".join(shapes)}' for what, shapes in programs.items())
      for choice, programs in by_choice.items()]
