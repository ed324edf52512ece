"""`zppo prompts`: what the model will see, for one question of each kind.

The prompts are made as a step makes them, from stand-ins for what a run draws.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from zppo_jax import tasks
from zppo_jax.algorithms import distillation, methods, reformulate, zppo
from zppo_jax.algorithms.methods import Method
from zppo_jax.algorithms.privileged import lenders
from zppo_jax.algorithms.privileged.hints import HintConfig
from zppo_jax.chat import dates, prompts
from zppo_jax.chat.segments import Encoded, end_ids
from zppo_jax.chat.wording import Chat
from zppo_jax.data import prompt_lengths
from zppo_jax.records import (
  Group,
  HardVisit,
  Instance,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)
from zppo_jax.train import models as loading
from zppo_jax.train.shapes import auto
from zppo_jax.train.teaching import reading

_RIGHT = '[a right response of the teacher]'
_WRONG = ('[a wrong response of the student]',
          '[another wrong response of the student]')
_ANSWERS = '[its answer]', '[its other answer]'
_HINT = '[a hint]'


def spelt(tokens: Sequence[int], chat: Chat) -> str:
  """Tokens as text. Control tokens stand in brackets of their own, because a
  text could spell the same letters; equal ones in a row are counted."""
  codec, out, run = chat.codec, [], list[int]()
  controls = {*codec.reserved_ids, *end_ids(codec)}

  def flush() -> None:
    if run:
      out.append(codec.decode(run))
      run.clear()

  i = 0
  while i < len(tokens):
    token = tokens[i]
    if token not in controls:
      run.append(token)
      i += 1
      continue
    flush()
    j = i
    while j < len(tokens) and tokens[j] == token:
      j += 1
    times = f' x {j - i}' if j - i > 1 else ''
    out.append(f'\u27e6{codec.decode([token])}{times}\u27e7')
    i = j
  flush()
  spaced = getattr(codec, 'tokenizer', None) is None
  return (' ' if spaced else '').join(out)


class _Stand:
  """Stand-ins for what a run draws, in words that the model has.

  Args:
    question: the question.
    chat: the student's chat.
  """

  def __init__(self, question: Question, chat: Chat):
    self._chat = chat
    # A vocabulary of words has none for a stand-in, but those of the answer.
    self._spells = getattr(chat.codec, 'tokenizer', None) is not None
    self._answer = question.answer
    self._stored = question.responses

  def text(self, text: str, times: int = 1) -> str:
    """The text, or the gold answer so many times."""
    return text if self._spells else ' '.join([self._answer] * times)

  def rollout(self, text: str, answer: str, verdict: Verdict) -> Rollout:
    return Rollout(self._chat.response(text), (), text, StopReason.END, verdict,
                   answer)

  @property
  def right(self) -> Rollout:
    text = self._stored[0] if self._stored else self.text(_RIGHT)
    return self.rollout(text, self._answer, Verdict.CORRECT)

  @property
  def wrong(self) -> tuple[Rollout, ...]:
    return tuple(
        self.rollout(self.text(text, i), self.text(answer, i), Verdict.WRONG)
        for i, (text, answer) in enumerate(zip(_WRONG, _ANSWERS, strict=True),
                                           2))


def _visit(question: Question, chat: Chat, share: float) -> HardVisit:
  stand = _Stand(question, chat)
  right = stand.right
  return HardVisit(
      question=question, accuracy=0.0, wrong=stand.wrong,
      teacher_correct=(right,), hint=question.hint or stand.text(_HINT),
      oracle=reformulate.beginning(right.tokens[:-1], share))


def _instances(visit: HardVisit, method: Method) -> list[tuple[str, Instance]]:
  """(name of the reformulation, its instance) of a method."""
  made = []
  for name in method.reformulations:
    instance = reformulate.REFORMULATIONS[name](
        visit, np.random.default_rng(0))
    if instance is not None:
      made.append((name, instance))
  return made


def of_method(question: Question, chat: Chat, method: Method, config
              ) -> list[tuple[str, Encoded]]:
  """(what is asked, prompt) of every kind that a method asks about a question.

  Args:
    question: the question.
    chat: the student's chat.
    method: the row of the config's method.
    config: of the run.

  Raises:
    ValueError: for a hint.level beyond those of the chat.
  """
  out = [('plain', chat.plain(question.text, question.media, question.turns))]
  visit = _visit(question, chat, config.algorithm.prefix_share)
  texts: Mapping = {(question.id, r.text): r.text
                    for r in (*visit.wrong, *visit.teacher_correct)}
  for name, instance in _instances(visit, method):
    prompt, removed = zppo.render(instance, texts, chat)
    out.append((name, Encoded(prompt.tokens, removed, prompt.media,
                              prompt.forced)))
  right = visit.teacher_correct[0].text
  if any(instance.candidates for _, instance in _instances(visit, method)):
    below = config.compression.identity_below
    out.append(('compression, which the teacher is asked' + (
        f' for a response of {below} tokens or more' if below else ''),
                chat.compression(right)))
  hint = HintConfig(**config.hint)
  if 'hint' in method.reformulations and not hint.stored and (
      chat.wording.hint_request):
    out.append(('hint, which the teacher is asked for', chat.hint_request(
        question.text, right, question.media, hint.level)))
  return out


def _group(question: Question, chat: Chat, share: float) -> Group:
  """A wrong and a right rollout of a question, which has a response."""
  visit = _visit(question, chat, share)
  plain = chat.plain(question.text, question.media, question.turns)
  if not question.responses:
    question = dataclasses.replace(
        question, responses=(visit.teacher_correct[0].text,))
  return Group(Prompt(question, PromptKind.PLAIN, plain.tokens, plain.media),
               (*visit.wrong, *visit.teacher_correct))


def of_context(question: Question, chat: Chat, method: Method, config,
               other: Question | None = None
               ) -> tuple[str, Encoded | None] | None:
  """(what it is, prompt) of a teacher that reads more than the student.

  Args:
    question, chat, method, config: as of `of_method`.
    other: the question whose context is shown with distil.context_of =
      'another'.

  The prompt is None if there is nothing to show for this question; without a
  row that has such a teacher, all is None.

  Raises:
    KeyError, ValueError, FileNotFoundError: as in a run.
  """
  if not method.distils:
    return None
  distil = distillation.settings(config.method, method.pinned, config,
                                 method.usual)
  if distil.context == 'same':
    return None
  asked = [question]
  if distil.context_of != lenders.OWN and other is not None:
    asked.append(other)
  made = lenders.lessons(
      distil.context, [_group(of, chat, config.algorithm.prefix_share)
                       for of in asked],
      reading.material_of(config, distil), chat, sys.maxsize,
      distil.context_of)
  said = f'context {distil.context!r}' + (
      '' if distil.context_of == lenders.OWN else ' of another question'
  ) + ', which the teacher reads'
  if (0, 0) in made.untaught:
    return f'{said}: nothing here ({made.untaught[0, 0].name})', None
  shown = made.prompts[0, 0]
  return said, Encoded(shown.tokens, 0, shown.media, shown.forced)


def _bucket(count: int, buckets: Sequence[int] | None) -> str:
  if buckets is None:
    return 'its bucket is proposed when a run begins (shapes.auto)'
  bucket = min((b for b in buckets if b >= count), default=None)
  return (f'bucket {bucket}' if bucket else
          f'beyond the largest bucket, {max(buckets)}')


def _size(prompt: Encoded, buckets: Sequence[int] | None) -> str:
  count = len(prompt.tokens)
  patches = 0 if prompt.media is None else len(prompt.media.patches_IC)
  return ', '.join([
      f'{count} tokens',
      *([f'{prompt.forced} of them begin the response']
        if prompt.forced else []),
      *([f'{patches} patches'] if patches else []),
      _bucket(count, buckets),
      *([f'{prompt.removed} pieces removed'] if prompt.removed else [])])


def main(config) -> None:
  """Prints the prompts of a config.

  Raises:
    KeyError, ValueError, FileNotFoundError: as in a run of the config; for one
      of supervised training.
  """
  if config.get('method') == 'sft':
    raise ValueError("method is 'sft', which asks no questions; allowed: a "
                     'config of `zppo train`')
  method = methods.get(config.method)
  task = tasks.get(config.data.task)
  questions = tasks.pool(task, config.data.pool, config.data.task)
  question = questions[0]
  loaded = loading.load_model(
      config.student, thinking=config.student.thinking,
      day=dates.choose(config), weights=False)
  chat = loading.worded(config, task, loaded)
  prompt_lengths.check_words([question], chat)
  if note := prompts.unboxed(chat, method.reformulations):
    print(note)
  own = prompts.own({}, task.prompts)
  for name in chat.prompts:
    given = config.prompts.get(name) is not None
    print(f'prompts.{name}: ' + ('of the config' if given or name not in own
                                 else f'of the task {config.data.task}'))
  print(f'question {question.id!r}, method {config.method!r}; texts in '
        '[brackets] stand for what a run draws, which is longer; '
        '\u27e6control tokens\u27e7 are single tokens')
  buckets = (None if 'prompt_buckets' in auto.proposed(config)
             else tuple(config.shapes.prompt_buckets))
  asked = [*of_method(question, chat, method, config),
           of_context(question, chat, method, config,
                      questions[1] if len(questions) > 1 else None)]
  for name, prompt in filter(None, asked):
    if prompt is None:
      print(f'\n== {name}')
      continue
    print(f'\n== {name}: {_size(prompt, buckets)}')
    print(spelt(prompt.tokens, chat))
