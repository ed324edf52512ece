"""Bodies of requests: what is taken, and what is refused with its name."""

import pytest

from zppo_jax.records import Decoding
from zppo_jax.serve import requests


def chat(**fields):
  return requests.chat({'model': 'm', 'messages': [
      {'role': 'user', 'content': 'hi'}], **fields}, 'm', 100)


def text(**fields):
  return requests.text({'model': 'm', 'prompt': 'hi', **fields}, 'm', 100)


def test_defaults():
  got = chat()
  assert got.ask == requests.Ask(Decoding(100), 1, (), None, None, False, False)
  assert got.messages == (('user', ('hi',)),) and got.thinking is None
  got = text()
  assert got.ask.decoding == Decoding(16) and not got.echo
  assert got.prompts == ('hi',)


def test_every_field():
  got = chat(n=3, temperature=0, top_p=0.5, top_k=7, max_tokens=9, seed=5,
             stop=['a', ''], logprobs=True, top_logprobs=2, stream=True,
             stream_options={'include_usage': True},
             chat_template_kwargs={'enable_thinking': False})
  assert got.ask == requests.Ask(
      Decoding(9, 0.0, 0.5, 7), 3, ('a',), 5, 2, True, True)
  assert got.thinking is False
  assert chat(max_completion_tokens=4).ask.decoding.max_tokens == 4
  assert chat(top_k=-1).ask.decoding.top_k == 0  # off, elsewhere
  assert chat(top_p=0, top_k=5).ask.decoding == Decoding(100, top_k=1)
  got = text(prompt=[[1, 2], 'b'], echo=True, max_tokens=0, logprobs=1,
             stop='x')
  assert got.prompts == ((1, 2), 'b') and got.ask.decoding is None
  assert got.ask.stop == ('x',) and got.ask.top == 1


def test_what_asks_for_nothing_is_taken():
  assert chat(
      frequency_penalty=0, presence_penalty=0.0, logit_bias={}, tools=[],
      response_format={'type': 'text'}, user='me', n=None, stop=None
      ).ask == chat().ask


@pytest.mark.parametrize('fields, param, said', [
    (dict(model='x'), 'model', "model is 'x'; allowed: 'm'"),
    (dict(model='x' * 10**5), 'model', 'x...x'),
    (dict(temperature=-1), 'temperature', 'temperature is -1; allowed: numb'),
    (dict(temperature=1e-37), 'temperature', 'is 1e-37; allowed: 0, or numbe'),
    (dict(temperature='hot'), 'temperature', "temperature is 'hot'"),
    (dict(temperature=float('nan')), 'temperature', 'temperature is nan'),
    (dict(temperature=True), 'temperature', 'temperature is True'),
    (dict(top_p=-0.1), 'top_p', 'top_p is -0.1; allowed: numbers from 0'),
    (dict(max_tokens=101), 'max_tokens', 'from 1 to 100'),
    (dict(max_tokens=1.5), 'max_tokens', 'max_tokens is 1.5; allowed: whole'),
    (dict(n=0), 'n', 'n is 0; allowed: whole numbers from 1 to 128'),
    (dict(stop=[1]), 'stop', r'stop is \[1\]'),
    (dict(stream=1), 'stream', 'stream is 1; allowed: true or false'),
    (dict(frequency_penalty=0.5), 'frequency_penalty', 'is not built'),
    (dict(tools=[{}]), 'tools', 'is not built'),
    (dict(smoke=1), "'smoke'", "unknown field 'smoke'; allowed: model, m"),
    (dict(top_logprobs=2), 'top_logprobs', 'it needs logprobs: true'),
    (dict(chat_template_kwargs={'x': 1}), 'chat_template_kwargs', 'allowed'),
    (dict(stream_options={'include_usage': 1}), 'stream_options', 'allowed'),
    (dict(messages=[]), 'messages', 'messages is missing or empty'),
    (dict(messages=[{'role': 'tool', 'content': 'x'}]), 'messages',
     "role is 'tool'; allowed: system, user, assistant"),
    (dict(messages=[{'role': 'user', 'content': 5}]), 'messages', 'content'),
    (dict(messages=['hi']), 'messages', "role is 'hi'"),
    (dict(messages=[{'role': 'user', 'content': [{'type': 'audio'}]}]),
     'messages', 'allowed: type text or image_url'),
])
def test_refusals_name_field_value_and_what_is_allowed(fields, param, said):
  with pytest.raises(requests.Refused, match=said) as e:
    chat(**fields)
  assert e.value.param == param and e.value.status in (400, 404)


PNG, JPEG = 'data:image/png;base64,AAAA', 'data:image/jpeg;base64,AAAA'


def _seen(url, **more):
  return [{'role': 'user', 'content': [
      {'type': 'image_url', 'image_url': {'url': url, **more}},
      {'type': 'text', 'text': 'hi'}]}]


@pytest.mark.parametrize('fields, decoding', [
    # lm-eval 0.4.13, lmms-eval 0.7.3, VLMEvalKit, inspect-ai 0.3.285
    (dict(max_tokens=9, temperature=0, stop=['x'], seed=1234),
     Decoding(9, 0.0)),
    (dict(messages=_seen(PNG), max_tokens=9, temperature=0, top_p=0, seed=42),
     Decoding(9, 0.0, top_k=1)),
    (dict(messages=_seen(JPEG, min_pixels=9), n=1, max_tokens=9,
          temperature=0.0, top_k=-1, top_p=0.001, repetition_penalty=1.0),
     Decoding(9, 0.0, 0.001)),
    (dict(messages=[{'role': 'system', 'content': 'x'},
                    *_seen(JPEG, detail='auto')]), Decoding(100)),
    (dict(stream=True, stream_options={'include_usage': True},
          max_completion_tokens=9), Decoding(9)),
], ids=['lm-eval', 'lmms-eval', 'VLMEvalKit', 'inspect', 'inspect, stream'])
def test_what_outside_tools_send(fields, decoding):
  """By docs/evaluation.md's commands; read in their sources."""
  assert chat(**fields).ask.decoding == decoding


@pytest.mark.parametrize('url', [
    '/etc/passwd', 'file:///etc/passwd', 'http://169.254.169.254/latest',
    'https://example.org/a.png', 'data:text/html;base64,AAAA',
    'data:image/png,AAAA', 'data:image/svg+xml;base64,AAAA', '', None, 5])
def test_no_path_is_read_and_nothing_is_fetched(url):
  for form in (url, {'url': url}):
    with pytest.raises(requests.Refused, match='nothing is fetched'):
      chat(messages=[{'role': 'user', 'content': [
          {'type': 'image_url', 'image_url': form}]}])


@pytest.mark.parametrize('fields, said', [
    (dict(prompt=5), 'prompt is 5'), (dict(prompt=[]), r'prompt is \[\]'),
    (dict(prompt=[[1], [True]]), 'allowed: a string, a list of'),
    (dict(prompt=['a'] * 257), 'holds 257 prompts'),
    (dict(prompt=None), 'prompt is missing'),
    (dict(max_tokens=0), 'or 0 with echo'),
    (dict(logprobs=21), 'from 0 to 20'),
    (dict(suffix='x'), 'suffix is'), (dict(best_of=2), 'best_of is 2'),
])
def test_refused_completions(fields, said):
  with pytest.raises(requests.Refused, match=said):
    text(**fields)


def test_a_body_that_is_no_object():
  with pytest.raises(requests.Refused, match='no JSON object'):
    requests.text([1], 'm', 9)
