"""The small fields and spellings that clients send, RL clients among them."""

import itertools
import json

import numpy as np
import pytest

pytest.importorskip('uvicorn')
from tests.long import LONG
from tests.serve.test_app import QUESTION, serving  # noqa: E402
from tests.serve.test_requests import chat, text  # noqa: E402
from zppo_jax import serve  # noqa: E402
from zppo_jax.chat import segments  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.records import TokenSequence  # noqa: E402
from zppo_jax.serve import requests, responses  # noqa: E402
from zppo_jax.serve.responses import Ranked  # noqa: E402
from zppo_jax.serve.worker import Score  # noqa: E402
from zppo_jax.weights import pretrained  # noqa: E402

CHATS, TEXTS = '/v1/chat/completions', '/v1/completions'


@pytest.fixture(scope='module')
def local():
  with serving() as found:
    yield found


NEUTRAL = [
    ('reasoning_effort', (None, 'medium'), ('high', '', 3)),
    ('verbosity', (None, 'medium'), ('low',)),
    ('service_tier', (None, 'auto', 'default'), ('flex', 'priority', True)),
    ('parallel_tool_calls', (None, True, False), ('yes', 1)),
    ('tools', (None, []), ([{'type': 'function'}], {})),
    ('tool_choice', (None, 'none', 'auto'), ('required', {})),
    ('modalities', (None, ['text']), (['audio'],)),
    ('prediction', (None,), ({},)), ('audio', (None,), ({},)),
    ('logit_bias', (None, {}), ({'5': 1},)),
    ('min_tokens', (None, 0), (1, False)),
    ('ignore_eos', (None, False), (True, 0)),
    ('skip_special_tokens', (None, False), (True,)),
    ('include_stop_str_in_output', (None, False), (True,)),
    ('best_of', (None, 1), (2, True)), ('min_p', (None, 0, 0.0), (0.1,)),
    ('frequency_penalty', (None, 0, 0.0), (0.5, False, '0')),
    ('response_format', (None, {'type': 'text'}), ({'type': 'json_object'},))]


@pytest.mark.parametrize('name, taken, refused', NEUTRAL)
def test_defaults_are_taken_and_others_refused(name, taken, refused):
  """fault E4: null and what changes nothing; true is not 1."""
  for value in taken:
    chat(**{name: value})
    text(**{name: value})
  for value in refused:
    for ask in (chat, text):
      with pytest.raises(requests.Refused, match='not built, allowed: ') as e:
        ask(**{name: value})
      assert e.value.param == name and str(e.value).startswith(f'{name} is ')


def test_notes_of_a_client():
  """fault E4: user, store, metadata and the like, by their types."""
  notes = {'user': 'me', 'store': True, 'metadata': {'a': 'b'},
           'request_id': 'x', 'safety_identifier': 'y',
           'prompt_cache_key': 'z'}
  chat(**notes)
  text(**dict.fromkeys(notes))
  for name in notes:
    with pytest.raises(requests.Refused, match=f'{name} is 5; allowed: '):
      chat(**{name: 5})


NUMBERS = ('temperature', 'top_p', 'top_k', 'n', 'max_tokens', 'seed',
           'max_completion_tokens', 'top_logprobs', 'prompt_logprobs')
ODD = ('1e400', '-1e400', 'NaN', 'Infinity', '1' + '0' * 400, '"1"', 'true',
       '[]', '{}', '-1e308', '1e308', '-9' + '9' * 30, '1' + '0' * 4500)


def test_no_number_is_an_error_of_ours(local):
  """fault E4: every numeric field with every odd number is 400, in both
  routes; null is taken."""
  ask, _, _ = local
  for path, name, value in itertools.product((CHATS, TEXTS), NUMBERS, ODD):
    if path == TEXTS and name == 'top_logprobs':
      name = 'logprobs'
    begin = ({'messages': QUESTION, 'logprobs': True} if path == CHATS else
             {'prompt': [1]})
    raw = json.dumps(begin)[:-1] + f', "{name}": {value}}}'
    status, reply = ask(path, raw=raw.encode())
    assert status == 400, (name, value, reply)
    assert name in reply['error']['message'] or (
        'no JSON' in reply['error']['message'])
  for name in NUMBERS:
    assert ask(CHATS, {'messages': QUESTION, name: None})[0] == 200


@pytest.mark.parametrize('raw', [
    b'{"messages": ' + b'[' * 900 + b']' * 900 + b'}',
    b'{"messages": ' + b'[' * 2000 + b']' * 2000 + b'}',
    b'{"model": ' + b'{"a":' * 700 + b'1' + b'}' * 700 + b'}',
    b'{"prompt": ' + b'[' * 950 + b'1' + b']' * 950 + b'}',
    b'{"prompt": "\\ud83d"}', b'{"prompt": ["C", "\\udc00"]}',
    b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
    b'{"messages": [{"role": "user", "content": [{"type": "text", "text": '
    b'"\\ud83d"}]}]}', b'{"model": "\\ud83d"}', b'{"\\ud83d": 1}',
    b'{"prompt": [1], "stop": "\\ud83d", "n": "\\ud83d"}',
    b'{"prompt": [1e400]}', b'{"prompt": [NaN]}', b'{"prompt": [true]}',
    b'{"prompt": [-1]}', b'{"prompt": [1' + b'0' * 400 + b']}',
    b'{"messages": [{"role": [], "content": "x"}]}',
    b'{"messages": {"role": "user"}}', b'{"messages": [[]]}',
    b'{"stop": {"a": 1}, "prompt": [1]}',
    b'{"prompt": [1], "stop_token_ids": [true]}',
    b'{"prompt": [1], "stop_token_ids": [1e400]}',
    b'{"prompt": [1], "stop_token_ids": [40]}',
    b'{"prompt": [1], "stop_token_ids": [-1]}',
    b'{"prompt": [1], "stream": 1}', b'{"prompt": [1], "logit_bias": []}',
])
def test_no_body_is_an_error_of_ours(local, raw):
  """fault E4: nesting, surrogates and types, in both routes: never 500."""
  ask, _, _ = local
  for path in (CHATS, TEXTS):
    status, reply = ask(path, raw=raw)
    assert status in (400, 404), reply
    assert len(reply['error']['message']) < 3000


@pytest.mark.parametrize('host', [
    'LOCALHOST', 'LocalHost:80', 'localhost', '127.0.0.1', '127.0.0.1:9',
    '[::1]', '[::1]:9', 'localhost:'])
def test_spellings_of_this_machine(local, host):
  """fault E4: names have no case, and a port may be left out."""
  ask, _, _ = local
  assert ask('/v1/models', host=host)[0] == 200


@pytest.mark.parametrize('host', [
    'localhost.evil.example', 'evil.example:80', 'localhost:80:90',
    '[::1].evil', '[::2]', '127.0.0.1.evil', 'localhost@evil', ':80', '::1',
    'localhost:evil'])
def test_other_names_stay_out(local, host):
  """fault E4: nothing that only looks like this machine gets in."""
  ask, _, _ = local
  assert ask('/v1/models', host=host)[0] == 403


@pytest.mark.parametrize('kind', [
    'Application/JSON', 'APPLICATION/JSON; charset=utf-8',
    'application/json;charset=UTF-8', ' application/json '])
def test_spellings_of_json(local, kind):
  """fault E4: media types have no case."""
  ask, _, _ = local
  assert ask(TEXTS, raw=b'{"prompt": [1]}', content_type=kind)[0] == 200


def test_spellings_of_a_bearer():
  """fault E4: the scheme has no case, the token has."""
  with serving(token='t0pSecret') as (ask, *_):
    for given, status in (
        ('bearer t0pSecret', 200), ('BEARER t0pSecret', 200),
        ('Bearer   t0pSecret', 200), ('Bearer t0psecret', 401),
        ('Basic t0pSecret', 401), ('bearert0pSecret', 401), ('', 401),
        ('Bearer', 401), ('Bearer t0pSecret x', 401),
        ('Bearer t\xf6p', 401)):
      assert ask('/v1/models', authorization=given)[0] == status, given


def test_a_token_that_no_header_can_hold(monkeypatch):
  """fault E2: it is refused at the start, and not shown."""
  monkeypatch.setenv('MY_TOKEN', 'hidden-token\n')
  with pytest.raises(ValueError, match="--token-env is 'MY_TOKEN'") as e:
    serve._token('MY_TOKEN', '127.0.0.1')
  assert 'hidden' not in str(e.value)


def test_one_model_by_its_name():
  """fault E4: GET /v1/models/{id}, with slashes too."""
  with serving(name='org/model-1') as (ask, *_):
    _, listed = ask('/v1/models')
    for path in ('/v1/models/org/model-1', '/v1/models/org%2Fmodel-1'):
      status, one = ask(path)
      assert status == 200 and one == listed['data'][0]
    status, reply = ask('/v1/models/other')
    assert (status, reply['error']['code']) == (404, 'model_not_found')
    assert "allowed: 'org/model-1'" in reply['error']['message']


@pytest.mark.parametrize('kind', ['jpg', 'jpeg', 'JPEG', 'png', 'WebP', 'bmp'])
def test_names_of_pictures(kind):
  """fault E4: image/jpg, in any case."""
  got = chat(messages=[{'role': 'user', 'content': [
      {'type': 'image_url', 'image_url': {
          'url': f'data:image/{kind};base64,AAAA'}}]}])
  assert got.messages[0].parts[0].base64 == 'AAAA'


# In vLLM's form.

def test_token_ids_are_told(local):
  """fault E4: return_token_ids: of the prompt, of every choice, with the end
  token; in chats the prompt's are beside the choices."""
  ask, _, _ = local
  prompt, said = list(CHAT.plain('C a 4').tokens), list(CHAT.response('A 9'))
  _, reply = ask(TEXTS, {'prompt': [prompt, prompt[:2]], 'n': 2,
                         'return_token_ids': True})
  assert [c['prompt_token_ids'] for c in reply['choices']] == [
      prompt, prompt, prompt[:2], prompt[:2]]
  assert [c['token_ids'] for c in reply['choices']] == [said] * 4
  _, reply = ask(CHATS, {'messages': QUESTION, 'return_token_ids': True})
  assert reply['prompt_token_ids'] == prompt
  assert reply['choices'][0]['token_ids'] == said
  for value in (None, False):
    _, reply = ask(CHATS, {'messages': QUESTION, 'return_token_ids': value})
    assert 'prompt_token_ids' not in reply
    assert 'token_ids' not in reply['choices'][0]
  _, events = ask(CHATS, {'messages': QUESTION, 'return_token_ids': True,
                          'stream': True, 'n': 2})
  found = [json.loads(x.removeprefix('data: '))
           for x in events.split('\n') if x and '[DONE]' not in x]
  assert [c.get('prompt_token_ids') for c in found] == [prompt, None]
  assert [c['choices'][0]['token_ids'] for c in found] == [said] * 2


def test_log_probs_of_the_prompt(local):
  """fault E4: prompt_logprobs: None, then by id the token itself and the
  likeliest, each with its rank."""
  ask, worker, _ = local
  prompt = list(CHAT.plain('C a 4').tokens)
  worker.jobs.clear()
  _, reply = ask(TEXTS, {'prompt': prompt, 'prompt_logprobs': 2, 'n': 3})
  assert sum(isinstance(j, Score) for j in worker.jobs) == 1
  for choice in reply['choices']:
    told_ = choice['prompt_logprobs']
    assert len(told_) == len(prompt) and told_[0] is None
    for token, place in zip(prompt[1:], told_[1:], strict=True):
      assert list(place) == [str(token), str(token + 1)]
      assert place[str(token)] == {
          'logprob': -token, 'rank': 1,
          'decoded_token': CHAT.codec.decode([token])}
    assert choice['logprobs'] is None
  _, reply = ask(CHATS, {'messages': QUESTION, 'prompt_logprobs': 0})
  assert [p and list(p) for p in reply['prompt_logprobs']] == [
      None, *([str(t)] for t in prompt[1:])]
  assert 'prompt_logprobs' not in reply['choices'][0]
  _, reply = ask(TEXTS, {'prompt': prompt, 'prompt_logprobs': 1,
                         'max_tokens': 0})
  assert reply['usage']['completion_tokens'] == 0
  assert len(reply['choices'][0]['prompt_logprobs']) == len(prompt)
  status, reply = ask(TEXTS, {'prompt': prompt, 'prompt_logprobs': 1,
                              'stream': True})
  assert status == 400 and 'with stream' in reply['error']['message']
  assert ask(TEXTS, {'prompt': prompt, 'prompt_logprobs': 21})[0] == 400


def test_a_rank_beyond_what_is_told():
  """fault E4: by hand: rank 7 stands behind the token, not among the two
  likeliest; minus infinity is a number that JSON has."""
  ranked = Ranked(np.array([0, -np.inf]), np.array([[0, 0], [-.1, -2.]]),
                  np.array([[0, 0], [11, 12]]), np.array([0, 7]))
  none, place = responses.prompt_logprobs((10, 13), ranked, 1, CHAT)
  assert none is None
  assert {k: (v['logprob'], v['rank']) for k, v in place.items()} == {
      '13': (-9999.0, 7), '11': (-0.1, 1)}


@LONG
def test_ranks_of_a_model():
  """fault E4: every token's rank is its place among all of the vocabulary."""
  worker = serve.start(pretrained.load('micro/teacher'), CHAT, context=64,
                       slots=1, top=segments.true_vocabulary(CHAT.codec))
  tokens = (*CHAT.plain('C a b 4').tokens, *CHAT.response('4 a'))
  found = worker.submit(
      Score(TokenSequence(prompt=tokens, response=()))).result(120)
  worker.close()
  logp, top = found.logp_BT, found.top_logp_BTK
  ids, rank = found.top_id_BTK, found.rank_BT
  for t in range(1, len(tokens)):
    assert ids[t].tolist().index(tokens[t]) + 1 == rank[t]
    assert top[t][rank[t] - 1] == logp[t]


def test_stop_tokens_are_asked_for(local):
  """fault E4: stop_token_ids reach the engine; what ended a choice is told."""
  ask, worker, _ = local
  worker.jobs.clear()
  _, reply = ask(TEXTS, {'prompt': [1], 'stop_token_ids': [5, 6]})
  assert worker.jobs[-1].stop_ids == (5, 6)
  assert reply['choices'][0]['stop_reason'] is None
  assert 'stop_reason' not in ask(TEXTS, {'prompt': [1]})[1]['choices'][0]
  status, reply = ask(TEXTS, {'prompt': [1], 'stop_token_ids': [99]})
  assert status == 400 and reply['error']['param'] == 'stop_token_ids'
  assert 'holds token 99; allowed: 0 to 39' in reply['error']['message']
  assert ask(TEXTS, {'prompt': [1], 'stop_token_ids': [1] * 65})[0] == 400
