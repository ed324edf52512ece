"""Replies as bytes, in JSON or as server-sent events.

This code runs in the threads of desk.py.
"""

import json
from collections.abc import Sequence

from zppo_jax.chat.segments import Encoded
from zppo_jax.chat.wording import Chat
from zppo_jax.rollout.requests import Completion
from zppo_jax.serve import responses
from zppo_jax.serve.requests import Ask, ChatAsk, TextAsk
from zppo_jax.serve.responses import Ranked

_ENTRY = 64  # the approximate bytes of a log-prob in a reply


def size(ask: Ask, prompts: Sequence[Encoded],
         choices: Sequence[Sequence[Completion]]) -> int:
  """The approximate bytes of a reply, which choose the threads that make it."""
  entries = 0
  for prompt, several in zip(prompts, choices, strict=True):
    tokens = sum(len(c.tokens) for c in several)
    length = len(prompt.tokens)
    entries += tokens
    if ask.top is not None:
      entries += (1 + ask.top) * (tokens + length * len(several))
    if ask.prompt_top is not None:
      entries += (1 + ask.prompt_top) * length * len(several)
  return _ENTRY * entries


def _ended(ask: Ask, choice: Completion) -> dict:
  """The end of a choice, and its ids if the request asks for them."""
  out = {'finish_reason': responses.finish(choice)}
  if ask.stop or ask.stop_ids:
    out['stop_reason'] = choice.matched
  if ask.ids:
    out['token_ids'] = list(choice.tokens)
  return out


def text(body: TextAsk, prompts: Sequence[Encoded],
         choices: Sequence[Sequence[Completion]],
         ranked: Sequence[Sequence[Ranked | None]], name: str,
         chat: Chat) -> bytes:
  """The reply of /v1/completions.

  Args:
    body: the request.
    prompts, choices, ranked: the prompts, the choices of each, and the
      log-probs of each choice.
    name: of the model.
    chat: decodes tokens.
  """
  ask, out = body.ask, []
  for prompt, several, ranks in zip(prompts, choices, ranked, strict=True):
    begin = chat.codec.decode(prompt.tokens) if body.echo else ''
    first = 0 if body.echo else len(prompt.tokens)
    for choice, rank in zip(several, ranks, strict=True):
      one = {
          'index': len(out), 'text': begin + choice.text,
          **_ended(ask, choice),
          'logprobs': None if ask.top is None else responses.text_logprobs(
              (*prompt.tokens, *choice.tokens), first, rank, ask.top, chat,
              ask.spelt)}
      if ask.ids:
        one['prompt_token_ids'] = list(prompt.tokens)
      if ask.prompt_top is not None:
        one['prompt_logprobs'] = responses.prompt_logprobs(
            prompt.tokens, rank, ask.prompt_top, chat)
      out.append(one)
  reply = {**responses.head('text_completion', name), 'choices': out,
           'usage': responses.usage(sum(len(p.tokens) for p in prompts),
                               [c for several in choices for c in several])}
  return _bytes(reply, ask)


def chat(body: ChatAsk, prompts: Sequence[Encoded],
         choices: Sequence[Sequence[Completion]],
         ranked: Sequence[Sequence[Ranked | None]], name: str,
         chat: Chat) -> bytes:
  """The reply of /v1/chat/completions; the arguments are those of `text`."""
  ask, (prompt,), (several,), (ranks,) = body.ask, prompts, choices, ranked
  out = [{
      'index': i, **_ended(ask, choice),
      'message': {'role': 'assistant', 'content': choice.text},
      'logprobs': None if ask.top is None else responses.chat_logprobs(
          (*prompt.tokens, *choice.tokens), len(prompt.tokens), rank, ask.top,
          chat, ask.spelt)}
      for i, (choice, rank) in enumerate(zip(several, ranks, strict=True))]
  reply = {**responses.head('chat.completion', name), 'choices': out,
           'usage': responses.usage(len(prompt.tokens), several)}
  if ask.ids:
    reply['prompt_token_ids'] = list(prompt.tokens)
  if ask.prompt_top is not None:
    reply['prompt_logprobs'] = responses.prompt_logprobs(
        prompt.tokens, ranks[0], ask.prompt_top, chat)
  return _bytes(reply, ask)


def _bytes(reply: dict, ask: Ask) -> bytes:
  return (_events(reply, ask.counts) if ask.stream else json.dumps(
      reply, ensure_ascii=False, allow_nan=False,
      separators=(',', ':'))).encode()


def _events(reply: dict, counts: bool) -> str:
  """The choices of a reply as server-sent events, with an event per choice.

  With `counts`, a last event without choices holds the usage, which is null in
  the others. Only the first event holds the ids of the prompt.
  """
  base = {k: v for k, v in reply.items()
          if k not in ('choices', 'usage', 'prompt_token_ids')}
  chats = base['object'] == 'chat.completion'
  if chats:
    base['object'] = 'chat.completion.chunk'
  each, lines = {**base, 'usage': None} if counts else base, []
  for i, choice in enumerate(reply['choices']):
    if chats:
      choice = {**{k: v for k, v in choice.items() if k != 'message'},
                'delta': choice['message']}
    more = {'prompt_token_ids': reply['prompt_token_ids']} if (
        not i and 'prompt_token_ids' in reply) else {}
    lines.append(json.dumps({**each, **more, 'choices': [choice]}))
  if counts:
    lines.append(json.dumps({**base, 'choices': [], 'usage': reply['usage']}))
  return ''.join(f'data: {line}\n\n' for line in [*lines, '[DONE]'])
