"""Scores of a server: what it can do, what goes missing, how much at a time."""

import dataclasses
import threading
import time

import numpy as np
import pytest

pytest.importorskip('openai')
from tests.fake_endpoint import log_softmax_of, scorer, serving  # noqa: E402
from tests.teachers.test_endpoint import connect  # noqa: E402
from zppo_jax.chat import segments  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT  # noqa: E402
from zppo_jax.records import Cause, PromptMedia, TokenSequence, Wanted  # noqa: E402
from zppo_jax.teachers import endpoint_scores  # noqa: E402

V, K = segments.true_vocabulary(CHAT.codec), 3
FORMS = pytest.mark.parametrize('form', endpoint_scores.FORMS)
PROMPT = CHAT.plain('C h 4').tokens
ROWS = [TokenSequence(prompt=PROMPT, response=tuple(CHAT.response(text)))
        for text in ('4 h 9 A 9', 'A 4', '4 h 3 h 5 A 5')]


def joined(url, form, **fields):
  return connect(url, api='completions', scores=form, budget_s=20.0,
                 deadline_s=10.0, **fields)


def check(scores, places=(0, 1, 2)):
  for i, row in enumerate(ROWS):
    if i not in places:
      assert scores.logps[i] is scores.top_ids[i] is scores.top_logps[i] is None
      continue
    tokens = [*row.prompt, *row.response]
    logps = np.float32(log_softmax_of(tokens, V))[len(row.prompt):]
    own = np.take_along_axis(logps, np.int32(row.response)[:, None], 1)[:, 0]
    order = np.argsort(-logps, axis=-1, kind='stable')[:, :K]
    np.testing.assert_allclose(scores.logps[i], own, rtol=1e-6)
    np.testing.assert_array_equal(scores.top_ids[i], order)
    np.testing.assert_allclose(
        scores.top_logps[i], np.take_along_axis(logps, order, 1), rtol=1e-6)


@FORMS
def test_both_forms_by_id(form):
  """K + 1 entries where the token is none of the likeliest, and one plain
  request per sequence."""
  with serving(scorer(V)) as (url, fake):
    teacher = joined(url, form)
    assert teacher.capabilities.scores and teacher.capabilities.top == 20
    able = teacher.capabilities
    assert not (able.gathers or able.entropy or able.temperature)
    fake.asked.clear()
    scores = teacher.score(ROWS, Wanted(top=K))
    assert len(fake.asked) == scores.calls.answers == len(ROWS)
    check(scores)
    plain = teacher.score(ROWS)
    assert plain.top_ids == plain.top_logps == plain.given_logps == ()
    for a, b in zip(plain.logps, scores.logps, strict=True):
      np.testing.assert_array_equal(a, b)
    assert teacher.spent == {}  # no step was named
    teacher.score(ROWS[:1], step=7)
    assert 0 < teacher.spent[7] < 20


@FORMS
def test_what_it_cannot_do_is_refused(form):
  with serving(scorer(V, max_logprobs=5)) as (url, _):
    few = joined(url, form, max_logprobs=5)
    assert few.capabilities.top == 5
    for wanted, said in (
        (Wanted(top=6), 'the 6 likeliest tokens. It returns .* at most 5'),
        (Wanted(temperature=0.5), 'not return temperature 0.5'),
        (Wanted(entropy=True), 'not return entropies'),
        (Wanted(ids=[np.zeros((len(r.response), 1), np.int32) for r in ROWS]),
         'log-probs of given ids')):
      with pytest.raises(ValueError, match=said):
        few.score(ROWS, wanted)
    empty = dict.fromkeys(f.name for f in dataclasses.fields(PromptMedia))
    shown = dataclasses.replace(ROWS[0], media=PromptMedia(**empty))
    with pytest.raises(ValueError, match='it scores text alone'):
      few.score([shown])
    for name, value in (('max_logprobs', 0), ('score_entries', 0)):
      with pytest.raises(ValueError, match=f'endpoint.{name} is {value}'):
        joined(url, form, **{name: value})
    with pytest.raises(KeyError, match="endpoint.scores 'smoke'; known: echo"):
      joined(url, 'smoke')


@FORMS
def test_a_server_of_a_smaller_k(form, capsys):
  """It refuses K = 20, so that a row of the top 20 is refused at build; the
  terminal says why."""
  with serving(scorer(V, max_logprobs=5)) as (url, _):
    teacher = joined(url, form)
  assert teacher.capabilities.scores and teacher.capabilities.top == 1
  assert 'at most 1 (refused: status 400: ' in capsys.readouterr().out


def test_a_server_that_spells_no_ids(capsys):
  """Log-probs of the tokens alone, and no top K."""
  def without(fake, route, body, headers):
    body.pop('return_tokens_as_token_ids', None)
    return scorer(V)(fake, route, body, headers)
  with serving(without) as (url, fake):
    teacher = joined(url, 'echo')
    assert (teacher.capabilities.scores, teacher.capabilities.top) == (True, 0)
    assert 'not a token id' in capsys.readouterr().out
    fake.asked.clear()
    scores = teacher.score(ROWS)
    assert all('return_tokens_as_token_ids' not in b for b in fake.asked)
    assert all(x is not None for x in scores.logps)


def test_a_server_without_scores():
  """It can still be asked; the reason is what `lacking` says."""
  def mute(fake, route, body, headers):
    status, headers, reply = scorer(V)(fake, route, body, headers)
    for name in ('logprobs', 'prompt_logprobs'):
      reply['choices'][0].pop(name, None)
    return status, headers, reply
  with serving(mute) as (url, _):
    teacher = joined(url, 'prompt_logprobs', retries=0)
  assert not teacher.capabilities.scores
  with pytest.raises(ValueError, match='It returns no scores'):
    teacher.score(ROWS)


@FORMS
def test_a_mismatch_is_missing_and_counted(form):
  """Of three sequences one has other ids and one is short."""
  known = {}

  def odd(fake, route, body, headers):
    if not known.get('on'):
      return scorer(V)(fake, route, body, headers)
    which = [list(body['prompt']) == [*r.prompt, *r.response]
             for r in ROWS].index(True)
    if which == 0:
      body = {**body, 'prompt': [*body['prompt'][:-1], 5]}
    if which == 1:
      body = {**body, 'prompt': body['prompt'][:-2]}
    return scorer(V)(fake, route, body, headers)
  with serving(odd) as (url, _):
    teacher = joined(url, form, retries=0)
    known['on'] = True
    scores = teacher.score(ROWS, Wanted(top=K))
  check(scores, places=(2,))
  assert scores.calls.failed == {Cause.GARBAGE: 2}
  assert 'sent' in scores.calls.error


def test_fewer_at_a_time_where_memory_is_used_up():
  """The server holds one sequence at a time and says so with status 500: the
  calls are not retried as they were, but go out in smaller parts."""
  held, most, lock = [0], [0], threading.Lock()
  known = {}

  def tight(fake, route, body, headers):
    if not known.get('on'):
      return scorer(V)(fake, route, body, headers)
    with lock:
      held[0] += 1
      most[0] = max(most[0], held[0])
    time.sleep(0.2)
    try:
      with lock:
        if most[0] > 1:
          return 500, {}, {'error': {'message': 'CUDA out of memory. Tried'}}
      return scorer(V)(fake, route, body, headers)
    finally:
      with lock:
        held[0] -= 1
        most[0] = 0 if not held[0] else most[0]
  with serving(tight) as (url, fake):
    teacher = joined(url, 'prompt_logprobs', retries=3)
    known['on'] = True
    fake.asked.clear()
    check(teacher.score(ROWS, Wanted(top=K)))
    assert len(ROWS) < len(fake.asked) <= 3 * len(ROWS)


def test_a_sequence_that_never_fits_goes_missing():
  longest = max(map(len, ROWS))

  def full(fake, route, body, headers):
    if len(body['prompt']) == longest:
      return 500, {}, {'error': {'message': 'engine OOM'}}
    return scorer(V)(fake, route, body, headers)
  with serving(full) as (url, _):
    scores = joined(url, 'echo', retries=3).score(ROWS, Wanted(top=K))
  places = [i for i, row in enumerate(ROWS) if len(row) < longest]
  assert len(places) == 2
  check(scores, places)
  assert scores.calls.failed == {Cause.SERVER: 1}


@pytest.mark.parametrize('most, want', [
    (100, [[0, 1, 2, 3]]), (5, [[0, 1], [2], [3]]), (6, [[0, 1, 2], [3]]),
    (1, [[0], [1], [2], [3]])])
def test_parts_by_hand(most, want):
  """Sizes 2, 3, 1, 9: each part holds at most `most`, or one sequence."""
  assert endpoint_scores._waves(range(4), [2, 3, 1, 9], most) == want


def test_few_entries_at_a_time():
  """score_entries bounds tokens x (K + 1) of what is under way."""
  held, most, lock = [0], [0], threading.Lock()

  def counting(fake, route, body, headers):
    size = len(body['prompt']) * (1 + (body.get('prompt_logprobs') or 0))
    with lock:
      held[0] += size
      most[0] = max(most[0], held[0])
    time.sleep(0.05)
    try:
      return scorer(V)(fake, route, body, headers)
    finally:
      with lock:
        held[0] -= size
  sizes = [len(r) * (1 + K) for r in ROWS]
  with serving(counting) as (url, _):
    teacher = joined(url, 'prompt_logprobs', score_entries=sum(sizes) - 1)
    most[0] = 0
    check(teacher.score(ROWS, Wanted(top=K)))
  assert max(sizes) <= most[0] < sum(sizes)


def test_the_budget_of_a_step_is_shared():
  with serving(scorer(V)) as (url, _):
    teacher = joined(url, 'echo')
    teacher.spent[3] = 20.0
    late = teacher.score(ROWS, step=3)
    assert late.logps == (None,) * len(ROWS)
    assert late.calls.failed == {Cause.BUDGET: len(ROWS)}
    assert all(x is not None for x in teacher.score(ROWS, step=4).logps)
