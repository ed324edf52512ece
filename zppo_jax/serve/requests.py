"""Bodies of requests with OpenAI's names, checked field by field.

Nothing that a request asks for is left out in silence: a field that this server
does not build is refused unless its value changes nothing. Pictures come as
data URLs; the server reads no path and fetches nothing.
"""

import dataclasses
import json
import re
import reprlib
from typing import Any

from zppo_jax.chat.conversation import REASONING, ROLES, Field, Message
from zppo_jax.records import LEAST_TEMPERATURE, Decoding, Picture

MOST_CHOICES = 128
MOST_TOP = 20  # the most likeliest tokens at each position
MOST_PROMPTS = 256
MOST_STOPS = 16
MOST_STOP_IDS = 64
MOST_BRACKETS = 10**6  # lists and objects of a body, because each takes time
_DATA_URL = re.compile(r'data:image/(?i:png|jpe?g|webp|gif|bmp);base64,'
                       r'([A-Za-z0-9+/=]+)')
# Fields that are accepted if they ask for nothing, as null does.
_NEUTRAL = {
    'frequency_penalty': (0,), 'presence_penalty': (0,),
    'repetition_penalty': (1,), 'logit_bias': ({},), 'best_of': (1,),
    'suffix': ('',), 'min_p': (0,), 'response_format': ({'type': 'text'},),
    # Without tools there is nothing to choose or to call.
    'tools': ([],), 'tool_choice': ('none', 'auto'), 'functions': ([],),
    'function_call': ('none', 'auto'), 'parallel_tool_calls': (True, False),
    # These are the defaults of OpenAI.
    'reasoning_effort': ('medium',), 'verbosity': ('medium',),
    'service_tier': ('auto', 'default'), 'modalities': (['text'],),
    'audio': (), 'prediction': (), 'web_search_options': (),
    # These are the defaults of vLLM.
    'min_tokens': (0,), 'ignore_eos': (False,), 'use_beam_search': (False,),
    'length_penalty': (1,), 'include_stop_str_in_output': (False,),
    'skip_special_tokens': (False,), 'spaces_between_special_tokens': (True,),
    'truncate_prompt_tokens': (), 'allowed_token_ids': (), 'bad_words': ([],),
    'add_special_tokens': (False,), 'add_generation_prompt': (True,),
    'continue_final_message': (False,), 'chat_template': (),
    'documents': (), 'structured_outputs': (), 'logits_processors': (),
    'priority': (0,)}
# Notes of a client for itself, which ask for nothing in a reply.
_IGNORED = {
    'user': str, 'metadata': dict, 'store': bool, 'request_id': str,
    'safety_identifier': str, 'prompt_cache_key': str, 'cache_salt': str}
# Fields of messages that templates may read -> the roles that may have them.
_TOLD = {'name': ROLES, **dict.fromkeys(REASONING, ('assistant',))}
# Fields that clients send back from replies, with the values that say nothing.
_SILENT = (None, '', [], {})


class Refused(ValueError):
  """A request that the server refuses.

  Attributes:
    status: of HTTP.
    param: the field, or None.
    code: a short name of the reason.
  """

  def __init__(self, text: str, param: str | None = None, status: int = 400,
               code: str = 'invalid_value'):
    super().__init__(text)
    self.param, self.status, self.code = param, status, code


@dataclasses.dataclass(frozen=True)
class Ask:
  """The fields that both routes share.

  Attributes:
    decoding: of every choice; None for max_tokens 0, which generates nothing.
    n: the number of choices.
    stop: the strings before which a text ends.
    seed: of all choices; None draws one.
    top: the number of likeliest tokens at each position of a reply; None asks
      for no log-probs.
    stream: whether the reply is a stream of events.
    counts: whether a last event holds the counts of tokens.
    stop_ids: the tokens that end a choice.
    ids: whether the reply holds the ids of prompt and choices.
    spelt: whether log-probs name tokens by id, 'token_id:5', instead of text.
    prompt_top: as `top`, for the tokens of the prompt, in vLLM's form.
  """
  decoding: Decoding | None
  n: int
  stop: tuple[str, ...]
  seed: int | None
  top: int | None
  stream: bool
  counts: bool
  stop_ids: tuple[int, ...] = ()
  ids: bool = False
  spelt: bool = False
  prompt_top: int | None = None


@dataclasses.dataclass(frozen=True)
class TextAsk:
  """A request for completions of prompts, which are texts or token ids."""
  ask: Ask
  prompts: tuple[str | tuple[int, ...], ...]
  echo: bool


@dataclasses.dataclass(frozen=True)
class ChatAsk:
  """A request for a chat completion, which may fill the context."""
  ask: Ask
  messages: tuple[Message, ...]
  thinking: bool | None
  limited: bool


class Body:
  """The fields of a request, of which each is read once; others are refused."""

  def __init__(self, values: Any, model: str):
    if not isinstance(values, dict):
      raise Refused('the body is no JSON object')
    self._values, self._known = dict(values), []
    named = self.take('model', str, model, 'the name of a model')
    if named != model:
      raise Refused(f'model is {_short(named)}; allowed: {model!r}', 'model',
                    404, 'model_not_found')

  def take(self, name: str, kinds, default, allowed: str):
    """The value of a field; `default` if the field is absent or null."""
    self._known.append(name)
    value = self._values.pop(name, None)
    if value is None:
      return default
    if not isinstance(value, kinds) or (
        isinstance(value, bool) and kinds is not bool):
      raise Refused(f'{name} is {_short(value)}; allowed: {allowed}', name)
    return value

  def number(self, name: str, default, low, high, whole: bool = True):
    """A number in [low, high]."""
    allowed = f'{"whole " if whole else ""}numbers from {low} to {high}'
    value = self.take(name, int if whole else (int, float), default, allowed)
    # NaN is in no range; a whole number may be too long for a float.
    if value is not None and not low <= value <= high:
      raise Refused(f'{name} is {_short(value)}; allowed: {allowed}', name)
    return value

  def switch(self, field: str, name: str) -> bool | None:
    """The only switch of an object `field`; None if it is absent."""
    held = self.take(field, dict, {}, 'an object')
    value = held.get(name)
    if set(held) - {name} or not (value is None or isinstance(value, bool)):
      raise Refused(f'{field} is {_short(held)}; allowed: {name}, true or '
                    'false', field)
    return value

  def close(self) -> None:
    """Refuses fields that were not read and that ask for something."""
    for name, value in self._values.items():
      if name in _IGNORED:
        if not isinstance(value, _IGNORED[name] | None):
          raise Refused(f'{name} is {_short(value)}; allowed: '
                        f'{_IGNORED[name].__name__} or null', name)
        continue
      if name not in _NEUTRAL:
        raise Refused(f'unknown field {_short(name)}; allowed: '
                      f'{", ".join([*self._known, *_NEUTRAL])}', _short(name),
                      code='unknown_field')
      if value is not None and not any(
          _same(value, v) for v in _NEUTRAL[name]):
        raise Refused(
            f'{name} is {_short(value)}; it is not built, allowed: '
            f'{" or ".join(json.dumps(v) for v in (*_NEUTRAL[name], None))}',
            name)


def _same(value, other) -> bool:
  """Equality in JSON, where true is not 1."""
  return value == other and (
      isinstance(value, bool) == isinstance(other, bool))


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlevel = 4


def _short(value) -> str:
  """A value in an error; only the start of a large or deep one."""
  text = _REPR.repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'


def decode(raw: bytes) -> Any:
  """The decoded body of a request.

  Raises:
    Refused: if it is no JSON, or if reading it would take long.
  """
  if raw.count(b'[') + raw.count(b'{') > MOST_BRACKETS:
    raise Refused(f'the body holds more than {MOST_BRACKETS} brackets',
                  code='invalid_json')
  try:
    return json.loads(raw)
  except (ValueError, RecursionError):
    raise Refused('the body is no JSON', code='invalid_json') from None


def check_text(text: str, param: str) -> str:
  """The text; Refused for a text that UTF-8 cannot hold."""
  if not text.isascii():
    try:
      text.encode()
    except UnicodeEncodeError as e:
      raise Refused(f'{param} holds half of a surrogate pair, '
                    f'{text[e.start]!r}, at character {e.start}',
                    param) from None
  return text


def _shared(body: Body, top: int | None, max_tokens: int) -> Ask:
  stop = body.take('stop', (str, list), [], 'a string or a list of strings')
  stop = [stop] if isinstance(stop, str) else stop
  stop_ids = body.take('stop_token_ids', list, [], 'a list of token ids')
  if len(stop) > MOST_STOPS or not all(isinstance(s, str) for s in stop):
    raise Refused(f'stop is {_short(stop)}; allowed: at most {MOST_STOPS} '
                  'strings', 'stop')
  if len(stop_ids) > MOST_STOP_IDS or not _ids(stop_ids):
    raise Refused(f'stop_token_ids is {_short(stop_ids)}; allowed: at most '
                  f'{MOST_STOP_IDS} token ids', 'stop_token_ids')
  prompt_top = body.number('prompt_logprobs', None, 0, MOST_TOP)
  stream = body.take('stream', bool, False, 'true or false')
  if stream and prompt_top is not None:
    raise Refused(f'prompt_logprobs is {prompt_top}; with stream it is not '
                  'told: leave one of them out', 'prompt_logprobs')
  decoding = None
  temperature = float(body.number('temperature', 1.0, 0, 100, whole=False))
  if 0 < temperature < LEAST_TEMPERATURE:
    raise Refused(f'temperature is {temperature}; allowed: 0, or numbers from '
                  f'{LEAST_TEMPERATURE:g} to 100', 'temperature')
  top_p = float(body.number('top_p', 1.0, 0, 1, whole=False))
  top_k = body.number('top_k', 0, -1, 2**31 - 1)
  if top_p == 0:  # the smallest nucleus is the likeliest token
    top_p, top_k = 1.0, 1
  if max_tokens:
    decoding = Decoding(max_tokens, temperature, top_p, max(0, top_k))
  flag = lambda name: body.take(name, bool, False, 'true or false')
  ask = Ask(decoding=decoding, n=body.number('n', 1, 1, MOST_CHOICES),
            stop=tuple(s for s in stop if s),
            seed=body.number('seed', None, -2**63, 2**64), top=top,
            stream=stream,
            counts=bool(body.switch('stream_options', 'include_usage')),
            stop_ids=tuple(stop_ids), ids=flag('return_token_ids'),
            spelt=flag('return_tokens_as_token_ids'), prompt_top=prompt_top)
  body.close()
  return ask


def _max_tokens(body: Body, default: int, low: int, most: int) -> int:
  value = body.number('max_tokens', None, low, most)
  newer = body.number('max_completion_tokens', None, low, most)
  return next((v for v in (newer, value) if v is not None), default)


def _ids(values) -> bool:
  return isinstance(values, list) and all(
      isinstance(i, int) and not isinstance(i, bool) for i in values)


def _prompts(value) -> tuple[str | tuple[int, ...], ...]:
  ids = lambda x: bool(x) and _ids(x)
  if isinstance(value, str):
    return (check_text(value, 'prompt'),)
  if ids(value):
    return (tuple(value),)
  if value and all(isinstance(p, str) or ids(p) for p in value):
    if len(value) > MOST_PROMPTS:
      raise Refused(f'prompt holds {len(value)} prompts; allowed: at most '
                    f'{MOST_PROMPTS}', 'prompt')
    return tuple(check_text(p, 'prompt') if isinstance(p, str) else tuple(p)
                 for p in value)
  raise Refused(f'prompt is {_short(value)}; allowed: a string, a list of '
                'token ids, or a list of these', 'prompt')


def text(values, model: str, most: int) -> TextAsk:
  """A body of /v1/completions.

  Args:
    values: the decoded JSON.
    model: the name of the served model.
    most: the largest max_tokens.

  Raises:
    Refused: for a bad field; it names the field, its value and what is allowed.
  """
  body = Body(values, model)
  prompt = body.take('prompt', (str, list), None, 'a string or a list')
  if prompt is None:
    raise Refused('prompt is missing', 'prompt', code='missing')
  echo = body.take('echo', bool, False, 'true or false')
  top = body.number('logprobs', None, 0, MOST_TOP)
  ask = _shared(body, top, _max_tokens(body, 16, 0, most))
  if ask.decoding is None and not echo and ask.prompt_top is None:
    raise Refused('max_tokens is 0; allowed: 1 and more, or 0 with echo or '
                  'prompt_logprobs', 'max_tokens')
  return TextAsk(ask, _prompts(prompt), echo)


def _picture(part: dict) -> Picture:
  url = part.get('image_url')
  url = url.get('url') if isinstance(url, dict) else url
  found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
  if found is None:
    raise Refused('messages: image_url.url is '
                  f'{_short(url)}; allowed: data:image/png;base64,... (or '
                  'jpeg, webp, gif, bmp); nothing is fetched', 'messages')
  return Picture(base64=found[1])


def _told(value: dict) -> tuple[Field, ...]:
  """The further fields of a message, which a template may read.

  Any other field is refused unless its value says nothing.
  """
  out = {}
  for name, held in value.items():
    if name in ('role', 'content') or any(
        held is silent or held == silent and type(held) is type(silent)
        for silent in _SILENT):
      continue
    if name not in _TOLD:
      raise Refused(f'messages: {_short(name)} is {_short(held)}; it is not '
                    f'built, allowed fields: role, content, '
                    f'{", ".join(_TOLD)}', 'messages', code='unknown_field')
    if value['role'] not in _TOLD[name]:
      raise Refused(f'messages: {name} is {_short(held)} in a message of role '
                    f'{value["role"]}; allowed in: {", ".join(_TOLD[name])}',
                    'messages')
    if not isinstance(held, str):
      raise Refused(f'messages: {name} is {_short(held)}; allowed: a string',
                    'messages')
    of = 'reasoning' if name in REASONING else name
    if out.get(of, held) != held:
      raise Refused(f'messages: {name} is {_short(held)}; another field says '
                    f'otherwise, allowed: one of {", ".join(REASONING)}',
                    'messages')
    out[of] = held
  return tuple(Field(name, held) for name, held in out.items())


def _message(value) -> Message:
  if not isinstance(value, dict) or value.get('role') not in ROLES:
    role = value.get('role') if isinstance(value, dict) else value
    raise Refused(f'messages: role is {_short(role)}; allowed: '
                  f'{", ".join(ROLES)}', 'messages')
  said = value.get('content')
  told = _told(value)
  if isinstance(said, str):
    return Message(value['role'], (check_text(said, 'messages'), *told))
  if not isinstance(said, list) or not said:
    raise Refused(f'messages: content is {_short(said)}; allowed: a string or '
                  'a list of parts', 'messages')
  parts: list[str | Picture] = []
  for part in said:
    kind = part.get('type') if isinstance(part, dict) else None
    if kind == 'image_url':
      parts.append(_picture(part))
    elif kind == 'text' and isinstance(part.get('text'), str):
      parts.append(check_text(part['text'], 'messages'))
    else:
      raise Refused(f'messages: a part is {_short(part)}; allowed: type text '
                    'or image_url', 'messages')
  return Message(value['role'], (*parts, *told))


def chat(values, model: str, most: int) -> ChatAsk:
  """A body of /v1/chat/completions; arguments and errors are as in `text`."""
  body = Body(values, model)
  messages = body.take('messages', list, None, 'a list of messages')
  if not messages:
    raise Refused('messages is missing or empty', 'messages', code='missing')
  told = body.take('logprobs', bool, False, 'true or false')
  top = body.number('top_logprobs', 0, 0, MOST_TOP)
  if top and not told:
    raise Refused(f'top_logprobs is {top}; it needs logprobs: true',
                  'top_logprobs')
  thinking = body.switch('chat_template_kwargs', 'enable_thinking')
  limit = _max_tokens(body, 0, 1, most)
  ask = _shared(body, top if told else None, limit or most)
  return ChatAsk(ask, tuple(map(_message, messages)), thinking, bool(limit))
