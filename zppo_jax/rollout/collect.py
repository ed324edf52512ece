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
from zppo_jax.rollout.background import Background
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
    overlapped: whether groups are graded as they end, beside the draws.
  """
  engine: Engine
  chat: Chat
  grader: Grader
  decoding: Decoding
  num_rollouts: int
  journal: RolloutJournal | None = None
  between: Callable[[], None] = lambda: None
  overlapped: bool = False


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


class _Groups:
  """The groups of a collection, graded at its end or as they end.

  Args:
    prompts: the prompts.
    sampler: grades the rollouts.
    ended: is called with (place, graded group) as groups end, in a thread
      beside the draws, if the sampler is `overlapped`.
  """

  def __init__(self, prompts: Sequence[Prompt], sampler: Sampler,
               ended: Callable[[int, Group], None]):
    self._prompts, self._sampler, self._ended = prompts, sampler, ended
    self._completions: list[dict[int, Completion]] = [{} for _ in prompts]
    self._groups: dict[int, Group] = {}
    self._beside = Background(self._grade) if sampler.overlapped else None

  def add(self, place: int, done: Completion) -> None:
    """Takes in a rollout."""
    its = self._completions[place]
    its[done.rollout] = done
    if self._beside and len(its) == self._sampler.num_rollouts:
      self._beside.put(place)

  def _grade(self, places: list[int]) -> None:
    groups = _to_groups(
        [self._prompts[i] for i in places],
        [[done for _, done in sorted(self._completions[i].items())]
         for i in places], self._sampler)
    for i, group in zip(places, groups, strict=True):
      self._groups[i] = group
      self._ended(i, group)

  def all(self) -> list[Group]:
    """Every group, once all rollouts have come."""
    if self._beside:
      self._beside.finish()
    else:
      self._grade(list(range(len(self._prompts))))
    return [self._groups[i] for i in range(len(self._prompts))]

  def abandon(self) -> None:
    """Ends the thread; the groups are not wanted any more."""
    if self._beside:
      self._beside.abandon()


def collect(sampler: Sampler, params: Any, prompts: Sequence[Prompt], *,
            seed: int, step: int, purpose: Purpose,
            ended: Callable[[int, Group], None] = lambda place, group: None
            ) -> list[Group]:
  """Samples and grades the groups of all prompts, in their order.

  Args:
    sampler: draws and grades.
    params: a `weights.rollout_copy`, in the rollout sharding.
    prompts: the prompts.
    seed, step, purpose: with each question and prompt kind, they key the draws.
    ended: is called with (place of its prompt, graded group) as groups end, if
      the sampler is `overlapped`, else when all have ended.

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
  groups = _Groups(prompts, sampler, ended)

  def see(drawn: list[tuple[int, Completion]]) -> None:
    if journal is not None:
      journal.keep(step, purpose, prompts, drawn)
    for place, done in drawn:
      groups.add(place, done)
    sampler.between()

  try:
    for place, (prompt, its) in enumerate(zip(prompts, known, strict=True)):
      for rollout, of in its.items():
        groups.add(place, _recalled(prompt, rollout, of, sampler.chat))
    sampler.engine.generate(params, [
        Request(id=p.question.id, tokens=p.tokens, key_G2=keys_G2,
                decoding=sampler.decoding, media=p.media,
                known={g: len(of.tokens) for g, of in its.items()})
        for p, keys_G2, its in zip(prompts, keys_PG2, known, strict=True)],
        see)
  except BaseException:
    groups.abandon()
    raise
  return groups.all()


def _recalled(prompt: Prompt, rollout: int, of: Drawn,
              chat: Chat) -> Completion:
  """The completion of a rollout that was drawn before."""
  return Completion(
      id=prompt.question.id, rollout=rollout, tokens=of.tokens, logps=of.logps,
      text=chat.decode_response(of.tokens), stop=of.stop)


def all_of(prompts: Sequence[Prompt], early: Sequence[Group],
           ask: Callable[[list[Prompt]], list[Group]]) -> list[Group]:
  """The groups of all prompts, of which some were drawn before the others.

  Args:
    prompts: all prompts.
    early: the groups of some of them.
    ask: draws the groups of the others.
  """
  name = lambda p: (p.question.id, p.kind, p.tokens)
  groups = {name(g.prompt): g for g in early}
  others = ask([p for p in prompts if name(p) not in groups])
  groups |= {name(g.prompt): g for g in others}
  return [groups[name(p)] for p in prompts]
