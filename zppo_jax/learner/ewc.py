"""Elastic weight consolidation: parameters are held where they once were.

  penalty = coefficient / 2 x sum_i F_i (theta_i - start_i)^2

(Kirkpatrick et al. 2017, arXiv 1612.00796, Eq. 3.) `start` is student.weights,
and F the diagonal of their Fisher information on what is to be remembered:

  F_i = E over x, y ~ p(y | x) of (d log p(y | x) / d theta_i)^2

y is a whole response, so that F is in nats^2 per response. `zppo fisher` takes
the mean over the model's own responses to the questions of a config.

The penalty depends on parameters alone. Its gradient, coefficient x F x (theta
- start), therefore joins the mean gradient once per optimizer step, before the
global norm is taken; no micro-batch reads it.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax import allowed
from zppo_jax.arrays import MicroBatch
from zppo_jax.devices.shared_jit import shared_jit


@dataclasses.dataclass(frozen=True)
class EwcConfig:
  """The section `algorithm.ewc`.

  Attributes:
    coefficient: lambda; 0 for no penalty.
    fisher: the file that `zppo fisher` wrote; '' for no penalty.
  """
  coefficient: float = 0.0
  fisher: str = ''

  def __post_init__(self) -> None:
    allowed.number('algorithm.ewc.coefficient', self.coefficient, '>= 0')
    if bool(self.coefficient) != bool(self.fisher):
      raise ValueError(
          f'algorithm.ewc.coefficient is {self.coefficient} and '
          f'algorithm.ewc.fisher {self.fisher!r}; a file is named exactly for '
          'a coefficient above 0')


class Anchor(NamedTuple):
  """What holds the parameters.

  Attributes:
    coefficient: lambda.
    start: the parameters that are returned to, sharded as params.
    fisher: F of each of them, float32, sharded as params.
  """
  coefficient: float
  start: Any
  fisher: Any

  @property
  def arrays(self) -> tuple[Any, Any]:
    """(start, fisher)."""
    return self.start, self.fisher

  def pull(self, grads: Any, params: Any, start: Any, fisher: Any) -> Any:
    """The gradient with that of the penalty."""
    return jax.tree.map(
        lambda g, p, s, f: g + (self.coefficient * f * (p - s)).astype(g.dtype),
        grads, params, start, fisher)

  def penalty(self, params: Any, start: Any, fisher: Any) -> jax.Array:
    """The penalty, a scalar."""
    parts = jax.tree.map(lambda p, s, f: jnp.sum(f * jnp.square(p - s)),
                         params, start, fisher)
    return self.coefficient / 2 * jax.tree.reduce(jnp.add, parts)


def like(params: Any) -> Any:
  """The shapes of the diagonal of some parameters' Fisher information."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), params)


def check(path: str, fisher: Any) -> None:
  """ValueError for a diagonal with a negative entry, naming the tensor."""
  for of, leaf in jax.tree_util.tree_flatten_with_path(fisher)[0]:
    allowed.number(f'algorithm.ewc.fisher: the least entry of '
                   f'{jax.tree_util.keystr(of)} in {path}',
                   float(np.min(leaf, initial=0)), '>= 0')


def _add_squares(total: Any, params: Any, batch: MicroBatch, *,
                 loss_fn: Any) -> Any:
  grads = jax.grad(loss_fn, has_aux=True)(params, batch)[0]
  return jax.tree.map(
      lambda a, g: a + jnp.square(g.astype(jnp.float32)), total, grads)


def compile_fisher(loss_fn: Any, shardings: Any, rows: Any) -> Any:
  """(sum, params, micro-batch) -> the sum + the squared gradient.

  Args:
    loss_fn: (params, micro-batch) -> (loss sum, Sums). With one response per
      micro-batch and its negative log-likelihood the sum becomes that of F.
    shardings: those of params.
    rows: that of micro-batches.
  """
  return shared_jit(
      functools.partial(_add_squares, loss_fn=loss_fn),
      in_shardings=(shardings, shardings, rows), out_shardings=shardings,
      donate_argnums=0)
