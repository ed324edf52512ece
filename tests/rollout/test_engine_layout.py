"""A rollout's tokens depend on neither slot nor layout, whatever the layers."""

import functools

import jax
import numpy as np
import pytest

from benchmarks import random_models
from tests.engines import FAMILIES, LIMIT, V, edge_gap, engine, placed, request
from tests.long import long_but

pytestmark = pytest.mark.usefixtures('quick_compile')

OURS = [request(i) for i in range(4)]


def drawn(family, mesh, batches, slots=8):
  """{(id, rollout): tokens} of requests 0 to 3, batch after batch."""
  e, out = engine(family, mesh, slots), {}
  for batch in batches:
    found = e.generate(placed(family, mesh), batch)
    out |= {(c.id, c.rollout): c.tokens for group in found for c in group
            if c.id < len(OURS)}
  assert len(out) == 2 * len(OURS)
  return out


@functools.cache
def base(family, mesh):
  out = drawn(family, mesh, [OURS])
  assert len(set(out.values())) == len(out)
  assert {len(tokens) for tokens in out.values()} == {LIMIT}
  return out


@functools.cache
def full_logits(model):
  """Uncached, of 24 tokens."""
  def f(params, tokens_T):
    positions = np.broadcast_to(np.arange(24)[:, None],
                                (1, 24, model.num_axes))
    hidden, _ = model.apply(params, tokens_T[None], positions,
                            np.ones((1, 24), np.int32))
    return (hidden @ model.head(params))[0]
  return jax.jit(f)


def gap(family, at, a, b):
  """engines.edge_gap where two responses part, by the uncached model."""
  model, params = random_models.build(family)
  i, rollout = at
  t = next(t for t in range(LIMIT) if a[t] != b[t])
  known = [*OURS[i].tokens, *a[:t]]
  logits = full_logits(model)(params, np.pad(known, (0, 24 - len(known))))
  logits = np.where(np.arange(V) < 2, -np.inf, logits[len(known) - 1])
  return edge_gap(logits, OURS[i].key_G2[rollout], t, a[t], b[t])


def check_same(family, got, want):
  for at, tokens in want.items():
    assert got[at] == tokens or gap(family, at, got[at], tokens) < 1e-4, at


SHORT, LONG, WIDE = request(11, limit=1), request(12, limit=70), request(13, 16)

LAYOUTS = {
    'another order': [OURS[::-1]],
    'fewer slots, one after the other': [[r] for r in OURS],
    'other slots, beside a shorter one': [[SHORT, *OURS]],
    'beside a longer one': [[LONG, *OURS]],
    'beside a longer prompt, its bucket': [[WIDE, SHORT, *OURS]],
}


@pytest.mark.parametrize('family', long_but(['qwen3_5'], FAMILIES))
@pytest.mark.parametrize('layout', long_but(
    ['another order', 'beside a longer prompt, its bucket'], LAYOUTS))
def test_neither_order_nor_neighbours_nor_buckets(family, layout, make_mesh):
  mesh = make_mesh()
  check_same(family, drawn(family, mesh, LAYOUTS[layout]), base(family, mesh))


@pytest.mark.parametrize('family', FAMILIES)
def test_nor_the_number_of_slots(family, make_mesh):
  """Two slots that all requests get one after another: what a slot held
  before, attention, DeltaNet state, convolution, is gone."""
  mesh = make_mesh()
  check_same(family, drawn(family, mesh, [OURS], 2), base(family, mesh))


@pytest.mark.parametrize('family', long_but(['qwen3_5'], FAMILIES))
def test_nor_slots_that_grow_meanwhile(family, make_mesh):
  """Four slots: request 0 begins in step 59 of a longer one, whose 64 response
  slots do not last."""
  mesh = make_mesh()
  check_same(family, drawn(
      family, mesh, [[LONG, request(14, limit=59), *OURS]], 4),
      base(family, mesh))
  assert engine(family, mesh, 4).shape.response_length == 72


@pytest.mark.parametrize('family', long_but(['qwen3'], FAMILIES))
def test_nor_the_devices(family, make_mesh):
  """Four: slots over two, heads over two."""
  check_same(family, drawn(family, make_mesh(2, 1, 2), [OURS]),
             base(family, make_mesh()))


@pytest.mark.parametrize('family', long_but(['qwen3'], FAMILIES))
def test_the_check_can_fail(family, make_mesh):
  """Another token than the one drawn is seen."""
  want = base(family, make_mesh())
  other = {at: (*t[:5], (t[5] + 1) % V, *t[6:]) for at, t in want.items()}
  with pytest.raises(AssertionError):
    check_same(family, other, want)
