"""Compression of candidates by the teacher (ZPPO, Appendix D.1).

Correct and wrong traces get the same prompt and the same cap, so that length
and form give nothing away. docs/paper.md says how we read what the paper leaves
open.
"""

import dataclasses
import enum
from collections.abc import Callable, Sequence

from zppo_jax import allowed
from zppo_jax.chat import segments
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import question_uid
from zppo_jax.records import (
  CallStats,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Summaries,
)


class CompressionFailure(enum.IntEnum):
  """Why a compression was thrown away (docs/paper.md: an open choice)."""
  NO_ANSWER = 0  # the summary holds no parseable answer
  OTHER_ANSWER = 1  # its answer is not the answer of the trace
  OVER_CAP = 2  # the token cap cut it
  MISSING = 3  # the teacher sent no summary


@dataclasses.dataclass(frozen=True)
class CompressionConfig:
  """When and how far traces are compressed.

  Attributes:
    cap: the most tokens of a compressed candidate (Table 8: 512).
    identity_below: a trace of fewer tokens is shown unchanged; 0 compresses
      every trace.
    temperature: the temperature of the teacher's summaries.
  """
  cap: int = 512
  identity_below: int = 0
  temperature: float = 0.0

  def __post_init__(self) -> None:
    allowed.number('compression.cap', self.cap, '>= 1')
    allowed.number(
        'compression.identity_below', self.identity_below, f'[0, {self.cap}]',
        note=f'; compression.cap is {self.cap}, and a trace that is shown '
             'unchanged may not be longer')


@dataclasses.dataclass(frozen=True)
class Compressed:
  """Candidate texts by trace, and what became of the traces.

  Attributes:
    texts: (question id, trace text) -> text shown in the candidate.
    failures: one reason per failed compression.
    requested: the number of traces that the teacher was asked to compress.
    unchanged: the number of traces that are shown unchanged.
    over_bound: the number of traces whose compression prompt fits no bucket.
      They are replaced like failures, but the teacher was not asked.
    prompt_tokens, generated_tokens: the tokens that the teacher read and wrote.
    removed: the number of pieces that were cut out of the traces in its
      prompts (segments.Encoded).
    calls: statistics of the calls to the teacher.
  """
  texts: dict[tuple[str, str], str]
  failures: tuple[CompressionFailure, ...]
  requested: int
  unchanged: int
  over_bound: int
  prompt_tokens: int
  generated_tokens: int
  removed: int
  calls: CallStats


def failure(summary: Rollout | None,
            trace: Rollout) -> CompressionFailure | None:
  """Why a summary may not replace its trace, or None if it may."""
  if summary is None:
    return CompressionFailure.MISSING
  if summary.stop == StopReason.LENGTH:
    return CompressionFailure.OVER_CAP
  if not summary.answer:
    return CompressionFailure.NO_ANSWER
  if summary.answer != trace.answer:
    return CompressionFailure.OTHER_ANSWER
  return None


def tail(trace: Rollout, cap: int, chat: Chat) -> str:
  """The last `cap` tokens of a trace as text, because they hold the answer."""
  body, ends = list(trace.tokens), segments.end_ids(chat.codec)
  # A teacher may end with a token that does not end responses of the student.
  if (trace.stop == StopReason.END and body
      and body[-1] in chat.codec.reserved_ids):
    body.pop()
  body = [t for t in body if t not in ends]
  return chat.codec.decode(body[-cap:])


def asks(traces: Sequence[tuple[Question, Rollout]],
         config: CompressionConfig, chat: Chat, max_prompt: int) -> bool:
  """Whether `compress` would ask for a summary of one of the traces."""
  return any(
      len(trace.tokens) >= config.identity_below
      and len(chat.compression(trace.text).tokens) <= max_prompt
      for _, trace in traces)


def compress(traces: Sequence[tuple[Question, Rollout]],
             config: CompressionConfig, chat: Chat, max_prompt: int,
             ask: Callable[[list[Prompt], list[str]], Summaries]
             ) -> Compressed:
  """Candidate texts for all traces; equal traces are compressed once.

  Args:
    traces: (question, trace) pairs.
    config: when and how far traces are compressed.
    chat: makes the compression prompts.
    max_prompt: the longest prompt that the teacher takes, in tokens.
    ask: (prompts, the traces in them) -> one graded summary per prompt, cut at
      the cap.
  """
  texts, pending = {}, {}
  unchanged = over_bound = removed = 0
  for question, trace in traces:
    key = (question.id, trace.text)
    if key in texts or key in pending:
      continue
    if len(trace.tokens) < config.identity_below:
      texts[key] = trace.text
      unchanged += 1
      continue
    encoded = chat.compression(trace.text)
    if len(encoded.tokens) > max_prompt:
      texts[key] = tail(trace, config.cap, chat)
      over_bound += 1
      continue
    # The trace is part of the name that keys the teacher's draw.
    name = f'{question.id}#{question_uid(trace.text):08x}'
    prompt = Prompt(question=dataclasses.replace(question, id=name),
                    kind=PromptKind.PLAIN, tokens=encoded.tokens)
    pending[key] = (trace, prompt)
    removed += encoded.removed
  failures = []
  summaries, calls = Summaries(rollouts=(), calls=CallStats())
  if pending:
    summaries, calls = ask([prompt for _, prompt in pending.values()],
                           [trace.text for trace, _ in pending.values()])
  for (key, (trace, _)), summary in zip(pending.items(), summaries,
                                        strict=True):
    reason = failure(summary, trace)
    if reason is not None:
      texts[key] = tail(trace, config.cap, chat)
      failures.append(reason)
    elif summary is not None:
      texts[key] = summary.text
  return Compressed(
      texts=texts, failures=tuple(failures), requested=len(pending),
      unchanged=unchanged, over_bound=over_bound,
      prompt_tokens=sum(
          len(prompt.tokens) for _, prompt in pending.values()),
      generated_tokens=sum(
          len(summary.tokens) for summary in summaries if summary),
      removed=removed, calls=calls)
