"""Training MFU and decoding bandwidth of a preset's shapes, random weights.

  python -m benchmarks.gpu --model=Qwen3.5-0.8B --batches=64,256 --to=FILE.json
  python -m benchmarks.gpu --model=Qwen3.5-2B --profile=DIR --to=FILE.json

Limits are measured in the same run, not read from a data sheet. Where torch
and transformers can be imported, `--peer` times their training step and
`generate` on the same shapes in the same call; a vision tower is left out on
both sides. `--model=tiny` is the side-by-side Qwen3, `tiny-qwen3_5` a DeltaNet
model of that size: they are for a CPU.
"""

import argparse
import collections
import functools
import gzip
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side import work
from benchmarks.side_by_side.engines import engine_of, generate
from zppo_jax import models
from zppo_jax.bench import command, counting, roofline, shapes
from zppo_jax.devices import sharding
from zppo_jax.learner import optimizers, packing, states, update
from zppo_jax.objectives import losses
from zppo_jax.records import TokenSequence
from zppo_jax.rollout import weight_sync
from zppo_jax.study.tables import markdown
from zppo_jax.weights import families, presets

TINY_DELTA = dict(
    vocab_size=512, width=64, num_layers=4, num_heads=4, num_kv_heads=2,
    head_dim=32, mlp_width=160, max_positions=4096, delta_key_heads=2,
    delta_value_heads=4, delta_key_dim=16, delta_value_dim=16,
    rotary_share=0.5, rope_sections=(4, 2, 2), tied=True)
TINY = {'tiny': ('qwen3', {**work.SHAPE, 'max_positions': 4096}),
        'tiny-qwen3_5': ('qwen3_5', TINY_DELTA)}


def build(name: str, dtype: str, remat: str):
  """A model of text alone; ValueError names the known ones."""
  if name in TINY:
    family, fields = TINY[name]
    return models.build(family, **{**fields, 'dtype': dtype, 'remat': remat})
  if name not in presets.PRESETS:
    raise ValueError(f'--model is {name!r}; known: '
                     f'{", ".join([*TINY, *presets.PRESETS])}')
  return shapes.preset(name, dtype, remat)


def timed(once, repeats: int) -> dict:
  """First call apart, then the spread of `repeats`."""
  begun = time.perf_counter()
  jax.block_until_ready(once())
  first, seconds = time.perf_counter() - begun, []
  for _ in range(repeats):
    begun = time.perf_counter()
    jax.block_until_ready(once())
    seconds.append(time.perf_counter() - begun)
  return {'first_s': first, **roofline.spread(seconds)}


def train(model, mesh, rows: int, length: int, repeats: int, limit) -> dict:
  """Gradient and optimizer step over `rows` rows; half of each is response."""
  tx = optimizers.adamw(optimizers.AdamWConfig(
      learning_rate=1e-6, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1,
      clip_norm=1.0, state_dtype='bfloat16', schedule='constant'))
  shardings = states.state_shardings(model, tx, mesh)
  loss_fn = functools.partial(
      update.policy_loss, model=model, temperature=1.0, chunk=1024,
      old_logps=update.own_old_logps, loss=functools.partial(
          losses.clipped_surrogate,
          clip=losses.ClipBounds(low=0.2, high=0.28, dual=10.0)))
  update_fn = update.compile_update(
      loss_fn=loss_fn, tx=tx, mesh=mesh, shardings=shardings)
  state = states.new_state(
      jax.jit(model.init)(jax.random.key(0)), tx, shardings)
  rng, half = np.random.default_rng(0), length // 2
  ids = rng.integers(0, model.config.vocab_size, (rows, length))
  batch = packing.pad_rows(
      [packing.weighted(TokenSequence(prompt=r[:half], response=r[half:]),
                        advantage=a)
       for r, a in zip(ids, rng.standard_normal(rows), strict=True)],
      rows, length, num_axes=model.num_axes)
  batch = sharding.put_batch(mesh, batch)
  held = [state]

  def once():
    held[0] = update_fn(held[0], [batch], float(rows * (length - half)))[0]
    return held[0]

  found = timed(once, repeats)
  flops = counting.train_flops(
      counting.count(model), rows, half, 1, length - half)
  return {**found, 'rows': rows, 'length': length, 'flops': flops,
          'of_matmul': flops / found['median_s'] / limit['flops']}


def decode(model, mesh, params, rows: int, prompt: int, response: int,
           repeats: int, limit) -> dict:
  """Whole generations of two lengths: their difference is decoding alone."""
  ids = np.random.default_rng(0).integers(
      0, model.config.vocab_size, (rows, prompt))
  engine = engine_of(model, mesh, end_id=model.config.vocab_size,
                     max_tokens=response, prompt=prompt, rows=rows, slots=rows)
  both = {n: timed(lambda n=n: generate(
      engine, params, ids, [n] * rows, seed=0)[0].logps[-1], repeats)
          for n in (response // 2, response)}
  c = counting.count(model)
  width = jnp.dtype(model.config.dtype).itemsize
  steps = range(response // 2, response)
  by_part = collections.Counter()
  for i in steps:
    by_part.update(counting.decode_bytes(
        c, rows, prompt + i, weight_bytes=width, cache_bytes=width))
  seconds = both[response]['median_s'] - both[response // 2]['median_s']
  return {'rows': rows, 'prompt': prompt, 'response': response,
          'first_s': both[response]['first_s'],
          'whole_s': both[response]['median_s'],
          'seconds_per_step': seconds / len(steps),
          'tokens_per_s': rows * len(steps) / seconds,
          'bytes': dict(by_part),
          'of_bandwidth': by_part['total'] / seconds / limit['bytes']}


def largest_ops(folder: pathlib.Path, count: int = 15) -> list[dict]:
  """Operations of a jax.profiler trace by total time; ValueError if none."""
  files = sorted(pathlib.Path(folder).rglob('*.trace.json.gz'))
  if not files:
    raise ValueError(f'no trace under {folder}')
  events = json.loads(gzip.decompress(files[-1].read_bytes()))['traceEvents']
  total, times = collections.Counter(), collections.Counter()
  for e in events:
    if e.get('ph') == 'X' and 'hlo_op' in e.get('args', {}):
      total[e['args']['hlo_op']] += e.get('dur', 0)
      times[e['args']['hlo_op']] += 1
  return [{'op': op, 'ms': us / 1e3, 'times': times[op]}
          for op, us in total.most_common(count)]


def peer(name: str, model, rows: int, length: int, batches, prompt: int,
         response: int, repeats: int) -> dict:
  """transformers on the same shapes: training step and generate, torch's
  device; KeyError where the family has no hub form."""
  import torch
  import transformers as tf
  row = families.FAMILIES[model.family]
  hub = row.to_hub(model.config)
  hub = hub.get('text_config', hub)
  kind = hub.pop('model_type')
  config = tf.AutoConfig.for_model(kind, **hub)
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  dtype = getattr(torch, model.config.dtype)
  net = tf.AutoModelForCausalLM.from_config(
      config, dtype=dtype, attn_implementation='sdpa').to(device)
  wait = torch.cuda.synchronize if device == 'cuda' else (lambda: None)
  optimizer = torch.optim.AdamW(net.parameters(), lr=1e-6)
  ids = torch.randint(0, model.config.vocab_size, (rows, length),
                      device=device)
  half = length // 2
  adv = torch.randn(rows, 1, device=device)

  def step():
    logits = net(ids, logits_to_keep=length - half + 1).logits[:, :-1]
    logp = torch.log_softmax(logits.float(), -1).gather(
        -1, ids[:, half:, None])[..., 0]
    loss = -(torch.exp(logp - logp.detach()) * adv).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    wait()

  out = {'device': device, 'torch': torch.__version__,
         'transformers': tf.__version__, 'train': timed(step, repeats)}
  net.eval()
  for b in batches:
    prompts = torch.randint(0, model.config.vocab_size, (b, prompt),
                            device=device)

    def sample(prompts=prompts):
      with torch.inference_mode():
        net.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True,
            top_k=0, max_new_tokens=response,
            eos_token_id=model.config.vocab_size,
            pad_token_id=model.config.vocab_size)
      wait()

    out[f'generate_{b}'] = timed(sample, repeats)
  return out


def table(found: dict) -> str:
  """Markdown of what `main` writes."""
  t, peers = found['train'], found.get('peer')
  rows = [['', 'shape', 'seconds', 'share of the limit', 'transformers s']]
  rows.append(['training step', f'{t["rows"]} x {t["length"]}',
               f'{t["median_s"]:.3f}', f'{t["of_matmul"]:.1%} of matmul rate',
               f'{peers["train"]["median_s"]:.3f}' if peers else ''])
  for d in found['decode']:
    other = peers and peers[f'generate_{d["rows"]}']['median_s']
    rows.append([
        'generation', f'{d["rows"]} x ({d["prompt"]} + {d["response"]})',
        f'{d["whole_s"]:.3f}', f'{d["of_bandwidth"]:.1%} of bandwidth in '
        'decoding', f'{other:.3f}' if peers else ''])
  return markdown(rows)


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default='Qwen3.5-0.8B')
  parser.add_argument('--dtype', default='bfloat16')
  parser.add_argument('--remat', default='full')
  parser.add_argument('--rows', type=int, default=8)
  parser.add_argument('--length', type=int, default=2048)
  parser.add_argument('--batches', default='64,256')
  parser.add_argument('--prompt', type=int, default=512)
  parser.add_argument('--response', type=int, default=256)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--peer', action='store_true')
  parser.add_argument('--profile', type=pathlib.Path)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  f = parser.parse_args(argv)
  model = build(f.model, f.dtype, f.remat)
  mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=1, tensor=1))
  sizes = (256, 512) if f.model in TINY else (4096, 8192)
  limit = roofline.measure(f.dtype, sizes, (
      1 << 20 if f.model in TINY else 1 << 30))
  found = {'machine': command.where(), 'model': f.model, 'dtype': f.dtype,
           'remat': f.remat, 'roofline': limit,
           'train': train(model, mesh, f.rows, f.length, f.repeats, limit)}
  params = weight_sync.place_copy(
      jax.jit(model.init)(jax.random.key(0)), model, mesh)
  batches = [int(b) for b in f.batches.split(',')]
  found['decode'] = [
      decode(model, mesh, params, b, f.prompt, f.response, f.repeats, limit)
      for b in batches]
  if f.profile:
    with jax.profiler.trace(str(f.profile)):
      train(model, mesh, f.rows, f.length, 1, limit)
    found['largest_ops'] = largest_ops(f.profile)
  found['peak_memory'] = command.peak_memory()
  if f.peer:
    found['peer'] = peer(f.model, model, f.rows, f.length, batches, f.prompt,
                         f.response, f.repeats)
  f.to.parent.mkdir(parents=True, exist_ok=True)
  f.to.write_text(json.dumps(found, indent=1) + '\n')
  print(table(found))
  for op in found.get('largest_ops', ()):
    print(f'{op["ms"]:10.2f} ms {op["times"]:5d} x {op["op"]}')


if __name__ == '__main__':
  main()
