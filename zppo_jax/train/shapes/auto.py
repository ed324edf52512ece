"""`shapes.auto`: buckets, slots and micro-batches from the data and the memory.

  prompt_buckets   the plain prompts of pool and splits, and the longest prompt
                   of each reformulation
  row_buckets      a prompt and the longest response
  patch_buckets    images and videos of the prompts
  response_buckets lengths of recorded responses (shapes.responses)
  slots            as many rollouts of a batch as decode at once and fit
  group_buckets    the prompts that fill the slots, and an eighth of them
  micro_tokens     as much of a mini-batch as fits

Fields that were set by hand keep their value. What is proposed is stored in the
workdir's config.json, from which a resume takes it; so it stays the same on
another machine. Slots and micro-batches are tried from the largest down. Where
counts do not say that they fit, the compiler says what the programs need.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zppo_jax.algorithms import methods, zppo
from zppo_jax.chat import renderers
from zppo_jax.chat.wording import Chat
from zppo_jax.data import prompt_lengths
from zppo_jax.devices import hosts, sharding
from zppo_jax.records import PromptKind, Question
from zppo_jax.runs import same_config, workdir
from zppo_jax.train.builders.parts import Student
from zppo_jax.train.run import Run
from zppo_jax.train.shapes import room, tables
from zppo_jax.train.shapes.tables import Lengths

ANSWER = 16  # tokens of an answer that an NCQ lists, at most


def with_shapes(config: Any, values: dict[str, Any]) -> Any:
  """A copy of a config whose shapes are given, and are no longer `auto`."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.shapes.update({'auto': False, **values})
  return config


def proposed(config: Any, defaults: Mapping[str, Any] | None = None
             ) -> tuple[str, ...]:
  """The fields of `shapes` that shapes.auto proposes; () without it.

  Args:
    config: the config.
    defaults: as of tables.proposed.
  """
  return (tables.proposed(config.shapes, defaults) if config.shapes.auto
          else ())


def of_workdir(config: Any, path: Any,
               defaults: Mapping[str, Any] | None = None) -> Any:
  """The config with the shapes that a workdir stores.

  Args:
    config: the config; without shapes.auto it is returned as it is.
    path: a workdir; a new one changes nothing, and neither does that of another
      config's start, which ended before its first step.
    defaults: as of tables.proposed.

  Raises:
    FileExistsError, ValueError: see workdir.read_config.
  """
  if not config.shapes.auto:
    return config
  stored, begun = hosts.from_first(lambda: (
      workdir.read_config(path), workdir.is_begun(path)), 'the shapes')
  if stored is None:
    return config
  there = stored['config'].get('shapes', {})
  same = with_shapes(config, {
      name: tuple(there[name]) if isinstance(there[name], list) else there[name]
      for name in tables.proposed(config.shapes, defaults) if name in there})
  if not begun and same_config.differences(stored['config'], same):
    return config
  return same


def of_checkpoint(config: Any, path: Any) -> Any:
  """The config with the shapes of the run to which a checkpoint belongs.

  Args:
    config: the config; without shapes.auto it is returned as it is.
    path: a workdir, its folder `best`, or a checkpoint in it. Other weights
      change nothing, and neither do those of `zppo sft`, which asks nothing:
      their shapes come from what they are asked (`of_questions`).
  """
  path = pathlib.Path(path)
  run = next((folder for folder in (path, path.parent, path.parent.parent)
              if (folder / 'attempts').is_dir()), None)
  if not config.shapes.auto or run is None:
    return config
  stored = workdir.read_config(run) or {'config': {}}
  asks = 'prompt_buckets' in stored['config'].get('shapes', {})
  return of_workdir(config, run) if asks else config


def of_questions(c: Any, questions: Sequence[Question], chat: Chat,
                 positions: int, total: int, unit: int,
                 fits: Callable[[Any], bool]) -> Any:
  """The config with shapes that are proposed from questions alone, which are
  answered and not trained on.

  Args:
    c: the config, whose shapes.auto is True.
    questions: what is asked.
    chat: of who answers.
    positions: the most that the model takes.
    total: the most rollouts that are drawn together.
    unit: the rollouts of a question on each batch shard, in all.
    fits: a config -> whether its engine fits the memory.
  """
  names = tables.proposed(c.shapes)
  sizes = prompt_lengths.measure(questions, chat)
  buckets = tables.buckets(Lengths(
      prompts=[tokens for tokens, _ in sizes],
      patches=[patches for _, patches in sizes], longer=(), responses=(),
      limit=c.algorithm.max_tokens, positions=positions))
  found: dict[str, Any] = {
      name: buckets[name] for name in ('prompt_buckets', 'patch_buckets')
      if name in names}
  if 'slots' in names:
    print('shapes.auto: proposing shapes from the questions and the memory',
          flush=True)
    longest = max(found.get('prompt_buckets', c.shapes.prompt_buckets))
    for count in tables.slot_counts(total, unit):
      values = {'slots': count}
      if c.shapes.prefill_tokens is None:  # the prompts that fill the slots
        values['prefill_tokens'] = count // unit * longest
      if fits(with_shapes(c, {**found, **values})):
        break
    else:
      print(f'shapes.auto: answers may not fit the memory, even with {values}',
            flush=True)
    found |= values
  for name, value in found.items():
    print(f'shapes.auto: shapes.{name} = {value}', flush=True)
  return with_shapes(c, found)


def longest_prompts(c: Any, method: methods.Method, chat: Chat,
                    plain: int) -> list[int]:
  """The most tokens of a prompt of each reformulation, and of a context.

  Args:
    c: the config.
    method: its row.
    chat: of the student.
    plain: the longest plain prompt.
  """
  algo, empty = c.algorithm, len(chat.plain('').tokens)
  trace = min(algo.max_tokens, max(c.compression.cap,
                                   c.compression.identity_below))

  def shown(kind: PromptKind, count: int, each: int, **fields: Any) -> int:
    frame = renderers.render(kind, chat, renderers.Exhibit(
        question='', **fields))
    return plain + len(frame.tokens) - empty + count * each

  texts = lambda count: dict(
      candidates=('',) * count, answers=tuple(map(str, range(count))))
  listed = algo.rollouts * (min(ANSWER, algo.max_tokens // 4) - 1)
  sizes = {
      'bcq': lambda: shown(PromptKind.BCQ, 2, trace, **texts(2)),
      'ncq': lambda: listed + shown(PromptKind.NCQ, algo.rollouts, trace,
                                    **texts(algo.rollouts)),
      'prefix': lambda: plain + algo.teacher_max_tokens,
      'hint': lambda: shown(PromptKind.HINT, 1, c.hint.cap, hints=('',))}
  same = {'placebo_bcq': 'bcq', 'oracle_prefix': 'prefix'}
  out = [sizes[same.get(name, name)]() for name in method.reformulations]
  if method.distils and (method.draws or c.distil.context not in ('', 'same')):
    out.append(plain + algo.max_tokens + algo.teacher_max_tokens)
  return out


def lengths_of(c: Any, method: methods.Method, asked: Any,
               chat: Chat, positions: int) -> Lengths:
  """What the data of a config asks for.

  Args:
    c, method, asked, chat: as of `resolved`.
    positions: the most that the model takes.

  Raises:
    ValueError: for a run without questions, such as a plan's.
  """
  questions = [*asked.words, *(q for of in asked.splits.values() for q in of)]
  if not questions:
    raise ValueError('shapes.auto is True; it reads the questions, and there '
                     'are none here. `zppo train --dry-run` prints what it '
                     'proposes; set shapes.* to that')
  sizes = prompt_lengths.measure(questions, chat)
  prompts = [tokens for tokens, _ in sizes]
  path = c.shapes.responses
  return Lengths(
      prompts=prompts, patches=[patches for _, patches in sizes],
      longer=longest_prompts(c, method, chat, max(prompts)),
      responses=tables.recorded_responses(path) if path else (),
      limit=max(c.algorithm.max_tokens,
                c.algorithm.teacher_max_tokens if method.takes_answers else 0),
      positions=positions)


def resolved(c: Any, method: methods.Method, asked: Any, student: Student,
             build: Callable[[Any], Run], limit: int | None = None) -> Any:
  """The config with proposed shapes.

  Args:
    c: the config, whose shapes.auto is True.
    method: its row.
    asked: its questions (builders.parts.Questions).
    student: the policy on its mesh.
    build: a config -> its run, which is not compiled.
    limit: bytes of a device; None for those of the devices here.

  Raises:
    ValueError, FileNotFoundError: see `lengths_of` and recorded_responses.
  """
  names = tables.proposed(c.shapes)
  if {'slots', 'micro_tokens'} & set(names):
    print('shapes.auto: proposing shapes from the data and the memory',
          flush=True)
  by_hand = {name: c.shapes[name] for name in tables.DEFAULTS
             if name not in names}
  positions = min(student.model.config.max_positions,
                  max(by_hand.get('row_buckets', (2**62,))))
  found = {name: value for name, value in tables.buckets(
      lengths_of(c, method, asked, student.chat, positions),
      by_hand.get('prompt_buckets', ())).items() if name in names}
  limit = room.limit() if limit is None else limit
  algo, shards = c.algorithm, sharding.batch_shards(student.model.mesh)
  rules = zppo.Rules(num_new=algo.num_new, tau=algo.tau,
                     rho_replay=algo.rho_replay, rho_aug=algo.rho_aug,
                     max_prompt=1, seed=c.seed)
  batch = rules.num_new + (rules.num_replay if method.replay else 0)
  least = math.lcm(algo.rollouts, algo.teacher_rollouts) * shards
  row = max(found.get('row_buckets', c.shapes.row_buckets))
  useful = -(-batch * algo.rollouts // (algo.updates * shards)) * row

  def slots(count: int) -> dict[str, Any]:
    return {'slots': count, 'group_buckets': tables.groups(
        count, algo.rollouts)}

  searches = (
      ('slots', room.ROLLOUTS, [slots(n) for n in tables.slot_counts(
          batch * algo.rollouts, least)]),
      ('micro_tokens', room.UPDATE, [
          {'micro_tokens': n} for n in tables.micro_counts(row, useful)]))
  # The least of both, so that the one that is searched decides alone.
  smallest = {name: value for _, _, tries in searches
              for name, value in tries[-1].items() if name in names}
  chosen: dict[str, Any] = {}
  for name, phase, tries in searches:
    if name not in names:
      continue
    for values in tries:
      values = {n: v for n, v in values.items() if n in names}
      run = build(with_shapes(c, {**smallest, **found, **values}))
      if hosts.agreed(room.fits(run, phase, limit), all, 'what fits'):
        break
    else:
      print(f'shapes.auto: {phase} may not fit the memory, even with '
            f'{values}; `zppo plan` names other settings', flush=True)
    chosen |= values
  if 'group_buckets' in names and 'slots' not in names:
    count = c.shapes.slots or batch * algo.rollouts
    chosen['group_buckets'] = tables.groups(count, algo.rollouts)
  found |= chosen
  for name in names:
    print(f'shapes.auto: shapes.{name} = {found[name]}', flush=True)
  return with_shapes(c, found)


def once(load: Callable) -> Callable:
  """A function that loads weights, with what it loaded kept: candidates of
  shapes share the weights of student and teacher."""
  kept: dict[str, Any] = {}

  @functools.wraps(load)
  def loaded(spec: Any, *places: Any, **options: Any) -> Any:
    who = options.get('who', places[3] if len(places) > 3 else '')
    key = f'{who} {spec.to_json_best_effort()}'
    if key not in kept:
      kept[key] = load(spec, *places, **options)
    return kept[key]

  return loaded
