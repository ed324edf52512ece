"""google-tunix doing the work; run in the `tunix` environment.

Its vanilla sampler and one mesh for all roles: weights are shared. Without a
seed its sampler draws the same noise in every call, so each gets one.
"""

import importlib.metadata
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from transformers import AutoTokenizer
from tunix.models.qwen3 import model as qwen3, params as qwen3_params
from tunix.rl import algo_core, common, rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

from benchmarks.side_by_side import work


def check(model, config, folder):
  """Log-probs, loss and gradient of the fixed batch by tunix's functions."""
  fixed = work.fixed()
  rows = jnp.asarray(fixed.rows_BT)
  prompt, response = rows[:, :work.PROMPT], rows[:, work.PROMPT:]
  example = grpo_learner.TrainExample(
      prompt_ids=prompt, prompt_mask=jnp.ones_like(prompt, bool),
      completion_ids=response, completion_mask=jnp.ones_like(response, bool),
      ref_per_token_logps=None, old_per_token_logps=None,
      advantages=jnp.asarray(fixed.adv_B))
  logps = common.compute_per_token_logps(
      *nnx.split(model), prompt_tokens=prompt, completion_tokens=response,
      pad_id=work.END_ID, eos_id=work.END_ID, stop_gradient=True,
      return_logits=False)
  loss_fn = lambda m: algo_core.grpo_loss_fn(
      m, example, config, work.END_ID, work.END_ID)
  found, grads = nnx.value_and_grad(loss_fn, has_aux=True)(model)
  return work.agreed(folder, 'tunix', logps, found[0], optax.tree.norm(
      jax.tree.leaves(grads)))


def main() -> None:
  flags = work.arguments()
  s = work.SHAPE
  mesh = jax.make_mesh((1, 1), ('fsdp', 'tp'),
                       axis_types=(jax.sharding.AxisType.Auto,) * 2)
  shape = qwen3.ModelConfig(
      num_layers=s['num_layers'], vocab_size=s['vocab_size'],
      embed_dim=s['width'], hidden_dim=s['mlp_width'],
      num_heads=s['num_heads'], head_dim=s['head_dim'],
      num_kv_heads=s['num_kv_heads'], rope_theta=work.ROPE_THETA, norm_eps=1e-6,
      use_tied_embedding=s['tied'])
  load = lambda: qwen3_params.create_model_from_safe_tensors(
      str(flags.work / 'model'), shape, mesh, dtype=jnp.float32)
  tokenizer = AutoTokenizer.from_pretrained(flags.work / 'tokenizer')
  total = flags.steps + 1
  rollout = base_rollout.RolloutConfig(
      max_tokens_to_generate=work.RESPONSE, max_prompt_length=work.PROMPT,
      kv_cache_size=work.PROMPT + work.RESPONSE, temperature=1.0, top_p=1.0,
      top_k=None, eos_tokens=[work.END_ID], seed=jax.random.PRNGKey(0))
  cluster = rl_cluster.RLCluster(
      actor=load(), tokenizer=tokenizer,
      cluster_config=rl_cluster.ClusterConfig(
          role_to_mesh={role: mesh for role in (
              rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE,
              rl_cluster.Role.ROLLOUT)},
          rollout_engine='vanilla', offload_to_cpu=False,
          training_config=rl_cluster.RLTrainingConfig(
              actor_optimizer=optax.chain(
                  optax.clip_by_global_norm(work.CLIP_NORM),
                  optax.adamw(work.LEARNING_RATE, *work.BETAS, eps=work.EPS,
                              weight_decay=work.DECAY)),
              eval_every_n_steps=10**6, max_steps=total,
              mini_batch_size=work.PROMPTS,
              train_micro_batch_size=work.MICRO_ROWS // work.GROUP,
              rollout_micro_batch_size=work.PROMPTS,
              compute_logps_micro_batch_size=work.PROMPTS),
          rollout_config=rollout))
  config = grpo_learner.GRPOConfig(
      num_generations=work.GROUP, num_iterations=1, beta=0.0,
      epsilon=work.RATIO_CLIP, loss_agg_mode='token-mean')
  begun, sampling, tokens = [], [], []

  def rewards(prompts, completions, **more):
    return [work.reward(i) for i in range(len(prompts))]

  learner = grpo_learner.GRPOLearner(
      rl_cluster=cluster, reward_fns=rewards, algo_config=config)
  generate = cluster.generate

  def timed(*args, **kwargs):
    jax.block_until_ready(nnx.state(cluster.actor_trainer.model))
    begun.append(time.perf_counter())
    rollout.seed = jax.random.PRNGKey(len(begun))
    out = generate(*args, **kwargs)
    sampling.append(time.perf_counter() - begun[-1])
    tokens.append(sum(len(t) for t in out.tokens))
    return out

  cluster.generate = timed
  batch = {'prompts': work.texts(work.fixed().prompts_PT)}
  # one more than is measured would be: its start ends the last step
  learner.train([batch] * total)
  jax.block_until_ready(nnx.state(cluster.actor_trainer.model))
  begun.append(time.perf_counter())
  step = list(np.diff(begun))
  peak = work.peak_rss()
  checked = check(load(), config, flags.work)
  work.report(
      'tunix', {'sampling': sampling, 'step': step,
                'update': list(np.subtract(step, sampling))},
      peak, tokens=tokens, check=checked,
      versions={'jax': jax.__version__, 'flax': flax.__version__,
                'google-tunix': importlib.metadata.version('google-tunix')})


if __name__ == '__main__':
  main()
