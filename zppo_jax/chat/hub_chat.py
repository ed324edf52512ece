"""A hub tokenizer as a Codec, and its chat template as a Wording.

Nothing here reads files: the tokenizer comes from hub_folder or gguf_file.
"""

import dataclasses
import json
import re
from collections.abc import Sequence

from zppo_jax.chat.wording import BOXED, Chat, Wording

_SENTINEL = 'qzk7sentinel7kzq'  # survives any trimming a template may do
_REPLY = 'wvx7reply7xvw'
# Stand-ins for pixels: a sampled one would have no image behind it.
_MEDIA = re.compile(r'<\|?(image|video|vision|audio)\w*\|?>')
_SWITCH = 'enable_thinking'


class HubCodec:
  """A fast tokenizer of the hub.

  Args:
    tokenizer: a transformers fast tokenizer.
    vocab_size: rows of the model's embedding.
    end_ids: end tokens of the checkpoint's generation config, or ().

  Content is encoded by a copy of the tokenizer that knows no added tokens, so
  that '<|im_end|>' in a question is the letters, whatever the tokenizer.
  End tokens other than the chat's own are never sampled: the sampler stops at
  one token, and would run on after another.

  Raises:
    ValueError: if the tokenizer has more words than the model has rows, adds
      something to the start of every piece (prompts are joined from pieces),
      or no end token can be told.
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
    self.end_id = _end_id(tokenizer, end_ids, self.reserved_ids)
    pad = tokenizer.pad_token_id
    self.pad_id = self.end_id if pad is None else pad
    media = {i for i, t in added.items() if _MEDIA.fullmatch(t.content)}
    never = {self.pad_id, *end_ids, *media} - {self.end_id}
    # Ids that the tokenizer does not name are rows of padding.
    self.sampled_ids = frozenset(self.ids.values()) - never

  def encode_template(self, text: str) -> list[int]:
    return self.tokenizer.encode(text, add_special_tokens=False)

  def encode_content(self, text: str) -> tuple[list[int], int]:
    """Ids of somebody's text; the tokenizers here express any text."""
    # In a batch of one: a single encode holds up all other threads.
    (found,) = self._content.encode_batch([text], add_special_tokens=False)
    return found.ids, 0

  def decode(self, ids: Sequence[int]) -> str:
    return self.tokenizer.decode(
        list(ids), skip_special_tokens=False,
        clean_up_tokenization_spaces=False)


def _without_added(tokenizer):
  from tokenizers import Tokenizer
  made = json.loads(tokenizer.backend_tokenizer.to_str())
  # The post-processor adds special tokens, truncation and padding cut.
  made.update(added_tokens=[], post_processor=None, truncation=None,
              padding=None)
  return Tokenizer.from_str(json.dumps(made))


def render(tokenizer, messages, thinking: bool | None, **fields) -> str:
  """The chat template's text; ValueError for a switch that it lacks."""
  if tokenizer.chat_template is None:
    raise ValueError('the tokenizer has no chat template')
  if thinking is not None:
    if not knows_thinking(tokenizer):
      raise ValueError(f'thinking is {"on" if thinking else "off"}; this chat '
                       f'template has no {_SWITCH}: leave it out')
    fields[_SWITCH] = thinking
  return tokenizer.apply_chat_template(messages, tokenize=False, **fields)


def _end_id(tokenizer, end_ids, reserved) -> int:
  """The token behind an assistant's message in the chat template."""
  closed = render(tokenizer, [{'role': 'user', 'content': _SENTINEL},
                               {'role': 'assistant', 'content': _REPLY}], None)
  _, reply, rest = closed.rpartition(_REPLY)
  behind = tokenizer.encode(rest if reply else '', add_special_tokens=False)
  found = next((i for i in behind if i in reserved), None)
  if found is None and len(end_ids) == 1:
    return end_ids[0]
  if found is None or (end_ids and found not in end_ids):
    raise ValueError(f'the chat template ends a message with token {found}; '
                     f'the generation config has the end tokens '
                     f'{tuple(end_ids)}')
  return found


def knows_thinking(tokenizer) -> bool:
  """Whether the chat template has a switch for thinking."""
  return _SWITCH in (tokenizer.chat_template or '')


def wording(tokenizer, base: Wording = BOXED,
            thinking: bool | None = None) -> Wording:
  """A wording inside the tokenizer's chat template.

  The template is rendered around one user message and cut in two there. A
  compression is asked for with thinking off where there is a switch: the
  summary is the whole response.

  Args:
    tokenizer: with a chat template.
    base: the words inside the user's message.
    thinking: on, off, or None for the template's own default.

  Raises:
    ValueError: without a template, for a switch that it does not have, or if
      it does not hold the user's message exactly once.
  """
  def around(switch):
    text = render(tokenizer, [{'role': 'user', 'content': _SENTINEL}], switch,
                   add_generation_prompt=True)
    if text.count(_SENTINEL) != 1:
      raise ValueError(f'the chat template holds the user\'s message '
                       f'{text.count(_SENTINEL)} times; it must be once')
    before, _, after = text.partition(_SENTINEL)
    return before, after

  before, after = around(thinking)
  first, last = around(False) if knows_thinking(tokenizer) else (before, after)
  return dataclasses.replace(
      base, opening=before + base.opening, closing=base.closing + after,
      compression=(first + base.compression[0], base.compression[1] + last))


def chat(tokenizer, vocab_size: int, end_ids: Sequence[int] = (),
         base: Wording = BOXED, thinking: bool | None = None) -> Chat:
  """The chat of a hub model; errors as `HubCodec` and `wording`."""
  return Chat(HubCodec(tokenizer, vocab_size, end_ids),
              wording(tokenizer, base, thinking))
