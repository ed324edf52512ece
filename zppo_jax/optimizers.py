"""AdamW as the paper's Table 8 has it."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

STATE_DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class AdamWConfig:
  """Table 8's optimizer rows; decay falls on every parameter."""
  learning_rate: float = 1e-6
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.1
  clip_norm: float = 1.0
  state_dtype: str = 'bfloat16'
  schedule: str = 'constant'
  total_updates: int = 0  # length of the cosine schedule

  def __post_init__(self):
    if self.state_dtype not in STATE_DTYPES:
      raise ValueError(f'state_dtype is {self.state_dtype!r}; known: '
                       f'{", ".join(STATE_DTYPES)}')
    if self.schedule not in SCHEDULES:
      raise ValueError(f'schedule is {self.schedule!r}; known: '
                       f'{", ".join(SCHEDULES)}')
    if self.schedule == 'cosine' and self.total_updates < 1:
      raise ValueError(f'total_updates is {self.total_updates}; the cosine '
                       'schedule needs >= 1')
    if not self.learning_rate >= 0:
      raise ValueError(f'learning_rate is {self.learning_rate}; it must be '
                       '>= 0')
    for name in ('b1', 'b2'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f'{name} is {getattr(self, name)}; it must be in '
                         '[0, 1)')
    for name in ('eps', 'weight_decay'):
      if not getattr(self, name) >= 0:
        raise ValueError(f'{name} is {getattr(self, name)}; it must be >= 0')
    if not self.clip_norm > 0:
      raise ValueError(f'clip_norm is {self.clip_norm}; it must be > 0')


SCHEDULES = {
    'constant': lambda c: c.learning_rate,
    'cosine': lambda c: optax.cosine_decay_schedule(
        c.learning_rate, max(c.total_updates, 1)),
}


def _floats_to(tree, dtype):
  return jax.tree.map(
      lambda x: x.astype(dtype)
      if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def stored_as(tx, dtype) -> optax.GradientTransformation:
  """Keeps a transformation's floating state in `dtype`, computes as it is."""
  def init(params):
    return _floats_to(tx.init(params), dtype)

  def update(grads, state, params=None):
    grad_dtype = jax.tree.leaves(grads)[0].dtype
    updates, state = tx.update(grads, _floats_to(state, grad_dtype), params)
    return updates, _floats_to(state, dtype)

  return optax.GradientTransformation(init, update)


def adamw(config: AdamWConfig) -> optax.GradientTransformation:
  """Global-norm clipping, then AdamW (Loshchilov and Hutter 2019)."""
  tx = optax.chain(
      optax.clip_by_global_norm(config.clip_norm),
      optax.adamw(SCHEDULES[config.schedule](config), b1=config.b1,
                  b2=config.b2, eps=config.eps,
                  weight_decay=config.weight_decay))
  if config.state_dtype == 'float32':
    return tx
  return stored_as(tx, STATE_DTYPES[config.state_dtype])
