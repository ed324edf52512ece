"""The text of a chat template, and which characters the template wrote itself.

Templates are rendered in an environment like the one that the hub documents
for them: sandboxed Jinja with loop controls, `tojson`, `raise_exception`,
`strftime_now` and the `generation` tag. Here the caller gives the date, because
a prompt that changes with the day is another prompt.

`own` renders a second form of a template, in which its own words are moved to
code points that no message holds. The messages stay as they are, so that a
template that trims, splits, measures or compares them does what it always does;
whatever was not moved belongs to the messages.
"""

import datetime
import functools
import json
import re
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from zppo_jax import allowed

# Code points at which moved words may begin: planes without characters, then
# those of private use. Words of the first two planes can be moved, which have
# 2 * 65536 code points.
_PLANES = (0x40000, 0x60000, 0x80000, 0xa0000, 0xc0000, 0xf0000)
_SPAN = 0x20000
# Names that every renderer gives to templates; some templates only compare them
# with none.
_USUAL = {'tools': None, 'documents': None, 'add_generation_prompt': False}
_JINJA = (3, 1, 6)  # templates can leave the sandbox of earlier versions
# Filters and methods that show these arguments unchanged.
_SHOWN = {'default': (0,), 'd': (0,), 'join': (0,), 'replace': (1,)}


class Day(NamedTuple):
  """The date on which a prompt is written.

  Attributes:
    date: the date that `strftime_now` of a template tells, at midnight.
    given: whether a user named the date. Only then a template that asks for
      `date_string` gets it, because such a template has a default of its own.
  """
  date: datetime.date
  given: bool


def parse_day(text: str, field: str) -> Day:
  """A date in ISO form, e.g. 2026-03-01.

  Args:
    text: the date.
    field: the name of the field, for the error.

  Raises:
    ValueError: naming field, value and form.
  """
  try:
    if not isinstance(text, str) or len(text) != 10:
      raise ValueError
    return Day(datetime.date.fromisoformat(text), True)
  except ValueError:
    raise ValueError(f'{field} is {text!r}; allowed: a date as YYYY-MM-DD, '
                     'e.g. 2026-03-01') from None


def knows_date(tokenizer) -> bool:
  """Whether the chat template may tell a date."""
  template = tokenizer.get_chat_template()
  return 'strftime_now' in template or 'date_string' in template


class Marking(NamedTuple):
  """How the words of a template are moved.

  Attributes:
    plane: the code point to which 0 is moved.
    spaces: whether white space is moved; a template may trim its own.
    passed: whether words that are stored or passed on before they are shown
      are moved; a template may compare these with messages.
  """
  plane: int
  spaces: bool
  passed: bool

  def move(self, text: str) -> str:
    return ''.join(
        c if ord(c) >= _SPAN or c.isspace() and not self.spaces
        else chr(self.plane + ord(c)) for c in text)


class _Word(str):
  """A moved word that compares like the word that it was."""

  def __new__(cls, text: str, marking: Marking):
    word = super().__new__(cls, marking.move(text))
    word.was = text
    return word

  def __eq__(self, other):
    return self.was == (other.was if isinstance(other, _Word) else other)

  def __ne__(self, other):
    return not self == other

  def __hash__(self):
    return hash(self.was)


@functools.cache
def _environment():
  import jinja2.ext
  import jinja2.sandbox
  version = metadata.version('jinja2')
  if tuple(map(int, re.findall(r'\d+', version)[:3])) < _JINJA:
    raise ImportError(
        f'jinja2 is {version}; a chat template is code of its model, and only '
        f'versions from {".".join(map(str, _JINJA))} on keep it in its sandbox')

  class Generation(jinja2.ext.Extension):
    """{% generation %} marks what trainers learn from; it shows nothing."""
    tags = {'generation'}

    def parse(self, parser):
      next(parser.stream)
      return parser.parse_statements(('name:endgeneration',), drop_needle=True)

  def raise_exception(message):
    raise jinja2.TemplateError(message)

  def tojson(value, ensure_ascii=False, indent=None, separators=None,
             sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent,
                      separators=separators, sort_keys=sort_keys)

  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True, lstrip_blocks=True,
      extensions=[Generation, jinja2.ext.loopcontrols])
  environment.filters['tojson'] = tojson
  environment.globals['raise_exception'] = raise_exception
  return environment


def _mark(node, marking: Marking, shown: bool) -> None:
  """Moves the words below a node that the template shows.

  Args:
    node: a node of Jinja's syntax tree, which is changed in place.
    marking: how words are moved.
    shown: whether the node's own value is shown.
  """
  from jinja2 import nodes
  go = lambda child, shown=False: child is not None and _mark(
      child, marking, shown)
  match node:
    case nodes.TemplateData():
      node.data = marking.move(node.data)
    case nodes.Const():
      if shown and isinstance(node.value, str):
        node.value = marking.move(node.value)
    case nodes.Output():
      for child in node.nodes:
        go(child, True)
    case nodes.Add() | nodes.Mul() | nodes.And() | nodes.Or() | nodes.Concat():
      for child in node.iter_child_nodes():
        go(child, shown)
    case nodes.CondExpr():
      go(node.test)
      go(node.expr1, shown)
      go(node.expr2, shown)
    case nodes.Assign():
      go(node.node, marking.passed)
    case nodes.List() | nodes.Tuple() | nodes.Dict():
      for child in node.iter_child_nodes():
        go(child, marking.passed)
    case nodes.Pair() | nodes.Keyword():
      go(node.value, shown)
    case nodes.Macro():
      for child in node.defaults:
        go(child, marking.passed)
      for child in node.body:
        go(child)
    case nodes.Filter():
      go(node.node, shown and node.name != 'format')
      _mark_arguments(node, node.name, marking, shown)
    case nodes.Call():
      of = node.node
      method = of.attr if isinstance(of, nodes.Getattr) else ''
      go(of, shown and method != 'format')  # a moved % would format nothing
      if isinstance(of, nodes.Name):  # a macro, or namespace()
        raises = of.name == 'raise_exception'
        for child in (*node.args, *node.kwargs):
          go(child, marking.passed and not raises)
      else:
        _mark_arguments(node, method, marking, shown)
    case nodes.Getattr() | nodes.Getitem():
      go(node.node, shown)
      if isinstance(node, nodes.Getitem):
        go(node.arg)
    case _:
      for child in node.iter_child_nodes():
        go(child)


def _mark_arguments(node, name: str, marking: Marking, shown: bool) -> None:
  for i, child in enumerate(node.args):
    _mark(child, marking, shown and i in _SHOWN.get(name, ()))
  for child in node.kwargs:
    _mark(child, marking, False)


@functools.lru_cache(maxsize=64)
def _compiled(source: str, day: Day | None, marking: Marking | None):
  environment = _environment()
  tree = environment.parse(source)
  if marking is not None:
    _mark(tree, marking, False)
  names: dict[str, Any] = {}
  if day is not None:
    midnight = datetime.datetime.combine(day.date, datetime.time())
    names['strftime_now'] = midnight.strftime
  return environment.from_string(tree, globals=names)


def _render(source: str, day: Day | None, marking: Marking | None,
            fields: dict) -> str:
  fields = {**_USUAL, **fields}
  if day is not None and day.given:
    fields = {'date_string': day.date.strftime('%d %b %Y'), **fields}
  try:
    return _compiled(source, day, marking).render(**fields)
  except ImportError:  # of a jinja that is too old
    raise
  except Exception as e:  # a template is code of its own and may raise anything
    if day is None and 'strftime_now' in str(e):
      raise ValueError('the chat template asks for the date, and none was '
                       'given') from e
    raise ValueError(f'the chat template does not take this: {why(e)}') from e


def why(error: BaseException) -> str:
  """The text of a template's error, with its type unless it is Jinja's."""
  import jinja2
  if isinstance(error, jinja2.TemplateError):
    return str(error)
  return f'{type(error).__name__}: {error}'


def line_of(error: BaseException) -> int | None:
  """The line of the template at which Jinja, or its code, raised an error."""
  import jinja2
  if isinstance(error, jinja2.TemplateSyntaxError):
    return error.lineno
  return next((frame.lineno for frame in reversed(
      traceback.extract_tb(error.__traceback__))
               if frame.filename == '<template>'), None)


def text(tokenizer, messages: Sequence[dict], day: Day | None,
         **fields) -> str:
  """The text that a tokenizer's chat template makes of messages.

  Args:
    tokenizer: a tokenizer of transformers with a chat template.
    messages: the messages, in the form that the template reads.
    day: the date; None for a template that asks for none.
    **fields: further names that the template knows.

  Raises:
    ValueError: if the template refuses them, cannot be read, or writes half a
      surrogate pair.
  """
  return allowed.text(
      'what the chat template writes', _render(
          tokenizer.get_chat_template(), day, None, {
              **tokenizer.special_tokens_map, **fields,
              'messages': list(messages)}))


def _free_plane(messages: Sequence[dict]) -> int:
  """A code point for moved words from which on no message has a character."""
  points = np.array([ord(c) for c in set(words(messages))])
  for plane in _PLANES:
    if not ((plane <= points) & (points < plane + _SPAN)).any():
      return plane
  raise ValueError('the messages hold characters of every plane of Unicode, '
                   'unassigned ones too; at least one must be free of them')


def words(value) -> str:
  """All texts in nested lists, tuples and dicts, a line break after each."""
  if isinstance(value, str):
    return value + '\n'
  if isinstance(value, dict):
    return ''.join(map(words, value.values()))
  return ''.join(map(words, value)) if isinstance(value, list | tuple) else ''


def _points(text: str) -> np.ndarray:
  return np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)


def markings(messages: Sequence[dict]) -> list[Marking]:
  """The ways of moving words, the most exact one first.

  Raises:
    ValueError: if there is no code point to which words could be moved.
  """
  plane = _free_plane(messages)
  return [Marking(plane, spaces, passed)
          for passed in (True, False) for spaces in (True, False)]


def own(tokenizer, messages: Sequence[dict], day: Day | None,
        marking: Marking, rendered: str, **fields) -> np.ndarray | None:
  """Which characters of a rendered template are its own words.

  Args:
    tokenizer, messages, day, **fields: as `text`.
    marking: how words are moved.
    rendered: the result of `text` for the same arguments.

  Returns:
    A bool for each character; None if moving words changes the text of the
    template.
  """
  special = {name: _Word(value, marking) if isinstance(value, str) else value
           for name, value in tokenizer.special_tokens_map.items()}
  moved_roles = [{**m, 'role': _Word(m['role'], marking)} for m in messages]
  try:
    points = _points(_render(tokenizer.get_chat_template(), day, marking, {
        **special, **fields, 'messages': moved_roles}))
  except ValueError:
    return None
  moved = (marking.plane <= points) & (points < marking.plane + _SPAN)
  back = np.where(moved, points - np.uint32(marking.plane), points)
  if not np.array_equal(back, _points(rendered)):
    return None
  if not marking.spaces:  # space between two of its words is the template's
    moved = _fill(moved, rendered)
  return moved


def _fill(moved: np.ndarray, rendered: str) -> np.ndarray:
  """Marks white space whose neighbours on both sides are marked."""
  out = moved.copy()
  for space in re.finditer(r'\s+', rendered):
    start, end = space.span()
    out[start:end] = ((start == 0 or moved[start - 1])
                      and (end == len(rendered) or moved[end]))
  return out
