"""Scores in recorded replies: the shapes that servers send, and mismatches."""

import copy
import math

import pytest

from zppo_jax.endpoints import scored
from zppo_jax.endpoints.replies import Garbage
from zppo_jax.endpoints.scored import Sent

SENT = Sent(tokens=(11, 4, 7, 4), start=2, top=2, vocab=20)


def told(logprob, rank, text='x'):
  return {'logprob': logprob, 'rank': rank, 'decoded_token': text}


# vLLM: `prompt_logprobs` = 2. At the third place the token that was sent is
# third, so that there are K + 1 entries; its neighbours have one spelling.
PROMPT_LOGPROBS = {'choices': [{
    'index': 0, 'text': ' a', 'finish_reason': 'length', 'logprobs': None,
    'prompt_logprobs': [
        None,
        {'4': told(-0.5, 1), '9': told(-1.5, 2)},
        {'7': told(-3.0, 3), '12': told(-0.25, 1, '\ufffd'),
         '13': told(-2.0, 2, '\ufffd')},
        {'4': told(-1.25, 2), '3': told(-0.75, 1)}]}]}
# vLLM: `echo`, `logprobs` = 2, `return_tokens_as_token_ids`, max_tokens 1.
ECHO = {'choices': [{
    'index': 0, 'text': 'a b c d e', 'finish_reason': 'length', 'logprobs': {
        'text_offset': [0, 1, 3, 5, 7],
        'tokens': ['token_id:11', 'token_id:4', 'token_id:7', 'token_id:4',
                   'token_id:2'],
        'token_logprobs': [None, -0.5, -3.0, -1.25, -0.125],
        'top_logprobs': [
            None, {'token_id:4': -0.5, 'token_id:9': -1.5},
            {'token_id:7': -3.0, 'token_id:12': -0.25, 'token_id:13': -2.0},
            {'token_id:4': -1.25, 'token_id:3': -0.75},
            {'token_id:2': -0.125, 'token_id:5': -4.0}]}}]}
WANT = scored.Scored(logps=(-3.0, -1.25), top_ids=((12, 13), (3, 4)),
                     top_logps=((-0.25, -2.0), (-0.75, -1.25)))
READERS = {'prompt_logprobs': (scored.prompt_logprobs(SENT), PROMPT_LOGPROBS),
           'echo': (scored.echoed(SENT), ECHO)}


def changed(reply, path, value):
  """A copy with another value; None leaves the entry out."""
  out = copy.deepcopy(reply)
  inner = out['choices'][0]
  for name in path[:-1]:
    inner = inner[name]
  if value is None:
    del inner[path[-1]]
  else:
    inner[path[-1]] = value
  return out


@pytest.mark.parametrize('name', READERS)
def test_k_and_k_plus_one_entries(name):
  read, reply = READERS[name]
  assert read(reply) == [WANT]
  assert read({'choices': []}) == []


def test_an_echo_of_nothing_more():
  """A server may end before the one token that was asked for."""
  reply = copy.deepcopy(ECHO)
  for values in reply['choices'][0]['logprobs'].values():
    del values[-1]
  assert scored.echoed(SENT)(reply) == [WANT]


def test_an_echo_without_ids():
  """Its lengths alone are checked; there is no top K, whatever it lists."""
  reply = copy.deepcopy(ECHO)
  reply['choices'][0]['logprobs'].update(
      tokens=['a', 'b', 'c', 'd', 'e'], top_logprobs=[None, *[{'b': -0.5}] * 4])
  plain = scored.echoed(SENT._replace(top=0), ids=False)
  assert plain(reply) == [scored.Scored((-3.0, -1.25), (), ())]
  with pytest.raises(Garbage, match='no token ids'):
    scored.echoed(SENT, ids=False)(reply)
  with pytest.raises(Garbage, match="a token is 'a'"):
    scored.echoed(SENT)(reply)
  for values in reply['choices'][0]['logprobs'].values():
    del values[-1]
  with pytest.raises(Garbage, match='4 tokens where 4 were sent and one'):
    plain(reply)


@pytest.mark.parametrize('name', READERS)
def test_of_equal_log_probs_the_lower_id_comes_first(name):
  """Also at the edge: of 5, 12 and the sent 7 with equal log-probs, 5 and 7
  stay; the order of the reply says nothing."""
  read, reply = READERS[name]
  if name == 'echo':
    reply = changed(reply, ('logprobs', 'top_logprobs', 2), {
        f'token_id:{i}': -1.5 for i in (12, 7, 5)})
  else:
    reply = changed(reply, ('prompt_logprobs', 2), {
        str(i): told(-1.5, 1) for i in (12, 7, 5)})
  (found,) = read(reply)
  assert found.top_ids[0] == (5, 7) and found.top_logps[0] == (-1.5, -1.5)


SECOND = ('prompt_logprobs', 2)
MISMATCHES = [
    ('prompt_logprobs', ('prompt_logprobs', 0), {'11': told(-1., 1)},
     'first token'),
    ('prompt_logprobs', ('prompt_logprobs', 3), None, '3 tokens where 4'),
    ('prompt_logprobs', SECOND, {'12': told(-.25, 1), '13': told(-2., 2)},
     'other tokens'),  # the sent token is missing
    ('prompt_logprobs', SECOND, {'7': told(-3., 3)}, '1 tokens are listed'),
    ('prompt_logprobs', (*SECOND, '14'), told(-4., 4), '4 tokens are listed'),
    ('prompt_logprobs', (*SECOND, '13'), None, None),  # K entries are enough
    ('prompt_logprobs', (*SECOND, '20'), told(-4., 4), "token id is '20'"),
    ('prompt_logprobs', (*SECOND, '07'), told(-4., 4), "token id is '07'"),
    ('prompt_logprobs', (*SECOND, 'a'), told(-4., 4), "token id is 'a'"),
    ('prompt_logprobs', (*SECOND, '12', 'logprob'), -9999.0, 'minus infinity'),
    ('prompt_logprobs', (*SECOND, '7', 'logprob'), -math.inf, 'no[tf]? '),
    ('prompt_logprobs', (*SECOND, '7', 'logprob'), 0.0, 'more mass than 1'),
    ('prompt_logprobs', ('prompt_token_ids',), [11, 4, 7, 5],
     'not the tokens'),
    ('prompt_logprobs', ('prompt_token_ids',), [11, 4, 7, 4], None),
    ('echo', ('logprobs', 'token_logprobs', 0), -1.0, 'first token'),
    ('echo', ('logprobs', 'token_logprobs', 4), None, 'other tokens'),
    ('echo', ('logprobs', 'tokens', 3), 'token_id:5', 'other tokens'),
    ('echo', ('logprobs', 'tokens', 3), 'd', "a token is 'd'"),
    ('echo', ('logprobs', 'top_logprobs', 4), None, 'has 4 entries'),
    # Two ids of one spelling: decoded text merges them.
    ('echo', ('logprobs', 'top_logprobs', 2), {'x': -.25, 'token_id:7': -3.},
     "a token is 'x'"),
    ('echo', ('logprobs', 'top_logprobs', 2), {'token_id:12': -.25},
     '1 tokens are listed'),
    ('echo', ('logprobs', 'top_logprobs', 2),
     {f'token_id:{i}': -3. for i in (1, 2, 3)}, '3 tokens are listed'),
    ('echo', ('logprobs', 'token_logprobs', 2), -9999.0, 'minus infinity'),
]


@pytest.mark.parametrize('name, path, value, said', MISMATCHES)
def test_a_mismatch_is_missing(name, path, value, said):
  """Garbage, which the client counts; never a number for what is not there."""
  read, reply = READERS[name]
  reply = changed(reply, path, value)
  if said is None:
    assert len(read(reply)) == 1
    return
  with pytest.raises(Garbage, match=said):
    read(reply)
