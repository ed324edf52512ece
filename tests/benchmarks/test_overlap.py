"""The stand-ins of the benchmark of overlap fit the functions they replace."""

import inspect
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from benchmarks import overlap
from zppo_jax.rollout import drawing
from zppo_jax.rollout.programs import Programs


def test_rollouts_are_as_long_as_drawn_and_steps_as_slow(monkeypatch):
  """`draw` gets every argument that it has; the end comes at its length."""
  monkeypatch.setattr(drawing, 'draw', drawing.draw)
  monkeypatch.setattr(Programs, 'decode', lambda self, *args: (
      'state', SimpleNamespace(steps=2)))
  names = list(inspect.signature(drawing.draw).parameters)
  overlap.with_long_tails(end_id=3, filler=5, step_s=0.02)
  keys = jax.random.key_data(jax.random.split(jax.random.key(0), 4))
  ends = overlap.lengths(keys)

  def drawn(position_B):
    given = dict(
        logits_BV=jnp.zeros((4, 8)).at[:, 3].set(9.0), key_B2=keys,
        position_B=position_B, temperature_B=jnp.ones(4), top_p_B=jnp.ones(4),
        top_k_B=jnp.zeros(4, jnp.int32), allowed_V=jnp.ones(8, bool),
        mode=drawing.DRAW, vocab=8, live_B=jnp.ones(4, bool))
    return drawing.draw(*(given[name] for name in names))[0].tolist()

  assert 3 not in drawn(jnp.zeros(4, jnp.int32))
  assert drawn(ends - 2) == [5] * 4
  assert drawn(ends - 1) == [3] * 4
  begun = time.perf_counter()
  assert Programs.decode(None)[0] == 'state'
  assert time.perf_counter() - begun >= 0.04
