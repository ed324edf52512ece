"""bf16: sampler against trainer, next to torch's cache against its whole pass.

  python -m benchmarks.torch_gap --to=benchmarks/results/torch_gap.json
  python -m benchmarks.torch_gap --table=benchmarks/results/torch_gap.json

Both libraries get the same weights and score the same tokens. Torch's own gap
is the measure of what another order of sums costs, because its two paths have
the same roundings. The first command takes a quarter of an hour on two CPU
cores; the second prints the table of docs/numerics.md.
"""

import argparse
import functools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import numerics, random_models
from zppo_jax import models
from zppo_jax.learner import packing
from zppo_jax.models import gated_delta
from zppo_jax.rollout import weight_sync
from zppo_jax.study.launch import machine
from zppo_jax.weights import families

SEEDS = 5
SIZES = ((1, 64), (4, 64), (16, 64))  # rows, tokens
LARGE_SIZES = ((4, 128),)
CHUNKS = (64, 1024)  # positions whose logits exist at a time
DELTA_CHUNKS = (16, 64)
ATTENTIONS = ('sdpa', 'eager')  # torch's
# Fields of the large cases; head_dim and DeltaNet's heads stay.
LARGE = dict(width=256, num_layers=8, mlp_width=640)
DRAWS = 10_000  # of seeds, for an interval
# Below this mean (nats) two paths differ by float32 alone: no rounding to
# bf16 fell on the other side.
NONE = 1e-5


def as_drawn(params, seed):
  del seed
  return params


def as_the_class_draws(params, seed):
  """DeltaNet's decays from log U(0.01, 16): most memories are of one token."""
  rng = np.random.default_rng(seed + 100)

  def one(path, x):
    name = path[-1].key
    if name == 'A_log':
      return np.log(rng.uniform(0.01, 16, x.shape)).astype(np.float32)
    return np.ones_like(x) if name == 'dt_bias' else x
  return jax.tree_util.tree_map_with_path(one, params)


# name -> (family, what is done to its weights, fields that differ, sizes)
CASES = {
    'qwen3_5, class, large': (
        'qwen3_5', as_the_class_draws, LARGE, LARGE_SIZES),
    'qwen3_5, large': ('qwen3_5', as_drawn, LARGE, LARGE_SIZES),
    'qwen3, large': ('qwen3', as_drawn, LARGE, LARGE_SIZES),
    'qwen3_5': ('qwen3_5', as_drawn, {}, SIZES),
    'qwen3_5, class': ('qwen3_5', as_the_class_draws, {}, SIZES),
    'qwen3': ('qwen3', as_drawn, {}, SIZES),
}


@functools.cache
def text_model(name: str, dtype: str):
  """The model of a case without a vision tower."""
  family, _, changed, _ = CASES[name]
  fields = {k: v for k, v in random_models.FIELDS[family].items()
            if k != 'vision'}
  return models.build(family, dtype=dtype, **fields | changed)


def torch_twin(model, params, attention: str):
  """The model's class in transformers, with its weights in float32."""
  import torch
  import transformers
  row = families.FAMILIES[model.family]
  config = row.to_hub(model.config)
  twin = transformers.AutoModelForCausalLM.from_config(
      transformers.AutoConfig.for_model(**config),
      attn_implementation=attention).float().eval()
  state = {}
  for leaf in row.hub_leaves(model.config):
    ours = params
    for key in leaf.path:
      ours = ours[key]
    for i, name in enumerate(leaf.names):
      x = leaf.to_hub(np.asarray(ours[i] if leaf.stacked else ours))
      state[name.replace('.language_model.', '.')] = torch.tensor(x)
  missing, unknown = twin.load_state_dict(state, strict=False)
  if unknown or not set(missing) <= {'lm_head.weight'}:
    raise ValueError(f'transformers has no place for {unknown} and gets no '
                     f'{missing}; allowed to be missing: lm_head.weight')
  twin.tie_weights()
  return twin


def torch_logps(twin, tokens, prompt: int, cached: bool) -> np.ndarray:
  """Of the response: by one pass, or token by token behind a prefill.

  It runs on one thread, because torch's threads and those of XLA wait for each
  other: two threads are a hundred times slower here than one.
  """
  import torch
  torch.set_num_threads(1)
  with torch.no_grad():
    if cached:
      out = twin(tokens[:, :prompt], use_cache=True)
      logits = [out.logits[:, -1]]
      for t in range(prompt, tokens.shape[1] - 1):
        out = twin(tokens[:, t:t + 1], past_key_values=out.past_key_values,
                   use_cache=True)
        logits.append(out.logits[:, -1])
      logits = torch.stack(logits, 1)
    else:
      logits = twin(tokens, use_cache=False).logits[:, prompt - 1:-1]
    return torch.log_softmax(logits.float(), -1).gather(
        -1, tokens[:, prompt:, None])[..., 0].numpy()


def drawn(name: str, rows: int, length: int, seed: int):
  """(params, prompts, responses, the sampler's log-probs) of a case in bf16."""
  family, change, _, _ = CASES[name]
  prompt, model = length // 2, text_model(name, 'bfloat16')
  params = change(random_models.draw(text_model(name, 'float32'), seed), seed)
  asked = numerics.prompts(model, rows, prompt, False, seed)
  samples = jax.device_get(numerics._sampler(model, length - prompt)(
      weight_sync.rollout_copy(params, jnp.bfloat16),
      packing.pad_prompts(asked, rows, prompt, 0, model.num_axes),
      jax.random.split(jax.random.key(seed), (rows, 1))))
  return (params, asked, samples.tokens_PGR[:, 0].tolist(),
          samples.logp_PGR[:, 0])


def measure(name: str, *, rows: int, length: int, seed: int, chunks=CHUNKS,
            delta_chunks=DELTA_CHUNKS, attentions=ATTENTIONS) -> dict:
  """Gaps of one case on rows of `length` tokens, half of them the prompt's.

  Args:
    name: in CASES.
    rows, length: the batch.
    seed: of weights, prompts and draws.
    chunks, delta_chunks: the trainer's; qwen3 has no DeltaNet chunks.
    attentions: torch's.

  Returns:
    A record: `ours` has a gap (numerics.gap) per pair of chunks, `torch` one
    per attention, and `to_float32` is the gap of torch's whole pass in bf16 to
    the same pass in float32.
  """
  import torch
  model = text_model(name, 'bfloat16')
  params, asked, responses, stored = drawn(name, rows, length, seed)
  ours = [
      {'chunk': chunk, 'delta_chunk': delta} | numerics.gap(
          stored, numerics.score(model, params, asked, responses, chunk, delta))
      for chunk in chunks
      for delta in (delta_chunks if model.family == 'qwen3_5'
                    else delta_chunks[-1:])]
  tokens = torch.tensor([[*p.tokens, *r] for p, r in zip(
      asked, responses, strict=True)])
  theirs = {}
  for attention in attentions:
    twin = torch_twin(model, params, attention)
    exact = torch_logps(twin, tokens, length // 2, False)
    twin = twin.bfloat16()
    whole = torch_logps(twin, tokens, length // 2, False)
    theirs[attention] = numerics.gap(
        torch_logps(twin, tokens, length // 2, True), whole)
  return {'case': name, 'rows': rows, 'tokens': length, 'seed': seed,
          'ours': ours, 'torch': theirs,
          'to_float32': numerics.gap(whole, exact)}


def worst(record: dict, delta_chunk: int = gated_delta.CHUNK) -> dict:
  """Of our gaps of a record at a DeltaNet chunk, the one with the largest mean.

  The default is the chunk of every model here, and of torch's two paths.
  """
  return max((gap for gap in record['ours']
              if gap['delta_chunk'] == delta_chunk),
             key=lambda gap: gap['mean'])


def larger_path(records) -> str:
  """Torch's attention with the larger mean gap over some records."""
  return max(records[0]['torch'], key=lambda attention: sum(
      r['torch'][attention]['mean'] for r in records))


def means(records) -> tuple[float, float]:
  """(our mean gap, torch's by its larger path) over seeds, nats."""
  path = larger_path(records)
  return (float(np.mean([worst(r)['mean'] for r in records])),
          float(np.mean([r['torch'][path]['mean'] for r in records])))


def ratio(records) -> tuple[float, float, float]:
  """(ours / torch's larger path, 95 % interval) of the means over seeds.

  The interval is the percentile bootstrap over seeds; a seed's two numbers stay
  together. Without a gap of torch the ratio is infinite.
  """
  path = larger_path(records)
  pairs = np.array([(worst(r)['mean'], r['torch'][path]['mean'])
                    for r in records])
  which = np.random.default_rng(0).integers(
      len(pairs), size=(DRAWS, len(pairs)))
  def of(pairs):
    ours, theirs = np.moveaxis(pairs, -1, 0)
    return np.where(theirs < NONE, np.inf, ours / np.maximum(theirs, NONE))
  low, high = np.quantile(of(pairs[which].mean(1)), [0.025, 0.975],
                          method='nearest')
  return float(of(pairs.mean(0))), float(low), float(high)


def table(data: dict) -> str:
  """Markdown of the results: a line per case and size."""
  groups = {}
  for record in data['gaps']:
    groups.setdefault(
        (record['case'], record['rows'], record['tokens']), []).append(record)
  lines = ['| case | rows | tokens | ours | ours, DeltaNet chunk 16 | '
           'torch, sdpa | torch, eager | ours / torch |',
           '|---|---|---|---|---|---|---|---|']
  number = lambda x: '0' if x < NONE else f'{x:.1e}'

  def cell(gaps):
    mean, p99 = (number(np.mean([g[kind] for g in gaps]))
                 for kind in ('mean', 'p99'))
    return f'{mean} ({p99})'

  for key, records in groups.items():
    chunks = {gap['delta_chunk'] for gap in records[0]['ours']}
    cells = [cell([worst(r) for r in records]),
             cell([worst(r, 16) for r in records]) if 16 in chunks else '-',
             *(cell([r['torch'][a] for r in records]) for a in ATTENTIONS)]
    middle, low, high = ratio(records)
    show = lambda x: 'inf' if np.isinf(x) else f'{x:.2f}'
    cells.append('both 0' if max(worst(r)['mean'] for r in records) < NONE
                 and np.isinf(middle) else
                 f'{show(middle)} ({show(low)} to {show(high)})')
    lines.append(f'| {" | ".join(map(str, (*key, *cells)))} |')
  return '\n'.join(lines)


def run(to: pathlib.Path, cases, seeds: int) -> None:
  """Measures cases into a file, which is written after every size.

  A file that exists is continued: what it holds is not measured again. Delete
  it to measure other code.
  """
  import torch
  import transformers
  records, before = [], 0.0
  if to.exists():
    data = json.loads(to.read_text())
    if data['seeds'] != list(range(seeds)):
      raise ValueError(f'{to} has the seeds {data["seeds"]}, and --seeds is '
                       f'{seeds}; allowed: {len(data["seeds"])}, or a new file')
    records, before = data['gaps'], data['seconds']
  done = {(r['case'], r['rows'], r['tokens']) for r in records}
  begun = time.perf_counter()
  for name in cases:
    for rows, length in CASES[name][-1]:
      if (name, rows, length) in done:
        continue
      for seed in range(seeds):
        records.append(measure(name, rows=rows, length=length, seed=seed))
      seconds = before + time.perf_counter() - begun
      print(f'{name}, {rows} rows of {length}: {seconds:.0f} s', flush=True)
      to.write_text(json.dumps({
          'command': f'python -m benchmarks.torch_gap --seeds={seeds}',
          'seeds': list(range(seeds)), 'gaps': records,
          'machine': machine() | {'torch': torch.__version__,
                                  'transformers': transformers.__version__},
          'seconds': seconds}, indent=1) + '\n')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--to', type=pathlib.Path)
  parser.add_argument('--table', type=pathlib.Path)
  parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
  parser.add_argument('--seeds', type=int, default=SEEDS)
  args = parser.parse_args()
  if (args.to is None) == (args.table is None):
    parser.error('one of --to and --table is needed')
  if args.table:
    print(table(json.loads(args.table.read_text())))
    return
  args.to.parent.mkdir(parents=True, exist_ok=True)
  run(args.to, args.cases, args.seeds)


if __name__ == '__main__':
  main()
