"""How requests wait and how their rollouts end: pure functions, by hand."""

import dataclasses

import numpy as np
import pytest

from zppo_jax.records import Decoding, StopReason
from zppo_jax.rollout import requests
from zppo_jax.rollout.requests import Part, Request, Running

END = 1
LETTERS = lambda tokens: ''.join(chr(97 + t) for t in tokens if t != END)


def request(id, num=1, owner=None, **fields):
  return Request(id=id, tokens=(2, 3), key_G2=np.zeros((num, 2), np.uint32),
                 decoding=Decoding(9), owner=owner, **fields)


def test_parts_hold_all_rollouts_in_order():
  parts = requests.parts_of(request('a', 7), 3)
  assert [list(p.rollouts) for p in parts] == [[0, 1, 2], [3, 4, 5], [6]]


def test_joined_parts_keep_their_slot_groups():
  """A request that got slots twice is prefilled once."""
  a, b = request('a', 3), request('b')
  joined = requests.joined([
      (Part(a, range(1, 2)), [4]), (Part(b, range(1)), [0]),
      (Part(a, range(2, 3)), [2])])
  assert joined == [(Part(a, range(1, 3)), [4, 2]), (Part(b, range(1)), [0])]


def turns(held, most=9, most_per_owner=9):
  """x waits with three rollouts, y with two, in this order."""
  waiting = [p for r in (request('a', 3, 'x'), request('b', 2, 'y'))
             for p in requests.parts_of(r, 1)]
  return ''.join(p.request.owner for p in requests.in_turns(
      waiting, held, most, most_per_owner))


@pytest.mark.parametrize('held, fields, owners', [
    ({}, {}, 'xyxyx'),  # equals in the order of their first parts
    ({'x': 2}, {}, 'yyxxx'),  # y catches up; at a tie x came first
    ({'x': 1}, {}, 'yxyxx'),
    ({}, dict(most=3), 'xyx'),
    ({'y': 2}, dict(most_per_owner=2), 'xx'),  # y has all that it may have
    ({'x': 5, 'y': 5}, dict(most_per_owner=5), ''),
])
def test_the_owner_with_the_fewest_slots_is_next(held, fields, owners):
  assert turns(held, **fields) == owners


def completed(tokens, ended, **fields):
  running = Running(request('a', **fields), 0, tokens=list(tokens),
                    logps=[-float(t) for t in tokens])
  return requests.completed(running, ended, LETTERS, frozenset({END}))


@pytest.mark.parametrize('tokens, ended, fields, want', [
    # tokens kept, text, why, matched
    ((2, 3, END), True, {}, ((2, 3, END), 'cd', StopReason.END, None)),
    ((2, 3, 4), True, {}, ((2, 3, 4), 'cde', StopReason.LENGTH, None)),
    ((2, 3, 4, 5), False, dict(stop=('e', 'de')),
     ((2, 3, 4), 'c', StopReason.STOP_STRING, 'de')),
    ((2, 3, 4, 5), False, dict(stop_ids=(4,)),
     ((2, 3, 4), 'cd', StopReason.STOP_STRING, 4)),
    # A stop string before the stop token takes precedence.
    ((2, 3, 4, 5), False, dict(stop=('d',), stop_ids=(4,)),
     ((2, 3), 'c', StopReason.STOP_STRING, 'd')),
    # One behind it was never said.
    ((2, 3, 4, 5), False, dict(stop=('f',), stop_ids=(4,)),
     ((2, 3, 4), 'cd', StopReason.STOP_STRING, 4)),
    # An end token that is a stop token too is an end.
    ((2, END), True, dict(stop_ids=(END,)),
     ((2, END), 'c', StopReason.END, None)),
])
def test_how_a_rollout_ends(tokens, ended, fields, want):
  """And each token keeps its own log-prob."""
  completion = completed(tokens, ended, **fields)
  assert (completion.tokens, completion.text, completion.stop,
          completion.matched) == want
  assert completion.logps == tuple(-float(t) for t in want[0])


def test_a_rollout_that_goes_on():
  assert completed((2, 3), False) is None
  assert completed((2, 3), False, stop=('x',), stop_ids=(9,)) is None


def test_the_position_behind_a_prompt():
  assert request('a').next_position == 2
  media = dataclasses.make_dataclass('Media', ['next_position'])(5)
  assert request('a', media=media).next_position == 5
