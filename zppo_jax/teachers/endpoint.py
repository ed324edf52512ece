"""A teacher behind an OpenAI-compatible endpoint.

Two ways to ask (`teacher.endpoint.api`). 'chat' sends words, and the server
puts them into its own template: any model will do. 'completions' sends the
student's prompt as token ids: for a teacher of the student's vocabulary, with
log-probs of given tokens.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zppo_jax.algorithms.compression import CompressionConfig
from zppo_jax.chat import images
from zppo_jax.chat.segments import cut_delimiters
from zppo_jax.chat.wording import Chat, Wording
from zppo_jax.endpoints import client
from zppo_jax.endpoints.client import TEXT, Call, Endpoint, Reply
from zppo_jax.endpoints.replies import choices, read_echo, read_text
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
  Question,
  Rollout,
  Scores,
  StopReason,
  Summaries,
  TokenSequence,
)
from zppo_jax.rollout import collect
from zppo_jax.teachers import Capabilities
from zppo_jax.verdicts import control

APIS = ('chat', 'completions')

def data_url(of: Picture) -> str:
  """A picture as a data URL: upright PNG, whatever it was.

  Raises:
    ValueError: as images.decode.
  """
  return 'data:image/png;base64,' + images.picture(images.decode(of)).base64


def _message(text: str, media=()) -> list[dict]:
  if not media:
    return [{'role': 'user', 'content': text}]
  shown = [{'type': 'image_url', 'image_url': {'url': data_url(m)}}
           for m in media]
  return [{'role': 'user',
           'content': [*shown, {'type': 'text', 'text': text}]}]


@dataclasses.dataclass(frozen=True)
class Words:
  """What a chat endpoint is told: the user's words without a template.

  Attributes:
    wording: BOXED around the question where the student's chat comes from a
      tokenizer; None where the task's own chat has no template.
    chat: the student's, whose control strings are broken in what is sent;
      None knows those of published templates alone.
  """
  wording: Wording | None
  chat: Chat | None

  def question(self, prompt: Prompt) -> list[dict]:
    """Messages that ask a question."""
    question, w = prompt.question, self.wording
    if w is None:
      return _message(self._spelt(prompt), question.media)
    return _message(w.opening + self._words(question.text) + w.closing,
                    question.media)

  def trace(self, prompt: Prompt, trace: str) -> list[dict]:
    """Messages that ask for a summary."""
    if self.wording is None:
      return _message(self._spelt(prompt))
    before, after = self.wording.compression
    return _message(before + self._words(trace) + after)

  def _spelt(self, prompt: Prompt) -> str:
    """A prompt as text; a server has other control strings than its own."""
    return control.broken(self.chat.codec.decode(prompt.tokens))

  def _words(self, text: str) -> str:
    """Somebody's words for a server: no delimiters, and no control strings,
    which it would parse. A student's are known, and often the server's too."""
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


@dataclasses.dataclass(frozen=True)
class EndpointTeacher:
  """Asks a server; see the module.

  Attributes:
    endpoint: where.
    api: one of APIS.
    budget_s: seconds of a step in all.
    words: what a chat endpoint is told.
    grader: grades answers.
    decoding: of answers.
    num_answers: G_T.
    compress: cap and temperature of summaries.
    summary_extra: further fields of a request for a summary.
    capabilities: found out by `connect`.
    seed: the run's seed.
    spent: step -> seconds that its calls took; for the budget alone.
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
  spent: dict[int, float] = dataclasses.field(default_factory=dict)

  def _ask(self, calls: Sequence[Call], step: int) -> list[Reply]:
    begun = time.monotonic()
    before = self.spent.setdefault(step, 0.0)
    replies = client.ask_all(self.endpoint, calls,
                                    max(0.0, self.budget_s - before))
    self.spent[step] = before + time.monotonic() - begun
    return replies

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

  def _rollouts(self, prompts: Sequence[Prompt],
                replies: Sequence[Reply]) -> list[tuple[Rollout, ...]]:
    said = [[(c.text, StopReason.END if c.complete else StopReason.LENGTH)
             for c in reply.results] for reply in replies]
    return collect.from_texts([p.question for p in prompts], said,
                               self.words.chat, self.grader)

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """At most G_T answers a question, within what is left of the budget."""
    chat = self.api == 'chat'
    replies = self._ask([
        self._call(p, self.words.question(p) if chat else [], step,
                   self.decoding, self.num_answers) for p in prompts], step)
    groups = tuple(map(Group, prompts, self._rollouts(prompts, replies)))
    return Answers(groups, call_stats(replies, self.num_answers))

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """A summary of each trace, within what is left of the budget."""
    decoding = Decoding(self.compress.cap + 1, self.compress.temperature)
    replies = self._ask([
        self._call(p, self.words.trace(p, t), step, decoding, 1,
                   self.summary_extra)
        for p, t in zip(prompts, traces, strict=True)], step)
    found = self._rollouts(prompts, replies)
    return Summaries(tuple(next(iter(f), None) for f in found),
                     call_stats(replies, 1))

  def score(self, sequences: Sequence[TokenSequence]) -> Scores:
    """By echoed prompts; the budget is that of a step."""
    if not self.capabilities.scores:
      raise ValueError(
          f'the teacher at {self.endpoint.url} tells no log-probs of given '
          "tokens; teacher.endpoint.api 'completions' and a server that "
          'echoes prompts are needed')
    calls = [Call(TEXT, {
        'prompt': [*s.prompt, *s.response], 'max_tokens': 1,
        'temperature': 0, 'echo': True, 'logprobs': 1}, 1,
        read_echo(len(s.prompt), len(s.response)))
        for s in sequences]
    replies = client.ask_all(self.endpoint, calls, self.budget_s)
    logps = tuple(r.results[0] if r.results else None for r in replies)
    return Scores(logps, call_stats(replies, 1))


def _echoed(of: Endpoint, chat: Chat, budget_s: float) -> bool:
  """Whether the server echoes token ids with log-probs, as the same words.

  Raises:
    ValueError: if it reads the ids as other words.
  """
  tokens = chat.plain('1 2 3').tokens
  said: list = []

  def read(reply) -> list:
    said.extend(c.get('text') for c in choices(reply)[:1])
    return read_echo(1, len(tokens) - 1)(reply)

  body = {'prompt': list(tokens), 'max_tokens': 1, 'temperature': 0,
          'echo': True, 'logprobs': 1}
  (reply,) = client.ask_all(
      of, [Call(TEXT, body, 1, read)], budget_s)
  ours = chat.codec.decode(tokens)
  if said and isinstance(said[-1], str) and not said[-1].startswith(ours):
    raise ValueError(
        f'teacher.endpoint.api is completions, which sends token ids; {of.url} '
        f'reads {ours!r} as {client.clean(said[-1], of.key())!r}: '
        'another vocabulary')
  return reply.cause is None


def connect(config, *, chat: Chat, words: Wording | None, grader: Grader,
            decoding: Decoding, num_answers: int, compress: CompressionConfig,
            max_prompt: int, seed: int) -> EndpointTeacher:
  """A teacher by `config.teacher.endpoint`, after asking what it can.

  Args:
    config: api, budget_s, summary_extra, and the fields of
      client.Endpoint.
    chat, words, grader: the student's chat; as `Words`; of answers.
    decoding, num_answers, compress, seed: as EndpointTeacher.
    max_prompt: longest prompt, in tokens of the student's vocabulary.

  Raises:
    EndpointError: if it cannot be reached, refuses the key, or does not
      answer a question of one token.
    ValueError: for a field out of its range; for a model that is not served
      there; for another vocabulary under 'completions'.
  """
  fields = config.to_dict()
  api, budget_s = fields.pop('api'), fields.pop('budget_s')
  summary_extra = fields.pop('summary_extra')
  if api not in APIS:
    raise ValueError(f'teacher.endpoint.api is {api!r}; allowed: '
                     f'{", ".join(APIS)}')
  if not budget_s > 0:
    raise ValueError(f'teacher.endpoint.budget_s is {budget_s}; it must be '
                     '> 0')
  of = Endpoint(**fields)
  known = client.served(of, budget_s)
  if of.model not in known:
    raise ValueError(f'teacher.endpoint.model is {of.model!r}; {of.url} '
                     f'serves {client.listed(known, of.key())}')
  made = EndpointTeacher(
      of, api, budget_s, Words(words, chat), grader, decoding, num_answers,
      compress, summary_extra, Capabilities(
          max_compression_prompt=max_prompt, scores=False,
          pictures=api == 'chat', clips=False, repeatable=False), seed)
  if api == 'completions' and _echoed(of, chat, budget_s):
    return dataclasses.replace(made, capabilities=dataclasses.replace(
        made.capabilities, scores=True))
  prompt = Prompt(Question('check', '1', '', ''), 0, chat.plain('1').tokens)
  (reply,) = client.ask_all(of, [made._call(
      prompt, _message('1'), 0, Decoding(1), 1)], budget_s)
  if reply.cause is not None:
    raise client.EndpointError(
        reply.cause, f'{of.url}: {reply.error or Cause(reply.cause).name}')
  return made
