"""From prompts to graded groups: sampling and grading."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jax.sharding import Mesh

from zppo_jax import randomness
from zppo_jax.chat.wording import Chat
from zppo_jax.models import Model
from zppo_jax.records import (
  Decoding,
  Grader,
  Group,
  Prompt,
  Purpose,
  Question,
  Rollout,
  StopReason,
)
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.engine import Engine
from zppo_jax.rollout.journal import Drawn, RolloutJournal
from zppo_jax.rollout.requests import Completion, Request
from zppo_jax.verdicts.grading import grade_all


@dataclasses.dataclass(frozen=True)
class Sampler:
  """An engine and what it is used with.

  Attributes:
    engine: draws the rollouts; several samplers may share one.
    chat: the chat of the prompts.
    grader: grades responses.
    decoding: how tokens are drawn.
    num_rollouts: G.
    journal: keeps rollouts as they end, and holds those that a killed attempt
      drew; None keeps none.
    between: is called between decode chunks; what it raises ends the draws.
  """
  engine: Engine
  chat: Chat
  grader: Grader
  decoding: Decoding
  num_rollouts: int
  journal: RolloutJournal | None = None
  between: Callable[[], None] = lambda: None


# Of texts that answer no question: none of them is parsed or right.
UNGRADED = Grader(parse=lambda text: '', grade=lambda answer, question: 0.0)


def make_sampler(*, model: Model, mesh: Mesh, chat: Chat, grader: Grader,
                 decoding: Decoding, num_rollouts: int,
                 **options: Any) -> Sampler:
  """A sampler with an engine of its own; `options` are make_engine's."""
  engine = make_engine(
      model=model, mesh=mesh, chat=chat, max_tokens=decoding.max_tokens,
      num_rollouts=(num_rollouts,), **options)
  return Sampler(engine=engine, chat=chat, grader=grader, decoding=decoding,
                 num_rollouts=num_rollouts)


def _text(prompt: Prompt, done: Completion, chat: Chat) -> str:
  """The whole response: what was forced, then what was drawn. Both are decoded
  together, because a character may have tokens on both sides."""
  if not prompt.forced:
    return done.text
  return chat.decode_response((*prompt.beginning, *done.tokens))


def _to_groups(prompts: Sequence[Prompt],
               completions: Sequence[Sequence[Completion]],
               sampler: Sampler) -> list[Group]:
  """Grades all rollouts at once, so that slow gradings run side by side."""
  texts = [[_text(prompt, done, sampler.chat) for done in its]
           for prompt, its in zip(prompts, completions, strict=True)]
  verdicts = iter(grade_all(
      [(text, done.stop, prompt.question)
       for prompt, its, of in zip(prompts, completions, texts, strict=True)
       for done, text in zip(its, of, strict=True)], sampler.grader))

  def one(done: Completion, text: str) -> Rollout:
    verdict, answer = next(verdicts)
    return Rollout(tokens=done.tokens, logps=done.logps, text=text,
                   stop=done.stop, verdict=verdict, answer=answer)

  return [Group(prompt=prompt, rollouts=tuple(map(one, its, of)))
          for prompt, its, of in zip(prompts, completions, texts, strict=True)]


def from_texts(questions: Sequence[Question],
               responses: Sequence[Iterable[tuple[str, StopReason]]],
               chat: Chat, grader: Grader) -> list[tuple[Rollout, ...]]:
  """Texts that somebody else wrote, as graded rollouts in this chat's tokens.

  Args:
    questions: the questions.
    responses: for each question the (text, stop reason) pairs that answer it.
    chat: encodes the texts.
    grader: grades them, all at once.
  """
  verdicts = iter(grade_all(
      [(text, stop, question)
       for question, pairs in zip(questions, responses, strict=True)
       for text, stop in pairs], grader))

  def one(text: str, stop: StopReason) -> Rollout:
    tokens = chat.response(text)
    if stop == StopReason.LENGTH:
      tokens = tokens[:-1]  # the text stopped before its end token
    verdict, answer = next(verdicts)
    return Rollout(tokens=tokens, logps=(), text=text, stop=stop,
                   verdict=verdict, answer=answer)

  return [tuple(one(text, stop) for text, stop in pairs)
          for pairs in responses]


def collect(sampler: Sampler, params: Any, prompts: Sequence[Prompt], *,
            seed: int, step: int, purpose: Purpose) -> list[Group]:
  """Samples and grades the groups of all prompts, in their order.

  Args:
    sampler: draws and grades.
    params: a `weights.rollout_copy`, in the rollout sharding.
    prompts: the prompts.
    seed, step, purpose: with each question and prompt kind, they key the draws.

  Raises:
    ValueError: if a prompt is longer than every prompt bucket, or its media
      than every patch bucket.
  """
  if not prompts:
    return []
  keys_PG2 = randomness.rollout_key_data(
      randomness.step_key(seed, step, purpose),
      [randomness.question_uid(p.question.id) for p in prompts],
      [int(p.kind) for p in prompts], sampler.num_rollouts)
  journal = sampler.journal
  known = ([{}] * len(prompts) if journal is None
           else journal.known(step, purpose, prompts))

  def see(ended: list[tuple[int, Completion]]) -> None:
    if journal is not None:
      journal.keep(step, purpose, prompts, ended)
    sampler.between()

  drawn = sampler.engine.generate(params, [
      Request(id=p.question.id, tokens=p.tokens, key_G2=keys_G2,
              decoding=sampler.decoding, media=p.media,
              known={g: len(of.tokens) for g, of in its.items()})
      for p, keys_G2, its in zip(prompts, keys_PG2, known, strict=True)], see)
  return _to_groups(prompts, [
      [_recalled(p, g, its[g], sampler.chat) if g in its else done
       for g, done in enumerate(row)]
      for p, its, row in zip(prompts, known, drawn, strict=True)], sampler)


def _recalled(prompt: Prompt, rollout: int, of: Drawn,
              chat: Chat) -> Completion:
  """The completion of a rollout that was drawn before."""
  return Completion(
      id=prompt.question.id, rollout=rollout, tokens=of.tokens, logps=of.logps,
      text=chat.decode_response(of.tokens), stop=of.stop)
