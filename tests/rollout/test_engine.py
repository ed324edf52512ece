"""The engine's scheduler: who ends how, in any order of submit and poll."""

import dataclasses
import functools
import types

import numpy as np
import pytest

from tests.long import LONG
from zppo_jax import randomness
from zppo_jax.records import Decoding, StopReason
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request

pytestmark = pytest.mark.usefixtures('quick_compile')

V, END = 24, 1


@functools.cache
def engine(model, mesh, group_buckets=(2,), **options):
  codec = types.SimpleNamespace(
      vocab_size=V, end_id=END, sampled_ids=frozenset(range(2, V)))
  chat = types.SimpleNamespace(
      codec=codec, decode_response=lambda t: ''.join(chr(97 + i) for i in t))
  return make_engine(
      model=model, mesh=mesh, chat=chat, max_tokens=80, num_rollouts=(4,),
      prompt_buckets=(4, 8), group_buckets=group_buckets, **options)


def request(i, length=5, limit=9, num=4, **fields):
  tokens = np.random.default_rng(i).integers(2, V, length)
  return Request(i, tuple(tokens.tolist()), randomness.seed_key_data(i, num),
                 Decoding(limit), **fields)


@pytest.fixture(scope='module')
def made(tiny, make_mesh, quick_compile):
  mesh = make_mesh()
  return engine(tiny[0], mesh, slots=8, decode_chunk=8), weight_sync.place_copy(
      tiny[1], tiny[0], mesh)


def drain(e):
  out = []
  while e.busy:
    out += e.poll()
  return out


def by_rollout(found):
  return {(c.id, c.rollout): (c.tokens, c.stop) for c in found}


@LONG
def test_long_tails_grow_and_reuse_the_slots(made):
  """Limits from 1 to 80 in 8 slots of 20 tokens at first: each rollout is what
  it is alone."""
  e, params = made
  requests = [request(i, 2 + i % 7, limit) for i, limit in enumerate(
      [80, 1, 3, 70, 5, 80, 21, 2])]
  found = e.generate(params, requests)
  for r, group in zip(requests, found, strict=True):
    (alone,) = e.generate(params, [r])
    assert [len(c.tokens) for c in group] == [r.decoding.max_tokens] * 4
    assert by_rollout(group) == by_rollout(alone)


def test_submit_while_others_draw(made):
  """A late, longer prompt joins; a cancelled one never comes."""
  e, params = made
  want = by_rollout(sum(e.generate(params, [request(1), request(2, 8)]), []))
  e.load(params)
  e.submit(request(1))
  e.submit(request(3, limit=60))
  out = e.poll()
  e.submit(request(2, 8))
  assert e.cancel(3) and not e.cancel(3)
  assert by_rollout(out + drain(e)) == want


def test_stop_strings(made):
  """The text is cut before the first one, the tokens after it."""
  e, params = made
  (plain,) = e.generate(params, [request(7, limit=40)])
  text = plain[0].text
  stop = text[12:14]
  assert len(text) == 40
  (found,) = e.generate(params, [request(7, limit=40, stop=('?', stop))])
  at = text.index(stop)
  assert found[0].stop == StopReason.STOP_STRING
  assert found[0].text == text[:at]
  assert found[0].tokens == plain[0].tokens[:at + 2]
  assert found[0].logps == plain[0].logps[:at + 2]


def test_stop_strings_in_short_chunks(tiny, make_mesh, made):
  """Chunks of 3 tokens: a stop string asks for at most 8, which is more."""
  (want,) = made[0].generate(made[1], [request(7, limit=40)])
  short = engine(tiny[0], make_mesh(), slots=8, decode_chunk=3)
  (found,) = short.generate(made[1], [request(
      7, limit=40, stop=(want[0].text[12:14],))])
  assert found[0].stop == StopReason.STOP_STRING
  assert found[0].tokens == want[0].tokens[:len(found[0].tokens)]


def test_refusals(made):
  e, params = made
  with pytest.raises(ValueError, match=(
      'prompt of 0: max_tokens is 81; it must be <= 80, the longest')):
    e.submit(request(0, limit=81))
  with pytest.raises(ValueError, match='prompt of 0 in tokens is 9'):
    e.submit(request(0, 9))
  with pytest.raises(ValueError, match='tokens in the prompt of 0 is 0; it'):
    e.submit(request(0, 0))
  with pytest.raises(ValueError, match='rollouts of the prompt of 0 is 0; it'):
    e.submit(request(0, num=0))
  e.submit(request(0))
  with pytest.raises(ValueError, match='request 0 is under way'):
    e.submit(request(0))
  e.load(params)
  e.poll()
  with pytest.raises(RuntimeError, match='an idle engine'):
    e.generate(params, [])
  e.cancel(0)
  assert not e.busy and e.poll() == []


class _Counted:
  """An id that counts how often one is compared with another."""
  comparisons = 0

  def __eq__(self, other):
    type(self).comparisons += 1
    return self is other

  __hash__ = object.__hash__


def test_what_a_request_costs_does_not_grow_with_those_that_wait(made):
  """An evaluation submits thousands at once."""
  e, _ = made
  ids = [_Counted() for _ in range(300)]
  try:
    for id in ids:
      e.submit(dataclasses.replace(request(0), id=id))
    assert e.busy and _Counted.comparisons <= len(ids)
    assert e.cancel(ids[7]) and not e.cancel(ids[7])
    e.submit(dataclasses.replace(request(0), id=ids[7]))
  finally:
    e.drop()
  assert not e.busy and not e.cancel(ids[0])


def test_known_rollouts_are_not_drawn_and_the_others_are_what_they_were(made):
  """To the last bit of their log-probs, in slots that are refilled, because
  known rollouts hold theirs; and without a program where they alone do."""
  e, params = made
  requests = [request(i, 2 + i % 7, limit) for i, limit in enumerate(
      [60, 1, 3, 70, 5, 21, 2])]
  before = e.statistics
  whole = e.generate(params, requests)
  every = e.statistics
  rng = np.random.default_rng(0)
  for share in (0.3, 0.7, 0.95):
    known = [{g: done for g, done in enumerate(its) if rng.random() < share}
             for its in whole]
    since, taken = e.statistics, sum(map(len, known))
    again = e.generate(params, [
        dataclasses.replace(r, known=its)
        for r, its in zip(requests, known, strict=True)])
    assert again == whole
    assert e.statistics.rollouts - since.rollouts == 28 - taken
    assert e.statistics.chunks - since.chunks <= (
        every.chunks - before.chunks) + taken
  since = e.statistics
  assert e.generate(params, [
      dataclasses.replace(r, known=dict(enumerate(its)))
      for r, its in zip(requests, whole, strict=True)]) == whole
  assert e.statistics == since  # neither a prompt nor a chunk


def test_requests_may_join_while_others_draw(made):
  e, params = made
  (alone,) = e.generate(params, [request(5, limit=30)])
  told = []

  def see(ended):
    told.append([(place, done.id, done.rollout) for place, done in ended])
    return [request(5, limit=30)] if len(told) == 1 else []

  found = e.generate(params, [request(1, limit=60), request(2, limit=4)], see)
  assert [len(its) for its in found] == [4, 4, 4]
  assert by_rollout(found[2]) == by_rollout(alone)
  assert sorted(sum(told, [])) == sorted(
      (place, id, g) for place, id in enumerate((1, 2, 5)) for g in range(4))


def test_what_is_raised_between_chunks_drops_all_requests(made):
  e, params = made

  def see(ended):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    e.generate(params, [request(i, limit=60) for i in range(4)], see)
  assert not e.busy
  found = e.generate(params, [request(1)])
  assert by_rollout(found[0]) == by_rollout(e.generate(params, [request(1)])[0])
