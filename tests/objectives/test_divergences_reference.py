"""Divergences against torch's kl_div and the generalised JSD formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zppo_jax.objectives import whole_vocabulary
from zppo_jax.objectives.divergences import Divergence
from zppo_jax.objectives.whole_vocabulary import Head

torch = pytest.importorskip('torch')

RNG = np.random.default_rng(0)
B, T, V = 2, 6, 23
STUDENT, TEACHER = (3 * RNG.standard_normal((B, T, V)) for _ in range(2))


def reference(student, teacher, beta):
  """Generalised JSD by torch.kl_div; beta is the teacher's share of m."""
  s, t = (torch.log_softmax(x, dim=-1) for x in (student, teacher))
  m = torch.log(beta * t.exp() + (1 - beta) * s.exp())
  # kl_div(q, p) is KL(p || q).
  kl = lambda q, p: torch.nn.functional.kl_div(
      q, p, reduction='none', log_target=True).sum(-1)
  return (beta * kl(m, t) + (1 - beta) * kl(m, s)).mean()


def of_torch(function, student, *others):
  """Value and gradient to the student."""
  student = torch.tensor(student, requires_grad=True)
  loss = function(student, *(torch.tensor(x) for x in others))
  loss.backward()
  return loss.item(), student.grad.numpy()


def of_jax(choice, student, teacher):
  with jax.enable_x64(True):
    value, grad = jax.value_and_grad(lambda z: choice(
        jax.nn.log_softmax(z), jax.nn.log_softmax(teacher)).mean())(
            jnp.asarray(student))
    return value, grad


def test_kls_equal_kl_div():
  """kl_div's first argument is the distribution on the right."""
  log = lambda x: torch.log_softmax(x, dim=-1)
  mean = lambda q, p: torch.nn.functional.kl_div(
      q, p, reduction='none', log_target=True).sum(-1).mean()
  for kind, function in (('reverse', lambda s, t: mean(log(t), log(s))),
                         ('forward', lambda s, t: mean(log(s), log(t)))):
    got = of_jax(Divergence(kind), STUDENT, TEACHER)
    want = of_torch(function, STUDENT, TEACHER)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], atol=1e-12)


@pytest.mark.parametrize('beta', [0.1, 0.5, 0.9])
def test_jensen_shannon_equals_the_formula(beta):
  got = of_jax(Divergence('jensen_shannon', beta), STUDENT, TEACHER)
  want = of_torch(lambda s, t: reference(s, t, beta), STUDENT, TEACHER)
  np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
  np.testing.assert_allclose(got[1], want[1], atol=1e-12)


@pytest.mark.parametrize('beta', [0.1, 0.5])
def test_a_wider_teacher(beta):
  """From hidden states of width 5 and 9: value and gradient to 1e-6 in float32,
  whatever the blocks."""
  rng = np.random.default_rng(1)
  student, teacher = (
      Head(hidden_BTD=np.float32(rng.standard_normal((B, T, D))),
           head_DV=np.float32(rng.standard_normal((D, V)))) for D in (5, 9))
  tokens = rng.integers(0, V, (B, T)).astype(np.int32)

  def loss(hidden, head, vocab_chunk):
    loss_BT, _ = whole_vocabulary.over_vocabulary(
        Head(hidden, head), teacher, tokens, vocab=V, student_temperature=1,
        teacher_temperature=1, chunk=2, vocab_chunk=vocab_chunk,
        divergence=Divergence('jensen_shannon', beta))
    return loss_BT[:, 1:].mean()

  arrays = [torch.tensor(x, requires_grad=True) for x in student]
  want = reference((arrays[0] @ arrays[1])[:, :-1], torch.tensor(
      teacher.hidden_BTD @ teacher.head_DV)[:, :-1], beta)
  want.backward()
  for vocab_chunk in (V, 6):
    value, grads = jax.value_and_grad(loss, (0, 1))(*student, vocab_chunk)
    np.testing.assert_allclose(value, want.item(), atol=1e-6)
    for grad, x in zip(grads, arrays, strict=True):
      np.testing.assert_allclose(grad, x.grad.numpy(), atol=1e-6)


def test_the_formula_is_the_one_of_trl():
  """TRL's own function, where it is installed: its beta is ours."""
  trainer = pytest.importorskip(
      'trl.experimental.gkd.gkd_trainer', exc_type=ImportError).GKDTrainer
  for beta in (0.1, 0.5, 0.9):
    theirs = of_torch(lambda s, t: trainer.generalized_jsd_loss(
        s, t, beta=beta, temperature=1.0, reduction='sum') / (B * T),  # noqa: B023
        STUDENT, TEACHER)
    ours = of_jax(Divergence('jensen_shannon', beta), STUDENT, TEACHER)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)
