"""trl's GRPOTrainer doing the work; run in the `trl` environment.

Its defaults that change the work are named: bfloat16, gradient checkpointing.
The fused head with chunked log-probs is what its loss always uses.
"""

import time

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from benchmarks.side_by_side import work


class Clock(TrainerCallback):
  """Seconds from the end of a step to the end of the next."""

  def __init__(self):
    self.laps = work.Laps()

  def on_train_begin(self, *args, **kwargs):
    self.laps = work.Laps()

  def on_step_end(self, *args, **kwargs):
    self.laps.lap('step')


def load(folder):
  return AutoModelForCausalLM.from_pretrained(
      folder / 'model', dtype=torch.float32, attn_implementation='sdpa')


def check(trainer, folder):
  """Log-probs, loss and gradient of the fixed batch by trl's own functions."""
  fixed = work.fixed()
  rows = torch.tensor(fixed.rows_BT, dtype=torch.long)
  ones = torch.ones_like(rows)
  model = trainer.model.eval()
  model.zero_grad()
  logps = trainer._get_per_token_logps_and_entropies(
      model, rows, ones, work.RESPONSE)[0]
  loss = trainer._compute_loss(model, {
      'prompt_ids': rows[:, :work.PROMPT],
      'prompt_mask': ones[:, :work.PROMPT],
      'completion_ids': rows[:, work.PROMPT:],
      'completion_mask': ones[:, work.PROMPT:],
      'advantages': torch.tensor(fixed.adv_B),
      'num_items_in_batch': torch.tensor(work.ROWS * work.RESPONSE)})
  loss.backward()
  norm = torch.nn.utils.get_total_norm(
      [p.grad for p in model.parameters() if p.grad is not None])
  model.zero_grad()
  model.train()
  return work.agreed(folder, 'trl', logps.detach().numpy(), loss.detach(), norm)


def main() -> None:
  flags = work.arguments(cache='dynamic', compiled=0)
  torch.set_num_threads(flags.threads)
  model = load(flags.work)
  tokenizer = AutoTokenizer.from_pretrained(flags.work / 'tokenizer')
  clock, sampling, tokens = Clock(), [], []

  def rewards(prompts, completion_ids, **more):
    tokens.append(sum(map(len, completion_ids)))
    return [work.reward(i) for i in range(len(prompts))]

  trainer = trl.GRPOTrainer(
      model=model, processing_class=tokenizer, reward_funcs=rewards,
      train_dataset=Dataset.from_dict(
          {'prompt': work.texts(work.fixed().prompts_PT)}),
      callbacks=[clock],
      args=trl.GRPOConfig(
          output_dir=str(flags.work / 'trl_out'), max_steps=flags.steps + 1,
          per_device_train_batch_size=work.MICRO_ROWS,
          gradient_accumulation_steps=work.ROWS // work.MICRO_ROWS,
          num_generations=work.GROUP, max_completion_length=work.RESPONSE,
          temperature=1.0, top_p=1.0, top_k=0, beta=0.0, num_iterations=1,
          epsilon=work.RATIO_CLIP, learning_rate=work.LEARNING_RATE,
          lr_scheduler_type='constant', adam_beta1=work.BETAS[0],
          adam_beta2=work.BETAS[1], adam_epsilon=work.EPS,
          weight_decay=work.DECAY, max_grad_norm=work.CLIP_NORM,
          bf16=False, fp16=False, gradient_checkpointing=False, use_cpu=True,
          cache_implementation=(
              None if flags.cache == 'dynamic' else flags.cache),
          torch_compile=bool(flags.compiled), shuffle_dataset=False,
          report_to='none', save_strategy='no', logging_strategy='no',
          disable_tqdm=True, seed=0))
  generate = trainer._generate_and_score_completions

  def timed(inputs):
    begun = time.perf_counter()
    out = generate(inputs)
    sampling.append(time.perf_counter() - begun)
    return out

  trainer._generate_and_score_completions = timed
  trainer.train()
  step = clock.laps.seconds['step']
  peak = work.peak_rss()
  trainer.model.load_state_dict(load(flags.work).state_dict())
  checked = check(trainer, flags.work)
  work.report(
      'trl', {'sampling': sampling, 'step': step,
              'update': list(np.subtract(step, sampling))},
      peak, tokens=tokens, check=checked, settings=vars(flags) | {'work': ''},
      versions={'trl': trl.__version__, 'torch': torch.__version__,
                'transformers': transformers.__version__})


if __name__ == '__main__':
  main()
