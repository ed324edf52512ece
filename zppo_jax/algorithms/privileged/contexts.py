"""What the teacher reads while it scores a student's response.

A context puts something into the teacher's prompt that the student does not
see; the response behind it is the student's own, token by token. CONTEXTS has a
row per context: what it shows beside the question. A row shows nothing, and the
rollout is untaught and counted, where there is nothing to show.

| row | what the teacher reads besides the question | source |
|---|---|---|
| same | nothing: the student's own prompt | on-policy distillation |
| answer | the gold answer | OPSD, HDPO |
| reference | the first response stored with the question | OPSD |
| demonstration | a stored response without its thoughts, drawn | SDFT |
| calibrated | one whose stated confidence is the group's accuracy | CaOPD |
| hint | Question.hint or the material's, if it spoils nothing | PTD-PO, NuRL |
| sibling | a right rollout of the same group, drawn | SDPO |
| sibling_or_self | the same, itself and its text included | SDPO's code |
| feedback | the answer of the rollout and its verdict | SDPO, RLTF |
| sibling_and_feedback | both, or the one that there is | SDPO |
| reflection | the attempt, and more by level (LEVELS) | RESD, ERL, RA-OPD |
| revision | the attempt, which is to be revised | SD-Zero |
| notes | notes of earlier questions | OEL, Skill-SD |
| document | a document | GATES, OPCD |
| slice | a shorter question in the place of the question | OPSDL |
| concise | the wish for a short response | OPSDC |
| caption | words in the place of pictures and clips | VOLD |
| peer | a right response of another model, drawn | SDPO, CoPD |

Rules of all rows: the rollout that is scored never stands in its own context,
neither itself nor by equal text (copies.py), but for the attempts of
`reflection` and `revision` and for `sibling_or_self`; draws go by name; a
context that is too long is skipped, never cut; the question's pictures and
clips are shown too, but for `caption`.

What is shown may be that of another question of the step (lenders.py).
"""

import dataclasses
import enum
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zppo_jax import allowed
from zppo_jax.algorithms.privileged import confidence, copies, spoilers
from zppo_jax.chat import renderers
from zppo_jax.chat.segments import Segment, content, template
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, question_uid
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)

# What `reflection` discloses besides the attempt, level by level.
LEVELS = ('attempt', 'verdict', 'answer', 'reference', 'sibling')
# Pieces that are whole responses to the question.
RESPONSES = ('reference', 'demonstration', 'sibling', 'peer')


class Untaught(enum.IntEnum):
  """Why a rollout has no lesson."""
  ABSENT = 0  # there is nothing to show
  ITSELF = 1  # all that there is to show is the rollout's own text
  SPOILER = 2  # the hint does not pass the filter
  OVER_LONG = 3  # the prompt fits no bucket
  WORDLESS = 4  # the chat has no words for what would be shown
  EMPTY = 5  # the rollout has no tokens


# What contexts read of a rollout that is not drawn yet.
FUTURE = Rollout(tokens=(0,), logps=(), text='', stop=StopReason.END,
                  verdict=Verdict.WRONG, answer='')


@dataclasses.dataclass(frozen=True)
class Material:
  """What contexts are made of besides a question and its group.

  Attributes:
    seed, step: they key the draws.
    level: what `reflection` discloses, an index of LEVELS.
    texts: as material.read returns them.
    reader: (question id, index) of the rollout that reads, which keys the draws
      where what it reads is another question's; None: they go by the question
      and the rollout of the context.
  """
  seed: int = 0
  step: int = 0
  level: int = 0
  texts: Mapping[str, Mapping[str, object]] = dataclasses.field(
      default_factory=dict)
  reader: tuple[str, int] | None = None

  def text(self, question: Question, field: str) -> str:
    """A text of the material, '' without one."""
    return str(self._of(question, field) or '')

  def peers(self, question: Question) -> tuple[str, ...]:
    found = self._of(question, 'peers') or ()
    assert isinstance(found, tuple)  # material.read makes tuples
    return found

  def _of(self, question: Question, field: str) -> object:
    for name in (question.id, '*'):
      if field in self.texts.get(name, {}):
        return self.texts[name][field]
    return None

  def rng(self, question: Question, index: int = 0) -> np.random.Generator:
    """The draws of a rollout, by (seed, step, question, index)."""
    name, index = self.reader or (question.id, index)
    return np.random.default_rng([
        self.seed, self.step, int(Purpose.CONTEXTS), question_uid(name), index])


class Shown(NamedTuple):
  """What a context shows.

  Attributes:
    pieces: (key of Wording.contexts, text) in their order.
    question: the text in the place of the question's; None keeps it.
    media: whether pictures and clips of the question are shown.
  """
  pieces: tuple[tuple[str, str], ...] = ()
  question: str | None = None
  media: bool = True


Build = Callable[[Question, Group, Rollout, Material], Shown | Untaught]


def _piece(name: str, text: str) -> Shown | Untaught:
  return Shown(((name, text),)) if text.strip() else Untaught.ABSENT


def _index(group: Group, rollout: Rollout) -> int:
  """The rollout's number; one behind the last for a rollout still to come."""
  return next((i for i, r in enumerate(group.rollouts) if r is rollout),
              len(group.rollouts))


def _drawn(texts: Sequence[str], own: str,
           rng: np.random.Generator) -> str | Untaught:
  """One of the responses that are not the rollout's own, uniformly."""
  there = [t for t in texts if t.strip()]
  others = [t for t in there if not copies.same_response(t, own)]
  if not others:
    return Untaught.ITSELF if there else Untaught.ABSENT
  return others[int(rng.integers(len(others)))]


def same(question: Question, group: Group, rollout: Rollout,
         material: Material) -> Shown | Untaught:
  """Nothing but the question; `lesson` gives the student's own prompt."""
  del question, group, rollout, material
  return Shown()


def answer(question: Question, group: Group, rollout: Rollout,
           material: Material) -> Shown | Untaught:
  """The gold answer."""
  del group, rollout, material
  return _piece('answer', question.answer)


def reference(question: Question, group: Group, rollout: Rollout,
              material: Material) -> Shown | Untaught:
  """The first response that is stored with the question."""
  del group, rollout, material
  return _piece('reference', next(iter(question.responses), ''))


def demonstration(question: Question, group: Group, rollout: Rollout,
                  material: Material) -> Shown | Untaught:
  """A stored response without its thoughts, drawn per rollout."""
  text = _drawn([copies.without_thoughts(r) for r in question.responses],
                rollout.text, material.rng(question, _index(group, rollout)))
  return text if isinstance(text, Untaught) else _piece('demonstration', text)


def calibrated(question: Question, group: Group, rollout: Rollout,
               material: Material) -> Shown | Untaught:
  """A demonstration that states a confidence, which is replaced by the share of
  right ones among the group's graded rollouts. (CaOPD.)"""
  if not group.graded:
    return Untaught.ABSENT
  restated = functools.partial(confidence.restated, rate=group.accuracy)
  texts = [restated(text)
           for text in map(copies.without_thoughts, question.responses)
           if confidence.stated(text) is not None]
  text = _drawn(texts, restated(rollout.text),
                material.rng(question, _index(group, rollout)))
  return text if isinstance(text, Untaught) else _piece('demonstration', text)


def hint(question: Question, group: Group, rollout: Rollout,
         material: Material) -> Shown | Untaught:
  """A hint that passes the zero-spoiler filter."""
  del group, rollout
  text = (question.hint or material.text(question, 'hint')).strip()
  if text and not spoilers.spoiler_free(text, question.answer):
    return Untaught.SPOILER
  return _piece('hint', text)


def sibling(question: Question, group: Group, rollout: Rollout,
            material: Material) -> Shown | Untaught:
  """A right rollout of the group, neither this one nor one of its text."""
  right = [r.text for r in group.correct if r is not rollout]
  text = _drawn(right, rollout.text,
                material.rng(question, _index(group, rollout)))
  if not right and rollout.verdict == Verdict.CORRECT:
    return Untaught.ITSELF
  return text if isinstance(text, Untaught) else _piece('sibling', text)


def sibling_or_self(question: Question, group: Group, rollout: Rollout,
                    material: Material) -> Shown | Untaught:
  """A right rollout of the group, which may be this one or one of its text.

  (The released code of SDPO takes the first right one, itself included.)
  """
  right = [r.text for r in group.correct if r.text.strip()]
  if not right:
    return Untaught.ABSENT
  rng = material.rng(question, _index(group, rollout))
  return _piece('sibling', right[int(rng.integers(len(right)))])


def feedback(question: Question, group: Group, rollout: Rollout,
             material: Material) -> Shown | Untaught:
  """The parsed answer and its verdict; nothing without an answer."""
  del question, group, material
  if not rollout.graded or not rollout.answer:
    return Untaught.ABSENT
  right = rollout.verdict == Verdict.CORRECT
  return _piece('right' if right else 'wrong', rollout.answer)


def sibling_and_feedback(question: Question, group: Group, rollout: Rollout,
                         material: Material) -> Shown | Untaught:
  """Both, or the one that there is; without either, why no sibling is.

  (SDPO, 2601.20802: a successful sibling and/or feedback.)
  """
  shown = [build(question, group, rollout, material)
           for build in (sibling, feedback)]
  pieces = [piece for of in shown if isinstance(of, Shown)
            for piece in of.pieces]
  return Shown(tuple(pieces)) if pieces else shown[0]


def reflection(question: Question, group: Group, rollout: Rollout,
               material: Material) -> Shown | Untaught:
  """The attempt, and what LEVELS disclose up to the level."""
  if not rollout.text.strip():
    return Untaught.ABSENT
  pieces = [('attempt', rollout.text)]
  more: dict[str, Build] = {'verdict': feedback, 'answer': answer,
                            'reference': reference, 'sibling': sibling}
  for name in LEVELS[1:material.level + 1]:
    shown = more[name](question, group, rollout, material)
    if isinstance(shown, Untaught):
      return shown
    pieces += shown.pieces
  return Shown((*pieces, ('reflect', '')))


def revision(question: Question, group: Group, rollout: Rollout,
             material: Material) -> Shown | Untaught:
  """The attempt, which is to be revised."""
  del question, group, material
  if not rollout.text.strip():
    return Untaught.ABSENT
  return Shown((('attempt', rollout.text), ('revise', '')))


def _of_material(question: Question, group: Group, rollout: Rollout,
                 material: Material, *, field: str) -> Shown | Untaught:
  del group, rollout
  return _piece(field, material.text(question, field))


def notes(question: Question, group: Group, rollout: Rollout,
          material: Material) -> Shown | Untaught:
  """Notes of earlier questions."""
  return _of_material(question, group, rollout, material, field='notes')


def document(question: Question, group: Group, rollout: Rollout,
             material: Material) -> Shown | Untaught:
  """A document."""
  return _of_material(question, group, rollout, material, field='document')


def slice_(question: Question, group: Group, rollout: Rollout,
           material: Material) -> Shown | Untaught:
  """A shorter question: the teacher sees less than the student."""
  del group, rollout
  text = material.text(question, 'slice')
  return Shown(question=text) if text.strip() else Untaught.ABSENT


def concise(question: Question, group: Group, rollout: Rollout,
            material: Material) -> Shown | Untaught:
  """The wish for a short response."""
  del question, group, rollout, material
  return Shown((('concise', ''),))


def caption(question: Question, group: Group, rollout: Rollout,
            material: Material) -> Shown | Untaught:
  """Words in the place of pictures and clips, for a teacher of text."""
  shown = _of_material(question, group, rollout, material, field='caption')
  return shown if isinstance(shown, Untaught) else shown._replace(media=False)


def peer(question: Question, group: Group, rollout: Rollout,
         material: Material) -> Shown | Untaught:
  """A response of another model, drawn per rollout."""
  text = _drawn(material.peers(question), rollout.text,
                material.rng(question, _index(group, rollout)))
  return text if isinstance(text, Untaught) else _piece('peer', text)


class Context(NamedTuple):
  """A row of CONTEXTS.

  Attributes:
    build: (question, group, rollout, material) -> what is shown.
    words: keys of Wording.contexts without which it shows nothing.
    needs: a field of material.FIELDS without which it shows nothing; ''.
    of_question: whether all rollouts of a group have one prompt.
    attempt: whether it shows the rollout itself, by design.
    of_attempt: whether it shows something of the rollout, its answer or text.
    lent: the field of material.FIELDS that it shows, '' for what questions and
      groups hold; None if it means nothing of another question.
  """
  build: Build
  words: tuple[str, ...] = ()
  needs: str = ''
  of_question: bool = True
  attempt: bool = False
  of_attempt: bool = False
  lent: str | None = None


CONTEXTS: dict[str, Context] = {
    'same': Context(same),
    'answer': Context(answer, ('answer',), lent=''),
    'reference': Context(reference, ('reference',), lent=''),
    'demonstration': Context(demonstration, ('demonstration',),
                             of_question=False, lent=''),
    'calibrated': Context(calibrated, ('demonstration',), of_question=False,
                          lent=''),
    'hint': Context(hint, ('hint',), lent='hint'),
    'sibling': Context(sibling, ('sibling',), of_question=False, lent=''),
    'sibling_or_self': Context(sibling_or_self, ('sibling',),
                               of_question=False, attempt=True),
    'feedback': Context(feedback, ('wrong',), of_question=False,
                        of_attempt=True),
    'sibling_and_feedback': Context(
        sibling_and_feedback, ('sibling', 'wrong'), of_question=False,
        of_attempt=True),
    'reflection': Context(reflection, ('attempt', 'reflect'),
                          of_question=False, attempt=True, of_attempt=True),
    'revision': Context(revision, ('attempt', 'revise'), of_question=False,
                        attempt=True, of_attempt=True),
    'notes': Context(notes, ('notes',), 'notes', lent='notes'),
    'document': Context(document, ('document',), 'document', lent='document'),
    'slice': Context(slice_, (), 'slice'),
    'concise': Context(concise, ('concise',)),
    'caption': Context(caption, ('caption',), 'caption'),
    'peer': Context(peer, ('peer',), 'peers', of_question=False,
                    lent='peers'),
}


def _segments(pieces: Sequence[tuple[str, str]],
              chat: Chat) -> list[Segment]:
  return [part for name, text in pieces
          for before, after in (chat.wording.contexts[name],)
          for part in (template(before), content(text), template(after))
          if part.text]


def lesson(name: str, group: Group, rollout: Rollout, material: Material,
           chat: Chat, longest: int) -> Prompt | Untaught:
  """The teacher's prompt for a rollout, or why there is none.

  Args:
    name: a key of CONTEXTS.
    group: the group of the rollout.
    rollout: one of its rollouts, whose tokens follow the prompt.
    material: what else is shown.
    chat: the student's chat.
    longest: the most tokens of a prompt.

  Returns:
    A prompt that ends as the student's does: with what the template writes
    before a response, and the forced beginning of one.
  """
  row, question = CONTEXTS[name], group.prompt.question
  if not rollout.tokens:
    return Untaught.EMPTY
  if name == 'same':
    return group.prompt
  shown = row.build(question, group, rollout, material)
  if isinstance(shown, Untaught):
    return shown
  if not row.attempt and shows(shown, rollout):
    return Untaught.ITSELF
  return shown_to(group, shown, chat, longest)


def shows(shown: Shown, rollout: Rollout) -> bool:
  """Whether a rollout stands in its own context. An answer, a hint or a
  document may be what a rollout says behind its thoughts, and a response may
  not."""
  return is_copy(rollout, [text for _, text in shown.pieces]) or any(
      copies.same_response(text, rollout.text)
      for name, text in shown.pieces if name in RESPONSES)


def is_copy(rollout: Rollout, texts: Sequence[str]) -> bool:
  """Whether a rollout is one of the texts (copies.repeated)."""
  return copies.repeated(rollout.text, texts)


def shown_to(group: Group, shown: Shown, chat: Chat, longest: int,
              kind: PromptKind = PromptKind.PLAIN) -> Prompt | Untaught:
  """The prompt that shows something beside a group's question."""
  question = group.prompt.question
  if any(piece not in chat.wording.contexts for piece, _ in shown.pieces):
    return Untaught.WORDLESS
  encoded = chat.privileged(
      renderers.text_of(question) if shown.question is None else shown.question,
      _segments(shown.pieces, chat), question.media if shown.media else (),
      group.prompt.beginning)
  if len(encoded.tokens) > longest:
    return Untaught.OVER_LONG
  return Prompt(question=question, kind=kind, tokens=encoded.tokens,
                media=encoded.media, forced=encoded.forced)


class Disclosed(NamedTuple):
  """A prompt under which rollouts are drawn.

  Attributes:
    prompt: the question with its context, of the kind PRIVILEGED.
    texts: what the context shows, but for an attempt; a rollout that equals one
      is a copy.
  """
  prompt: Prompt
  texts: tuple[str, ...]


def disclosed(name: str, group: Group, material: Material, chat: Chat,
              longest: int) -> Disclosed | Untaught:
  """The prompt under which new rollouts of a question are drawn, or why there
  is none.

  All of them read the same context, so that they are a group. A context that
  shows something of a rollout shows a wrong one of the group, drawn uniformly,
  or any if none is wrong.

  Args:
    name: a key of CONTEXTS.
    group: the student's plain group of the question.
    material, chat, longest: as of `lesson`.
  """
  row, question = CONTEXTS[name], group.prompt.question
  rollout = FUTURE
  if row.of_attempt:
    able = group.wrong or group.rollouts
    rng = material.rng(question, len(group.rollouts) + 1)
    rollout = able[int(rng.integers(len(able)))]
  shown = row.build(question, group, rollout, material)
  if isinstance(shown, Untaught):
    return shown
  prompt = shown_to(group, shown, chat, longest, PromptKind.PRIVILEGED)
  if isinstance(prompt, Untaught):
    return prompt
  return Disclosed(prompt=prompt, texts=tuple(
      text for name, text in shown.pieces if text and name != 'attempt'))


@dataclasses.dataclass(frozen=True)
class Lessons:
  """The teacher's prompts for a rollout batch.

  Attributes:
    prompts: (group, rollout) -> the prompt; a rollout without one is untaught.
    untaught: (group, rollout) -> why it has none.
  """
  prompts: Mapping[tuple[int, int], Prompt]
  untaught: Mapping[tuple[int, int], Untaught]


def lessons(name: str, groups: Sequence[Group], material: Material, chat: Chat,
            longest: int) -> Lessons:
  """`lesson` of every rollout."""
  return gathered({
      (p, g): lesson(name, group, rollout, material, chat, longest)
      for p, group in enumerate(groups)
      for g, rollout in enumerate(group.rollouts)})


def gathered(made: Mapping[tuple[int, int], Prompt | Untaught]) -> Lessons:
  """Lessons of (group, rollout) -> the prompt, or why there is none."""
  return Lessons(
      prompts={at: of for at, of in made.items() if isinstance(of, Prompt)},
      untaught={at: of for at, of in made.items() if isinstance(of, Untaught)})


def check(name: str, level: int, chat: Chat, material: Material) -> None:
  """Refuses a context that could show nothing.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for a level out of its range; for a chat without words for the
      context; for material that does not hold what it shows.
  """
  row = allowed.known('distil.context', name, CONTEXTS)
  allowed.number('distil.context_level', level, f'[0, {len(LEVELS) - 1}]',
                 whole=True)
  wanted = [*row.words]
  if name == 'reflection':
    wanted += [{'verdict': 'wrong'}.get(of, of)
               for of in LEVELS[1:level + 1]]
  absent = [word for word in wanted if word not in chat.wording.contexts]
  if absent:
    able = [of for of, row in CONTEXTS.items()
            if set(row.words) <= chat.wording.contexts.keys()]
    raise ValueError(
        f'distil.context is {name!r}; this chat has no words for '
        f'{", ".join(absent)}. It has those of: {", ".join(able)}')
  if row.needs and not any(row.needs in of for of in material.texts.values()):
    fields = sorted(set(itertools.chain(*material.texts.values())))
    raise ValueError(
        f'distil.context is {name!r}; no row of distil.material has the field '
        f'{row.needs!r}, the fields there are: {", ".join(fields) or "none"}')
