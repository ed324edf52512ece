#!/usr/bin/env bash
# One would guess: gradient accumulation changes how much memory a step of GRPO
#   takes, and nothing else.
# What happens: the batch has a row per prompt and a row per completion. A
#   micro-batch is a slice of the completions with all prompts, which are then
#   repeated until they are as many. With 8 prompts of 4 completions and 4
#   micro-batches, 28 of 32 completions are scored behind another question, and
#   nothing is said. The loss, whose denominator is that of the whole batch, is
#   divided by the number of micro-batches once more.
# Versions: easydel 0.3.0, jax 0.9.2.
# Why it matters: the policy is trained to answer questions that it was not
#   asked. The loss looks as before, because on-policy ratios are 1 whatever the
#   prompt is; only the gradient differs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# easydel imports Pillow and torch and does not ask for them.
"$work/venv/bin/pip" install --quiet 'easydel==0.3.0' 'jax==0.9.2' \
  'torch==2.13.0' 'pillow'
JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
import easydel as ed
from flax import nnx
from easydel.trainers.group_relative_policy_optimization import _fn

print("easydel", importlib.metadata.version("easydel"), "jax", jax.__version__)
PROMPTS, GROUP, LENGTH = 8, 4, 6
config = ed.Qwen3Config(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    max_position_embeddings=32, sharding_axis_dims=(1, 1, 1, 1, 1),
    attn_mechanism=ed.AttentionMechanisms.VANILLA)
model = ed.Qwen3ForCausalLM(
    config, dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
state = model.to_state().init_tx(optax.sgd(0.0))

# A prompt is its own number LENGTH times, and so are its completions.
prompts = np.repeat(np.arange(1, PROMPTS + 1)[:, None], LENGTH, 1)
completions = prompts.repeat(GROUP, 0)
rng = np.random.default_rng(0)
batch = {
    "prompt_ids": jnp.asarray(prompts, jnp.int32),
    "prompt_mask": jnp.ones(prompts.shape, jnp.int32),
    "completion_ids": jnp.asarray(completions, jnp.int32),
    "completion_mask": jnp.ones(completions.shape, jnp.int32),
    "ref_per_token_logps": jnp.zeros(completions.shape),
    "advantages": jnp.asarray(rng.standard_normal(len(completions)),
                              jnp.float32),
    "num_items_in_batch": jnp.asarray(completions.size)}

scored = []
inner = _fn.get_per_token_logps


def recorded(model, input_ids, *args, **kwargs):
  jax.debug.callback(
      lambda ids: scored.append(np.asarray(ids)[:, [0, -1]]), input_ids)
  return inner(model, input_ids, *args, **kwargs)


_fn.get_per_token_logps = recorded


def run(accumulation):
  """(rows behind their own prompt, all rows, loss, norm of the gradient)."""
  scored.clear()
  step = lambda state, batch: _fn.grpo_step(
      state, batch, GROUP, 0.0, None, None, None, accumulation, True, "dapo",
      0.2, 0.2, None)[1]
  with model.mesh:
    metrics = jax.block_until_ready(jax.jit(step)(state, batch))
  jax.effects_barrier()
  pairs = np.concatenate(scored)
  norm = float(optax.tree.norm(metrics.grad_norms))
  return int((pairs[:, 0] == pairs[:, 1]).sum()), len(pairs), float(
      metrics.loss), norm


whole, parts = run(1), run(4)
for name, of in (("1", whole), ("4", parts)):
  print(f"gradient_accumulation_steps={name}: {of[0]} of {of[1]} completions "
        f"behind their own prompt, loss {of[2]:.5f}, gradient {of[3]:.5f}")
print(f"losses {whole[2] / parts[2]:.3f}, gradients {whole[3] / parts[3]:.3f}")
assert whole[:2] == (32, 32), whole
assert parts[:2] == (4, 32), parts
assert abs(whole[2] / parts[2] - 4) < 1e-3, (whole, parts)
PY
