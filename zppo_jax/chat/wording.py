"""The words around a question, in the structure of the paper's Figs. 8, 16-18.

A `Wording` is a row of strings; `Chat` joins it with a codec. `BOXED` is for
language models and has our own words in the paper's structure. `MICRO` has the
one-word tokens of the embedded world. renderers.py puts the words of a BCQ, an
NCQ and further kinds of prompts together.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from zppo_jax.chat import segments, tags
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.segments import (
  Codec,
  Encoded,
  Segment,
  Slot,
  content,
  template,
)
from zppo_jax.records import (
  Clip,
  Picture,
  ProcessedMedia,
  PromptMedia,
  Question,
  Turn,
)
from zppo_jax.verdicts.kinds import boxed


@dataclasses.dataclass(frozen=True)
class Wording:
  """Template strings; each is placed as it stands, spaces included.

  Attributes:
    opening: stands before every question.
    closing: ends every prompt; generation starts behind it (the shared closer).
    bcq: stands between the question and the two candidates.
    ncq: stands between the question and the list of wrong answers.
    ncq_unlisted: takes the place of `ncq` where no wrong answer can be listed.
    ncq_traces: stands between that list and the candidates.
    answer: (before, after) each listed answer.
    answer_separator: between two listed answers.
    candidate: (before, after) each candidate.
    compression: (before, after) a trace that is to be compressed.
    delimiters: the pattern of strings that no content may contain.
    hint: (before, after) the hint that stands behind a question.
    hint_request: (before, between, after) a question and a right response to
      it, of which a hint is to be made; () where nobody can be asked for one.
    hint_levels: what stands between question and response by the level of a
      hint, from 1 on, the least first; () where there are no levels.
    contexts: piece of a teacher's context -> (before, after) it; a piece that
      is not there has no words (algorithms/privileged/contexts.py).
    private: the delimiters that no content of a context may contain.
    frame: what a chat template writes before and behind the user's message;
      `opening` and `closing` hold it, too.
    forms: kind of prompt -> the pieces of a user's own form, which takes the
      place of `bcq`, `ncq`, `ncq_unlisted` and `hint` (chat/prompts/).
    said_last: what the closing of such a form says, without the frame.
  """
  opening: str
  closing: str
  bcq: str
  ncq: str
  ncq_unlisted: str
  ncq_traces: str
  answer: tuple[str, str]
  answer_separator: str
  candidate: tuple[str, str]
  compression: tuple[str, str]
  delimiters: re.Pattern
  hint: tuple[str, str] = ('', '')
  hint_request: tuple[str, ...] = ()
  hint_levels: tuple[str, ...] = ()
  contexts: Mapping[str, tuple[str, str]] = dataclasses.field(
      default_factory=dict, hash=False)
  private: re.Pattern | None = None
  frame: tuple[str, str] = ('', '')
  forms: Mapping[str, tuple[str | Slot, ...]] = dataclasses.field(
      default_factory=dict, hash=False)
  said_last: str = ''


MICRO = Wording(
    opening='', closing=':', bcq='BCQ', ncq='NCQ', ncq_unlisted='NCQ',
    ncq_traces='', answer=('', ''), answer_separator=',',
    candidate=('<candidate>', '</candidate>'),
    compression=('<response>', '<summary>'),
    delimiters=tags.pattern('candidate', 'response', 'summary'),
    # This vocabulary has no word for hints, and its models write none.
    hint=('<candidate>', '</candidate>'),
    contexts={
        **dict.fromkeys(('answer', 'reference', 'demonstration', 'hint',
                         'sibling', 'right', 'notes', 'document', 'caption',
                         'peer', 'attempt'), ('<candidate>', '</candidate>')),
        'wrong': ('NCQ', ''), 'reflect': ('BCQ', ''), 'revise': ('NCQ', ''),
        'concise': ('<summary>', '')})

BOXED = Wording(
    opening='',
    closing=('\n\nReason in private first, inside <think> and </think>. '
             'Then give your final answer inside \\boxed{}.'),
    bcq=('\n\nBelow are two candidate responses inside <candidate> tags. One '
         'of them is correct and the other is not. Let them guide you while '
         'you work out your own solution.\n'),
    ncq='\n\nEach of these answers is known to be wrong: ',
    ncq_unlisted='\n\nEarlier attempts at this question were all wrong.',
    ncq_traces='\nThe reasoning that failed follows in <candidate> tags.\n',
    answer=('\\boxed{', '}'), answer_separator=', ',
    candidate=('<candidate>\n', '\n</candidate>\n'),
    compression=(
        'Shorten the response inside the <response> tags. Write at most five '
        'lines inside <summary> tags: only the steps that matter and the '
        'final answer. Leave out exploration, self-correction, repeated '
        'attempts and filler. Derive nothing again and add nothing. End with '
        'the boxed answer.\n<response>\n', '\n</response>'),
    delimiters=tags.pattern('candidate', 'response', 'summary', 'hint'),
    hint=('\n\nThe hint inside <hint> tags may help you to find your own '
          'solution.\n<hint>\n', '\n</hint>\n'),
    hint_request=(
        '', '\n\nA response inside <response> tags answers this question '
        'rightly. A student has not solved it yet. Write at most five short '
        'sentences inside <hint> tags: the idea or the first step that the '
        'student lacks. Leave out the final answer, any box, the letter of an '
        'option and the full solution.\n<response>\n', '\n</response>'),
    hint_levels=tuple(
        '\n\nA response inside <response> tags answers this question rightly. '
        f'A student has not solved it yet. Write {what} inside <hint> tags. '
        'Leave out the final answer, any box and the letter of an option.\n'
        '<response>\n' for what in (
            'one sentence that names the field or the idea and no step',
            'at most three sentences: the idea and the first step, and no '
            'number that the response computes',
            'the plan of the whole solution, step by step, without carrying '
            'any step out')),
    contexts={
        'answer': ('\n\nThe right answer is known: <answer>', '</answer>\n'),
        'reference': ('\n\nThis is a reference solution.\n<response>\n',
                      '\n</response>\nUnderstand it, then solve the question '
                      'in your own words.\n'),
        'demonstration': ('\n\nThis is an example of a good response.\n'
                          '<response>\n', '\n</response>\nAnswer with a '
                          'response of your own.\n'),
        'hint': ('\n\nThe hint inside <hint> tags may help you to find your '
                 'own solution.\n<hint>\n', '\n</hint>\n'),
        'sibling': ('\n\nAn earlier attempt was right.\n<response>\n',
                    '\n</response>\nSolve the question in your own words.\n'),
        'right': ('\n\nAn earlier attempt answered <answer>',
                  '</answer>, which is right.\n'),
        'wrong': ('\n\nAn earlier attempt answered <answer>',
                  '</answer>, which is wrong.\n'),
        'attempt': ('\n\nThis is an earlier attempt.\n<response>\n',
                    '\n</response>\n'),
        'reflect': ('\nReflect on the attempt: what holds, and where does it '
                    'go wrong? Then solve the question.\n', ''),
        'revise': ('\nRevise the attempt: keep what is right, and mend what is '
                   'not.\n', ''),
        'notes': ('\n\nThese notes come from earlier questions.\n<notes>\n',
                  '\n</notes>\n'),
        'document': ('\n\nThis document belongs to the question.\n'
                     '<document>\n', '\n</document>\n'),
        'concise': ('\n\nBe concise: write the steps that matter and no '
                    'others.\n', ''),
        'caption': ('\n\nThis is what the pictures show.\n<caption>\n',
                    '\n</caption>\n'),
        'peer': ('\n\nSomebody else answered so.\n<response>\n',
                 '\n</response>\nSolve the question in your own words.\n')},
    private=tags.pattern('candidate', 'response', 'summary', 'hint', 'answer',
                         'notes', 'document', 'caption'))
# Inside the chat template there are only the user's words.
BARE = dataclasses.replace(BOXED, closing='')


class Vision(Protocol):
  """A processor of pictures and clips for a model (images.Processor)."""

  def see(self, media: tuple) -> ProcessedMedia:
    """The placeholders and the patches of a question's media."""

  def outline(self, media: tuple) -> tuple[str, int]:
    """(placeholders, number of patches), from the images' headers."""

  def media(self, seen: ProcessedMedia, tokens: Sequence[int]) -> PromptMedia:
    """The media for which the placeholders among a prompt's tokens stand."""


@dataclasses.dataclass(frozen=True)
class Chat:
  """Turns questions and candidates into token ids.

  Attributes:
    codec: the vocabulary.
    wording: the words around a question.
    vision: the processor of a model that sees; None for text alone.
    day: the date in the prompts of a template that asks for one.
    notes: notes for the user: which end tokens and template, and their source.
    prompts: the user's own texts by field (chat/prompts/), {} for none.
    thinking: the switch with which its chat template was rendered.
    around_turns: roles of messages -> the template's text around them
      (hub_chat.around_turns); None for a chat of one message.
    weights: the name of the model's weights, for errors; '' if nobody said it.
  """
  codec: Codec
  wording: Wording
  vision: Vision | None = None
  day: Day | None = None
  notes: tuple[str, ...] = ()
  prompts: Mapping[str, str] = dataclasses.field(
      default_factory=dict, hash=False)
  thinking: bool | None = None
  around_turns: Callable[[Sequence[str]], tuple[str, ...]] | None = (
      dataclasses.field(default=None, compare=False, repr=False))
  weights: str = dataclasses.field(default='', compare=False)

  def check_sees(self, question: Question) -> None:
    """ValueError for a question of media that the model cannot see, with the
    question, its source and the model."""
    if question.media and self.vision is None:
      source = f' of the source {question.source!r}' if question.source else ''
      model = f'{self.weights!r}' if self.weights else 'of this chat'
      raise ValueError(
          f'question {question.id!r}{source} has images or videos; the model '
          f'{model} takes text alone (docs/models.md names those that see)')

  def _encode(self, parts) -> Encoded:
    return segments.encode(parts, self.codec, self.wording.delimiters)

  def around(self, question: str, parts: Sequence[Segment],
             media: tuple[Picture | Clip, ...] = (),
             forced: Sequence[int] = ()) -> Encoded:
    """A prompt: media, the question's text, parts, the closing, forced tokens.

    Args:
      question: the question's text.
      parts: what stands between the question and the closing.
      media: pictures and clips of the question.
      forced: token ids with which the response begins.

    Raises:
      ValueError: for media in a chat of text alone.
    """
    w = self.wording
    return self._behind(
        w.opening, [content(question), *parts, template(w.closing)], media,
        forced)

  def filled(self, form: str, question: str,
             slots: Mapping[str, Sequence[Segment]],
             media: tuple[Picture | Clip, ...] = ()) -> Encoded:
    """A prompt in a user's own form, which is the whole message if it has a
    place for the question; else it stands behind the question.

    Args:
      form: a key of Wording.forms.
      question: the question's text.
      slots: what its other places show.
      media: pictures and clips of the question.

    Raises:
      ValueError: for media in a chat of text alone.
    """
    w, parts = self.wording, list[Segment]()
    slots = {'question': [content(question)],
             'closing': [template(w.said_last)], **slots}
    for piece in w.forms[form]:
      parts += slots[piece.name] if isinstance(piece, Slot) else [
          template(piece)]
    if Slot('question') not in w.forms[form]:
      return self.around(question, parts, media)
    opening, ending = w.frame
    last = '' if parts[-1].content else parts.pop().text
    return self._behind(opening, [*parts, template(last + ending)], media)

  def privileged(self, question: str, parts: Sequence[Segment],
                 media: tuple[Picture | Clip, ...] = (),
                 forced: Sequence[int] = ()) -> Encoded:
    """`around` for a teacher's context, which has more delimiters."""
    w = self.wording
    return dataclasses.replace(self, wording=dataclasses.replace(
        w, delimiters=w.private or w.delimiters)).around(
            question, parts, media, forced)

  def _behind(self, opening: str, parts: Sequence[Segment],
              media: tuple[Picture | Clip, ...],
              forced: Sequence[int] = (),
              earlier: Sequence[Segment] = ()) -> Encoded:
    """Earlier messages, the opening, media, parts and forced tokens."""
    opened = [*earlier, template(opening)]
    if not media:
      return self._begun([*opened, *parts], forced)
    self._needs_vision()
    seen = self.vision.see(media)
    encoded = self._begun([*opened, template(seen.text), *parts], forced)
    return dataclasses.replace(
        encoded, media=self.vision.media(seen, encoded.tokens))

  def _begun(self, parts: Sequence[Segment],
             forced: Sequence[int]) -> Encoded:
    """Parts of a prompt and the forced beginning of the response."""
    encoded = self._encode(parts)
    return encoded if not forced else dataclasses.replace(
        encoded, tokens=(*encoded.tokens, *forced), forced=len(forced))

  def _needs_vision(self) -> None:
    if self.vision is None:
      raise ValueError('the question has images or videos; the model of this '
                       'chat takes text alone')

  def plain(self, question: str, media: tuple[Picture | Clip, ...] = (),
            turns: Sequence[Turn] = ()) -> Encoded:
    """The question alone, its media before it, under the shared closer.

    Args:
      question: the question's text.
      media: pictures and clips of the question.
      turns: the messages before it, which are a conversation of the template.

    Raises:
      ValueError: for media in a chat of text alone; for turns in a chat of one
        message, or whose roles the template does not take.
    """
    if not turns:
      return self.around(question, [], media)
    earlier, opening, closing = self._framed(turns)
    return self._behind(opening, [content(question), template(closing)], media,
                        earlier=earlier)

  def _framed(self, turns: Sequence[Turn]) -> tuple[list[Segment], str, str]:
    """The earlier messages, and what stands around the last one."""
    if self.around_turns is None:
      raise ValueError('the question has earlier turns; the chat of this model '
                       'has no template that shows them')
    w, system = self.wording, self.prompts.get('system', '')
    if system and turns[0].role != 'system':
      turns = (Turn('system', system), *turns)
    *before, opening, closing = self.around_turns(
        [*(turn.role for turn in turns), 'user'])
    return [part for text, turn in zip(before, turns, strict=True)
            for part in (template(text), content(turn.content))
            ], (opening + w.opening.removeprefix(w.frame[0])), (
                w.closing.removesuffix(w.frame[1]) + closing)

  def outline(self, question: str, media: tuple[Picture | Clip, ...] = (),
              turns: Sequence[Turn] = ()) -> tuple[int, int]:
    """(number of tokens, number of patches) of `plain`; no image is decoded.

    Raises:
      ValueError: as `plain`.
    """
    w, shown, patches = self.wording, '', 0
    earlier, opening, closing = (self._framed(turns) if turns
                                 else ([], w.opening, w.closing))
    if media:
      self._needs_vision()
      shown, patches = self.vision.outline(media)
    encoded = self._encode([*earlier, template(opening), template(shown),
                            content(question), template(closing)])
    return len(encoded.tokens), patches

  def stays(self, answer: str) -> bool:
    """Whether an answer, as it will be shown, does not close its own box.

    A piece that is cut out of the answer may hold the brace that balanced
    another one.
    """
    if self.wording.answer[1] != '}':
      return True
    tokens = self._encode([content(answer)]).tokens
    return boxed.balanced(self.codec.decode(tokens))

  def compression(self, trace: str) -> Encoded:
    """The prompt that asks the teacher to compress a trace (App. D.1)."""
    before, after = self.wording.compression
    return self._encode(
        [template(before), content(trace), template(after)])

  def hint_request(self, question: str, trace: str,
                   media: tuple[Picture | Clip, ...] = (),
                   level: int = 0) -> Encoded:
    """The prompt that asks the teacher for a hint (App. D.2).

    Args:
      question: the question's text.
      trace: a right response to it.
      media: pictures and clips of the question.
      level: how much it may tell (Wording.hint_levels); 0: App. D.2.

    Raises:
      ValueError: for media in a chat of text alone, or a wording that asks
        nobody for hints.
    """
    if not self.wording.hint_request:
      raise ValueError("this chat has no words that ask for a hint; hints that "
                       "are stored with the questions need none "
                       "(hint.source = 'stored')")
    before, between, after = self.wording.hint_request
    if level:
      between = self.wording.hint_levels[level - 1]
    return self._behind(before, [
        content(question), template(between), content(trace),
        template(after)], media)

  def response(self, text: str) -> tuple[int, ...]:
    """The ids of a supervised response, with the end token."""
    return (*self.codec.encode_content(text)[0], self.codec.end_id)

  def decode_response(self, tokens: Sequence[int]) -> str:
    """The text of a response without its end token."""
    ends = segments.end_ids(self.codec)
    return self.codec.decode([t for t in tokens if t not in ends])
