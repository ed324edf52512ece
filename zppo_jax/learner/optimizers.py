"""AdamW with the values of the paper's Table 8, schedules and stored moments.

A schedule counts training steps, and each step has I updates. `rate` is a
function of the step alone and no optimizer state holds it, so a resumed or
forked run has the rate of the step at which it stands.
"""

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zppo_jax import allowed, randomness
from zppo_jax.randomness import Purpose

STATE_DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class AdamWConfig:
  """The optimizer rows of Table 8; weight decay acts on every parameter.

  Attributes:
    learning_rate: the highest rate of the schedule.
    b1, b2, eps, weight_decay: constants of AdamW.
    clip_norm: the bound of the global gradient norm.
    state_dtype: the type in which both moments are stored between two updates,
      one of STATE_DTYPES.
    schedule: one of SCHEDULES.
    total_updates: refused. It is the former name of the length of a schedule,
      which was counted in updates.
    warmup_steps: the number of training steps in which the rate rises from
      learning_rate / (warmup_steps + 1). The step after them has learning_rate.
    schedule_steps: training steps until the rate has fallen, warm-up included;
      0 means all steps of the run. The constant schedule has no end.
    decay_steps: the last of them, in which the rate of 'wsd' falls; 0 for the
      others.
    end_share: the rate after the schedule, as a share of learning_rate.
    state_rounding: how moments are rounded to a narrower type, one of
      ROUNDINGS.
    second_moment_dtype: the stored type of the second moment, one of
      STATE_DTYPES; '' means state_dtype.
    frozen: patterns (fnmatch) of the names of parameters that are not trained,
      'blocks/mlp/*' say. They have no moments. (Forget-SFTRL freezes weights;
      a name is that of all layers, which lie in one array.)
  """
  learning_rate: float = 1e-6
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.1
  clip_norm: float = 1.0
  state_dtype: str = 'bfloat16'
  schedule: str = 'constant'
  total_updates: int = 0
  warmup_steps: int = 0
  schedule_steps: int = 0
  decay_steps: int = 0
  end_share: float = 0.0
  state_rounding: str = 'nearest'
  second_moment_dtype: str = ''
  frozen: tuple[str, ...] = ()

  def __post_init__(self):
    for name, table in (('state_dtype', STATE_DTYPES),
                        ('schedule', SCHEDULES),
                        ('state_rounding', ROUNDINGS),
                        ('second_moment_dtype', ('', *STATE_DTYPES))):
      allowed.one_of(f'optimizer.{name}', getattr(self, name), table)
    if self.total_updates:
      raise ValueError(
          f'total_updates is {self.total_updates}; a schedule is counted in '
          'training steps, each of algorithm.updates updates. Set '
          'optimizer.schedule_steps instead (0: all steps of the run) and '
          'total_updates to 0')
    for name in ('warmup_steps', 'schedule_steps', 'decay_steps'):
      allowed.number(name, getattr(self, name), '>= 0', whole=True)
    allowed.number('end_share', self.end_share, '[0, 1]')
    if (self.schedule == 'wsd') != bool(self.decay_steps):
      raise ValueError(
          f'decay_steps is {self.decay_steps} and schedule {self.schedule!r}; '
          "'wsd' needs decay_steps above 0, the others take 0")
    if self.end_share and self.schedule == 'constant':
      raise ValueError(f'end_share is {self.end_share}; the schedule '
                       "'constant' has no end and takes 0")
    for name in ('b1', 'b2'):
      allowed.number(name, getattr(self, name), '[0, 1)')
    for name in ('learning_rate', 'weight_decay'):
      allowed.number(name, getattr(self, name), '>= 0', note=' and finite')
    # With eps = 0 a parameter that never had a gradient would move by 0 / 0.
    allowed.number('eps', self.eps, '> 0', note=' and finite')
    allowed.number('clip_norm', self.clip_norm, '> 0', finite=False)
    if isinstance(self.frozen, str) or not all(
        isinstance(pattern, str) for pattern in self.frozen):
      raise ValueError(f'frozen is {self.frozen!r}; it must be a tuple of '
                       'patterns, each a text')
    object.__setattr__(self, 'frozen', tuple(self.frozen))

  def length(self, steps: int) -> int:
    """The training steps that the schedule spans in a run of `steps` steps.

    Raises:
      ValueError: if no step is left after the warm-up, or between it and the
        decay.
    """
    length = self.schedule_steps or steps
    if self.decay_steps and self.warmup_steps + self.decay_steps > length:
      raise ValueError(
          f'warmup_steps is {self.warmup_steps} and decay_steps '
          f'{self.decay_steps}; the schedule has {length} steps '
          f'(schedule_steps is {self.schedule_steps}, steps is {steps}), and '
          'both must lie in them')
    if self.warmup_steps >= length:
      raise ValueError(
          f'warmup_steps is {self.warmup_steps}; the schedule has {length} '
          f'steps (schedule_steps is {self.schedule_steps}, steps is {steps}), '
          'and the warm-up must be shorter')
    return length


def _stable_then_linear(rate: float, steps: int,
                        of: AdamWConfig) -> optax.Schedule:
  """The stable and the decay phase of WSD (MiniCPM, arXiv 2404.06395, section
  4.3), with a linear decay (Haegele et al. 2024, arXiv 2405.18392)."""
  stable = steps - of.decay_steps
  return optax.join_schedules(
      [optax.constant_schedule(rate),
       optax.linear_schedule(rate, of.end_share * rate, of.decay_steps)],
      [stable])


# After the warm-up: (highest rate, number of steps left, config) -> schedule.
SCHEDULES = {
    'constant': lambda rate, steps, of: optax.constant_schedule(rate),
    'linear': lambda rate, steps, of: optax.linear_schedule(
        rate, of.end_share * rate, steps),
    'cosine': lambda rate, steps, of: optax.cosine_decay_schedule(
        rate, steps, of.end_share),
    'wsd': _stable_then_linear,
}


def rate(config: AdamWConfig, steps: int) -> Callable:
  """Training step (from 0) -> learning rate.

  Args:
    config: the optimizer's config.
    steps: training steps of the run.

  Raises:
    ValueError: see AdamWConfig.length.
  """
  warm, high = config.warmup_steps, config.learning_rate
  rest = SCHEDULES[config.schedule](
      high, config.length(steps) - warm, config)
  if not warm:
    return rest
  # The rise starts above 0, because a step at rate 0 would be wasted.
  rise = optax.linear_schedule(high / (warm + 1), high, warm)
  return optax.join_schedules([rise, rest], [warm])


def _nearest(x, dtype, key):
  del key
  return x.astype(dtype)


def _stochastic(x, dtype, key):
  """Rounds up with the probability (x - lower neighbour) / (their distance).

  The mean of the result is x itself, so a decay below half a unit is not lost.
  """
  if jnp.dtype(dtype).itemsize >= x.dtype.itemsize:
    return x.astype(dtype)
  raised = (jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
            + jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32))
  # A bfloat16 is the upper half of a float32.
  cut = jax.lax.bitcast_convert_type(
      (raised >> 16).astype(jnp.uint16), jnp.bfloat16)
  return jnp.where(jnp.isfinite(x), cut, x.astype(jnp.bfloat16))


# How a float is rounded to a narrower type: (x, dtype, key) -> x in that type.
ROUNDINGS = {'nearest': _nearest, 'stochastic': _stochastic}


def _is_second_moment(path) -> bool:
  return any(getattr(entry, 'name', None) == 'nu' for entry in path)


def _floats(tree, convert):
  """Applies `convert`(path, x) to floating leaves; counts stay unchanged."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: convert(path, x)
      if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def _keys_of(seed: int, count):
  """Leaf path -> the key of its rounding after `count` updates."""
  key = randomness.step_key(seed, count, Purpose.ROUNDING)
  return lambda path: jax.random.fold_in(
      key, np.uint32(randomness.question_uid(jax.tree_util.keystr(path))))


def stored_as(tx, dtype, *, second=None, rounding: str = 'nearest',
              seed: int = 0) -> optax.GradientTransformationExtraArgs:
  """Stores a transformation's floating state in `dtype`.

  The transformation computes in the type of the gradients, as it does without
  this wrapper.

  Args:
    tx: a transformation that contains an Adam.
    dtype: the type of the stored state.
    second: the type of the second moment, if it is another one.
    rounding: one of ROUNDINGS. What 'stochastic' draws is a function of the
      seed, the update and the leaf, and is the same on every mesh.
    seed: the run's seed.
  """
  type_of = lambda path: (second or dtype) if _is_second_moment(path) else dtype

  def stored(state):
    keys = _keys_of(seed, optax.tree.get(state, 'count'))
    return _floats(state, lambda path, x: ROUNDINGS[rounding](
        x, type_of(path), keys(path)))

  def init(params):
    return _floats(tx.init(params), lambda path, x: x.astype(type_of(path)))

  tx = optax.with_extra_args_support(tx)

  def update(grads, state, params=None, **extra):
    grad_dtype = jax.tree.leaves(grads)[0].dtype
    state = _floats(state, lambda path, x: x.astype(grad_dtype))
    updates, state = tx.update(grads, state, params, **extra)
    return updates, stored(state)

  return optax.GradientTransformationExtraArgs(init, update)


def _scheduled(tx, rate_of, updates: int) -> optax.GradientTransformation:
  """Scales a transformation of rate 1 by the rate of the step.

  The step follows from the number of updates made (`done`, or Adam's own count
  if `done` is None). So the state is that of a constant rate, and a fork may
  change the schedule.
  """
  def update(grads, state, params=None, *, done=None, **extra):
    del extra
    done = optax.tree.get(state, 'count') if done is None else done
    found, state = tx.update(grads, state, params)
    now = rate_of(done // updates)
    return jax.tree.map(lambda u: jnp.asarray(now, u.dtype) * u, found), state

  return optax.GradientTransformationExtraArgs(tx.init, update)


def name_of(path) -> str:
  """The name of a parameter, 'blocks/attn/q' say."""
  return '/'.join(str(entry.key) for entry in path)


def trained(params: Any, frozen: Sequence[str]) -> Any:
  """Whether each parameter is trained, as a tree of bools.

  Args:
    params: arrays or shapes.
    frozen: patterns of the names of those that are not.
  """
  return jax.tree_util.tree_map_with_path(
      lambda path, _: not any(fnmatch.fnmatchcase(name_of(path), pattern)
                              for pattern in frozen), params)


def check_frozen(frozen: Sequence[str], params: Any) -> None:
  """ValueError for a pattern without a parameter, or if none is left."""
  names = [name_of(path) for path, _ in
           jax.tree_util.tree_flatten_with_path(params)[0]]
  for pattern in frozen:
    if not fnmatch.filter(names, pattern):
      raise ValueError(f'optimizer.frozen has {pattern!r}, which no parameter '
                       f'is called. There are {", ".join(names)}')
  if not any(jax.tree.leaves(trained(params, frozen))):
    raise ValueError(f'optimizer.frozen is {tuple(frozen)}; no parameter is '
                     'left to train')


def _without(tx: optax.GradientTransformation, frozen: Sequence[str]
             ) -> optax.GradientTransformationExtraArgs:
  """A transformation of the trained parameters alone: the others have no
  moments, no part in the global norm, and an update of 0."""
  are = functools.partial(trained, frozen=frozen)
  return optax.chain(
      optax.masked(tx, are),
      optax.masked(optax.set_to_zero(), lambda params: jax.tree.map(
          lambda x: not x, are(params))))


@functools.lru_cache(maxsize=64)  # equal optimizers share their programs
def adamw(config: AdamWConfig, *, steps: int = 1, updates: int = 1,
          seed: int = 0) -> optax.GradientTransformation:
  """Global-norm clipping, then AdamW (Loshchilov and Hutter 2019).

  Args:
    config: the optimizer's config.
    steps: training steps of the run.
    updates: I, the updates per training step.
    seed: the run's seed, for stochastic rounding.

  Raises:
    ValueError: see AdamWConfig.length.
  """
  make = functools.partial(optax.adamw, b1=config.b1, b2=config.b2,
                           eps=config.eps, weight_decay=config.weight_decay)
  clip = optax.clip_by_global_norm(config.clip_norm)
  if config.schedule == 'constant' and not config.warmup_steps:
    tx = optax.chain(clip, make(config.learning_rate))
  else:
    tx = _scheduled(optax.chain(clip, make(1.0)), rate(config, steps), updates)
  second = config.second_moment_dtype or config.state_dtype
  if (config.state_dtype, second) != ('float32', 'float32'):
    tx = stored_as(tx, STATE_DTYPES[config.state_dtype],
                   second=STATE_DTYPES[second],
                   rounding=config.state_rounding, seed=seed)
  return _without(tx, config.frozen) if config.frozen else tx
