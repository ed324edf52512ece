"""Prompts that show more than their question, by kind (ZPPO, Figs. 16 to 18).

A renderer says which parts stand behind the question and with which tokens the
response begins. A new kind of prompt is one function and one row of RENDERERS;
its words are fields of `wording.Wording`.
"""

import dataclasses
from collections.abc import Callable, Iterable

from zppo_jax import allowed
from zppo_jax.chat.segments import Encoded, Segment, content, template
from zppo_jax.chat.wording import Chat, Wording
from zppo_jax.records import Clip, Picture, PromptKind, Question


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """What a prompt may show: a `records.Instance` in words.

  Attributes:
    question: the text of the question.
    media: the pictures and clips of the question.
    candidates: the texts of the candidates, in the order in which they are
      shown.
    answers: the parsed answer of each candidate, '' where there is none.
    hints: as in `records.Instance`.
    forced: as in `records.Instance`.
  """
  question: str
  media: tuple[Picture | Clip, ...] = ()
  candidates: tuple[str, ...] = ()
  answers: tuple[str, ...] = ()
  hints: tuple[str, ...] = ()
  forced: tuple[int, ...] = ()


def text_of(question: Question) -> str:
  """The text of a question, for prompts of one message.

  Raises:
    ValueError: for a question with earlier turns, which they would lose.
  """
  if question.turns:
    raise ValueError(f'question {question.id!r} has {len(question.turns)} '
                     'earlier turns; such a question is asked as it is, in '
                     'evaluations, and is not reformulated')
  return question.text


def _candidates(texts: Iterable[str], w: Wording) -> list[Segment]:
  return [part for text in texts
          for part in (template(w.candidate[0]), content(text),
                       template(w.candidate[1]))]


def bcq(chat: Chat, shown: Exhibit) -> Encoded:
  """Two candidates; no answer of theirs is listed."""
  w = chat.wording
  candidates = _candidates(shown.candidates, w)
  if 'bcq' in w.forms:
    return chat.filled('bcq', shown.question, {'candidates': candidates},
                       shown.media)
  return chat.around(shown.question, [template(w.bcq), *candidates],
                     shown.media)


def ncq(chat: Chat, shown: Exhibit) -> Encoded:
  """The list of wrong answers, then the traces that led to them.

  An answer is listed once (Appendix D.1). The list leaves out '' and an answer
  that would close its box and open another.
  """
  w = chat.wording
  listed = [answer for answer in dict.fromkeys(shown.answers)
            if answer and chat.stays(answer)]
  answers, candidates = [], _candidates(shown.candidates, w)
  for i, answer in enumerate(listed):
    if i:
      answers.append(template(w.answer_separator))
    answers += [template(w.answer[0]), content(answer), template(w.answer[1])]
  form = 'ncq' if listed else 'ncq_unlisted'
  if form in w.forms:
    return chat.filled(form, shown.question, {
        'answers': answers, 'candidates': candidates}, shown.media)
  return chat.around(
      shown.question, [template(w.ncq if listed else w.ncq_unlisted), *answers,
                       template(w.ncq_traces), *candidates], shown.media)


def again(chat: Chat, shown: Exhibit) -> Encoded:
  """The plain prompt; the kind gives it draws of its own."""
  return chat.plain(shown.question, shown.media)


def prefix(chat: Chat, shown: Exhibit) -> Encoded:
  """The plain prompt and the forced beginning of a response (App. D.2)."""
  return chat.around(shown.question, [], shown.media, shown.forced)


def hint(chat: Chat, shown: Exhibit) -> Encoded:
  """The question and hints behind it (App. D.2)."""
  before, after = chat.wording.hint
  parts = [part for text in shown.hints
           for part in (template(before), content(text), template(after))]
  if 'hint' in chat.wording.forms:
    return chat.filled('hint', shown.question, {'hints': parts}, shown.media)
  return chat.around(shown.question, parts, shown.media)


RENDERERS: dict[PromptKind, Callable[[Chat, Exhibit], Encoded]] = {
    PromptKind.BCQ: bcq, PromptKind.NCQ: ncq, PromptKind.PREFIX: prefix,
    PromptKind.HINT: hint, PromptKind.AGAIN_BCQ: again,
    PromptKind.AGAIN_NCQ: again}


def render(kind: PromptKind, chat: Chat, shown: Exhibit) -> Encoded:
  """The prompt of a kind of RENDERERS.

  Raises:
    KeyError: for a kind without a row, with the kinds that have one.
    ValueError: for media in a chat of text alone.
  """
  allowed.one_of('reformulated prompt kind', kind.name,
                 [row.name for row in RENDERERS])
  return RENDERERS[kind](chat, shown)
