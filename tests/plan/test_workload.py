"""Lengths, decoding steps and micro-batches of a step, worked by hand."""

import numpy as np
import pytest

from zppo_jax.learner import layouts
from zppo_jax.plan import workload
from zppo_jax.plan.workload import Assumptions, Rollouts


def test_lengths_have_the_median_and_are_cut():
  tokens = workload.lengths(1001, 1000, Assumptions(median_response=0.2,
                                                    spread=0.8))
  assert np.median(tokens) == 200 and tokens.max() == 1000
  assert (tokens == workload.lengths(1001, 1000, Assumptions(
      median_response=0.2, spread=0.8))).all()
  equal = workload.lengths(7, 1000, Assumptions(median_response=0.5, spread=0))
  assert equal.tolist() == [500] * 7
  assert not len(workload.lengths(0, 1000, Assumptions()))


def test_quantiles_of_the_lognormal():
  """84.13 % of a lognormal lie below the median times exp(spread)."""
  tokens = workload.lengths(10001, 10**6, Assumptions(0.01, 0.5))
  assert np.mean(tokens < 10**4 * np.exp(0.5)) == pytest.approx(
      0.8413, abs=1e-3)


@pytest.mark.parametrize('tokens, slots, steps', [
    ([5, 3, 2, 4], 4, 5), ([5, 3, 2, 4], 1, 14),
    ([5, 3, 2, 4], 2, 9),  # 5 then 4; 3 then 2
    ([], 3, 0)])
def test_decode_steps_refill_slots(tokens, slots, steps):
  assert workload.decode_steps(tokens, slots) == steps


def layout(kind, max_tokens, multiple):
  return layouts.Layout(
      kind=kind, max_tokens=max_tokens, multiple=multiple, rollouts=4,
      row_buckets=(8, 16), prompt_buckets=(4, 8), response_buckets=(4, 8),
      patch_buckets=(), num_axes=1)


def drawn(prompt, *groups):
  tokens = np.concatenate(groups)
  return Rollouts(len(groups), prompt, tokens, 0)


def test_micro_batches_of_rows():
  """Rows of 3 + (1, 2, 6, 7) tokens: two of at most 8, two of at most 16."""
  made = workload.micro_batches(
      [drawn(3, [1, 2, 6, 7])], layout('padded', 8, 2), 1)
  assert {s.length: n for s, n in made.items()} == {8: 1, 16: 1}
  assert all(s.units == 2 for s in made)
  two = workload.micro_batches(
      [drawn(3, [1, 2, 6, 7])], layout('padded', 8, 2), 2)
  assert {s.length: n for s, n in two.items()} == {8: 2, 16: 2}


def test_packed_rows_fill_free_places():
  """Rows of 9, 8, 7 and 4: 9 + 7 in 16, and 8 alone in 8, and 4 alone in 8."""
  of = layout('packed', 16, 1)._replace(row_buckets=(8, 16))
  made = workload.micro_batches([drawn(3, [6, 5, 4, 1])], of, 1)
  units = {s.length: (s.units, n) for s, n in made.items()}
  assert units == {16: (1, 1), 8: (2, 1)}


def test_groups_behind_shared_prompts():
  """Both groups are as long as their longest response."""
  of = layout('shared', 64, 1)
  made = workload.micro_batches(
      [drawn(4, [1, 2, 3, 4], [1, 1, 1, 8])], of, 1)
  assert {(s.prompt, s.length): n for s, n in made.items()} == {
      (4, 4): 1, (4, 8): 1}


@pytest.mark.parametrize('field, value', [
    ('mfu', 0.0), ('mfu', 1.5), ('spread', -1.0), ('median_response', 2.0)])
def test_assumptions_have_ranges(field, value):
  with pytest.raises(ValueError, match=f'--{field} is {value}'):
    Assumptions(**{field: value})
