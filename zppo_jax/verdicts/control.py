"""Control strings of chat templates in words that go to somebody's server.

A server parses its own control tokens out of each text that it receives, so
`<|im_end|>` in a student's answer would end the message that quotes it. The
tokenizer of the server decides which strings these are; this file holds the
forms that published tokenizers use. In JSON an escape spells them, which
changes no value. In prose a space behind the first character breaks them.
"""

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

# Names in angle brackets without bars, and in square brackets. `List<size_t>`
# and the area `[ABC]` are no control strings of any tokenizer.
_ANGLE = (
    r's|bos|eos|pad|unk|mask|cls|sep|sop|eop|eot|eoh|eoa|eod|eom|think|thinking'
    r'|reasoning|seg|unused|reserved|human|assistant|user|system|bot|image'
    r'|video|audio|img|ref|box|quad|role|endoftext|arg_key|arg_value|global-img'
    r'|BOS|EOS|PAD|UNK|EOT|PRE|SUF|MID|IMG_CONTEXT|SPECIAL_\w+|\w+_TOKEN'
    r'|(?:seed|minimax):\w+|row_\d+_col_\d+'
    r'|(?:start|end|begin)_of_\w+|\w+_(?:token|pad|sep|start|end|id)'
    r'|(?:tool|fim|file|repo|gh|issue|jupyter|commit|image|video|audio|vision'
    r'|box|quad|object|extra_id|reserved|unused|im|img|vid|longcat|fake_token)'
    r'_\w+')
_SQUARE = (
    r'INST|TOOL\w*|AVAILABLE_TOOLS|SYSTEM\w*|MODEL_SETTINGS|IMG\w*|BEGIN\w*'
    r'|END\w*|PREFIX|SUFFIX|MIDDLE|THINK|[gs]?MASK|CLS|SEP|PAD|UNK|BOS|EOS'
    r'|UNUSED\w*|unused\d+|control_\d+|ARGS|CALL_ID|AUDIO\w*')
_IN_BARS = r'\|(?:user|assistant|system|tool|endofturn)\|'  # in brackets
_BAR = '[|\uff5c]'
_FORMS = (
    rf'<{_BAR}[^\s<>]{{1,100}}>', rf'<[^\s<>]{{1,100}}{_BAR}>',
    # The first character is looked at before a hundred names are tried.
    rf'</?(?=\w)(?:{_ANGLE})\d*/?>',
    rf'\[/?(?=[\w|])(?:{_SQUARE}|{_IN_BARS})\]',
    r'<</?[A-Z]+>>', r'>>[A-Z]+<<', r'\]~!?[a-z][\[\]]', r'\[e~\[', r'\]<\]')
# In JSON every opening `<` may be escaped, because only a model reads it.
_IN_JSON = (
    (re.compile(r'<(?=[^\s\d=])'), r'\\u003c'),
    (re.compile('>(?=>)'), r'\\u003e'),
    (re.compile(rf'\[(?=/?(?:{_SQUARE}|{_IN_BARS})\]|e~\[)'), r'\\u005b'),
    (re.compile(r'\](?=~|<\]|\\u003c\])'), r'\\u005d'))
_ROUNDS = 3  # a space may complete a string that holds one


def dumps(texts: dict[str, str], **options: Any) -> str:
  """A JSON object whose texts hold no control string of any template.

  Args:
    texts: keys of ours and words of others; the JSON reads back as the same.
    options: of json.dumps.
  """
  # Outside of its texts, an object of texts has none of these characters.
  text = json.dumps(texts, **options)
  for pattern, escape in _IN_JSON:
    text = pattern.sub(escape, text)
  return text


@functools.lru_cache(maxsize=16)
def _pattern(known: frozenset[str]) -> re.Pattern:
  """A pattern for the first character of each control string."""
  strings = sorted((s for s in known if len(s.strip()) > 1), key=len,
                   reverse=True)
  return re.compile(
      rf'(?=(?:{"|".join((*map(re.escape, strings), *_FORMS))}))(.)',
      re.DOTALL)


def broken(text: str, known: Iterable[str] = ()) -> str:
  """A text with broken control strings: `<|im_end|>` is `< |im_end|>`.

  Args:
    text: words of others.
    known: control strings besides the usual forms.
  """
  pattern = _pattern(frozenset(known))
  for _ in range(_ROUNDS):
    text, count = pattern.subn(r'\1 ', text)
    if not count:
      break
  return text
