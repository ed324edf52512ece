"""The programs of a step, each at its largest shape, and what lies beside them.

They are the product's own: the compiled functions of a `run.Run`, lowered from
shapes.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from zppo_jax.algorithms.credit import gold
from zppo_jax.arrays import MicroBatch, PromptBatch
from zppo_jax.devices import memory
from zppo_jax.learner import layouts, packing, scoring, update
from zppo_jax.models import Model
from zppo_jax.records import Decoding
from zppo_jax.rollout import drawing
from zppo_jax.rollout.engine import Engine
from zppo_jax.rollout.programs import Programs
from zppo_jax.teachers import panel
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.train import minibatches
from zppo_jax.train.run import Run

# What of a run is on the devices in each phase of a step (train/step.py). Of
# the members of a panel each has a copy of its own, 'teacher copy of NAME', and
# the pool is that of one at a time.
BLOCK = 'blocks_'  # how a rollout copy names its blocks (layers.unstack)
_MEMBER = ' of '
FROZEN = 'frozen weights'  # those below adapters
STATE = ('parameters', FROZEN, 'moments', 'anchor', 'reference copy',
         'teacher copy', 'drift copy', 'base copy')
ALIVE = {
    'reshard': (*STATE, 'rollout copy'),
    'rollouts': (*STATE, 'rollout copy', 'decode pool'),
    'teacher': (*STATE, 'rollout copy', 'teacher pool'),
    'teacher scoring': (*STATE, 'rollout copy'),
    'scoring': STATE,
    'update': (*STATE, 'gradient'),
    'evaluation': (*STATE, 'rollout copy', 'decode pool'),
}


class Program(NamedTuple):
  """A program of a step.

  Attributes:
    name: its name in a plan; that of a member of a panel begins with
      'teacher/NAME'.
    phase: a key of ALIVE.
    reads: parts of the run (`standing`) that are among its arguments.
    shape: its largest batch, in words.
    lower: () -> the program, lowered.
    blocks: how many blocks of a network it writes out one after the other; 0
      for a loop over blocks.
    builds: a part that its calls build up piece by piece; '' for none. The
      first call has the largest piece.
  """
  name: str
  phase: str
  reads: tuple[str, ...]
  shape: str
  lower: Callable[[], jax.stages.Lowered]
  builds: str = ''
  blocks: int = 0


def alive(phase: str, standing: Mapping[str, int]) -> list[str]:
  """The parts of a run that are on the devices in a phase, of `standing`."""
  return [part for kind in ALIVE[phase] for part in standing
          if part.split(_MEMBER)[0] == kind]


def rollout_copy(run: Run) -> Any:
  """Shapes of the rollout copy with their shardings."""
  return run.reshard_fn.eval_shape(run.abstract_state.params)


def standing(run: Run) -> dict[str, int]:
  """Bytes per device of the parts of a run that outlive a program.

  Decode pools count at their largest size, that of the teachers of a panel as
  the largest of theirs.
  """
  state = run.abstract_state
  out = {
      'parameters': memory.device_bytes(state.params),
      # All that the state holds besides, a copy that follows included.
      'moments': memory.device_bytes(state) - memory.device_bytes(
          state.params),
      'gradient': memory.device_bytes(state.params),
      'rollout copy': memory.device_bytes(rollout_copy(run)),
      'decode pool': run.sampler.engine.programs.largest_cache_bytes()}
  if run.ewc is not None:
    out['anchor'] = memory.device_bytes(run.ewc.arrays)
  if run.adapted is not None:
    out[FROZEN] = memory.device_bytes(run.adapted.base)
  for reader, params in run.copies().items():
    part = _copy_of(reader)
    out[part] = out.get(part, 0) + memory.device_bytes(params)
  if answering := run.answering:
    out['teacher pool'] = max(map(teacher_pool, answering.values()))
  return out


def teacher_pool(teacher: InProcessTeacher) -> int:
  """Bytes per device of a teacher's decode pool at its largest size."""
  return teacher.answers.engine.programs.largest_cache_bytes()


def _copy_of(reader: str) -> str:
  """The part of the run that holds what is copied for a reader."""
  role, _, member = reader.partition('/')
  return f'{role} copy' + (f'{_MEMBER}{member}' if member else '')


def part_of(run: Run, params: Any, copy: str) -> str:
  """The part of the run that params are: the weights below adapters, the copy
  of the first of its readers, or else a copy of that name."""
  if run.is_frozen(params):
    return FROZEN
  return next((_copy_of(reader) for reader, of in run.copies().items()
               if of is params), copy)


def teacher_copy(run: Run, role: str) -> str:
  """The part of the run that holds the weights of a teacher of this process.

  Args:
    run: the run.
    role: a key of panel.in_process_of.
  """
  return part_of(run, panel.in_process_of(run.teacher)[role].params,
                 _copy_of(role))


def frozen_models(run: Run) -> dict[str, Any]:
  """The params of the models that run inside the update without a gradient, by
  the names that the loss has for them."""
  beside = run.update_fn.keywords['beside_fn'](run.abstract_state)
  frozen = beside[0].frozen if beside else {}
  return {name: of for name, of in frozen.items() if name != update.BASE}


def prefill_size(programs: Programs, samples: int) -> int:
  """The largest padded prefill of the longest prompts that an engine runs for
  requests of `samples` rollouts each: no more prompts get slots at a time than
  its slots hold."""
  shapes = programs.shapes
  prompts = max(shapes.slots[-1] // samples, 1)
  sizes = shapes.prefills(shapes.prompt_lengths[-1])
  return next((size for size in sizes if size >= prompts), sizes[-1])


def example_targets(run: Run) -> dict[str, np.ndarray]:
  """The targets of one token of the run's micro-batches."""
  return minibatches.example_targets(
      run.method, run.num_updates, run.distil, run.stored_need,
      run.teacher is not None and run.teacher.capabilities.entropy,
      run.reference and run.reference.penalty, run.context is not None)


def largest_shape(layout: layouts.Layout) -> layouts.BatchShape:
  """The shape of a layout with the most positions; of equal ones, the one with
  the longest rows."""
  positions = lambda s: s.units * (s.prompt + s.patches + s.rows * s.length)
  return max(layouts.shapes(layout), key=lambda s: (positions(s), s.length))


def _of_engine(who: str, phase: str, engine: Engine, params,
               decodings: Mapping[Decoding, int], reads: str,
               pool: str) -> list[Program]:
  """Prefill and decoding of an engine.

  Args:
    who: the first word of their names.
    phase: a key of ALIVE.
    engine: the engine.
    params: its weights, as shapes.
    decodings: how rollouts are drawn -> rollouts per prompt.
    reads, pool: the parts of the run that hold weights and decode state.
  """
  programs, shapes = engine.programs, engine.programs.shapes
  blocks = sum(name.startswith(BLOCK) for name in params)
  size = prefill_size(programs, min(decodings.values()))
  length, patches = shapes.prompt_lengths[-1], max(shapes.patches, default=0)
  largest = shapes.largest
  media = f' and {patches:,} patches' if patches else ''
  out = [Program(
      f'{who} prefill', phase, (reads,),
      f'{size} prompts of {length:,} tokens{media}',
      lambda: programs.lower_prefill(params, size, length, patches),
      blocks=blocks)]
  for mode in dict.fromkeys(map(drawing.mode_of, decodings)):
    name = f'{who} decode' + ('' if mode == drawing.DRAW else f' ({mode})')
    out.append(Program(
        name, phase, (reads, pool),
        f'{largest.slots} slots, {largest.prompt_length:,} + '
        f'{largest.response_length:,} tokens',
        lambda mode=mode: programs.lower_decode(params, largest, mode),
        blocks=blocks))
  return out


def _of_student(run: Run) -> list[Program]:
  engine, sampler = run.sampler.engine, run.sampler
  copy, largest = rollout_copy(run), run.reshard_fn.leaves[0]
  out = [Program('reshard', 'reshard', (), f'{largest.name} of all leaves',
                 lambda: largest.program.lower(largest.leaf), 'rollout copy')]
  out += _of_engine('student', 'rollouts', engine, copy,
                    {sampler.decoding: sampler.num_rollouts}, 'rollout copy',
                    'decode pool')
  return out + _of_engine(
      'evaluation', 'evaluation', run.greedy.engine, copy,
      {run.greedy.decoding: run.greedy.num_rollouts}, 'rollout copy',
      'decode pool')


def _forms(run: Run) -> list[scoring.Form]:
  """What the teacher's scoring pass returns, by the need of the method."""
  top = run.distil.top if run.distil else 0
  by_need = {'teacher_top': scoring.Form(top=top),
             'teacher_given': scoring.Form(given=True)}
  if run.stored_need:
    return [by_need.get(run.stored_need, scoring.Form())]
  return [scoring.Form()] if run.method.teacher_scores else []


def _of_teacher(run: Run, config, role: str,
                teacher: InProcessTeacher) -> list[Program]:
  out, copy = [], teacher_copy(run, role)
  if role in run.answering:
    out += _of_engine(
        role, 'teacher', teacher.answers.engine, teacher.params,
        {s.decoding: s.num_rollouts for s in (
            teacher.answers, teacher.summaries)}, copy, 'teacher pool')
  programs = teacher.answers.engine.programs
  length = max(teacher.row_buckets)
  for form in _forms(run):
    rows = packing.rows_per_micro_batch(
        length, teacher.micro_tokens,
        math.prod(programs.mesh.shape[a] for a in ('data', 'fsdp')))
    like = {scoring.GIVEN: np.zeros((1, config.distil.top), np.int32)} if (
        form.given) else {}
    batch = with_media(
        packing.pad_rows([], rows, length, 0, programs.model.num_axes, like),
        max(programs.shapes.patches, default=0), programs.model)
    out.append(Program(
        f'{role} scoring', 'teacher scoring', (copy,),
        f'{rows} rows of {length:,} tokens',
        lambda form=form, batch=batch: teacher.score_fn(form).lower(
            teacher.params, batch)))
  return out


def with_media(batch: MicroBatch, patches: int, model: Model) -> MicroBatch:
  """A micro-batch without sequences, whose prompts and lessons have as many
  patches each."""
  if not patches:
    return batch
  values = model.config.vision.patch_values
  of = lambda rows: packing.blank_media(rows, patches, values)
  shared = isinstance(batch.prompts, PromptBatch)
  rows = len(batch.prompts.tokens_PT if shared else batch.tokens_BT)
  lessons = batch.lessons
  if lessons is not None:
    lessons = lessons.replace(media=of(len(
        lessons.tokens_PT if shared else lessons.tokens_BT)))
  return batch.replace(prompts=batch.prompts.replace(media=of(rows)),
                       lessons=lessons)


def words_of(shape: layouts.BatchShape) -> str:
  """A micro-batch in words."""
  media = f' and {shape.patches:,} patches' if shape.patches else ''
  if shape.prompt:
    return (f'{shape.units} prompts of {shape.prompt:,} tokens{media}, '
            f'{shape.rows} responses of {shape.length:,} each')
  return f'{shape.units} rows of {shape.length:,} tokens{media}'


def _of_learner(run: Run) -> list[Program]:
  state, shape = run.abstract_state, largest_shape(run.layout)
  batch = with_media(
      layouts.empty(run.layout, shape._replace(patches=0),
                    example_targets(run)),
      shape.patches, run.sampler.engine.programs.model)
  out, words = [], words_of(shape)
  policy = ('parameters', *((FROZEN,) if run.adapted else ()))
  if run.num_updates > 1 and run.method.old_logps:
    out.append(Program('scoring', 'scoring', policy, words,
                       lambda: run.score_fn.lower(state.params, batch)))
  if run.reference is not None and run.reference.penalty.sampled:
    out.append(Program(
        'reference scoring', 'scoring',
        (part_of(run, run.reference.params, 'reference copy'),), words,
        lambda: run.reference.score_fn.lower(run.reference.params, batch)))
  parts = run.update_fn.keywords
  grads = parts['zeros_fn'].eval_shape(state.params)
  beside = parts['beside_fn'](state)
  copies = {part_of(run, params, 'teacher copy')
            for params in frozen_models(run).values()}
  out.append(Program(
      'update', 'update',
      (*policy, 'gradient', *sorted(copies - {FROZEN})), words,
      lambda: parts['accumulate_fn'].lower(grads, state.params, batch,
                                           *beside)))
  if parts['gold_fn'] is not None:
    answers = layouts.empty(run.layout._replace(lessons=None), shape,
                            gold.EXAMPLE)
    out.append(Program(
        'gold answers', 'update', (*policy, 'gradient'), words,
        lambda: parts['gold_fn'].lower(grads, state.params, answers,
                                       *beside)))
  anchor = ('anchor',) if run.ewc else ()
  out.append(Program(
      'optimizer', 'update', ('parameters', 'moments', 'gradient', *anchor),
      'all parameters', lambda: parts['optimizer_fn'].lower(
          state, grads, 1.0, *parts['anchor'])))
  return out


def of_run(run: Run, config) -> list[Program]:
  """All programs of a step, in the order of a step.

  Args:
    run: the run (abstract.run_of).
    config: its config.
  """
  student = _of_student(run)
  before = [p for p in student if p.phase != 'evaluation']
  teachers = [program for role, teacher in panel.in_process_of(
      run.teacher).items() for program in _of_teacher(
          run, config, role, teacher)]
  return [*before, *teachers, *_of_learner(run),
          *(p for p in student if p.phase == 'evaluation')]
