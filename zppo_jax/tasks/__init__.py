"""Tasks: where questions come from and what makes an answer right.

A config names one of TASKS, or `package.module:NAME`: a `Task` of the user's
own (docs/your_task.md).
"""

import contextlib
import dataclasses
import difflib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zppo_jax import allowed, import_paths
from zppo_jax.chat import micro_chat
from zppo_jax.chat.wording import Chat
from zppo_jax.data import pool as pools, sources, suites
from zppo_jax.records import Grader, Question
from zppo_jax.tasks import digits, files, micro, micro_pictures, reasoning_gym
from zppo_jax.verdicts.verifier import BOXED, NUMBERS, Verifier


class Task(NamedTuple):
  """A task as functions.

  Attributes:
    pool: fields of config.data.pool -> questions to train on.
    evaluation: (split, size) -> questions of an evaluation split.
    grader: parses and grades responses.
    chat: how questions become token ids where the model brings no tokenizer of
      its own; None if the model has to bring one.
    shared: the fields of config.data.pool that `evaluation` takes as well, so
      that both ask alike. None stands for the fields that both name, without
      those of OWN.
    prompts: words of its prompts by field of the section `prompts`, e.g.
      {'closing': 'End with the number.'}, so that the model is asked for what
      the grader reads; the config's own go before them. None is none.
  """
  pool: Callable[..., Sequence[Question]]
  evaluation: Callable[[str, int], Sequence[Question]]
  grader: Grader
  chat: Chat | None = None
  shared: Sequence[str] | None = None
  prompts: Mapping[str, str] | None = None


# Fields of a question that tokenizers, graders and digests read as text.
_TEXTS = ('id', 'text', 'answer', 'split', 'kind', 'source', 'hint')
SLOW_S = 10  # seconds after which a line says what is drawn
# Names that a pool and an evaluation may use for different things.
OWN = ('size', 'seed', 'split', 'name')
TASKS = {
    'micro': Task(micro.pool, micro.evaluation,
                  Grader(micro.parse_answer, micro.grade), micro_chat.CHAT),
    'micro_pictures': Task(
        micro_pictures.pool, micro_pictures.evaluation,
        Grader(micro.parse_answer, micro.grade), micro_pictures.CHAT),
    'micro_clips': Task(
        micro_pictures.clip_pool, micro_pictures.evaluation,
        Grader(micro.parse_answer, micro.grade), micro_pictures.CHAT),
    'digits': Task(digits.pool, digits.evaluation,
                   Grader(digits.parse_answer, digits.grade)),
    'reasoning_gym': Task(reasoning_gym.pool, reasoning_gym.evaluation,
                          BOXED, shared=('name', 'config')),
    'reasoning_gym_numbers': Task(
        reasoning_gym.pool, reasoning_gym.evaluation, NUMBERS,
        shared=('name', 'config')),
    'files': Task(files.pool, files.evaluation, BOXED),
}


def _of_text(questions: Sequence[Question],
             section: str) -> Sequence[Question]:
  """The questions, if UTF-8 can hold all their texts.

  Files are checked row by row when they are read (data/values.py).

  Args:
    questions: what a task made.
    section: the config section that the questions are of, for errors.

  Raises:
    ValueError: naming the section, the row, the question and the field.
  """
  if isinstance(questions, pools.Pool):
    return questions
  for row, question in enumerate(questions):
    texts = {name: getattr(question, name) for name in _TEXTS}
    texts |= {f'responses[{i}]': response
              for i, response in enumerate(question.responses)}
    for name, value in texts.items():
      if isinstance(value, str):
        allowed.text(
            f'{section}: row {row}, question {question.id!a}: {name}', value)
  return questions


@contextlib.contextmanager
def _drawing(name: str, section: str) -> Iterator[None]:
  """Says after SLOW_S seconds whose questions are being drawn, because code of
  a user's own may wait for questions that do not exist."""
  say = threading.Timer(
      SLOW_S, lambda: print(f'drawing the questions of {name or "the task"} '
                            f'({section}) ...', flush=True))
  say.daemon = True
  say.start()
  try:
    yield
  finally:
    say.cancel()


def pool(task: Task, fields: Mapping, name: str = '') -> Sequence[Question]:
  """The questions to train on.

  Args:
    task: the task of the run.
    fields: the config section data.pool.
    name: the task's, as in data.task, for the line of a draw that takes long.

  Raises:
    ValueError: for a field that the task does not take or misses, with those
      that it takes; for a question with half a surrogate pair.
    Exception: whatever a task of the user's own raises.
  """
  signature = inspect.signature(task.pool)
  try:
    signature.bind(**fields)
  except TypeError as e:
    takes = signature.parameters
    unknown = next((name for name in fields if name not in takes), '')
    close = difflib.get_close_matches(unknown, takes, 1)
    what = (f'unknown field data.pool.{unknown}' if unknown else
            f'data.pool: {e} of the pool of {name or "the task"}')
    raise ValueError(
        what + (f'; did you mean {close[0]}?' if close else '')
        + f'. Its fields are {", ".join(map(str, takes.values()))}') from e
  with _drawing(name, 'data.pool'):
    return _of_text(task.pool(**fields), 'data.pool')


def _shared(task: Task, pool: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of the pool that the evaluation takes too.

  Raises:
    ValueError: for a field of Task.shared that `evaluation` does not take.
  """
  try:
    taken = inspect.signature(task.evaluation).parameters
  except (TypeError, ValueError):  # of a function that Python cannot look into
    taken = {}
  if task.shared is not None:
    strange = [n for n in task.shared if n not in taken and not any(
        p.kind is p.VAR_KEYWORD for p in taken.values())]
    if strange:
      raise ValueError(f'Task.shared has {", ".join(map(repr, strange))}, '
                       'which its evaluation does not take; it takes '
                       f'{", ".join(taken)}')
    return {n: pool[n] for n in task.shared if n in pool}
  named = [n for i, (n, p) in enumerate(taken.items())
           if i >= 2 and n not in OWN
           and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
  return {n: pool[n] for n in named if n in pool}


def graded_by(task: Task, verifier: Verifier) -> Task:
  """The task with a run's own verifier, which grades questions with a kind."""
  return task._replace(
      grader=dataclasses.replace(task.grader, verifier=verifier))


def _benchmark(name: str, config, bounds: sources.Bounds | None,
               judged: bool) -> Sequence[Question]:
  """The questions of a benchmark, whose notes are printed."""
  of = suites.open_pool(name, config.benchmarks, bounds, judged)
  for note in of.notes:
    print(note, flush=True)
  return of[:config.size]


def splits(task: Task, config, names: Sequence[str],
           pool: Mapping[str, Any] | None = None, judged: bool = False,
           task_name: str = '') -> dict[str, tuple[Question, ...]]:
  """Evaluation questions by split.

  A split of config.sources is read from files, and `bench:NAME` is a benchmark
  on disk (data/suites/). The task makes any other split, with the fields of
  the pool that its evaluation takes too.

  Args:
    task: the task of the run.
    config: the config section `eval`.
    names: the names of the splits.
    pool: the config section `data.pool`; None stands for no fields.
    judged: whether the run has a judge, which some benchmarks then ask where
      their rule finds no right answer.
    task_name: the task's, as in data.task, for the line of a draw that takes
      long.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  by_split, pool = {}, dict(pool or {})
  bounds = sources.Bounds(
      sources.roots(pool.get('media_roots', ()), 'data.pool'),
      pool.get('max_bytes', sources.Bounds.max_bytes)
      ) if task.pool is files.pool else None
  for name in names:
    if name in config.sources:
      questions = files.split(name, config.sources[name], config.size, bounds)
    elif name.startswith(suites.PREFIX):
      questions = _benchmark(name, config, bounds, judged)
    else:
      shared = _shared(task, pool)
      import_paths.check_call(
          f'evaluation of {task_name or "the task"}', task.evaluation,
          'split', 'size', **shared)
      with _drawing(task_name, f'eval.splits {name!r}'):
        questions = task.evaluation(name, config.size, **shared)
    by_split[name] = tuple(_of_text(questions, f'eval.splits {name!r}'))
  return by_split


_OWN_TASK = 'package.module:NAME of your own'


def get(name: str) -> Task:
  """A task by name or by import path `package.module:NAME`.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: if the path leads to no `Task`, saying what is there.
    Exception: whatever the user's own module raises while it is imported.
  """
  if ':' not in name:
    allowed.one_of('task', name, (*TASKS, _OWN_TASK))
    return TASKS[name]
  module, task = import_paths.load(name, 'data.task')
  if not isinstance(task, Task):
    there = [n for n, v in vars(module).items() if isinstance(v, Task)]
    path, _, attribute = name.partition(':')
    what = ('missing' if task is None else
            f'of type {type(task).__name__}, not a Task')
    raise ValueError(f'data.task is {name!r}, but {attribute!r} in {path!r} '
                     f'({module.__file__}) is {what}; tasks there: '
                     f'{", ".join(there) or "none"}')
  import_paths.check_call(f'parse of {name}', task.grader.parse, 'text')
  import_paths.check_call(f'grade of {name}', task.grader.grade, 'answer',
                          'question')
  return task
