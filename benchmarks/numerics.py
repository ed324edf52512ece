"""How far log-probs move with type, batch, chunk and program.

  python -m benchmarks.numerics --to=benchmarks/results/numerics.json
  python -m benchmarks.numerics --big=Qwen3.5-0.8B --to=FILE

The first takes minutes on two CPU cores; docs/numerics.md shows its result. The
second, where an accelerator is at hand, compares it with the CPU on a preset's
shapes with random weights, and cuDNN attention with the plain path.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks import random_models
from zppo_jax.chat import images
from zppo_jax.learner import forward, packing
from zppo_jax.models import gated_delta, layers
from zppo_jax.records import (
  Decoding,
  Prompt,
  PromptKind,
  Question,
  TokenSequence,
)
from zppo_jax.rollout import decode, decode_state, weight_sync
from zppo_jax.study.launch import machine
from zppo_jax.weights import families, presets

END_ID = 1  # never drawn here: all responses have one length
# name -> (family, whether the prompt holds an image)
CASES = {'llama': ('llama', False), 'qwen3': ('qwen3', False),
         'qwen3_vl': ('qwen3_vl', False), 'qwen3_vl, image': ('qwen3_vl', True),
         'qwen3_5': ('qwen3_5', False), 'qwen3_5, image': ('qwen3_5', True)}
LENGTHS = ((32, 32), (256, 256))  # prompt, response
ROWS = (1, 16)
CHUNKS = (64, 1024)  # positions whose logits exist at a time
DELTA_CHUNKS = (16, 64)


def behind_a_picture(config, text: list[int], seed: int):
  """(tokens, media) of a prompt: a random picture, then text."""
  c, rng = config.vision, np.random.default_rng(seed)
  pixels = images.Pixels(256, 1024, (0.5,) * 3, (0.5,) * 3)
  processor = images.Processor(c, pixels, pixels)
  seen = processor.see((images.picture(Image.fromarray(
      rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))),))
  count = len(seen.patches_IC) // c.merge**2
  tokens = [c.start_id, *[c.image_id] * count, c.end_id, *text]
  return tokens, processor.media(seen, tokens)


def prompts(model, rows: int, length: int, image: bool, seed: int):
  """Random prompts of `length` text tokens, a picture before them if asked."""
  rng = np.random.default_rng([seed, rows, length])
  out = []
  for i in range(rows):
    tokens, media = rng.integers(2, random_models.IMAGE, length).tolist(), None
    if image:
      tokens, media = behind_a_picture(model.config, tokens, seed + i)
    out.append(Prompt(Question(f'{i}', '', '', ''), PromptKind.PLAIN,
                      tuple(tokens), media))
  return out


@functools.cache
def _sampler(model, limit: int):
  allowed = np.arange(model.config.vocab_size) < random_models.IMAGE
  allowed[END_ID] = False
  def run(params, batch, keys):
    return decode.sample(
        params, batch, keys, model=model, decoding=Decoding(limit),
        end_id=END_ID, allowed_V=jnp.asarray(allowed))
  return jax.jit(run)


@functools.cache
def _scorer(model, chunk: int, delta_chunk: int):
  del delta_chunk  # part of the cache's key: traced with it
  return jax.jit(functools.partial(
      forward.token_logps, model=model, temperature=1.0, chunk=chunk))


def score(model, params, asked, responses, chunk: int, delta_chunk: int):
  """Trainer's log-probs [rows, response] of given responses."""
  rows = [TokenSequence(prompt=p.tokens, response=r, media=p.media)
          for p, r in zip(asked, responses, strict=True)]
  length = max(map(len, rows))
  patches = max((len(r.media.patches_IC) for r in rows if r.media), default=0)
  batch = packing.pad_rows([packing.to_score(r) for r in rows], len(rows),
                           length, patches, model.num_axes)
  chunked = functools.partial(gated_delta.chunked, chunk=delta_chunk)
  with mock.patch.object(gated_delta, 'chunked', chunked):
    logp, _ = _scorer(model, chunk, delta_chunk)(params, batch)
  return np.stack([np.asarray(logp)[b, len(r.prompt):len(r.prompt) + len(
      r.response)] for b, r in enumerate(rows)])


def gap(a, b) -> dict[str, float]:
  """Of two arrays of log-probs, nats."""
  d = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
  return {'mean': float(d.mean()), 'p99': float(np.quantile(d, 0.99)),
          'max': float(d.max())}


def measure(name: str, *, rows: int, lengths: tuple[int, int], seed: int,
            chunks=CHUNKS, delta_chunks=DELTA_CHUNKS) -> list[dict]:
  """Gaps of one case at one batch size and length, both types.

  Args:
    name: in CASES.
    rows: prompts, one response each.
    lengths: text tokens of the prompt, tokens of the response.
    seed: of weights, prompts and draws.
    chunks: log-prob chunks of the trainer.
    delta_chunks: DeltaNet chunks of the trainer; others have none.

  Returns:
    A row per type and chunk: sampler against trainer, and the trainer's
    float32 log-probs of the same tokens.
  """
  family, image = CASES[name]
  exact, params = random_models.build(family, seed)
  out = []
  for dtype in ('float32', 'bfloat16'):
    model, _ = random_models.build(family, seed, dtype)
    asked = prompts(model, rows, lengths[0], image, seed)
    patches = max((len(p.media.patches_IC) for p in asked if p.media),
                  default=0)
    batch = packing.pad_prompts(asked, rows, len(asked[0].tokens), patches,
                                model.num_axes)
    keys = jax.random.split(jax.random.key(seed), (rows, 1))
    copy = weight_sync.rollout_copy(params, jnp.dtype(dtype))
    samples = jax.device_get(_sampler(model, lengths[1])(copy, batch, keys))
    responses = [samples.tokens_PGR[p, 0].tolist() for p in range(rows)]
    want = score(exact, params, asked, responses, max(chunks),
                 gated_delta.CHUNK)
    for chunk in chunks:
      for delta in delta_chunks if family == 'qwen3_5' else delta_chunks[-1:]:
        got = score(model, params, asked, responses, chunk, delta)
        out.append({
            'case': name, 'dtype': dtype, 'rows': rows, 'prompt': lengths[0],
            'response': lengths[1], 'chunk': chunk, 'delta_chunk': delta,
            'tokens': int(got.size),
            'sampler_trainer': gap(samples.logp_PGR[:, 0], got),
            'to_float32': gap(got, want)})
  return out


def preset_model(name: str, dtype: str):
  """The text model of a preset, blocks recomputed in the backward pass."""
  config = {k: v for k, v in presets.PRESETS[name].config.items()
            if k != 'vision_config'}
  row = families.FAMILIES[config['model_type']]
  shapes = dataclasses.replace(row.from_hub(config), dtype=dtype, remat='full')
  return row.build(shapes)._replace(family=config['model_type'])


def against(model, params, first, second, *, rows: int, length: int) -> dict:
  """One forward, one gradient and one decode on two devices, compared.

  Args:
    model, params: what runs.
    first, second: devices.
    rows, length: tokens are random, [rows, length].

  Returns:
    Gaps of log-probs (nats) in training and in decoding, the relative
    difference of the whole gradient, and seconds on the second device.
  """
  tokens = np.random.default_rng(0).integers(
      2, min(model.config.vocab_size, 100_000), (rows, length))
  half = length // 2
  batch = packing.pad_rows(
      [packing.to_score(TokenSequence(prompt=t[:half], response=t[half:]))
       for t in tokens],
      rows, length, 0, model.num_axes)

  def loss(params, batch):
    logp, _ = forward.token_logps(params, batch, model=model, temperature=1.0,
                                 chunk=256)
    return jnp.sum(logp * batch.mask_BT), logp

  def decoded_logps(params, batch):
    prompt = packing.pad_prompts(
        [Prompt(Question(f'{i}', '', '', ''), PromptKind.PLAIN,
                tuple(t[:half].tolist())) for i, t in enumerate(tokens)],
        rows, half, 0, model.num_axes)
    params = layers.unstack(params)
    ready = decode.prefill(params, prompt, model=model)
    state = decode_state.empty(ready, decode_state.DecodeShape(
        slots=rows, samples_per_prompt=1, prompt_length=1, response_length=8))
    state = state.replace(
        prompt_k=ready.k, prompt_v=ready.v, recurrent=ready.recurrent,
        logits_BV=ready.logits_PV)
    out = []
    for t in range(8):
      out.append(jax.nn.log_softmax(state.logits_BV)[
          jnp.arange(rows), batch.tokens_BT[:, half + t]])
      state, new = decode.forward(
          params, state, batch.tokens_BT[:, half + t], prompt.next_P + t,
          prompt.length_P, jnp.tile(jnp.arange(8) < t, (rows, 1)), model=model)
      state = decode.write(state, new, t)
    return jnp.stack(out, 1)

  found = []
  for device in (first, second):
    on = lambda x, device=device: jax.device_put(x, device)
    p, b = jax.tree.map(on, (params, batch))
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    jax.block_until_ready(step(p, b))
    begun = time.perf_counter()
    (_, logp), grads = jax.block_until_ready(step(p, b))
    seconds = time.perf_counter() - begun
    found.append((np.asarray(logp), jax.tree.map(np.asarray, grads),
                  np.asarray(jax.jit(decoded_logps)(p, b)), seconds))
  norm = lambda tree: np.sqrt(sum(float((np.asarray(x, np.float64)**2).sum())
                                  for x in jax.tree.leaves(tree)))
  moved = jax.tree.map(lambda x, y: x - y, found[0][1], found[1][1])
  mask = np.asarray(batch.mask_BT) > 0
  return {'devices': [str(first), str(second)], 'rows': rows, 'length': length,
          'logp': gap(found[0][0][mask], found[1][0][mask]),
          'decode_logp': gap(found[0][2], found[1][2]),
          'gradient': norm(moved) / norm(found[0][1]),
          'train_seconds': found[1][3]}


def cudnn_attention(head_dim: int = 256, length: int = 512) -> dict:
  """jax.nn.dot_product_attention(implementation='cudnn') against
  layers.attend, bf16, causal: forward and backward.

  Raises:
    RuntimeError: where no GPU is at hand.
  """
  if jax.default_backend() != 'gpu':
    raise RuntimeError('cuDNN attention needs a GPU; the backend here is '
                       f'{jax.default_backend()}')
  keys = jax.random.split(jax.random.key(0), 4)
  draw = lambda key, heads: jax.random.normal(
      key, (2, length, heads, head_dim), jnp.bfloat16)
  q, k, v, w = draw(keys[0], 8), draw(keys[1], 2), draw(keys[2], 2), draw(
      keys[3], 8)
  mask = jnp.tril(jnp.ones((length, length), bool))[None]
  plain = lambda q, k, v: jnp.sum(layers.attend(
      q, [(k, v, jnp.broadcast_to(mask, (2, length, length)))]) * w)
  fused = lambda q, k, v: jnp.sum(jax.nn.dot_product_attention(
      q, k, v, is_causal=True, implementation='cudnn') * w)
  a, b = (jax.jit(jax.value_and_grad(f, (0, 1, 2)))(q, k, v)
          for f in (plain, fused))
  relative = lambda x, y: float(
      jnp.linalg.norm((x - y).astype(jnp.float32).ravel())
      / jnp.linalg.norm(x.astype(jnp.float32).ravel()))
  return {'head_dim': head_dim, 'forward': relative(a[0], b[0]),
          **{f'd{n}': relative(x, y)
             for n, x, y in zip('qkv', a[1], b[1], strict=True)}}


def small(seed: int) -> dict:
  found = []
  for name in CASES:
    for lengths in LENGTHS:
      for rows in ROWS:
        # Chunks are varied on the larger batch.
        varied = {} if rows == max(ROWS) else {
            'chunks': CHUNKS[-1:], 'delta_chunks': DELTA_CHUNKS[-1:]}
        found += measure(name, rows=rows, lengths=lengths, seed=seed, **varied)
        print(f'{name}, {rows} rows of {sum(lengths)}', flush=True)
  return {'seed': seed, 'gaps': found}


def big(name: str, rows: int, length: int) -> dict:
  """A preset on this machine's accelerator against its CPU.

  Raises:
    RuntimeError: where there is no accelerator.
  """
  if jax.default_backend() == 'cpu':
    raise RuntimeError('--big compares an accelerator with the CPU; only a '
                       'CPU is here')
  cpu, other = jax.devices('cpu')[0], jax.devices()[0]
  out = {'preset': name}
  for dtype in ('float32', 'bfloat16'):
    model = preset_model(name, dtype)
    params = random_models.draw(model, 0)
    out[dtype] = against(model, params, cpu, other, rows=rows, length=length)
  if jax.default_backend() == 'gpu':
    out['cudnn'] = cudnn_attention()
  return out


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--big', choices=sorted(presets.PRESETS))
  parser.add_argument('--rows', type=int, default=2)
  parser.add_argument('--length', type=int, default=512)
  args = parser.parse_args()
  begun = time.perf_counter()
  found = (big(args.big, args.rows, args.length) if args.big
           else small(args.seed))
  args.to.parent.mkdir(parents=True, exist_ok=True)
  args.to.write_text(json.dumps({
      **found, 'machine': machine(),
      'seconds': time.perf_counter() - begun}, indent=1) + '\n')


if __name__ == '__main__':
  main()
