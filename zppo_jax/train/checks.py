"""Checks of a config before anything is loaded or compiled.

build.py makes the checks that need the loaded models.
"""

import math
import re
from collections.abc import Iterable, Sequence

from zppo_jax import allowed
from zppo_jax.algorithms import distillation
from zppo_jax.algorithms.credit import scores as teacher_scores
from zppo_jax.algorithms.credit.settings import Credit
from zppo_jax.algorithms.privileged.hints import HintConfig
from zppo_jax.chat.wording import Chat
from zppo_jax.devices import sharding
from zppo_jax.learner import layouts
from zppo_jax.records import Picture, Question
from zppo_jax.teachers import ANY_IDS, Capabilities, Teacher, lacking
from zppo_jax.teachers.in_process import InProcessTeacher
from zppo_jax.verdicts import verifier


def golds(questions, most: float) -> str:
  """Warns of gold answers that are not of their kind. ValueError if they are a
  larger share of the checked ones than `most`. Returns GoldCheck.judged."""
  check = verifier.check_golds(questions)
  if not check.unreadable:
    return check.judged
  name, why = next(iter(check.unreadable.items()))
  warning = (
      f'{len(check.unreadable)} of {check.checked} gold answers are not of '
      f'their question\'s kind, the first of {name!r}: {why}')
  if len(check.unreadable) > most * check.checked:
    raise ValueError(f'{warning}; guard.max_ungraded is {most:g}')
  print(f'{warning}; answers to them are not graded', flush=True)
  return check.judged


def resting(c, possible: bool) -> None:
  """ValueError for algorithm.rest_saturated where no BCQ can saturate.

  Args:
    c: the config of the run.
    possible: whether the method has a buffer and BCQs.
  """
  if c.algorithm.rest_saturated and not possible:
    raise ValueError(
        f'algorithm.rest_saturated is {c.algorithm.rest_saturated} with method '
        f'{c.method!r}; it is for methods with a buffer and BCQs, allowed '
        'here: 0')


def numbers(c) -> None:
  """Checks the numbers of a config.

  Raises:
    ValueError: for a number out of its range, or an empty bucket table.
    KeyError: for an unknown layout.
  """
  algo, shapes = c.algorithm, c.shapes
  for field, value, lowest in (
      ('seed', c.seed, 0), ('steps', c.steps, 1),
      ('algorithm.num_new', algo.num_new, 1),
      ('algorithm.rollouts', algo.rollouts, 2),  # one rollout has no baseline
      ('algorithm.teacher_rollouts', algo.teacher_rollouts, 1),
      ('algorithm.max_tokens', algo.max_tokens, 1),
      ('algorithm.teacher_max_tokens', algo.teacher_max_tokens, 1),
      ('algorithm.updates', algo.updates, 1),
      ('shapes.micro_tokens', shapes.micro_tokens, 1),
      ('shapes.logprob_chunk', shapes.logprob_chunk, 1),
      ('eval.every', c.eval.every, 0), ('eval.size', c.eval.size, 1)):
    allowed.number(field, value, f'>= {lowest}', whole=True)
  allowed.number('algorithm.advantage_eps', algo.advantage_eps, '>= 0')
  if algo.updates > algo.num_new:
    raise ValueError(
        f'algorithm.updates is {algo.updates}; a step of algorithm.num_new = '
        f'{algo.num_new} groups has no more mini-batches than that')
  allowed.number('guard.max_ungraded', c.guard.max_ungraded, '(0, 1]')
  allowed.number('guard.max_ratio', c.guard.max_ratio, '> 1', finite=False)
  allowed.one_of('shapes.layout', shapes.layout, layouts.LAYOUTS)
  longest = max(shapes.response_buckets, default=algo.max_tokens)
  if longest < algo.max_tokens or min(shapes.response_buckets, default=1) < 1:
    raise ValueError(
        f'shapes.response_buckets is {tuple(shapes.response_buckets)}; it must '
        'be empty or hold sizes >= 1, the largest at least '
        f'algorithm.max_tokens = {algo.max_tokens}')
  if shapes.prefill_tokens is not None:
    allowed.number('shapes.prefill_tokens', shapes.prefill_tokens, '>= 1',
                   whole=True)
  for name in ('prompt_buckets', 'row_buckets', 'group_buckets'):
    table = shapes[name]
    if not table or min(table) < 1:
      raise ValueError(f'shapes.{name} is {tuple(table)}; it must hold at '
                       'least one size, each >= 1')


def watched(section) -> dict[str, tuple[str, ...]]:
  """Words and phrases of the section `watch`: lists of texts that are not
  empty.

  Raises:
    ValueError: for another list, naming the field; for a word of `words` that
      is none, because whole words are counted.
  """
  out = {}
  for name in ('words', 'phrases'):
    texts = section[name]
    if not all(isinstance(text, str) and text.strip() for text in texts):
      raise ValueError(f'watch.{name} is {texts!r}; it must be a list of texts '
                       'that are not empty')
    out[name] = tuple(texts)
  for word in out['words']:
    if not re.fullmatch(r'\w+', word):
      raise ValueError(f'watch.words holds {word!r}; a word has letters and '
                       'digits alone, and watch.phrases takes any text')
  return out


def slots(c, mesh, field: str = 'mesh') -> None:
  """ValueError for slots that whole groups do not fill on every device of a
  mesh, whose field in the config is `field`."""
  slots, algo = c.shapes.slots, c.algorithm
  group = math.lcm(algo.rollouts, algo.teacher_rollouts)
  shards = sharding.batch_shards(mesh)
  if slots is not None and (
      slots < 1 or slots > group * shards and slots % (group * shards)):
    raise ValueError(
        f'shapes.slots is {slots}; it must be None, at most {group * shards} '
        f'(it then counts as {group * shards}) or a multiple of '
        f'{group * shards}: {shards} data device(s) ({field}.data x '
        f'{field}.fsdp) '
        f'times {group} slots, in which groups of algorithm.rollouts = '
        f'{algo.rollouts} and of algorithm.teacher_rollouts = '
        f'{algo.teacher_rollouts} both come out even')


def responses(questions) -> None:
  """ValueError unless some question carries responses for a stored teacher."""
  if not any(q.responses for q in questions):
    raise ValueError(
        "teacher.kind is 'stored'; no question of data.pool carries a "
        'response. It needs a column of them (docs/teachers.md), or another '
        'kind: in_process, endpoint')


def stored_hints(method: str, questions, hint: HintConfig) -> None:
  """ValueError unless some question has a hint."""
  if not any(hint.of(q) for q in questions):
    raise ValueError(
        f"method is {method!r}, hint.source is 'stored'; no question of "
        'data.pool has a hint. It needs a column of them (columns.hint, '
        'docs/data.md), a file of them (hint.material, `zppo hints`), or '
        "hint.source = 'teacher'")


def hint_source(method: str, sources: Sequence[str], source: str) -> None:
  """ValueError for a source of hints that a method does not take."""
  if source not in sources:
    raise ValueError(
        f'hint.source is {source!r}; method {method!r} helps with unsolved '
        f'questions by hints of another source, allowed: {", ".join(sources)}')


def references(method: str, why: str, questions) -> None:
  """ValueError unless some question carries a reference solution."""
  if not any(q.responses for q in questions):
    raise ValueError(
        f'method is {method!r}, {why}; no question of data.pool carries a '
        'response. It needs a column of them (docs/teachers.md)')


def writes_hints(c, chat: Chat) -> None:
  """ValueError unless the teacher writes hints and the chat can ask for one."""
  levels = chat.wording.hint_levels
  if chat.wording.hint_request:
    allowed.number('hint.level', c.hint.level, f'[0, {len(levels)}]',
                   whole=True)
  why = ''
  if c.teacher.kind == 'stored':
    why = "a teacher of kind 'stored' writes none"
  elif not chat.wording.hint_request:
    why = f'the chat of the task {c.data.task!r} has no words that ask for one'
  if why:
    raise ValueError(
        f"method is {c.method!r}, hint.source is 'teacher'; {why}. Hints that "
        "come with the questions need no writer: hint.source = 'stored'")


def stored_states(method: str, questions) -> None:
  """ValueError unless some question carries answers to train on."""
  if not any(q.responses for q in questions):
    raise ValueError(
        f'method {method!r} trains on answers that are stored with the '
        'questions; no question of data.pool carries a response. It needs a '
        'column of them (docs/teachers.md), or another method')


def surrogate(c, method) -> None:
  """ValueError for an objective that a method does not take."""
  if c.algorithm.surrogate and not method.surrogate:
    raise ValueError(
        f'algorithm.surrogate is {c.algorithm.surrogate!r}; method '
        f"{c.method!r} has an objective of its own. Allowed: ''. gspo and "
        'cispo are methods, too')


def sources(credit: Credit | None, questions: Iterable[Question]) -> None:
  """ValueError for a balance by source that the questions do not fit."""
  balance = None if credit is None else credit.balance
  if balance is not None and balance.by_source:
    names = {question.source for question in questions}
    if names:  # a plan has no questions
      balance.check(names)


def student_temperature(c, method, distil) -> None:
  """ValueError for a row of probability ratios at two temperatures."""
  if (distil is not None and method.old_logps
      and distil.student_temperature != c.algorithm.temperature):
    raise ValueError(
        f'distil.student_temperature is {distil.student_temperature}; method '
        f'{c.method!r} has ratios to the policy that the sampler drew from, at '
        f'algorithm.temperature = {c.algorithm.temperature}. Allowed: 0, which '
        'is that temperature')


def guides(c, method, distil) -> None:
  """ValueError for guides that are scored at another temperature than they are
  drawn at, which would be another policy."""
  if (method.states == 'guided'
      and distil.temperature != c.algorithm.temperature):
    raise ValueError(
        f'distil.temperature is {distil.temperature}; method {c.method!r} '
        'scores answers of the teacher by the policy that drew them. Allowed: '
        f'algorithm.temperature = {c.algorithm.temperature}')


def teacher_rows(c) -> None:
  """ValueError unless training rows hold the teacher's answers."""
  most, rows = c.algorithm.teacher_max_tokens, max(c.shapes.row_buckets)
  if max(c.shapes.prompt_buckets) + most > rows:
    raise ValueError(
        f'shapes.row_buckets end at {rows}; method {c.method!r} trains on the '
        'teacher\'s answers, for which the longest prompt bucket and '
        'algorithm.teacher_max_tokens need '
        f'{max(c.shapes.prompt_buckets) + most}')
  longest = max(c.shapes.response_buckets, default=most)
  if longest < most:
    raise ValueError(
        f'shapes.response_buckets end at {longest}; method {c.method!r} trains '
        "on the teacher's answers of up to algorithm.teacher_max_tokens = "
        f'{most} tokens')


def needs(c, wanted: frozenset[str], distil: distillation.Distil,
          teacher: Teacher | None) -> None:
  """ValueError unless the teacher can give what a row needs.

  Args:
    c: the config.
    wanted: keys of distillation.NEEDS.
    distil: the row's settings.
    teacher: the run's teacher.
  """
  text = (f'method is {c.method!r}, distil.support is {distil.support!r}; it '
          'needs {}. ')
  for need in sorted(wanted):
    asked = text.format(distillation.NEEDS[need])
    if need == 'teacher_hidden':
      if not isinstance(teacher, InProcessTeacher):
        raise ValueError(
            f"{asked}teacher.kind is {c.teacher.kind!r}, only 'in_process' and "
            "'own' have them. With log-probs, distil.support = 'student', "
            "'teacher' or 'sampled' may do")
      continue
    lacks = lacking(
        c.teacher.kind, teacher.capabilities,
        teacher_scores.wanted(distil, need, ids=ANY_IDS))
    if lacks:
      raise ValueError(asked + lacks)


def media(questions, able: Capabilities, kind: str) -> None:
  """ValueError for media in the pool that the teacher cannot be shown."""
  for question in questions:
    for media in question.media:
      what = 'pictures' if isinstance(media, Picture) else 'clips'
      if not getattr(able, what):
        raise ValueError(f'question {question.id!r} has {what}; a teacher of '
                         f'kind {kind!r} is not shown any here')
