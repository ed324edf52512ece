"""Network families: a readable file for each, and one table of them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from zppo_jax import allowed
from zppo_jax.models import decoder, layers, qwen3_5, qwen3_vl, vision


class Model(NamedTuple):
  """A network as functions.

  Attributes:
    config: its frozen shapes.
    init: key -> params.
    apply: (params, tokens_BT, positions_BTA, segment_BT, cache=None,
      media=None, compact=False) -> (hidden_BTD, NewKV). Positions do not decide
      which tokens see which: with a cache every token sees all valid slots.
      `compact` says that padding stands behind the tokens of every row; a
      recurrent family then need not move them there.
    head: params -> [D, V] matrix from hidden states to logits.
    num_axes: A, the rotary axes of a position.
    family: its key in FAMILIES, set by `build`.
    mesh: the mesh on which it runs (`on_mesh`), or None.
  """
  config: Any
  init: Callable
  apply: Callable
  head: Callable
  num_axes: int = 1
  family: str = ''
  mesh: Any = None


def _decoder(config: decoder.DecoderConfig, mesh=None) -> Model:
  module = decoder.Decoder(config, mesh)

  def init(key):
    one = jnp.ones((1, 1), jnp.int32)
    return module.init(key, one, one[..., None], one)['params']

  def apply(params, tokens_BT, positions_BTA, segment_BT, cache=None,
            media=None, compact=False):
    del compact  # padding may stand anywhere
    if media is not None:
      raise ValueError('the decoder family takes text alone; this batch '
                       'holds images or videos')
    return module.apply({'params': params}, tokens_BT, positions_BTA,
                        segment_BT, cache)

  def head(params):
    return params['embed'].T if config.tied else params['head']

  return Model(config, init, apply, head, mesh=mesh)


def _on_three_axes(network, config, mesh=None) -> Model:
  """A family with positions of (time, height, width), and with a vision tower
  if its config has one."""
  module = network(config, mesh)

  def init(key):
    one = jnp.ones((1, 1), jnp.int32)
    axes = jnp.ones((1, 1, layers.NUM_AXES), jnp.int32)
    media = config.vision and vision.dummy_media(config.vision)
    return module.init(key, one, axes, one, media=media)['params']

  def apply(params, *args, **kwargs):
    return module.apply({'params': params}, *args, **kwargs)

  def head(params):
    return params['embed'].T if config.tied else params['head']

  return Model(config, init, apply, head, layers.NUM_AXES, mesh=mesh)


_qwen3_vl = functools.partial(_on_three_axes, qwen3_vl.Qwen3VL)
_qwen3_5 = functools.partial(_on_three_axes, qwen3_5.Qwen35)


class Family(NamedTuple):
  """A row of FAMILIES.

  Attributes:
    config: the frozen dataclass of the family's shapes.
    build: (config, mesh=None) -> Model.
  """
  config: type
  build: Callable


# If the hub has a family, its name here is the model_type there;
# weights/families.py says how its checkpoints become these networks.
FAMILIES = {
    'decoder': Family(decoder.DecoderConfig, _decoder),
    'llama': Family(decoder.DecoderConfig, _decoder),
    'qwen3': Family(decoder.DecoderConfig, _decoder),
    'qwen3_vl': Family(qwen3_vl.Qwen3VLConfig, _qwen3_vl),
    'qwen3_vl_text': Family(decoder.DecoderConfig, _decoder),
    'qwen3_5': Family(qwen3_5.Qwen35Config, _qwen3_5),
    'qwen3_5_text': Family(qwen3_5.Qwen35Config, _qwen3_5),
}


def build(family: str, **fields) -> Model:
  """A model of a family from its config fields.

  Raises:
    KeyError: for an unknown family; the message names the known ones.
    TypeError, ValueError: for an unknown or impossible field.
  """
  row = allowed.known('model family', family, FAMILIES)
  return _built(family, row.config(**fields))


@functools.lru_cache(maxsize=64)
def _built(family: str, config: Any, mesh: Any = None) -> Model:
  """The same functions for equal networks, which then share their programs
  (devices/shared_jit.py)."""
  return FAMILIES[family].build(config, mesh)._replace(family=family)


def on_mesh(model: Model, mesh) -> Model:
  """The model on a mesh: its attention kernels are those of the mesh
  (attention.choose), and its rows stay where the mesh cuts them (sharding.pin).

  A model without a mesh runs anywhere, with plain XLA attention.
  """
  return _built(model.family, model.config, mesh)


_LATER = {'rope_yarn': (), 'rope_linear': 1.0}


def describe(model: Model) -> dict:
  """The fields, family included, from which `build` makes the model again.

  How the loop over blocks is compiled is left out, because it is not part of
  what the model is. Fields that were added later are left out while they have
  no effect, so that older descriptions still match the same model.
  """
  fields = dataclasses.asdict(model.config)
  del fields['unroll']
  return {'family': model.family, **{
      name: x for name, x in fields.items()
      if not (name in _LATER and x == _LATER[name])}}
