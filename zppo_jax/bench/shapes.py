"""Named models with random weights: the cost to sample, score and update.

They read text alone. Prompts and responses are random ids of exact lengths;
half of all advantages are 1 and half are -1.
"""

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zppo_jax import allowed, assets, models, randomness
from zppo_jax.bench import counting
from zppo_jax.bench.measurements import Work
from zppo_jax.devices import sharding
from zppo_jax.learner import (
  layouts,
  optimizers,
  packing,
  scoring,
  states,
  update as update_lib,
)
from zppo_jax.objectives import losses
from zppo_jax.records import Decoding, TokenSequence, TrainingSequence
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request
from zppo_jax.weights import families, presets, safetensors_file

MICRO_POSITIONS = 4096  # positions of a micro-batch
# The model of the side-by-side comparison in benchmarks/.
_TINY = dict(vocab_size=2048, width=256, num_layers=4, num_heads=8,
             num_kv_heads=4, head_dim=32, mlp_width=768, max_positions=4096,
             tied=True, rope_theta=1e6)
# The numbers of its model card and config.json.
_SMOLLM2 = dict(vocab_size=49152, width=576, num_layers=30, num_heads=9,
                num_kv_heads=3, head_dim=64, mlp_width=1536,
                max_positions=8192, rope_theta=1e5, norm_eps=1e-5,
                qk_norm=False, tied=True)


class Load(NamedTuple):
  """How much is done at once: P prompts with `prompt` tokens each, and G
  rollouts per prompt with `response` tokens each."""
  prompts: int
  prompt: int
  rollouts: int
  response: int

  @property
  def rows(self) -> int:
    return self.prompts * self.rollouts

  @property
  def length(self) -> int:
    return self.prompt + self.response


class Named(NamedTuple):
  """A row of SHAPES.

  Attributes:
    family: a key of models.FAMILIES, or 'preset' or 'asset', which say where
      the fields are taken from.
    fields: the fields of its config, or the name of a preset or an asset.
    load: the load on a CPU.
    device_load: the load on other devices.
  """
  family: str
  fields: Any
  load: Load
  device_load: Load


_LARGE = Load(8, 512, 8, 256)
SHAPES = {
    'micro': Named('asset', 'micro/student', Load(32, 24, 8, 16),
                   Load(32, 24, 8, 16)),
    'tiny': Named('qwen3', _TINY, Load(16, 64, 8, 64), Load(16, 64, 8, 64)),
    'smollm2-135m': Named('llama', _SMOLLM2, Load(2, 32, 4, 16), _LARGE),
    'qwen3.5-0.8b': Named('preset', 'Qwen3.5-0.8B', Load(1, 16, 4, 8), _LARGE),
    'qwen3.5-2b': Named('preset', 'Qwen3.5-2B', Load(1, 16, 4, 8), _LARGE),
}


def names(text: str) -> list[str]:
  """The shapes that a flag names; KeyError lists the known ones."""
  return [allowed.one_of('name in --model', name, SHAPES)
          for name in text.split(',') if name]


def load_of(text: str, name: str) -> Load:
  """The load that a flag such as 8x512x8x256 gives, or the shape's own load.

  Raises:
    ValueError: for anything but four whole numbers >= 1, for responses of one
      token (which leave nothing to decode), or for an odd number of rows.
  """
  if not text:
    row = SHAPES[name]
    return row.load if jax.default_backend() == 'cpu' else row.device_load
  parts = text.split('x')
  if len(parts) != 4 or not all(p.isdecimal() and int(p) for p in parts):
    raise ValueError(f'--load is {text!r}; it must be prompts x tokens x '
                     'rollouts x tokens, e.g. 8x512x8x256')
  load = Load(*map(int, parts))
  allowed.number(f'--load is {text!r}: the length of a response',
                 load.response, '>= 2')
  if load.rows % 2:
    raise ValueError(f'--load is {text!r}: it has {load.rows} rows; their '
                     'number must be even')
  return load


def preset(name: str, dtype: str, remat: str) -> models.Model:
  """A published size (weights/presets.py) without its vision tower."""
  hub = presets.PRESETS[name].config
  row = families.FAMILIES[hub['model_type']]
  config = dataclasses.replace(row.from_hub(hub), dtype=dtype, remat=remat)
  if hasattr(config, 'vision'):
    config = dataclasses.replace(config, vision=None)
  return row.build(config)._replace(family=hub['model_type'])


def build(name: str, dtype: str, remat: str) -> models.Model:
  """The model of a row of SHAPES."""
  row = SHAPES[name]
  if row.family == 'preset':
    return preset(row.fields, dtype, remat)
  fields = row.fields
  if row.family == 'asset':
    fields = safetensors_file.description(assets.find(fields))['model']
  else:
    fields = {'family': row.family, **fields}
  return models.build(**{'family': 'decoder', **fields, 'dtype': dtype,
                         'remat': remat})


class _Ids(NamedTuple):
  """A codec of bare ids, none of which ends a response."""
  vocab_size: int
  end_id: int
  sampled_ids: frozenset


class _Chat(NamedTuple):
  codec: _Ids

  def decode_response(self, tokens) -> str:
    return ''


class ShapeSetting:
  """A model on one device, and ids for its load.

  Args:
    model: the network.
    load: how much is done at once.
  """

  def __init__(self, model: models.Model, load: Load):
    self.mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=1,
                                                       tensor=1))
    self.model, self.load = models.on_mesh(model, self.mesh), load
    self.counted = counting.count(model)
    V, rng = model.config.vocab_size, np.random.default_rng(0)
    self.prompts_PT = rng.integers(0, V, (load.prompts, load.prompt))
    self.responses_BR = rng.integers(0, V, (load.rows, load.response))

  @functools.cached_property
  def params(self):
    """The parameters in float32, on the device."""
    return jax.jit(self.model.init)(jax.random.key(0))

  @property
  def rows(self) -> list[TrainingSequence]:
    prompts = np.repeat(self.prompts_PT, self.load.rollouts, 0)
    return [packing.weighted(
        TokenSequence(prompt=p, response=r), advantage=1.0 - 2 * (b % 2))
        for b, (p, r) in enumerate(zip(prompts, self.responses_BR,
                                       strict=True))]

  @property
  def batches(self) -> list:
    """Micro-batches of at most MICRO_POSITIONS, all of one shape and as even
    as groups allow. A prompt is stored once for all of its rows that fit."""
    load = self.load
    group = load.prompt + load.rollouts * load.response
    most = max(1, MICRO_POSITIONS // group)
    even = -(-load.prompts // -(-load.prompts // most))
    layout = layouts.Layout(
        'shared', min(MICRO_POSITIONS, even * group), 1, load.rollouts,
        (), (load.prompt,), (load.response,), (), self.model.num_axes)
    units = [self.rows[i:i + load.rollouts]
             for i in range(0, load.rows, load.rollouts)]
    return [sharding.put_batch(self.mesh, batch)
            for batch in layouts.LAYOUTS['shared'](units, layout)]


def sample(s: ShapeSetting) -> Work:
  """Rollouts of exact lengths at temperature 1."""
  load, c = s.load, s.model.config
  codec = _Ids(c.vocab_size, c.vocab_size, frozenset(range(c.vocab_size)))
  engine = make_engine(
      model=s.model, mesh=s.mesh, chat=_Chat(codec), max_tokens=load.response,
      num_rollouts=(load.rollouts,), prompt_buckets=(load.prompt,),
      group_buckets=(load.prompts,))
  params = weight_sync.place_copy(s.params, s.model, s.mesh)
  del s.params  # the copy is enough for sampling

  def once(i):
    keys = randomness.rollout_key_data(
        randomness.step_key(i, 0, 1), list(range(load.prompts)),
        [0] * load.prompts, load.rollouts)
    return engine.generate(params, [
        Request(id=p, tokens=tuple(map(int, ids)), key_G2=keys[p],
                decoding=Decoding(load.response))
        for p, ids in enumerate(s.prompts_PT)])
  width = jnp.dtype(c.dtype).itemsize
  return Work(once, load._asdict(), counting.sample_flops(s.counted, *load),
              counting.sample_bytes(s.counted, *load, weight_bytes=width,
                                    cache_bytes=width))


def _shardings(s: ShapeSetting):
  tx = optimizers.adamw(optimizers.AdamWConfig())
  return tx, states.state_shardings(s.model, tx, s.mesh)


def score(s: ShapeSetting) -> Work:
  """Log-probs of all responses by the trainer's graph."""
  run = scoring.compile_scorer(
      model=s.model, mesh=s.mesh, shardings=_shardings(s)[1], temperature=1.0,
      chunk=1024)
  batches, load = s.batches, s.load
  return Work(
      lambda i: jax.block_until_ready([run(s.params, b) for b in batches]),
      load._asdict(), counting.train_flops(
          s.counted, *load, shared=True) // counting.TRAIN)


def update(s: ShapeSetting) -> Work:
  """Gradient of the clipped loss over all rows, one AdamW step."""
  tx, shardings = _shardings(s)
  run = update_lib.compile_update(
      loss_fn=functools.partial(
          update_lib.policy_loss, model=s.model, temperature=1.0, chunk=1024,
          old_logps=update_lib.own_old_logps, loss=functools.partial(
              losses.clipped_surrogate, clip=losses.ClipBounds())),
      tx=tx, mesh=s.mesh, shardings=shardings)
  state = [states.new_state(s.params, tx, shardings)]
  del s.params  # the state holds a copy
  batches, load = s.batches, s.load

  def once(i):
    state[0] = jax.block_until_ready(run(
        state[0], batches, float(load.rows * load.response))[0])
  return Work(once, load._asdict(), counting.train_flops(
      s.counted, *load, shared=True))


MEASUREMENTS = {'sample': sample, 'score': score, 'update': update}


def needed(measurement: str, s: ShapeSetting) -> int:
  """The bytes that a measurement needs at least; activations are left out.

  Sampling holds weights in float32 and in the compute type. Every measurement
  draws random weights, which takes twice their memory. An update holds weights,
  gradient and two bfloat16 moments, and during its step two more arrays of the
  size of the weights.
  """
  width = jnp.dtype(s.model.config.dtype).itemsize
  each = {'sample': max(4 + width, 8), 'score': 8, 'update': 12 + 8}
  return each[measurement] * s.counted.params


def here() -> int | None:
  """Memory of the first device in bytes; for CPUs, that of the machine."""
  if jax.default_backend() == 'cpu':
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return (jax.devices()[0].memory_stats() or {}).get('bytes_limit')
