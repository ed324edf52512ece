"""From prompts to graded groups: sampling and grading."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from jax.sharding import Mesh

from zppo_jax import randomness
from zppo_jax.chat.wording import Chat
from zppo_jax.devices.beside import Beside
from zppo_jax.models import Model
from zppo_jax.randomness import Purpose
from zppo_jax.records import (
  Decoding,
  Grader,
  Group,
  Prompt,
  Question,
  Rollout,
  StopReason,
)
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.engine import Engine
from zppo_jax.rollout.journal import Drawn, RolloutJournal
from zppo_jax.rollout.requests import Completion, Request
from zppo_jax.verdicts.grading import reward_all


class Ahead(Protocol):
  """What adds prompts to a collection under way; algorithms/ahead.py."""

  def seen(self, place: int, rollouts: Sequence[Rollout]) -> list[Prompt]: ...

  def idle(self, room: int) -> list[Prompt]: ...


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
    overlapped: whether rollouts are graded as they end, beside the draws.
  """
  engine: Engine
  chat: Chat
  grader: Grader
  decoding: Decoding
  num_rollouts: int
  journal: RolloutJournal | None = None
  between: Callable[[], None] = lambda: None
  overlapped: bool = False


# How often the rollouts of a collection must fill all slots before an answer is
# waited for with rollouts under way (docs/teachers.md, "Beside the draws").
WAITS_FROM = 6

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


def _graded(drawn: Sequence[tuple[Prompt, Completion]],
            sampler: Sampler) -> list[Rollout]:
  """Grades rollouts at once, so that slow gradings run side by side."""
  texts = [_text(prompt, done, sampler.chat) for prompt, done in drawn]
  graded = reward_all(
      [(text, done.stop, prompt.question)
       for (prompt, done), text in zip(drawn, texts, strict=True)],
      [len(done.tokens) for _, done in drawn], sampler.grader)
  return [Rollout(tokens=done.tokens, logps=done.logps, text=text,
                  stop=done.stop, **of._asdict())
          for (_, done), text, of in zip(drawn, texts, graded, strict=True)]


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
  responses = [tuple(pairs) for pairs in responses]

  def tokens_of(text: str, stop: StopReason) -> tuple[int, ...]:
    tokens = chat.response(text)
    # A text that was cut stopped before its end token.
    return tokens[:-1] if stop == StopReason.LENGTH else tokens

  rows = [(text, stop, question)
          for question, pairs in zip(questions, responses, strict=True)
          for text, stop in pairs]
  encoded = [tokens_of(text, stop) for text, stop, _ in rows]
  graded = reward_all(rows, list(map(len, encoded)), grader)
  rollouts = iter([
      Rollout(tokens=tokens, logps=(), text=text, stop=stop, **of._asdict())
      for (text, stop, _), tokens, of in zip(
          rows, encoded, graded, strict=True)])
  return [tuple(next(rollouts) for _ in pairs) for pairs in responses]


class _Grading:
  """Grades the rollouts of a collection at its end, or beside its draws.

  Beside them, the rollouts of a chunk are graded in a thread while the next
  chunk draws, and count when that has ended. So what is known at a chunk does
  not depend on how long grading took.

  Args:
    prompts: the prompts, to which more may be added.
    sampler: grades the rollouts.
    ahead: see `collect`.
  """

  def __init__(self, prompts: list[Prompt], sampler: Sampler,
               ahead: Ahead | None):
    self._prompts, self._sampler, self._ahead = prompts, sampler, ahead
    self._plain = len(prompts)
    self._rollouts: dict[int, dict[int, Rollout]] = {}
    self._ended = 0
    # (place, rollout) of each part, and the verdicts that are under way.
    self._parts: collections.deque[tuple[list, Beside]] = collections.deque()

  def add(self, drawn: list[tuple[int, Completion]]) -> list[Prompt]:
    """Takes in a chunk's rollouts; the prompts that are drawn, too."""
    self._ended += len(drawn)
    pairs = [(self._prompts[i], done) for i, done in drawn]
    grade = functools.partial(_graded, pairs, self._sampler)
    self._parts.append((
        [(i, done.rollout) for i, done in drawn],
        Beside(grade) if self._sampler.overlapped and drawn else grade))
    if not self._sampler.overlapped:
      return []
    more = self._settle(1)
    if self._ahead is None:
      return more
    if not self._drawing(more):  # every verdict counts before slots stand still
      more += self._settle(0)
    slots = max(self._sampler.engine.shapes.slots)
    room = slots - self._drawing(more)
    return (more + self._ahead.idle(room) if room >= self._least_room(slots)
            else more)

  def _least_room(self, slots: int) -> int:
    """The idle slots from which on an answer is waited for, while the other
    slots stand still. Where the slots are filled many times over, the first
    answers are old by the time that nothing waits for a slot. Otherwise a few
    long rollouts may wait, because what is made of an answer takes as long to
    draw as they do."""
    filled = self._plain * self._sampler.num_rollouts / slots
    return 1 if filled >= WAITS_FROM else math.ceil(7 * slots / 8)

  def _drawing(self, more: Sequence[Prompt]) -> int:
    """The rollouts that have not ended, those of further prompts included."""
    count = len(self._prompts) + len(more)
    return count * self._sampler.num_rollouts - self._ended

  def _settle(self, left: int) -> list[Prompt]:
    """Counts all parts but the last `left`."""
    more: list[Prompt] = []
    while len(self._parts) > left:
      names, graded = self._parts.popleft()
      for (i, g), rollout in zip(names, graded(), strict=True):
        self._rollouts.setdefault(i, {})[g] = rollout
      if self._ahead is None:
        continue
      for i in dict.fromkeys(i for i, _ in names):
        more += self._ahead.seen(i, tuple(
            of for _, of in sorted(self._rollouts[i].items())))
    return more

  def groups(self) -> list[Group]:
    """Every group, once all rollouts have been added."""
    if self._sampler.overlapped:
      self._settle(0)
    else:  # all at once
      ended = sorted(
          ((name, pair) for names, part in self._parts
           for name, pair in zip(names, part.args[0], strict=True)),
          key=lambda one: one[0])
      rollouts = _graded([pair for _, pair in ended], self._sampler)
      for ((i, g), _), rollout in zip(ended, rollouts, strict=True):
        self._rollouts.setdefault(i, {})[g] = rollout
    return [Group(prompt=prompt, rollouts=tuple(
        of for _, of in sorted(self._rollouts[i].items())))
            for i, prompt in enumerate(self._prompts)]


def collect(sampler: Sampler, params: Any, prompts: Sequence[Prompt], *,
            seed: int, step: int, purpose: Purpose,
            ahead: Ahead | None = None) -> list[Group]:
  """Samples and grades the groups of all prompts, in their order.

  Args:
    sampler: draws and grades.
    params: a `weights.rollout_copy`, in the rollout sharding.
    prompts: the prompts.
    seed, step, purpose: with each question and prompt kind, they key the draws.
    ahead: adds prompts that are drawn, too, while the others draw, if the
      sampler is `overlapped`; their groups come after those of `prompts`. It
      has seen the rollouts of a group so far whenever there are more of them,
      and is asked to fill idle slots.

  Raises:
    ValueError: if a prompt is longer than every prompt bucket, or its media
      than every patch bucket.
  """
  if not prompts:
    return []
  prompts, journal = list(prompts), sampler.journal
  grading = _Grading(prompts, sampler, ahead)

  def requests(new: Sequence[Prompt]) -> list[Request]:
    keys_PG2 = randomness.rollout_key_data(
        randomness.step_key_data(seed, step, purpose),
        [randomness.question_uid(p.question.id) for p in new],
        [int(p.kind) for p in new], sampler.num_rollouts)
    known = ([{}] * len(new) if journal is None
             else journal.known(step, purpose, new))
    return [Request(
        id=p.question.id, tokens=p.tokens, key_G2=keys_G2,
        decoding=sampler.decoding, media=p.media,
        known={g: _recalled(p, g, of, sampler.chat) for g, of in its.items()})
        for p, keys_G2, its in zip(new, keys_PG2, known, strict=True)]

  def see(drawn: list[tuple[int, Completion]]) -> list[Request]:
    if journal is not None:
      journal.keep(step, purpose, prompts, drawn)
    sampler.between()
    more = grading.add(drawn)
    prompts.extend(more)
    return requests(more) if more else []

  sampler.engine.generate(params, requests(prompts), see)
  return grading.groups()


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
