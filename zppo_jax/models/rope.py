"""Rotary frequencies that are scaled for longer sequences; pure numbers.

A family's config names the scaling in its fields `rope_yarn` and `rope_linear`
(decoder.DecoderConfig). Frequencies are computed on the host, in the order and
the precision of the hub's own classes, because at position 100,000 an error of
one unit in the last place of a frequency is an angle of 0.006.
"""

import math
from typing import NamedTuple

import numpy as np

from zppo_jax import allowed
from zppo_jax.models import layers


class Yarn(NamedTuple):
  """YaRN (Peng et al. 2023), as a config holds it.

  Attributes:
    factor: how many times longer sequences get.
    original: the number of positions in pretraining.
    beta_fast: a pair that turns more often than this in `original` positions
      keeps its frequency.
    beta_slow: a pair that turns less often than this has its frequency divided
      by `factor`.
    attention: factor on cos and sin.
    truncate: 1 rounds the range between beta_fast and beta_slow outwards to
      whole pairs.
  """
  factor: float
  original: float
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  attention: float = 1.0
  truncate: float = 1.0


def check(config) -> None:
  """ValueError if the fields of a config do not describe a scaling."""
  if len(config.rope_yarn) not in (0, len(Yarn._fields)):
    raise ValueError(f'rope_yarn is {config.rope_yarn}; it must hold '
                     f'({", ".join(Yarn._fields)}) or nothing')
  allowed.number('rope_linear', config.rope_linear, '> 0')
  kinds = [name for name, used in (
      ('rope_llama3', getattr(config, 'rope_llama3', ())),
      ('rope_yarn', config.rope_yarn),
      ('rope_linear', config.rope_linear != 1)) if used]
  if len(kinds) > 1:
    raise ValueError(f'{" and ".join(kinds)} are both set; allowed: one kind '
                     'of rotary scaling')


def mscale(factor: float, by: float = 1.0) -> float:
  """YaRN's factor on cos and sin for sequences `factor` times as long."""
  return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0


def _yarn(rotary_dim: int, theta: float, yarn: Yarn, dtype) -> np.ndarray:
  def pair(turns):
    return (rotary_dim * math.log(yarn.original / (turns * 2 * math.pi))
            / (2 * math.log(theta)))

  low, high = pair(yarn.beta_fast), pair(yarn.beta_slow)
  if yarn.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, rotary_dim - 1)
  if low == high:
    high += 0.001
  power = _powers(rotary_dim, theta, dtype)
  ramp = np.clip((np.arange(rotary_dim // 2, dtype=dtype) - dtype(low))
                 / dtype(high - low), dtype(0), dtype(1))
  share = 1 - ramp
  return 1 / (dtype(yarn.factor) * power) * (1 - share) + 1 / power * share


def _powers(rotary_dim: int, theta: float, dtype) -> np.ndarray:
  """theta^(2i / rotary_dim), rounded once."""
  exponent = np.arange(0, rotary_dim, 2, dtype=dtype) / dtype(rotary_dim)
  return (np.float64(theta)**exponent.astype(np.float64)).astype(dtype)


def table(config, rotary_dim: int) -> np.ndarray:
  """The angle per position of each rotary pair, scaled or not, in float32."""
  angles, _ = frequencies(config, rotary_dim, np.float32)
  if angles is not None:
    return angles
  plain = 1 / _powers(rotary_dim, config.rope_theta, np.float32)
  scaled = getattr(config, 'rope_llama3', ())
  return plain * layers.llama3_scale(
      rotary_dim, config.rope_theta, *scaled) if scaled else plain


def frequencies(config, rotary_dim: int, dtype):
  """The angle per position of each rotary pair, and the factor on cos and sin.

  Args:
    config: a config with `rope_theta`, `rope_yarn` and `rope_linear`.
    rotary_dim: the number of dimensions that are turned.
    dtype: float32 or float64.

  Returns:
    ([rotary_dim / 2] array or None if nothing is scaled, factor).
  """
  dtype = np.dtype(dtype).type
  if config.rope_yarn:
    yarn = Yarn(*config.rope_yarn)
    return _yarn(rotary_dim, config.rope_theta, yarn, dtype), yarn.attention
  if config.rope_linear != 1:
    power = _powers(rotary_dim, config.rope_theta, dtype)
    return 1 / power / dtype(config.rope_linear), 1.0
  return None, 1.0
