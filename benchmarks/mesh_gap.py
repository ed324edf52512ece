"""bf16: sampler against trainer over meshes and the trainer's layouts.

  python -m benchmarks.mesh_gap --to=benchmarks/results/mesh_gap.json
  python -m benchmarks.mesh_gap --table=benchmarks/results/mesh_gap.json

The rollout engine draws on a mesh, and the trainer scores the same tokens on
that mesh, padded, packed and behind shared prompts. The devices are simulated
on the CPU's cores. The first command takes minutes on two of them; the second
prints the table of docs/numerics.md.
"""

import argparse
import json
import pathlib
import time
import types

import jax
import numpy as np

from benchmarks import numerics, random_models
from zppo_jax import models, randomness
from zppo_jax.devices import cpu_devices, sharding
from zppo_jax.learner import layouts, packing, scoring
from zppo_jax.randomness import Purpose
from zppo_jax.records import Decoding, TokenSequence
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request

FAMILIES = ('qwen3', 'qwen3_5')
MESHES = {'1 device': sharding.MeshConfig(),
          'fsdp 8': sharding.MeshConfig(fsdp=8),
          'fsdp 4 x tensor 2': sharding.MeshConfig(fsdp=4, tensor=2)}
SEEDS = 3
PROMPTS = (3, 16, 9, 12, 5, 16, 7, 14)  # tokens
LIMITS = (48, 4, 17, 33, 8, 40, 21, 12)  # response tokens of each prompt
SAMPLES = 2  # of each prompt
ROW = 64  # positions of a row that holds its prompt, and of a response
CHUNK = 64  # positions whose logits exist at a time
TEMPERATURE = 0.8


def draw(engine, model, mesh, params, seed: int) -> list[list]:
  """Training sequences with the sampler's log-probs, by prompt."""
  rng = np.random.default_rng(seed)
  asked = [tuple(rng.integers(2, random_models.IMAGE, size).tolist())
           for size in PROMPTS]
  keys = randomness.rollout_key_data(
      randomness.step_key(seed, 0, Purpose.ROLLOUT), range(len(asked)),
      [0] * len(asked), SAMPLES)
  replies = engine.generate(
      weight_sync.place_copy(params, model, mesh),
      [Request(i, tokens, key, Decoding(limit, TEMPERATURE, 1.0))
       for i, (tokens, key, limit) in enumerate(
           zip(asked, keys, LIMITS, strict=True))])
  return [[packing.weighted(TokenSequence(prompt=tokens, response=r.tokens),
                            sampler_logp=np.asarray(r.logps, np.float32))
           for r in group] for tokens, group in zip(asked, replies,
                                                    strict=True)]


def gap(scorer, params, units, kind: str, mesh, num_axes: int) -> dict:
  """numerics.gap over all drawn tokens in one layout."""
  layout = layouts.Layout(
      kind=kind, max_tokens=sharding.batch_shards(mesh) * 2 * ROW,
      multiple=sharding.batch_shards(mesh), rollouts=SAMPLES,
      row_buckets=(ROW,), prompt_buckets=(max(PROMPTS),),
      response_buckets=(ROW,), patch_buckets=(), num_axes=num_axes)
  stored, scored = [], []
  for batch in layouts.LAYOUTS[kind](units, layout):
    logp, *_ = sharding.to_host(scorer(params, sharding.put_batch(mesh, batch)))
    on = batch.mask_BT > 0
    stored.append(batch.targets['sampler_logp'][on])
    scored.append(logp[on])
  stored, scored = np.concatenate(stored), np.concatenate(scored)
  if len(stored) != SAMPLES * sum(LIMITS):
    raise ValueError(f'layout {kind!r} holds {len(stored)} response tokens; '
                     f'{SAMPLES * sum(LIMITS)} were drawn')
  return {'tokens': len(stored)} | numerics.gap(stored, scored)


def measure(family: str, mesh_name: str, seeds) -> list[dict]:
  """A record per seed and layout.

  Args:
    family: in FAMILIES.
    mesh_name: in MESHES.
    seeds: of weights, prompts and draws.
  """
  config = MESHES[mesh_name]
  mesh = sharding.make_mesh(config, jax.devices()[:int(np.prod(config.shape))])
  model = models.on_mesh(
      random_models.build(family, 0, 'bfloat16')[0], mesh)
  codec = types.SimpleNamespace(
      vocab_size=model.config.vocab_size, end_id=numerics.END_ID,
      sampled_ids=range(2, random_models.IMAGE))
  engine = make_engine(
      model=model, mesh=mesh, max_tokens=max(LIMITS), num_rollouts=(SAMPLES,),
      chat=types.SimpleNamespace(codec=codec, decode_response=lambda t: ''),
      prompt_buckets=(max(PROMPTS),), group_buckets=(len(PROMPTS),))
  trained = sharding.param_shardings(
      random_models.build(family, 0)[1], mesh, sharding.TRAIN_RULES)
  scorer = scoring.compile_scorer(
      model=model, mesh=mesh, temperature=TEMPERATURE, chunk=CHUNK,
      shardings=types.SimpleNamespace(params=trained))
  records = []
  for seed in seeds:
    params = random_models.build(family, seed)[1]
    units = draw(engine, model, mesh, params, seed)
    placed = jax.device_put(params, trained)
    records += [{'family': family, 'mesh': mesh_name, 'layout': kind,
                 'seed': seed} | gap(scorer, placed, units, kind, mesh,
                                     model.num_axes)
                for kind in layouts.LAYOUTS]
  return records


def table(data: dict) -> str:
  """Markdown of the results: a line per family and mesh."""
  lines = ['| family | mesh | ' + ' | '.join(layouts.LAYOUTS) + ' |',
           '|---|---|' + '---|' * len(layouts.LAYOUTS)]
  for family in FAMILIES:
    for mesh in MESHES:
      cells = []
      for kind in layouts.LAYOUTS:
        records = [r for r in data['gaps'] if (
            r['family'], r['mesh'], r['layout']) == (family, mesh, kind)]
        cells.append(f'{np.mean([r["mean"] for r in records]):.1e} '
                     f'({np.mean([r["p99"] for r in records]):.1e})')
      lines.append(f'| {family} | {mesh} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path)
  parser.add_argument('--table', type=pathlib.Path)
  parser.add_argument('--seeds', type=int, default=SEEDS)
  args = parser.parse_args()
  if (args.to is None) == (args.table is None):
    parser.error('one of --to and --table is needed')
  if args.table:
    print(table(json.loads(args.table.read_text())))
    return
  cpu_devices.ensure(max(MESHES.values(), key=lambda c: np.prod(c.shape)))
  begun, records = time.perf_counter(), []
  for family in FAMILIES:
    for mesh in MESHES:
      records += measure(family, mesh, range(args.seeds))
      print(f'{family}, {mesh}: {time.perf_counter() - begun:.0f} s',
            flush=True)
  data = {'command': f'python -m benchmarks.mesh_gap --seeds={args.seeds}',
          'seeds': list(range(args.seeds)), 'gaps': records,
          'machine': numerics.machine(),
          'seconds': time.perf_counter() - begun}
  args.to.parent.mkdir(parents=True, exist_ok=True)
  args.to.write_text(json.dumps(data, indent=1) + '\n')
  print(table(data))


if __name__ == '__main__':
  main()
