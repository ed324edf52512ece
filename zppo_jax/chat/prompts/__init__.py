"""The user's own words of prompts, in the place of the package's.

The section `prompts` of a config, and `Task.prompts` of a task, hold texts by
field (docs/prompts.md). `own` says which of them count, and `worded` makes a
chat that asks with them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zppo_jax import allowed
from zppo_jax.chat import hub_chat, tags
from zppo_jax.chat.prompts import placeholders
from zppo_jax.chat.prompts.placeholders import Slot
from zppo_jax.chat.wording import BOXED, Chat, Wording

# What own words need; the small models of the package have neither.
_HUB = ('words of your own need a model with a tokenizer and a chat template: '
        'student.weights must be the folder of a model of the hub '
        '(docs/models.md)')
_WHOLE = ('question', 'closing')


class Field(NamedTuple):
  """A text of the section `prompts`.

  Attributes:
    needs: the placeholders that it must have.
    may: those that it may have.
    tagged: the placeholder that must stand between tags, '' for none: somebody
      else wrote what is put there, and could otherwise pass for more of it.
  """
  needs: tuple[str, ...] = ()
  may: tuple[str, ...] = ()
  tagged: str = ''


FIELDS = {
    'system': Field(),
    'plain': Field(('question',), ('closing',)),
    'closing': Field(),
    'bcq': Field(('candidates',), _WHOLE),
    'ncq': Field(('answers', 'candidates'), _WHOLE),
    'ncq_unlisted': Field(('candidates',), _WHOLE),
    'candidate': Field(('response',), tagged='response'),
    'answer': Field(('answer',)),
    'answer_separator': Field(),
    'hint': Field(('hints',), _WHOLE),
    'one_hint': Field(('hint',), tagged='hint'),
    'compression': Field(('response',), tagged='response'),
    'hint_request': Field(('question', 'response'), tagged='response'),
}
# Fields whose text is a form of its own (Wording.forms).
FORMS = ('bcq', 'ncq', 'ncq_unlisted', 'hint')


def own(section: Mapping[str, str | None],
        of_task: Mapping[str, str] | None = None) -> dict[str, str]:
  """The texts that a user gave, by field; the config goes before the task.

  Args:
    section: the section `prompts` of a config, where None is no text.
    of_task: Task.prompts.

  Raises:
    ValueError: for an unknown field of the task, or a text that does not fit
      its field; the message names it.
  """
  texts = {}
  for where, given in (('Task.prompts', of_task or {}), ('prompts', section)):
    for name, text in given.items():
      field = f'{where}.{name}'
      allowed.one_of(f'a field of {where}', name, FIELDS)
      if text is not None:
        _pieces(name, text, field)
        texts[name] = text
  return texts


def check_same(run, there: Mapping[str, str], here: Mapping[str, str]) -> None:
  """Refuses to resume a run whose prompts had other words of a user: the config
  may be the same, and Task.prompts not.

  Args:
    run: its directory, for the error.
    there, here: the texts of the run and those of now, by field.

  Raises:
    ValueError: naming the fields that differ, with both values.
  """
  differ = [name for name in sorted({**there, **here})
            if there.get(name) != here.get(name)]
  if differ:
    shown = '; '.join(f'prompts.{n} is {there.get(n)!r} there and '
                      f'{here.get(n)!r} here' for n in differ)
    raise ValueError(f'{run} holds a run with other words of prompts: {shown}. '
                     'Put back Task.prompts of the task, or take a new '
                     '--workdir')


def _pieces(name: str, text: str, field: str) -> tuple[str | Slot, ...]:
  row = FIELDS[name]
  pieces = placeholders.split(text, field, row.needs, row.may)
  if row.tagged:
    at = pieces.index(Slot(row.tagged))
    before, after = (''.join(w for w in part if isinstance(w, str))
                     for part in (pieces[:at], pieces[at + 1:]))
    if not placeholders.tag(before, after):
      raise ValueError(
          f'{field} is {text!r}; {placeholders.shown([row.tagged])} must stand '
          'between an opening and a closing tag of letters, like '
          '<candidate> and </candidate>, because what is put there could '
          'otherwise pass for more than one')
  if name == 'hint_request' and pieces.index(Slot('question')) > pieces.index(
      Slot('response')):
    raise ValueError(f'{field} has {{{{response}}}} before {{{{question}}}}; '
                     'allowed: the question first')
  if name in FORMS and Slot('closing') in pieces and (
      Slot('question') not in pieces):
    raise ValueError(
        f'{field} has {{{{closing}}}} and no {{{{question}}}}; without the '
        'question it stands behind the question of prompts.plain, whose '
        'closing follows it')
  return pieces


def wording(base: Wording, texts: Mapping[str, str]) -> Wording:
  """The words of prompts with a user's texts in the place of some.

  Args:
    base: the words that the chat has without them, outside of a chat template.
    texts: as `own` gives them.
  """
  pieces = {name: _pieces(name, text, f'prompts.{name}')
            for name, text in texts.items()}
  closing = texts.get('closing', base.closing)
  new: dict = {'closing': closing, 'said_last': closing}
  if 'plain' in texts:
    new['opening'], new['closing'] = placeholders.around(
        [closing if piece == Slot('closing') else piece
         for piece in pieces['plain']], 'question')
  for name, slot, field in (
      ('candidate', 'response', 'candidate'), ('answer', 'answer', 'answer'),
      ('one_hint', 'hint', 'hint'), ('compression', 'response', 'compression')):
    if name in texts:
      new[field] = placeholders.around(pieces[name], slot)
  if 'answer_separator' in texts:
    new['answer_separator'] = texts['answer_separator']
  if 'hint_request' in texts:
    asked = pieces['hint_request']
    behind = asked.index(Slot('question')) + 1
    between, after = placeholders.around(asked[behind:], 'response')
    new['hint_request'] = (
        ''.join(map(str, asked[:behind - 1])), between, after)
    new['hint_levels'] = ()
  new['forms'] = {name: pieces[name] for name in FORMS if name in texts}
  _check_tags(base, texts, new.get('candidate', base.candidate))
  names = [placeholders.tag(*placeholders.around(
      pieces[name], FIELDS[name].tagged)) for name in pieces
           if FIELDS[name].tagged]
  if names:
    new['delimiters'] = tags.joined(base.delimiters, names)
    if base.private is not None:
      new['private'] = tags.joined(base.private, names)
  return dataclasses.replace(base, **new)


def _check_tags(base: Wording, texts: Mapping[str, str],
                candidate: tuple[str, str]) -> None:
  """ValueError if words of the package speak of other tags than those that
  stand around a candidate."""
  tag, of_base = (placeholders.tag(*around)
                  for around in (candidate, base.candidate))
  speak = [name for name, words in (
      ('bcq', base.bcq), ('ncq', base.ncq_traces),
      ('ncq_unlisted', base.ncq_traces))
           if name not in texts and f'<{of_base}>' in words]
  if tag != of_base and speak:
    raise ValueError(
        f'prompts.candidate has <{tag}> tags; '
        f'{", ".join(f"prompts.{name}" for name in speak)} must be set too, '
        f"because the package's words speak of <{of_base}> tags")


def unboxed(chat: Chat, reformulations: Sequence[str]) -> str:
  """A warning if a user's closing asks for no box while other words of the
  method's prompts speak of one; '' else.

  Args:
    chat: with the user's words.
    reformulations: of the method.
  """
  texts, words = chat.prompts, chat.wording
  last = [texts[name] for name in ('plain', 'closing') if name in texts]
  if not last or 'box' in ''.join(last).lower() or (
      'closing' not in texts and Slot('closing') in _pieces(
          'plain', texts['plain'], 'prompts.plain')):
    return ''
  said = {}
  if 'ncq' in reformulations:
    said['answer'] = words.answer
  if {'bcq', 'ncq'} & {*reformulations}:
    said['compression'] = words.compression
  for name in ('bcq', 'ncq'):
    if name in reformulations:
      said[name] = tuple(map(str, words.forms.get(
          name, (getattr(words, name),))))
  speak = [f'prompts.{name}' for name, parts in said.items()
           if 'box' in ''.join(parts).lower()]
  if not speak:
    return ''
  return (f'warning: prompts.{"closing" if "closing" in texts else "plain"} '
          f'asks for no \\boxed{{}}, and {" and ".join(speak)} still '
          f'speak{"s" * (len(speak) == 1)} of a box; docs/prompts.md shows how '
          'all of them are set')


def worded(chat: Chat, texts: Mapping[str, str]) -> Chat:
  """A chat that asks with a user's own words.

  Args:
    chat: a chat with the package's words: `BOXED` inside a chat template, or
      those of a task's own chat.
    texts: as `own` gives them.

  Raises:
    ValueError: for a system message without a chat template that shows it, or
      a word that the model has no token for, naming the field.
  """
  if not texts:
    return chat
  tokenizer = getattr(chat.codec, 'tokenizer', None)
  system = texts.get('system', '')
  if system and tokenizer is None:
    raise ValueError(f'prompts.system is {system!r}; {_HUB}, because a system '
                     'message stands in a chat template and this model has '
                     'none')
  new = wording(BOXED if tokenizer else chat.wording, texts)
  if tokenizer:
    new = hub_chat.wording(tokenizer, new, chat.thinking, chat.day, system)
  for name, text in texts.items():
    for piece in _pieces(name, text, f'prompts.{name}'):
      try:
        if isinstance(piece, str):
          chat.codec.encode_template(piece)
      except KeyError as e:
        raise ValueError(f'prompts.{name} holds {e}, which the model has no '
                         f'token for; {_HUB}') from e
  return dataclasses.replace(chat, wording=new, prompts=dict(texts))
