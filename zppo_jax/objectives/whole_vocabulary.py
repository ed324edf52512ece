"""Divergences over the whole vocabulary, never [B, T, V] of either model.

Student and teacher come as hidden states and head. The logits of both exist in
the blocks of `token_logps` (its axes are used here): some positions and a
strided part of the vocabulary at a time, made anew in the backward pass unless
all of them are few. Per token 12 bytes are kept for it: the logsumexp of the
student and of the target, and the mean slope below.

With D = sum_v h(s_v, t_v) over the ids v, u_v = dh / ds_v and p the student's
distribution,

  dD / dz_v = u_v - p_v sum(u).

For the reverse KL sum(u) is D + 1, for the forward KL it is -1; these two need
one pass over the vocabulary, because D follows from running sums: with w the
distribution that weighs and o the other one,

  D = sum_v w_v (z_wv - z_ov) - lse_w + lse_o.

The geometric target has the logits z_T + beta z_S and so needs no second pass
either. The Jensen-Shannon divergence, the mixture and the overlap mass need the
normalised log-probs of each id, hence a second pass, unless one part holds the
whole vocabulary.
"""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike, DTypeLike

from zppo_jax import allowed
from zppo_jax.objectives import divergences, token_logps as blocks
from zppo_jax.objectives.divergences import Divergence, Target
from zppo_jax.objectives.rounding import rounded

VOCAB_CHUNK = blocks.VOCAB_CHUNK // 2  # the logits of two models exist
# Divergences of one pass: which of (student, target) weighs the sum.
_WEIGHED_BY = {'reverse': 0, 'forward': -1}
_TARGETS = ('plain', 'geometric', 'mixture')


class Head(NamedTuple):
  """A model's last step.

  Attributes:
    hidden_BTD: hidden states; position t predicts token t + 1.
    head_DV: the matrix from hidden states to logits. Columns from the true
      vocabulary on are padding.
  """
  hidden_BTD: jax.Array
  head_DV: jax.Array


class Plan(NamedTuple):
  """What is static: the blocks of both models and the choices by name."""
  student: blocks.Blocks
  teacher: blocks.Blocks
  divergence: str
  target: str
  overlap: bool

  @property
  def by_id(self) -> bool:
    """Whether the normalised log-probs of each id are visited."""
    return (self.student.n == 1 or self.overlap or self.target == 'mixture'
            or self.divergence not in _WEIGHED_BY)


def _aligned(head_DV: jax.Array, width: int) -> jax.Array:
  """The teacher's head with the width of the student's.

  Equal ids must stand at equal places of the strided parts. The columns that
  are cut or added are padding, because both widths hold the true vocabulary.
  """
  return jnp.pad(head_DV[:, :width], (
      (0, 0), (0, max(0, width - head_DV.shape[1]))))


def _parts(student: Head, teacher: Head, plan: Plan) -> tuple[Any, Any]:
  """The strided parts [n, D, v] of the student's head, and a function from a
  part to that of the teacher's, both in their compute types.

  The student's parts are those of its gradient. A copy of the teacher's whole
  head would be read in the same order and for nothing else.
  """
  width = student.head_DV.shape[1]
  return (
      blocks.head_parts(rounded(student.head_DV, student.hidden_BTD.dtype),
                        plan.student),
      blocks.head_reader(_aligned(teacher.head_DV, width), plan.teacher,
                         teacher.hidden_BTD.dtype))


def _target_logits(z_S: jax.Array, z_T: jax.Array, plan: Plan,
                   weight: jax.Array) -> jax.Array:
  """Logits of the teacher, or of the geometric target."""
  return z_T + weight * z_S if plan.target == 'geometric' else z_T


def _terms_and_slopes(s: jax.Array, t: jax.Array, plan: Plan, beta: jax.Array,
                      weight: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(h, dh / ds) of each id; t is the target, or the teacher of a mixture.

  The target of a mixture moves with s: dt / ds = alpha p_S / mixture.
  """
  function = divergences.TERMS[plan.divergence]
  if plan.target != 'mixture':
    terms = function(s, t, beta)
    return terms.value, terms.of_s
  mine = weight * jnp.exp(s)
  mix = mine + (1 - weight) * jnp.exp(t)
  present = mix > 0
  mix = jnp.where(present, mix, 1)
  terms = function(s, jnp.where(present, jnp.log(mix), blocks.FAR), beta)
  return terms.value, terms.of_s + terms.of_t * (mine / mix)


def _first_pass(tiles: Any, targets: jax.Array, plan: Plan, weight: jax.Array,
                dtype: DTypeLike) -> Any:
  """Running sums over the vocabulary.

  Returns:
    (masses of student, teacher and, if it is another, the target; the running
    sum of a divergence of one pass; the logits of the tokens under both).
  """
  own_target = plan.target == 'geometric'
  weigher = _WEIGHED_BY.get(plan.divergence, 0)
  zero = jnp.zeros(targets.shape, dtype)
  masses = (blocks.Mass.none(targets.shape, dtype),) * (2 + own_target)

  def step(part: ArrayLike, state: Any) -> Any:
    masses, cross, picked = state
    z_S, z_T = tiles(part)
    z_Q = _target_logits(z_S, z_T, plan, weight)
    grown = [mass.grown(z) for mass, z in zip(
        masses, (z_S, z_T, z_Q)[:2 + own_target], strict=True)]
    if not plan.by_id:
      _, e, shrunk = grown[weigher]
      sign = 1 if weigher == 0 else -1
      cross = shrunk * cross + jnp.sum(e * (sign * (z_S - z_Q)), axis=-1)
    here = blocks.is_target(targets, part, plan.student)
    picked = tuple(x + jnp.sum(jnp.where(here, z, 0), axis=-1)
                   for x, z in zip(picked, (z_S, z_T), strict=True))
    return tuple(mass for mass, _, _ in grown), cross, picked

  return blocks.over_parts(plan.student.n, step, (masses, zero, (zero, zero)))


def _second_pass(tiles: Any, masses: Any, plan: Plan, beta: jax.Array,
                 weight: jax.Array) -> Any:
  """(D, the sum of slopes, the overlap mass), from each id's log-probs."""
  lse_S, lse_T, lse_Q = (
      mass.lse[..., None] for mass in (*masses[:2], masses[-1]))
  zero = jnp.zeros_like(masses[0].top)

  def step(part: ArrayLike, state: Any) -> Any:
    value, slope, overlap = state
    z_S, z_T = tiles(part)
    s = z_S - lse_S
    t = _target_logits(z_S, z_T, plan, weight) - lse_Q
    terms, slopes = _terms_and_slopes(s, t, plan, beta, weight)
    if plan.overlap:
      overlap += jnp.exp(jnp.minimum(s, z_T - lse_T)).sum(axis=-1)
    return value + terms.sum(axis=-1), slope + slopes.sum(axis=-1), overlap

  return blocks.over_parts(plan.student.n, step, (zero, zero, zero))


def _of_one_pass(masses: Any, cross: Any,
                 plan: Plan) -> tuple[jax.Array, jax.Array]:
  """(D, the sum of slopes) of a divergence in _WEIGHED_BY."""
  weigher = _WEIGHED_BY[plan.divergence]
  w, o = masses[weigher], masses[-1 - weigher]
  value = cross / w.total - w.lse + o.lse
  return value, value + 1 if weigher == 0 else -jnp.ones_like(value)


def _forward(student: Head, teacher: Head, targets_BT: jax.Array,
             num: ArrayLike, numbers: Any, plan: Plan) -> tuple[Any, Any]:
  """Outputs and residuals of `_compared`."""
  b, (beta, weight) = plan.student, numbers
  wide = numbers[0].dtype
  heads = _parts(student, teacher, plan)
  B, T = targets_BT.shape
  kept = (jnp.zeros((B, T, b.v) if b.kept else (), wide),) * 2
  names = ('loss', 'logp', 'teacher_logp', 'entropy', 'teacher_entropy',
           'lse', 'target_lse', 'slope', *(['overlap'] * plan.overlap))
  out = {name: jnp.zeros((B, T), wide) for name in names}

  def block(i: ArrayLike, carry: Any) -> Any:
    out, kept = carry
    take = lambda x_BT: blocks.take_block(x_BT, i, b.c)
    put = lambda x_BT, x_Bc: blocks.put_block(x_BT, x_Bc, i, b.c)
    hiddens = take(student.hidden_BTD), take(teacher.hidden_BTD)
    tiles = lambda part: tuple(
        blocks.block_logits(hidden, head, part, sizes).astype(wide)
        for hidden, head, sizes in zip(
            hiddens, (heads[0][part], heads[1](part)),
            (plan.student, plan.teacher), strict=True))
    if b.n == 1:
      only = tiles(0)
      tiles = lambda part: only
      if b.kept:
        kept = tuple(put(x, z) for x, z in zip(kept, only, strict=True))
    masses, cross, picked = _first_pass(
        tiles, take(targets_BT), plan, weight, wide)
    values = {}
    if plan.by_id:
      value, slope, overlap = _second_pass(tiles, masses, plan, beta, weight)
      if plan.overlap:
        values['overlap'] = overlap
    else:
      value, slope = _of_one_pass(masses, cross, plan)
    S, T = masses[:2]
    values |= dict(
        loss=value, logp=S.logp(picked[0]), teacher_logp=T.logp(picked[1]),
        entropy=S.entropy, teacher_entropy=T.entropy, lse=S.lse,
        target_lse=masses[-1].lse, slope=slope)
    return {name: put(out[name], values[name]) for name in out}, kept

  out, kept = jax.lax.fori_loop(0, num, block, (out, kept))
  residuals = student, teacher, targets_BT, num, numbers, out.pop(
      'lse'), out.pop('target_lse'), out.pop('slope'), kept
  return out, residuals


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _compared(student: Head, teacher: Head, targets_BT: jax.Array,
              num: ArrayLike, numbers: Any, plan: Plan) -> dict[str, jax.Array]:
  """{name: [B, T]}, 0 after the first `num` blocks."""
  return _forward(student, teacher, targets_BT, num, numbers, plan)[0]


def _backward(plan: Plan, residuals: Any, cotangents: Any) -> Any:
  """The gradient through loss and logp to the student's arrays."""
  (student, teacher, targets_BT, num, (beta, weight), lse_BT, target_lse_BT,
   slope_BT, kept) = residuals
  b = plan.student
  heads = _parts(student, teacher, plan)
  wide = lse_BT.dtype

  def slope(i: ArrayLike, part: ArrayLike) -> jax.Array:
    take = lambda x_BT: blocks.take_block(x_BT, i, b.c)
    z_S, z_T = (take(z) for z in kept) if b.kept else (
        blocks.block_logits(take(x), head, part, sizes).astype(wide)
        for x, head, sizes in zip(
            (student.hidden_BTD, teacher.hidden_BTD),
            (heads[0][part], heads[1](part)),
            (plan.student, plan.teacher), strict=True))
    column = lambda x_BT: take(x_BT)[..., None]
    s = z_S - column(lse_BT)
    t = _target_logits(z_S, z_T, plan, weight) - column(target_lse_BT)
    _, slopes = _terms_and_slopes(s, t, plan, beta, weight)
    of_loss, of_logp = column(cotangents['loss']), column(cotangents['logp'])
    here = blocks.is_target(take(targets_BT), part, b)
    return (of_loss * slopes + jnp.where(here, of_logp, 0)
            - jnp.exp(s) * (of_loss * column(slope_BT) + of_logp))

  grad_hidden, grad_head = blocks.back_through(
      student.hidden_BTD, student.head_DV, heads[0], num, b, slope)
  return (Head(hidden_BTD=grad_hidden, head_DV=grad_head), None, None, None,
          None)


_compared.defvjp(_forward, _backward)


def _check(student: Head, teacher: Head, tokens_BT: jax.Array, vocab: int,
           target: Target) -> None:
  for head in (student, teacher):
    chex.assert_rank([head.hidden_BTD, head.head_DV, tokens_BT], [3, 2, 2])
    chex.assert_equal_shape_prefix([head.hidden_BTD, tokens_BT], 2)
    chex.assert_equal(head.hidden_BTD.shape[2], head.head_DV.shape[0])
  widths = student.head_DV.shape[1], teacher.head_DV.shape[1]
  allowed.number(
      'vocab', vocab, f'[1, {min(widths)}]',
      note=(f', because the heads of student and teacher have {widths[0]} and '
            f'{widths[1]} columns'))
  if target.kind not in _TARGETS:
    raise ValueError(f'the target {target.kind!r} needs a third model; over '
                     f'the whole vocabulary: {", ".join(_TARGETS)}')


def over_vocabulary(
    student: Head, teacher: Head, tokens_BT: jax.Array,
    asked_BT: jax.Array | None = None, *, vocab: int,
    student_temperature: float, teacher_temperature: float,
    divergence: Divergence = Divergence(),  # noqa: B008 (frozen)
    target: Target = Target(),  # noqa: B008 (frozen)
    overlap: bool = False, chunk: int = 512,
    vocab_chunk: int = VOCAB_CHUNK, mesh: Mesh | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The divergence at each token between the two next-token distributions.

  Differentiable in the student's hidden states and head, through `loss_BT` and
  the statistic `logp`; nothing else has a gradient, the teacher included. The
  gradient of the head is summed in float32 or wider.

  Args:
    student, teacher: hidden states over the same tokens, index by index, and
      heads; the widths D may differ. A teacher that reads another context
      gives the hidden states of the same response positions.
    tokens_BT: int32 ids below `vocab`.
    asked_BT: True on tokens whose divergence is wanted; None asks for all.
    vocab: the true vocabulary, in ids. Columns of a head from it on count as
      logits of -inf in both models.
    student_temperature, teacher_temperature: the logits of each are divided by
      its own (1 for 0, greedy decoding). Usually the student's is that of the
      sampler and the teacher's is 1.
    divergence: the divergence of student and target.
    target: `plain`, `geometric` or `mixture`.
    overlap: whether the statistics hold `overlap`. A KL without a mixture then
      needs a second pass over the vocabulary.
    chunk: the asked positions per row whose logits exist at a time.
    vocab_chunk: the ids whose logits exist at a time.
    mesh: the mesh on which both run, or None.

  Returns:
    (loss_BT, statistics), nats, at least float32, aligned with tokens:
    position t holds the divergence of p(token t | tokens < t). Statistics are
    arrays [B, T]: `logp` and `teacher_logp` of the tokens, `entropy` and
    `teacher_entropy`, and if asked for `overlap`, the sum of min(p_S, p_T).
    The teacher's are its own, whatever the target. All are 0 where not asked,
    and at position 0, which has no context.

  Raises:
    ValueError: for a vocabulary wider than a head, or a target that needs a
      third model.
  """
  _check(student, teacher, tokens_BT, vocab, target)
  B, T = tokens_BT.shape
  wide = functools.reduce(jnp.promote_types, (
      student.hidden_BTD.dtype, teacher.hidden_BTD.dtype, jnp.float32))
  names = ('logp', 'teacher_logp', 'entropy', 'teacher_entropy',
           *(['overlap'] * overlap))
  if T == 1:
    zero = jnp.zeros((B, T), wide)
    return zero, dict.fromkeys(names, zero)
  asked = blocks.Asked.of(asked_BT, T, chunk, mesh)
  student_blocks, teacher_blocks = (
      blocks.Blocks.of(
          student.head_DV.shape[1], asked.c, temperature=temperature,
          vocab=vocab, most=vocab_chunk,
          kept_rows=2 * B * (T - 1 + asked.pad), mesh=mesh)
      for temperature in (student_temperature, teacher_temperature))
  plan = Plan(student=student_blocks, teacher=teacher_blocks,
              divergence=divergence.kind, target=target.kind, overlap=overlap)
  numbers = jnp.asarray(divergence.beta, wide), jnp.asarray(
      target.weight, wide)
  student, teacher = (
      Head(hidden_BTD=asked.pack(head.hidden_BTD[:, :-1]),
           head_DV=head.head_DV) for head in (student, teacher))
  out = _compared(student, jax.lax.stop_gradient(teacher),
                  asked.pack(tokens_BT[:, 1:]), asked.num,
                  jax.lax.stop_gradient(numbers), plan)
  out = {name: asked.unpack(x) for name, x in out.items()}
  return out['loss'], {name: out[name] if name == 'logp' else
                       jax.lax.stop_gradient(out[name]) for name in names}
