"""Scores of given tokens from a server: requests, and what a server can do.

A server computes the log-probs of a prompt: under 'echo' a completion repeats
its prompt with them, and 'prompt_logprobs' is vLLM's field. Both know
temperature 1 and the likeliest tokens, and neither gathers given ids.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence

from zppo_jax.chat import segments
from zppo_jax.chat.wording import Chat
from zppo_jax.endpoints import client, scored
from zppo_jax.endpoints.client import TEXT, Call, Endpoint, Reply
from zppo_jax.endpoints.replies import choices
from zppo_jax.endpoints.scored import Sent
from zppo_jax.endpoints.wire import Failed
from zppo_jax.records import Cause, TokenSequence

# Words with which servers say that their memory is used up.
_MEMORY = re.compile(r'out of memory|\boom\b|memoryerror|cannot allocate|'
                     r'alloc\w* failed|not enough memory', re.IGNORECASE)
_SENT = {'max_tokens': 1, 'temperature': 0}


@dataclasses.dataclass(frozen=True)
class Form:
  """How scores are asked for.

  Attributes:
    kind: a name of FORMS.
    ids: whether an echo spells tokens as ids.
    vocab: the number of ids that mean something.
    entries: the most log-probs, tokens x (K + 1), that are asked for at a time;
      a longer sequence goes alone.
  """
  kind: str
  ids: bool
  vocab: int
  entries: int

  def call(self, sequence: TokenSequence, top: int) -> Call:
    """The request for a sequence; its one result is a scored.Scored."""
    sent = Sent(tokens=(*sequence.prompt, *sequence.response),
                start=len(sequence.prompt), top=top, vocab=self.vocab)
    fields, read = FORMS[self.kind](sent, self.ids)
    body = {'prompt': list(map(int, sent.tokens)), **_SENT, **fields}
    return Call(TEXT, body, 1, read, lasting=of_memory)


# The smallest K is 1, because some servers take 0 for no log-probs at all.
def _echo(sent: Sent, ids: bool):
  fields = {'echo': True, 'logprobs': max(1, sent.top)}
  if ids:
    fields['return_tokens_as_token_ids'] = True
  return fields, scored.echoed(sent._replace(
      top=sent.top if ids else 0), ids)


def _prompt_logprobs(sent: Sent, ids: bool):
  del ids  # it always has them
  return {'prompt_logprobs': max(1, sent.top)}, scored.prompt_logprobs(sent)


# (what is sent, whether tokens are spelt as ids) -> (fields of the request,
# reader of the reply).
FORMS: dict[str, Callable] = {
    'echo': _echo, 'prompt_logprobs': _prompt_logprobs}


def of_memory(failed: Failed) -> bool:
  """Whether a server says that its memory is used up."""
  return failed.cause == Cause.SERVER and bool(_MEMORY.search(str(failed)))


def _waves(places: Sequence[int], sizes: Sequence[int],
           most: int) -> list[list[int]]:
  """The places in order, in parts of at most `most` entries or one place."""
  waves: list[list[int]] = []
  held = most
  for i in places:
    if not waves or held + sizes[i] > most:
      waves.append([])
      held = 0
    waves[-1].append(i)
    held += sizes[i]
  return waves


def ask_in_parts(ask: Callable[[list[Call]], list[Reply]],
                 calls: Sequence[Call], sizes: Sequence[int],
                 most: int) -> list[Reply]:
  """The replies to calls, of which few go out at a time.

  Calls for which the server had no memory go out again, half as many at a time,
  until each has gone alone.

  Args:
    ask: calls -> their replies.
    calls: the calls.
    sizes: the entries of each call's reply.
    most: the most entries at a time.
  """
  replies: dict[int, Reply] = {}
  places = list(range(len(calls)))
  while places:
    waves = _waves(places, sizes, most)
    for wave in waves:
      for i, reply in zip(wave, ask([calls[i] for i in wave]), strict=True):
        before = replies[i].requests if i in replies else 0
        replies[i] = dataclasses.replace(
            reply, requests=before + reply.requests)
    places = [i for wave in waves if len(wave) > 1 for i in wave
              if replies[i].cause == Cause.SERVER
              and _MEMORY.search(replies[i].error)]
    most = max(1, min(most, max(
        sum(sizes[i] for i in wave) for wave in waves)) // 2)
  return [replies[i] for i in range(len(calls))]


@dataclasses.dataclass(frozen=True)
class Found:
  """What a server turned out to do.

  Attributes:
    form: how it is asked; None if it returns no scores.
    top: the most likeliest tokens per place.
    why: why it does no more; '' if it does all that was tried.
  """
  form: Form | None
  top: int
  why: str


def find(of: Endpoint, chat: Chat, *, kind: str, max_top: int, entries: int,
         budget_s: float) -> Found:
  """Finds out by few requests how a server scores.

  It asks for `max_top` likeliest tokens, then for one, then (echo) for
  log-probs without ids, and goes on only where the server refuses a request or
  spells no ids.

  Args:
    of: the server.
    chat: the student's chat.
    kind: a name of FORMS.
    max_top: the most likeliest tokens that are ever asked for.
    entries: as Form.entries.
    budget_s: seconds of each request with its retries.

  Raises:
    ValueError: if the server reads token ids as other words.
  """
  tokens = chat.plain('1 2 3').tokens
  sequence = TokenSequence(prompt=tokens[:1], response=tokens[1:])
  vocab = segments.true_vocabulary(chat.codec)
  tops = sorted({min(max_top, vocab), 1}, reverse=True)
  tries = [(True, top) for top in tops]
  if kind == 'echo':
    tries.append((False, 0))
  why = ''
  for ids, top in tries:
    form = Form(kind=kind, ids=ids, vocab=vocab, entries=entries)
    reply, text = _try(of, form, sequence, top, budget_s)
    if text is not None:
      _check_words(of, chat, tokens, text)
    if reply.cause is None:
      return Found(form=form, top=top, why=why)
    why = why or f'{Cause(reply.cause).name.lower()}: {reply.error}'
    if reply.cause not in (Cause.REFUSED, Cause.GARBAGE):
      break
  return Found(form=None, top=0, why=why)


def _try(of: Endpoint, form: Form, sequence: TokenSequence, top: int,
         budget_s: float) -> tuple[Reply, str | None]:
  """(the reply to one request, the text that it echoes)."""
  call = form.call(sequence, top)
  texts: list = []

  def read(reply) -> list:
    texts.extend(c.get('text') for c in choices(reply)[:1])
    return call.read(reply)

  # The same bytes would come again, so that a reply of another form lasts.
  (reply,) = client.ask_all(of, [dataclasses.replace(
      call, body={**call.body, 'echo': True}, read=read,
      lasting=lambda failed: bool(texts) and failed.cause == Cause.GARBAGE)],
      budget_s)
  return reply, texts[-1] if texts and isinstance(texts[-1], str) else None


def _check_words(of: Endpoint, chat: Chat, tokens: Sequence[int],
                 text: str) -> None:
  """ValueError if an echoed text is not what the tokens mean to us."""
  ours = chat.codec.decode(tokens)
  if not text.startswith(ours):
    raise ValueError(
        f'teacher.endpoint.api is completions, which sends token ids; {of.url} '
        f'reads {ours!r} as {client.clean(text, of.key())!r}: another '
        'vocabulary')
