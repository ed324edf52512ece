"""Whole-vocabulary divergences against dense ones by automatic derivation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.objectives import token_logps as blocks, whole_vocabulary
from zppo_jax.objectives.divergences import Divergence, Target
from zppo_jax.objectives.whole_vocabulary import Head

# 11 predicted positions; 13 ids, and heads padded to 14 and 17 columns.
B, T, V = 2, 12, 13
WIDTHS = {'student': (5, 14), 'teacher': (7, 17)}
RNG = np.random.default_rng(0)
STUDENT, TEACHER = (
    Head(hidden_BTD=RNG.standard_normal((B, T, D)),
         head_DV=RNG.standard_normal((D, padded)))
    for D, padded in WIDTHS.values())
TOKENS = RNG.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS = RNG.standard_normal((2, B, T))
STATISTICS = ('logp', 'teacher_logp', 'entropy', 'teacher_entropy', 'overlap')
CHOICES = [(Divergence('reverse'), Target()), (Divergence('forward'), Target()),
           (Divergence('jensen_shannon', 0.5), Target()),
           (Divergence('jensen_shannon', 0.1), Target()),
           (Divergence('reverse'), Target('geometric', 0.7)),
           (Divergence('forward'), Target('geometric', 0.7)),
           (Divergence('jensen_shannon', 0.3), Target('geometric', 0.7)),
           (Divergence('reverse'), Target('mixture', 0.2)),
           (Divergence('forward'), Target('mixture', 0.2)),
           (Divergence('jensen_shannon', 0.3), Target('mixture', 0.2))]
IDS = [f'{d.kind}{d.beta}-{t.kind}' for d, t in CHOICES]
TEMPERATURES = dict(student_temperature=0.7, teacher_temperature=1.3)


def of_type(head: Head, dtype) -> Head:
  return Head(*(jnp.asarray(x, dtype) for x in head))


def dense(student, teacher, tokens, *, divergence, target, student_temperature,
          teacher_temperature, vocab=V):
  """The same from all logits of both models."""
  logps = lambda head, temperature: jax.nn.log_softmax(
      (head.hidden_BTD[:, :-1] @ head.head_DV)[..., :vocab] / temperature, -1)
  s = logps(student, student_temperature)
  t = logps(teacher, teacher_temperature)
  at = lambda x: jnp.take_along_axis(x, tokens[:, 1:, None], 2)[..., 0]
  entropy = lambda x: -(jnp.exp(x) * x).sum(-1)
  out = (divergence(s, target(s, t)), at(s), at(t), entropy(s), entropy(t),
         jnp.minimum(jnp.exp(s), jnp.exp(t)).sum(-1))
  loss, *statistics = (jnp.pad(x, ((0, 0), (1, 0))) for x in out)
  return loss, dict(zip(STATISTICS, statistics, strict=True))


def blocked(student, teacher, tokens, asked=None, **fields):
  return whole_vocabulary.over_vocabulary(
      student, teacher, tokens, asked, **{'vocab': V, **fields})


def graded(function, student, teacher, tokens=TOKENS, of_logp=True):
  """((loss_BT, statistics), gradients to student and teacher), compiled."""
  def f(student, teacher):
    out = function(student, teacher, tokens)
    loss = (WEIGHTS[0] * out[0]).sum()
    return loss + of_logp * (WEIGHTS[1] * out[1]['logp']).sum(), out
  (_, out), grads = jax.jit(jax.value_and_grad(
      f, argnums=(0, 1), has_aux=True))(student, teacher)
  return out, grads


def assert_near(got, want, rtol):
  """max |got - want| <= rtol max |want|, of each array."""
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert x.shape == y.shape and x.dtype == y.dtype
    assert np.abs(x - y).max() <= rtol * np.abs(y).max()


@pytest.fixture(params=[0, blocks.KEPT], ids=['recomputed', 'kept'])
def kept(request, monkeypatch):
  """Whether the backward pass makes logits anew."""
  monkeypatch.setattr(blocks, 'KEPT', request.param)


# 14 columns in parts of 14, 7 and 5 (15: one more of padding), and 1.
@pytest.mark.parametrize('choice', CHOICES, ids=IDS)
@pytest.mark.parametrize('chunk, vocab_chunk, overlap', [
    (3, 14, True), (512, 7, False), (4, 5, True), (11, 1, False)])
def test_equals_dense(choice, chunk, vocab_chunk, overlap):
  """Value, statistics and gradient in float64, to 1e-12, whatever the blocks;
  padded columns of both heads count nowhere."""
  fields = dict(divergence=choice[0], target=choice[1], **TEMPERATURES)
  with jax.enable_x64(True):
    student, teacher = (of_type(x, jnp.float64) for x in (STUDENT, TEACHER))
    got, (grads, of_teacher) = graded(functools.partial(
        blocked, chunk=chunk, vocab_chunk=vocab_chunk, overlap=overlap,
        **fields), student, teacher)
    want, (wanted, _) = graded(functools.partial(dense, **fields), student,
                               teacher)
    assert set(got[1]) == set(STATISTICS[:4 + overlap])
    assert_near(got[0], want[0], 1e-12)
    for name, x in got[1].items():
      assert_near(x, want[1][name], 1e-12)
    assert_near(grads, wanted, 1e-12)
    assert not any(x.any() for x in of_teacher)
    assert not grads.head_DV[:, V:].any()
