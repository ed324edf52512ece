"""Log-probs whose tokens are spelt as ids, in vLLM's form."""

import pytest

pytest.importorskip('uvicorn')
from tests.serve.test_app import QUESTION, serving  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.endpoints import scored  # noqa: E402
from zppo_jax.endpoints.scored import Sent  # noqa: E402

PROMPT = list(CHAT.plain('C a 4').tokens)


@pytest.fixture(scope='module')
def local():
  with serving() as found:
    yield found


def test_an_echo_with_ids_is_read_by_id(local):
  """A token of the fake engine has minus its id, the next id comes second."""
  ask, _, _ = local
  _, reply = ask('/v1/completions', {
      'prompt': PROMPT, 'echo': True, 'logprobs': 2, 'max_tokens': 1,
      'return_tokens_as_token_ids': True})
  (found,) = scored.echoed(Sent(PROMPT, 2, 2, 40))(cut(reply))
  assert found.logps == tuple(-float(t) for t in PROMPT[2:])
  assert found.top_ids == tuple((t, t + 1) for t in PROMPT[2:])
  spelt = reply['choices'][0]['logprobs']
  _, plain = ask('/v1/completions', {
      'prompt': PROMPT, 'echo': True, 'logprobs': 2, 'max_tokens': 1})
  assert spelt['text_offset'] == plain['choices'][0]['logprobs']['text_offset']
  assert plain['choices'][0]['logprobs']['tokens'][0] == CHAT.codec.decode(
      PROMPT[:1])


def cut(reply):
  """The fake engine answers several tokens; a real one ends after the first."""
  fields = reply['choices'][0]['logprobs']
  return {'choices': [{'logprobs': {
      name: values[:len(PROMPT) + 1] for name, values in fields.items()}}]}


def test_prompt_logprobs_are_read_by_id(local):
  ask, _, _ = local
  _, reply = ask('/v1/completions', {
      'prompt': PROMPT, 'max_tokens': 1, 'prompt_logprobs': 2,
      'return_token_ids': True})
  assert reply['choices'][0]['prompt_token_ids'] == PROMPT
  (found,) = scored.prompt_logprobs(Sent(PROMPT, 2, 2, 40))(reply)
  assert found.top_ids == tuple((t, t + 1) for t in PROMPT[2:])


def test_a_chat_spells_ids_too(local):
  """The bytes stay those of the text."""
  ask, _, _ = local
  fields = {'messages': QUESTION, 'logprobs': True, 'top_logprobs': 1}
  read = lambda **more: ask('/v1/chat/completions', {**fields, **more})[1][
      'choices'][0]['logprobs']['content']
  for plain, spelt in zip(read(), read(return_tokens_as_token_ids=True),
                          strict=True):
    (token,) = CHAT.codec.encode_template(plain['token'])
    assert spelt['token'] == f'token_id:{token}'
    assert spelt['top_logprobs'][0]['token'] == spelt['token']
    assert spelt['bytes'] == plain['bytes'] == list(plain['token'].encode())
