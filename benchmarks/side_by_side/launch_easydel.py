"""EasyDeL's GRPOTrainer; run in the `easydel` environment.

Its work is not the same, so that no ratio is made of it: its tables of rotary
angles are bfloat16 whatever the dtype is, it runs a reference model without a
penalty too, and micro-batches would mix prompts up
(findings/easydel_grpo_accumulation_mixes_prompts.sh), so that the update is in
one piece. Weights come as float32 because `torch_dtype` says so
(findings/easydel_loads_through_float16.sh).
"""

import importlib.metadata
import tempfile
import time

import easydel as ed
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from datasets import Dataset
from easydel.trainers.group_relative_policy_optimization import _fn
from transformers import AutoTokenizer

from benchmarks.side_by_side import work


def load(folder):
  model = ed.AutoEasyDeLModelForCausalLM.from_pretrained(
      str(folder / 'model'), from_torch=True, torch_dtype=torch.float32,
      dtype=jnp.float32, param_dtype=jnp.float32,
      precision=jax.lax.Precision.HIGHEST, sharding_axis_dims=(1, 1, 1, 1, 1),
      config_kwargs=ed.EasyDeLBaseConfigDict(
          attn_mechanism=ed.AttentionMechanisms.SDPA, attn_dtype=jnp.float32,
          freq_max_position_embeddings=work.SHAPE['max_positions'],
          mask_max_position_embeddings=work.SHAPE['max_positions']))
  model.generation_config.eos_token_id = work.END_ID
  model.generation_config.pad_token_id = model.config.pad_token_id = work.END_ID
  return model


def check(trainer, folder):
  """Log-probs, loss and gradient of the fixed batch by its own functions."""
  fixed = work.fixed()
  rows = jnp.asarray(fixed.rows_BT)
  state = trainer.model_state
  batch = {
      'prompt_ids': jnp.asarray(fixed.prompts_PT),
      'prompt_mask': jnp.ones(fixed.prompts_PT.shape, jnp.int32),
      'completion_ids': rows[:, work.PROMPT:],
      'completion_mask': jnp.ones((work.ROWS, work.RESPONSE), jnp.int32),
      'ref_per_token_logps': jnp.zeros((work.ROWS, work.RESPONSE)),
      'advantages': jnp.asarray(fixed.adv_B),
      'num_items_in_batch': jnp.asarray(work.ROWS * work.RESPONSE)}
  with state.model.mesh:
    logps = _fn.get_per_token_logps(
        state.model, rows, jnp.ones_like(rows), work.PROMPT)
    found = jax.jit(lambda state, batch: _fn.grpo_step(
        state, batch, *trainer._train_shared_fn_static_args)[1])(state, batch)
  return work.agreed(folder, 'easydel', logps, found.loss,
                     optax.tree.norm(found.grad_norms))


def main() -> None:
  flags = work.arguments()
  total = flags.steps + 1
  tokenizer = AutoTokenizer.from_pretrained(flags.work / 'tokenizer')
  tokenizer.padding_side = 'left'
  starts, sampling, ends, tokens = [], [], [], []

  def rewards(prompts, completions, **more):
    return [work.reward(i) for i in range(len(completions))]

  with tempfile.TemporaryDirectory() as folder:
    arguments = lambda: ed.GRPOConfig(
        total_batch_size=work.PROMPTS, gradient_accumulation_steps=1,
        max_prompt_length=work.PROMPT, max_completion_length=work.RESPONSE,
        num_generations=work.GROUP, temperature=1.0, beta=0.0,
        epsilon=work.RATIO_CLIP, learning_rate=work.LEARNING_RATE,
        weight_decay=work.DECAY, clip_grad=work.CLIP_NORM,
        max_training_steps=total, num_train_epochs=1, use_wandb=False,
        use_grain=True, use_esurge_generation=False,
        skip_apply_chat_template=True, do_last_save=False,
        save_directory=folder, progress_bar_type='json', log_steps=1,
        report_steps=1)
    made = lambda: ed.GRPOTrainer(
        arguments=arguments(), model=load(flags.work), reward_funcs=rewards,
        train_dataset=Dataset.from_dict(
            {'prompt': work.texts(work.fixed().prompts_PT) * total}),
        processing_class=tokenizer)
    trainer = made()
    generate, end = trainer.generate_unified, trainer.on_step_end

    def timed(*args, **kwargs):
      starts.append(time.perf_counter())
      out = generate(*args, **kwargs)
      jax.block_until_ready(out.sequences)
      sampling.append(time.perf_counter() - starts[-1])
      tokens.append(out.sequences.shape[0] * work.RESPONSE)
      return out

    def ended(state, metrics, step):
      jax.block_until_ready(state.graphstate)
      ends.append(time.perf_counter())
      return end(state, metrics, step)

    trainer.generate_unified, trainer.on_step_end = timed, ended
    trainer.train()
    peak = work.peak_rss()
    checked = check(made(), flags.work)
  step = list(np.subtract(ends, starts))
  work.report(
      'easydel', {'sampling': sampling, 'step': step,
                  'update': list(np.subtract(step, sampling))},
      peak, tokens=tokens, check=checked,
      versions={name: importlib.metadata.version(name)
                for name in ('easydel', 'jax', 'flax')})


if __name__ == '__main__':
  main()
