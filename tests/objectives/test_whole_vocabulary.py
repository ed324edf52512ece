"""Whole-vocabulary divergences against dense ones by automatic derivation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.long import LONG, long
from zppo_jax.objectives import token_logps, whole_vocabulary
from zppo_jax.objectives.divergences import Divergence, Target
from zppo_jax.objectives.whole_vocabulary import Head

pytestmark = pytest.mark.usefixtures('quick_compile')

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


@pytest.fixture(params=[0, token_logps.KEPT], ids=['recomputed', 'kept'])
def kept(request, monkeypatch):
  """Whether the backward pass makes logits anew."""
  monkeypatch.setattr(token_logps, 'KEPT', request.param)


# 14 columns in parts of 14, 7 and 5 (15: one more of padding), and 1.
@pytest.mark.parametrize('choice', CHOICES, ids=IDS)
@pytest.mark.parametrize('chunk, vocab_chunk, overlap', [
    (3, 14, True), (512, 7, False), long(4, 5, True), long(11, 1, False)])
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


@pytest.mark.parametrize('choice', CHOICES, ids=IDS)
def test_finite_differences(choice):
  """The gradient to single numbers of hidden states and head, float64."""
  with jax.enable_x64(True):
    student, teacher = (of_type(x, jnp.float64) for x in (STUDENT, TEACHER))
    # The geometric target holds still while the student moves.
    loss = lambda student: graded_loss(student, teacher, choice)
    grads = jax.jit(jax.grad(loss))(student)
    if choice[1].kind == 'geometric':
      fixed = jax.jit(lambda moved: frozen_geometric(
          moved, student, teacher, choice))
    else:
      fixed = jax.jit(loss)
    for i, at in ((0, (0, 2, 1)), (0, (1, 7, 4)), (1, (3, 0)), (1, (0, 12))):
      moved = [Head(*(x.at[at].add(h) if i == j else x
                      for j, x in enumerate(student))) for h in (1e-5, -1e-5)]
      slope = (fixed(moved[0]) - fixed(moved[1])) / 2e-5
      np.testing.assert_allclose(grads[i][at], slope, rtol=1e-6, atol=1e-8)


def graded_loss(student, teacher, choice):
  loss, statistics = blocked(
      student, teacher, TOKENS, divergence=choice[0], target=choice[1],
      chunk=4, vocab_chunk=5, **TEMPERATURES)
  return (WEIGHTS[0] * loss + WEIGHTS[1] * statistics['logp']).sum()


def frozen_geometric(moved, student, teacher, choice):
  """The dense loss towards the target of the student that did not move."""
  logps = lambda head, temperature: jax.nn.log_softmax(
      (head.hidden_BTD[:, :-1] @ head.head_DV)[..., :V] / temperature, -1)
  s = logps(moved, TEMPERATURES['student_temperature'])
  target = choice[1](logps(student, TEMPERATURES['student_temperature']),
                     logps(teacher, TEMPERATURES['teacher_temperature']))
  logp = jnp.take_along_axis(s, TOKENS[:, 1:, None], 2)[..., 0]
  return (WEIGHTS[0][:, 1:] * choice[0](s, target)
          + WEIGHTS[1][:, 1:] * logp).sum()


@pytest.mark.parametrize('choice', [CHOICES[0], CHOICES[3], CHOICES[5]],
                         ids=['reverse', 'jensen_shannon', 'geometric'])
def test_kept_tiles_change_nothing(kept, choice):
  """One part, float32: the backward pass takes the tiles or makes them anew."""
  fields = dict(divergence=choice[0], target=choice[1], **TEMPERATURES)
  student, teacher = (of_type(x, jnp.float32) for x in (STUDENT, TEACHER))
  got = graded(functools.partial(blocked, chunk=4, **fields), student, teacher)
  want = graded(functools.partial(dense, **fields), student, teacher)
  np.testing.assert_allclose(got[0][0], want[0][0], rtol=1e-5, atol=1e-6)
  assert_near(got[1], want[1], 1e-5)


@pytest.mark.parametrize('choice', [
    CHOICES[0], *map(long, CHOICES[1:-1]), CHOICES[-1]], ids=IDS)
def test_a_teacher_with_equal_weights(choice):
  """The divergence is below 1e-6 and its gradient below 1e-5 of a real one;
  in parts and at once."""
  student, teacher = (of_type(x, jnp.float32) for x in (STUDENT, TEACHER))
  equal = Head(*(jnp.array(x) for x in student))
  norm = lambda grads: float(jnp.sqrt(sum((x * x).sum() for x in grads[0])))
  for vocab_chunk in (5, 14):
    f = functools.partial(
        blocked, divergence=choice[0],
        target=Target() if choice[1].kind == 'geometric' else choice[1],
        chunk=4, vocab_chunk=vocab_chunk, student_temperature=0.7,
        teacher_temperature=0.7)
    (loss, _), grads = graded(f, student, equal, of_logp=False)
    _, real = graded(f, student, teacher, of_logp=False)
    assert np.abs(loss).max() < 1e-6
    assert norm(grads) < 1e-5 * norm(real)


def test_only_what_is_asked():
  """Others are 0 and have no gradient; how many differs from row to row."""
  asked = np.zeros((B, T), bool)
  asked[0, [0, 2, 3, 4, 6, 9, 11]] = asked[1, [1, 8]] = True
  student, teacher = (of_type(x, jnp.float32) for x in (STUDENT, TEACHER))
  fields = dict(divergence=Divergence('reverse'), target=Target(),
                **TEMPERATURES)
  def all_of(*args):
    loss, statistics = dense(*args, **fields)
    return jnp.where(asked, loss, 0), {
        k: jnp.where(asked, x, 0) for k, x in statistics.items()}
  want = graded(all_of, student, teacher)
  for chunk, vocab_chunk in ((2, 14), (5, 5), (512, 14)):
    got = graded(functools.partial(
        blocked, asked=asked, overlap=True, chunk=chunk,
        vocab_chunk=vocab_chunk, **fields), student, teacher)
    for x, y in zip(jax.tree.leaves(got[0]), jax.tree.leaves(want[0]),
                    strict=True):
      np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6)
      assert not x[:, 0].any()
    assert_near(got[1], want[1], 1e-5)
  nothing = graded(functools.partial(
      blocked, asked=np.zeros((B, T), bool), **fields), student, teacher)
  assert not any(x.any() for x in jax.tree.leaves(nothing))


def test_blocks_without_an_asked_position_cost_nothing():
  """Junk behind the last asked one is never read: NaN would be seen."""
  asked = np.zeros((B, T), bool)
  asked[0, 3] = asked[1, 5] = True
  junk = lambda head: Head(np.roll(np.where(
      asked[..., None], head.hidden_BTD, np.nan), -1, axis=1).astype(
          np.float32), np.float32(head.head_DV))
  (loss, _), (grads, _) = graded(functools.partial(
      blocked, asked=asked, chunk=1, **TEMPERATURES), junk(STUDENT),
      junk(TEACHER))
  assert np.isfinite(loss).all() and (loss[asked] > 0).all()
  assert np.isfinite(grads.head_DV).all()


def test_bfloat16_states():
  """Values are float32 sums of bf16 products, gradients keep their types."""
  student, teacher = (Head(jnp.asarray(x.hidden_BTD, jnp.bfloat16),
                           np.float32(x.head_DV)) for x in (STUDENT, TEACHER))
  wide = [Head(x.hidden_BTD.astype(jnp.float32), x.head_DV.astype(
      jnp.bfloat16).astype(np.float32)) for x in (student, teacher)]
  fields = dict(divergence=Divergence('jensen_shannon', 0.5), target=Target(),
                **TEMPERATURES)
  got, (grads, _) = graded(functools.partial(
      blocked, chunk=4, vocab_chunk=5, **fields), student, teacher)
  want, (wanted, _) = graded(functools.partial(dense, **fields), *wide)
  assert got[0].dtype == jnp.float32
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)
  assert [x.dtype for x in grads] == [jnp.bfloat16, jnp.float32]
  # The slopes are rounded to bf16 before their products, as in token_logps.
  for x, y in zip(grads, wanted, strict=True):
    assert np.abs(x.astype(np.float32) - y).max() <= 0.02 * np.abs(y).max()


def test_statistics_of_the_student_equal_token_logps():
  """Log-prob and entropy, at the student's temperature."""
  student, teacher = (of_type(x, jnp.float32) for x in (STUDENT, TEACHER))
  student = student._replace(head_DV=student.head_DV[:, :V])
  _, statistics = blocked(student, teacher, TOKENS, chunk=4, vocab_chunk=5,
                          **TEMPERATURES)
  logp, entropy = token_logps.token_logps(
      *student, TOKENS, temperature=0.7, chunk=4, vocab_chunk=5)
  np.testing.assert_allclose(statistics['logp'], logp, rtol=1e-6)
  np.testing.assert_allclose(statistics['entropy'], entropy, rtol=1e-5)


def test_numbers_may_come_from_a_schedule():
  """beta and the weight of a target may be traced: one program."""
  student, teacher = (of_type(x, jnp.float32) for x in (STUDENT, TEACHER))
  @jax.jit
  def f(beta, weight):
    return blocked(student, teacher, TOKENS, chunk=4, vocab_chunk=5,
                   divergence=Divergence('jensen_shannon', beta),
                   target=Target('mixture', weight), **TEMPERATURES)[0]
  for beta, weight in ((0.5, 0.1), (0.2, 0.4)):
    want, _ = dense(student, teacher, TOKENS,
                    divergence=Divergence('jensen_shannon', beta),
                    target=Target('mixture', weight), **TEMPERATURES)
    np.testing.assert_allclose(f(beta, weight), want, rtol=1e-5, atol=1e-7)
  assert f._cache_size() == 1


@LONG
def test_far_logits():
  """Logits of 1e4: finite values and gradients of every choice."""
  student = Head(np.full((1, 3, 1), 1e4, np.float32),
                 np.float32([[1, 1, -1, 0.9]]))
  teacher = Head(np.full((1, 3, 1), 1e4, np.float32),
                 np.float32([[1, -1, 0.9, 1]]))
  for divergence, target in CHOICES[::3]:
    for vocab_chunk in (1, 4):
      @jax.jit
      def f(student):
        return blocked(
            student, teacher, np.int32([[0, 0, 1]]), vocab=4,
            divergence=divergence, target=target,  # noqa: B023
            student_temperature=1, teacher_temperature=1,
            vocab_chunk=vocab_chunk)[0].sum()  # noqa: B023
      value, grads = jax.value_and_grad(f)(student)
      assert 0 < value < np.inf
      assert all(np.isfinite(x).all() for x in grads)


def test_one_position_has_no_context():
  student, teacher = (Head(np.float32(x.hidden_BTD[:, :1]), x.head_DV)
                      for x in (STUDENT, TEACHER))
  loss, statistics = blocked(student, teacher, TOKENS[:, :1], overlap=True,
                             **TEMPERATURES)
  assert set(statistics) == set(STATISTICS)
  for x in (loss, *statistics.values()):
    assert x.shape == (B, 1) and not x.any()


@pytest.mark.parametrize('fields, message', [
    (dict(vocab=0), r'vocab is 0; .* \[1, 14\], because .* 14 and 17 columns'),
    (dict(vocab=15), 'vocab is 15'),
    (dict(target=Target('extrapolated', 2.0)), 'needs a third model')])
def test_impossible_choices(fields, message):
  with pytest.raises(ValueError, match=message):
    blocked(STUDENT, TEACHER, TOKENS, **fields, **TEMPERATURES)


def test_both_temperatures_must_be_named():
  with pytest.raises(TypeError, match='teacher_temperature'):
    blocked(STUDENT, TEACHER, TOKENS, student_temperature=1)


def test_shapes_are_checked():
  short = TEACHER._replace(hidden_BTD=TEACHER.hidden_BTD[:, 1:])
  swapped = TEACHER._replace(head_DV=TEACHER.head_DV.T)
  for teacher in (short, swapped):
    with pytest.raises(AssertionError):
      blocked(STUDENT, teacher, TOKENS, **TEMPERATURES)
