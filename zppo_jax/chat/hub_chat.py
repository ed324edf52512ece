"""A hub tokenizer as a Codec, and its chat template as a Wording.

Nothing here reads files: the tokenizer comes from hub_folder or gguf_file.
"""

import copy
import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Sequence

from zppo_jax import allowed
from zppo_jax.chat import rendering
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import BOXED, Chat, Wording

_SENTINEL = 'qzk7sentinel7kzq'  # a template cannot trim any of it
_REPLY = 'wvx7reply7xvw'
# Stand-ins for pixels; a sampled one would have no image behind it.
_MEDIA = re.compile(r'<\|?(image|video|vision|audio)\w*\|?>')
_SWITCH = 'enable_thinking'
# The date for texts that do not depend on it.
_ANY_DAY = Day(datetime.date(2000, 1, 1), False)


class HubCodec:
  """A fast tokenizer of the hub.

  Args:
    tokenizer: a transformers fast tokenizer.
    vocab_size: the rows of the model's embedding.
    end_ids: the end tokens that the checkpoint or its user declares, or ().

  A copy of the tokenizer without added tokens encodes content, so that
  '<|im_end|>' in a question stays letters, whatever the tokenizer. A response
  ends with `end_id`, the token with which the chat template ends a turn, or
  with any declared end token. `end_ids` holds all of them, `end_id` first. The
  padding token is never sampled unless it is one of them.

  Raises:
    ValueError: if the tokenizer has more words than the model has rows; if it
      adds something to the start of every piece, because prompts are joined
      from pieces; if there is no end token.
  """

  def __init__(self, tokenizer, vocab_size: int, end_ids: Sequence[int] = ()):
    if len(tokenizer) > vocab_size:
      raise ValueError(f'the tokenizer has {len(tokenizer)} words; the model '
                       f'has {vocab_size} rows')
    self.tokenizer = tokenizer
    self.vocab_size = vocab_size
    self.ids = tokenizer.get_vocab()
    added = tokenizer.added_tokens_decoder
    self.reserved_ids = frozenset(added)
    self._content = _without_added(tokenizer)
    if self.decode(self.encode_content('a b')[0]
                   + self.encode_content('b')[0]) != 'a bb':
      raise ValueError('the tokenizer adds a space to the start of every '
                       'text; a prompt cannot be joined from pieces with it')
    self.end_ids = _end_ids(tokenizer, end_ids, self.reserved_ids)
    self.end_id = self.end_ids[0]
    named = set(self.ids.values())
    unknown = [i for i in self.end_ids if i not in named]
    if unknown:
      raise ValueError(f'end tokens {unknown} are no words of the tokenizer, '
                       f'which has {len(self.ids)}')
    pad = tokenizer.pad_token_id
    self.pad_id = self.end_id if pad is None else pad
    media = {i for i, t in added.items() if _MEDIA.fullmatch(t.content)}
    # Ids that the tokenizer does not name are rows of padding.
    self.sampled_ids = frozenset(
        named - ({self.pad_id, *media} - set(self.end_ids)))

  def ending(self, end_ids: Sequence[int]) -> 'HubCodec':
    """A copy of this codec in which further tokens end a response, too."""
    codec = copy.copy(self)
    codec.end_ids = tuple(dict.fromkeys((*self.end_ids, *end_ids)))
    codec.sampled_ids = self.sampled_ids | set(end_ids)
    return codec

  def encode_template(self, text: str) -> list[int]:
    """Ids of our own text; ValueError for half a surrogate pair."""
    return self.tokenizer.encode(
        allowed.text('a template of prompts', text), add_special_tokens=False)

  def encode_content(self, text: str) -> tuple[list[int], int]:
    """Ids of somebody's text; the tokenizers here express any text.

    Raises:
      ValueError: for half a surrogate pair, which is no text.
    """
    allowed.text('a text of a prompt', text)
    # The text goes in a batch of one, because a single encode holds up all
    # other threads.
    (encoding,) = self._content.encode_batch([text], add_special_tokens=False)
    return encoding.ids, 0

  def decode(self, ids: Sequence[int]) -> str:
    return self.tokenizer.decode(
        list(ids), skip_special_tokens=False,
        clean_up_tokenization_spaces=False)


def _without_added(tokenizer):
  from tokenizers import Tokenizer
  fields = json.loads(tokenizer.backend_tokenizer.to_str())
  # A post-processor adds special tokens; truncation and padding change lengths.
  fields.update(added_tokens=[], post_processor=None, truncation=None,
                padding=None)
  return Tokenizer.from_str(json.dumps(fields))


def switches(tokenizer, thinking: bool | None) -> dict:
  """The names that a chat template gets for thinking on, off or its default.

  Raises:
    ValueError: for a switch that the template lacks; without a template.
  """
  if tokenizer.chat_template is None:
    raise ValueError('the tokenizer has no chat template')
  if thinking is None:
    return {}
  if not knows_thinking(tokenizer):
    raise ValueError(f'thinking is {"on" if thinking else "off"}; this chat '
                     f'template has no {_SWITCH}: leave it out')
  return {_SWITCH: thinking}


def render(tokenizer, messages, thinking: bool | None,
           day: Day | None = None, **fields) -> str:
  """The chat template's text; it raises as `switches` and rendering.text."""
  return rendering.text(tokenizer, messages, day, **fields,
                        **switches(tokenizer, thinking))


def own_end(tokenizer, reserved) -> int | None:
  """The token with which the chat template ends an assistant's message."""
  closed = render(tokenizer, [{'role': 'user', 'content': _SENTINEL},
                               {'role': 'assistant', 'content': _REPLY}], None,
                  _ANY_DAY)
  _, reply, rest = closed.rpartition(_REPLY)
  behind = tokenizer.encode(rest if reply else '', add_special_tokens=False)
  return next((i for i in behind if i in reserved), None)


def _end_ids(tokenizer, declared, reserved) -> tuple[int, ...]:
  """All end tokens, the chat's own first; ValueError if there is none."""
  own = own_end(tokenizer, reserved)
  if own is None and tokenizer.eos_token_id in declared:
    own = tokenizer.eos_token_id
  ends = tuple(dict.fromkeys(
      i for i in (own, *declared) if i is not None))
  if not ends:
    raise ValueError('no end token: the chat template ends a message with '
                     'no special token, and none is declared')
  return ends


def plain_template(tokenizer, end_id: int) -> str:
  """A chat template for a tokenizer that has none.

  The template writes what the tokenizer itself puts before a text, e.g.
  `<|begin_of_text|>` of Llama 3, then every message and a line break. An
  assistant's message ends with the end token. No word stands for a role.

  Args:
    tokenizer: a fast tokenizer.
    end_id: the end token.
  """
  begun = tokenizer.encode('a', add_special_tokens=True)
  text = tokenizer.encode('a', add_special_tokens=False)
  at = next((i for i in range(len(begun))
             if begun[i:i + len(text)] == text), 0)
  first, last = (json.dumps(tokenizer.decode(ids), ensure_ascii=False)
                 for ids in (begun[:at], [end_id]))
  return (f'{{{{ {first} }}}}{{% for m in messages %}}{{{{ m.content }}}}'
          f"{{% if m.role == 'assistant' %}}{{{{ {last} }}}}{{% endif %}}"
          "{{ '\n' }}{% endfor %}")


def knows_thinking(tokenizer) -> bool:
  """Whether the chat template has a switch for thinking."""
  return _SWITCH in (tokenizer.chat_template or '')


def wording(tokenizer, base: Wording = BOXED, thinking: bool | None = None,
            day: Day | None = None, system: str = '') -> Wording:
  """A wording inside the tokenizer's chat template.

  The template is rendered around one user message and cut in two there. If it
  has a switch for thinking, prompts that ask for a summary or a hint turn
  thinking off, because it is the whole response.

  Args:
    tokenizer: a tokenizer with a chat template.
    base: the words inside the user's message.
    thinking: on, off, or None for the template's own default.
    day: the date, for a template that asks for one.
    system: a system message before every question, but not before a request
      for a summary or a hint; '' for none.

  Raises:
    ValueError: without a template; for a switch that the template does not
      have; if it does not hold the user's message exactly once, or a system
      message as it was given.
  """
  def around(switch, system=''):
    said = [{'role': 'system', 'content': system}] if system else []
    text = render(tokenizer, [*said, {'role': 'user', 'content': _SENTINEL}],
                  switch, day, add_generation_prompt=True)
    if system.strip() not in text:
      raise ValueError('prompts.system is not shown by the chat template of '
                       'this model; allowed: none, or another '
                       'student.chat_template')
    if text.count(_SENTINEL) != 1:
      raise ValueError(f'the chat template holds the user\'s message '
                       f'{text.count(_SENTINEL)} times; it must be once')
    before, _, after = text.partition(_SENTINEL)
    return before, after

  before, after = around(thinking, system)
  first, last = around(False if knows_thinking(tokenizer) else thinking)
  opened, *between, closed = base.hint_request or ('', '')
  return dataclasses.replace(
      base, opening=before + base.opening, closing=base.closing + after,
      frame=(before, after),
      compression=(first + base.compression[0], base.compression[1] + last),
      hint_request=(first + opened, *between, closed + last)
      if base.hint_request else ())


def chat(tokenizer, vocab_size: int, end_ids: Sequence[int] = (),
         base: Wording = BOXED, thinking: bool | None = None,
         day: Day | None = None) -> Chat:
  """The chat of a hub model; it raises as `HubCodec` and `wording`."""
  return Chat(codec=HubCodec(tokenizer, vocab_size, end_ids),
              wording=wording(tokenizer, base, thinking, day), day=day,
              thinking=thinking)


def record(of: Chat) -> dict:
  """What prompts are made with, as JSON values.

  A run compares them with those of a later attempt. A chat without a tokenizer
  has {}, because its words are code.
  """
  tokenizer = getattr(of.codec, 'tokenizer', None)
  own = {'prompts': _digest(json.dumps(dict(of.prompts), sort_keys=True))
         } if of.prompts else {}
  if tokenizer is None:
    return own
  dated = of.day is not None and rendering.knows_date(tokenizer)
  return {
      'template': _digest(tokenizer.get_chat_template()),
      'vocabulary': _digest(json.dumps(of.codec.ids, sort_keys=True)),
      'end tokens': list(of.codec.end_ids),
      'date': of.day.date.isoformat() if dated else '', **own}


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]
