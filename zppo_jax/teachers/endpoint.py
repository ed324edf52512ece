"""A teacher behind an OpenAI-compatible endpoint.

There are two kinds of requests (`teacher.endpoint.api`). 'chat' sends words,
and the server puts them into its own template, so that any model will do.
'completions' sends the student's prompt as token ids, to a teacher with the
student's vocabulary, which may return the log-probs of given tokens.
"""

import dataclasses
import functools
import threading
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.algorithms.compression import CompressionConfig
from zppo_jax.algorithms.privileged.hints import DEFAULT, HintConfig
from zppo_jax.chat import images
from zppo_jax.chat.segments import cut_delimiters
from zppo_jax.chat.wording import Chat, Wording
from zppo_jax.devices import hosts
from zppo_jax.endpoints import client
from zppo_jax.endpoints.client import TEXT, Call, Endpoint, Reply
from zppo_jax.endpoints.replies import read_text
from zppo_jax.randomness import question_uid
from zppo_jax.records import (
  Answers,
  CallStats,
  Cause,
  Decoding,
  Grader,
  Group,
  Picture,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  Scores,
  StopReason,
  Summaries,
  TokenSequence,
  Wanted,
)
from zppo_jax.rollout import collect
from zppo_jax.teachers import PLAIN, Capabilities, check, endpoint_scores
from zppo_jax.verdicts import control

APIS = ('chat', 'completions')


def data_url(of: Picture) -> str:
  """A picture as a data URL: upright PNG, whatever it was.

  Raises:
    ValueError: as images.decode.
  """
  return 'data:image/png;base64,' + images.picture(images.decode(of)).base64


def _message(text: str, media=(), system: str = '') -> list[dict]:
  said = [{'role': 'system', 'content': system}] if system else []
  if not media:
    return [*said, {'role': 'user', 'content': text}]
  shown = [{'type': 'image_url', 'image_url': {'url': data_url(m)}}
           for m in media]
  return [*said, {'role': 'user',
                  'content': [*shown, {'type': 'text', 'text': text}]}]


@dataclasses.dataclass(frozen=True)
class Words:
  """The messages of a chat endpoint: the user's words without a template.

  Attributes:
    wording: BOXED around the question where the student's chat comes from a
      tokenizer; None where the task's own chat has no template.
    chat: the student's chat. Its control strings are broken in what is sent;
      None breaks only those of published templates.
  """
  wording: Wording | None
  chat: Chat | None

  def question(self, prompt: Prompt) -> list[dict]:
    """Messages that ask a question."""
    question, w = prompt.question, self.wording
    if w is None:
      return _message(self._spelt(prompt), question.media)
    system = self.chat.prompts.get('system', '') if self.chat else ''
    return _message(w.opening + self._words(question.text) + w.closing,
                    question.media, system)

  def trace(self, prompt: Prompt, trace: str) -> list[dict]:
    """Messages that ask for a summary."""
    if self.wording is None:
      return _message(self._spelt(prompt))
    before, after = self.wording.compression
    return _message(before + self._words(trace) + after)

  def hint(self, prompt: Prompt, trace: str) -> list[dict]:
    """Messages that ask for a hint, with the question's pictures."""
    question, w = prompt.question, self.wording
    if w is None:
      return _message(self._spelt(prompt), question.media)
    before, between, after = w.hint_request
    return _message(before + self._words(question.text) + between
                    + self._words(trace) + after, question.media)

  def _spelt(self, prompt: Prompt) -> str:
    """A prompt as text, with the control strings of servers broken."""
    return control.broken(self.chat.codec.decode(prompt.tokens))

  def _words(self, text: str) -> str:
    """Somebody's words without delimiters and control strings.

    A server would parse control strings. Those of the student are known, and
    they are often the server's, too.
    """
    text, _ = cut_delimiters(text, self.wording.delimiters)
    if self.chat is None:
      return control.broken(text)
    codec = self.chat.codec
    return control.broken(text, (
        word for word, i in codec.ids.items() if i in codec.reserved_ids))


def call_stats(replies: Sequence[Reply], wanted: int) -> CallStats:
  """Statistics of calls that wanted `wanted` results each."""
  failed: Counter = Counter()
  for reply in replies:
    if reply.cause is not None:
      failed[reply.cause] += wanted - len(reply.results)
  return CallStats(
      answers=wanted * len(replies), requests=sum(r.requests for r in replies),
      retries=sum(max(0, r.requests - 1) for r in replies),
      failed=dict(failed),
      error=next((r.error for r in reversed(replies) if r.error), ''))


class _Busy:
  """The seconds of each step in which some call is under way; calls of several
  threads that overlap count once."""

  def __init__(self):
    self._lock = threading.Lock()
    self._calls: Counter = Counter()
    self._since: dict[Hashable, float] = {}

  def begin(self, spent: dict[Hashable, float], step: Hashable) -> float:
    """A call begins; the seconds that were spent before it."""
    with self._lock:
      now = time.monotonic()
      if not self._calls[step]:
        self._since[step] = now
      self._calls[step] += 1
      return spent.setdefault(step, 0.0) + now - self._since[step]

  def end(self, spent: dict[Hashable, float], step: Hashable) -> None:
    """A call has ended."""
    with self._lock:
      self._calls[step] -= 1
      if not self._calls[step]:
        del self._calls[step]
        spent[step] += time.monotonic() - self._since.pop(step)


@dataclasses.dataclass(frozen=True)
class EndpointTeacher:
  """A teacher whose answers a server gives (see the module).

  Attributes:
    endpoint: the server and its model.
    api: one of APIS.
    budget_s: the most seconds that the calls of a step may take in all.
    words: makes the messages of a chat endpoint.
    grader: grades answers.
    decoding: how answers are drawn.
    num_answers: G_T.
    compress: the cap and the temperature of summaries.
    hints: those of hints.
    summary_extra: further fields of a request for a summary or a hint.
    capabilities: what `connect` found out about the server.
    seed: the run's seed.
    form: how scores are asked for; None if there are none.
    spent: step -> seconds in which calls were under way, for the budget.
    session: its connections, of which threads may share one; None opens new
      ones for each call.
  """
  endpoint: Endpoint
  api: str
  budget_s: float
  words: Words
  grader: Grader
  decoding: Decoding
  num_answers: int
  compress: CompressionConfig
  summary_extra: dict[str, Any]
  capabilities: Capabilities
  seed: int
  form: endpoint_scores.Form | None = None
  spent: dict[Hashable, float] = dataclasses.field(default_factory=dict)
  hints: HintConfig = DEFAULT
  session: client.Session | None = None
  _busy: _Busy = dataclasses.field(default_factory=lambda: _Busy())

  def _ask(self, calls: Sequence[Call], step: Hashable) -> list[Reply]:
    """The replies to calls. Each of several processes asks for its own rows,
    and all get all replies (docs/hosts.md)."""
    ask_all = (functools.partial(client.ask_all, self.endpoint)
               if self.session is None else self.session.ask_all)
    left = max(0.0, self.budget_s - self._busy.begin(self.spent, step))
    try:
      return hosts.shared(lambda some: ask_all(some, left), calls,
                          'the teacher')
    finally:
      self._busy.end(self.spent, step)

  def _call(self, prompt: Prompt, messages: list[dict], step: int,
            decoding: Decoding, wanted: int, extra=()) -> Call:
    body = {'max_tokens': decoding.max_tokens,
            'temperature': decoding.temperature,
            'seed': question_uid(
                f'{self.seed}/{step}/{prompt.question.id}') % 2**31}
    if decoding.top_p < 1:
      body['top_p'] = decoding.top_p
    if decoding.top_k:
      body['top_k'] = decoding.top_k
    body.update(extra)
    if self.api == 'chat':
      return client.chat_call(messages, wanted=wanted, **body)
    return Call(TEXT, {'prompt': list(prompt.tokens), **body}, wanted,
                read_text)

  def _rollouts(self, prompts: Sequence[Prompt], replies: Sequence[Reply],
                grader: Grader | None = None) -> list[tuple[Rollout, ...]]:
    texts = [[(c.text, StopReason.END if c.complete else StopReason.LENGTH)
              for c in reply.results] for reply in replies]
    return collect.from_texts([p.question for p in prompts], texts,
                              self.words.chat, grader or self.grader)

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """At most G_T answers per question, within what is left of the budget."""
    chat = self.api == 'chat'
    replies = self._ask([
        self._call(p, self.words.question(p) if chat else [], step,
                   self.decoding, self.num_answers) for p in prompts], step)
    groups = tuple(map(Group, prompts, self._rollouts(prompts, replies)))
    return Answers(groups=groups,
                   calls=call_stats(replies, self.num_answers))

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """At most one summary per trace, within what is left of the budget."""
    decoding = Decoding(self.compress.cap + 1, self.compress.temperature)
    replies = self._ask([
        self._call(p, self.words.trace(p, t), step, decoding, 1,
                   self.summary_extra)
        for p, t in zip(prompts, traces, strict=True)], step)
    rollouts = self._rollouts(prompts, replies)
    return Summaries(rollouts=tuple(next(iter(r), None) for r in rollouts),
                     calls=call_stats(replies, 1))

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """At most one hint per question, within what is left of the budget."""
    decoding = Decoding(self.hints.cap + 1, self.hints.temperature)
    replies = self._ask([
        self._call(p, self.words.hint(p, t), step, decoding, 1,
                   self.summary_extra)
        for p, t in zip(prompts, traces, strict=True)], step)
    rollouts = self._rollouts(prompts, replies, collect.UNGRADED)
    return Summaries(rollouts=tuple(next(iter(r), None) for r in rollouts),
                     calls=call_stats(replies, 1))

  def score(self, sequences: Sequence[TokenSequence], wanted: Wanted = PLAIN,
            step: int | None = None) -> Scores:
    """Scores of the server's prompts, within what is left of the budget.

    Raises:
      ValueError: for what the server cannot deliver, or for media, which a text
        completion does not show.
    """
    check('endpoint', self.capabilities, wanted, sequences)
    if any(s.media is not None for s in sequences):
      raise ValueError("teacher.endpoint.api is 'completions'; it scores text "
                       'alone, and a sequence holds media')
    form, begun = self.form, object() if step is None else step
    calls = [form.call(s, wanted.top) for s in sequences]
    try:
      replies = endpoint_scores.ask_in_parts(
          lambda some: self._ask(some, begun), calls,
          [len(s) * (1 + wanted.top) for s in sequences], form.entries)
    finally:
      if step is None:
        self.spent.pop(begun, None)
    results = [r.results[0] if r.results else None for r in replies]
    field = lambda name, dtype: tuple(
        None if x is None else np.array(getattr(x, name), dtype)
        for x in results)
    tops = wanted.top > 0
    return Scores(
        logps=field('logps', np.float32), calls=call_stats(replies, 1),
        top_ids=field('top_ids', np.int32) if tops else (),
        top_logps=field('top_logps', np.float32) if tops else ())


def connect(config, *, chat: Chat, words: Wording | None, grader: Grader,
            decoding: Decoding, num_answers: int, compress: CompressionConfig,
            max_prompt: int, seed: int, hints: HintConfig = DEFAULT
            ) -> EndpointTeacher:
  """The teacher of `config.teacher.endpoint`; requests find out what it can do.

  Args:
    config: the run's config; its section teacher.endpoint has api, budget_s,
      summary_extra, scores, max_logprobs, score_entries and the fields of
      client.Endpoint.
    chat: the student's chat.
    words: as `Words.wording`.
    grader, decoding, num_answers, compress, seed, hints: as EndpointTeacher.
    max_prompt: the longest prompt, in tokens of the student's vocabulary.

  Raises:
    EndpointError: if the endpoint cannot be reached, refuses the key, or does
      not answer a question of one token.
    KeyError: for an unknown api, or an unknown name of `scores`.
    ValueError: for a field out of its range; for a model that the endpoint
      does not serve; for another vocabulary under 'completions'.
  """
  fields = config.to_dict()
  api, budget_s = fields.pop('api'), fields.pop('budget_s')
  summary_extra, scores = fields.pop('summary_extra'), fields.pop('scores')
  max_logprobs = fields.pop('max_logprobs')
  score_entries = fields.pop('score_entries')
  allowed.one_of('teacher.endpoint.api', api, APIS)
  allowed.one_of('teacher.endpoint.scores', scores,
                 endpoint_scores.FORMS)
  for name, value in (('max_logprobs', max_logprobs),
                      ('score_entries', score_entries)):
    allowed.number(f'teacher.endpoint.{name}', value, '>= 1', whole=True)
  allowed.number('teacher.endpoint.budget_s', budget_s, '> 0')
  of = Endpoint(**fields)
  names = hosts.from_first(lambda: client.served(of, budget_s), 'the teacher')
  if of.model not in names:
    raise ValueError(f'teacher.endpoint.model is {of.model!r}; {of.url} '
                     f'serves {client.listed(names, of.key())}')
  teacher = EndpointTeacher(
      endpoint=client.share_of(of), api=api, budget_s=budget_s,
      words=Words(wording=words, chat=chat), grader=grader, decoding=decoding,
      num_answers=num_answers, compress=compress, summary_extra=summary_extra,
      capabilities=Capabilities(
          max_compression_prompt=max_prompt, scores=False,
          pictures=api == 'chat', clips=False, repeatable=False), seed=seed,
      hints=hints)
  if api == 'completions':
    found = hosts.from_first(lambda: endpoint_scores.find(
        of, chat, kind=scores, max_top=max_logprobs, entries=score_entries,
        budget_s=budget_s), 'the scores of the teacher')
    if found.why:
      print(f'teacher.endpoint: {of.url} returns '
            + (f'scores with a top K of at most {found.top}' if found.form
               else 'no scores') + f' ({found.why})', flush=True)
    if found.form:
      return dataclasses.replace(
          teacher, form=found.form, capabilities=dataclasses.replace(
              teacher.capabilities, scores=True, top=found.top))
  prompt = Prompt(
      question=Question(id='check', text='1', answer='', split=''),
      kind=PromptKind.PLAIN, tokens=chat.plain('1').tokens)
  (reply,) = hosts.from_first(lambda: client.ask_all(of, [teacher._call(
      prompt, _message('1'), 0, Decoding(1), 1)], budget_s), 'the teacher')
  if reply.cause is not None:
    raise client.EndpointError(
        reply.cause, f'{of.url}: {reply.error or Cause(reply.cause).name}')
  return teacher
