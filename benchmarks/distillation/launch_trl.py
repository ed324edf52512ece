"""trl's DistillationTrainer or GKDTrainer doing the work, in its environment.

Their defaults that change the work are named: bfloat16, gradient checkpointing,
the temperature and lambda of GKD, sampling without top-p and top-k. One launch
runs the divergences one after the other.
"""

import time

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.experimental.gkd import GKDConfig, GKDTrainer

from benchmarks.distillation import work
from benchmarks.side_by_side import work as shared


class Phases(TrainerCallback):
  """Seconds of each step by divergence, and the divergence of the next."""

  def __init__(self, steps: int):
    self.steps, self.trainer, self.laps = steps, None, shared.Laps()
    self.names = list(work.BETAS)
    self.done = 0

  @property
  def name(self) -> str:
    return self.names[min(self.done // self.steps, len(self.names) - 1)]

  def on_train_begin(self, *args, **kwargs):
    self.trainer.beta = work.BETAS[self.name]
    self.laps = shared.Laps()

  def on_step_end(self, *args, **kwargs):
    self.laps.lap(self.name)
    self.done += 1
    self.trainer.beta = work.BETAS[self.name]


def load(folder):
  return AutoModelForCausalLM.from_pretrained(
      folder, dtype=torch.float32, attn_implementation='sdpa')


def matmul_limit(sizes=(512, 1024, 2048), repeats: int = 5) -> dict:
  """The best FLOP/s of square float32 matmuls in this process."""
  rates = {}
  for n in sizes:
    a = torch.randn(n, n)
    torch.mm(a, a)
    times = []
    for _ in range(repeats):
      begun = time.perf_counter()
      torch.mm(a, a)
      times.append(time.perf_counter() - begun)
    rates[str(n)] = 2 * n**3 / min(times)
  return {'dtype': 'float32', 'flops': max(rates.values()), 'by_size': rates}


def common(flags, steps: int) -> dict:
  """Settings of both trainers."""
  return dict(
      output_dir=str(flags.work / 'trl_out'), max_steps=max(steps, 1),
      per_device_train_batch_size=shared.MICRO_ROWS,
      gradient_accumulation_steps=shared.ROWS // shared.MICRO_ROWS,
      learning_rate=shared.LEARNING_RATE, lr_scheduler_type='constant',
      adam_beta1=shared.BETAS[0], adam_beta2=shared.BETAS[1],
      adam_epsilon=shared.EPS, weight_decay=shared.DECAY,
      max_grad_norm=shared.CLIP_NORM, bf16=False, fp16=False,
      gradient_checkpointing=False, use_cpu=True, report_to='none',
      save_strategy='no', logging_strategy='no', disable_tqdm=True, seed=0,
      disable_dropout=True, temperature=1.0)


def distillation(model, teacher, tokenizer, flags, steps, callbacks):
  """DistillationTrainer: one completion a prompt, so prompts are repeated."""
  prompts = np.repeat(shared.texts(shared.fixed().prompts_PT), shared.GROUP)
  return trl.DistillationTrainer(
      model=model, teacher_model=teacher, processing_class=tokenizer,
      callbacks=callbacks,
      train_dataset=Dataset.from_dict(
          {'prompt': list(map(str, prompts)) * max(steps, 1)}),
      args=trl.DistillationConfig(
          max_completion_length=shared.RESPONSE, top_p=1.0, top_k=0,
          shuffle_dataset=False, **common(flags, steps)))


def gkd(model, teacher, tokenizer, flags, steps, callbacks):
  """GKD with lambda 1; its data hold a response that is never read, but whose
  tokens are what transformers divides the loss by."""
  fixed = shared.fixed()
  rows = fixed.rows_BT.tolist()
  prompts = np.repeat(shared.texts(fixed.prompts_PT), shared.GROUP)
  mask = [0] * shared.PROMPT + [1] * shared.RESPONSE
  data = Dataset.from_dict({
      'prompt': list(map(str, prompts)) * max(steps, 1),
      'input_ids': rows * max(steps, 1),
      'completion_mask': [mask] * len(rows) * max(steps, 1)})
  return GKDTrainer(
      model=model, teacher_model=teacher, processing_class=tokenizer,
      callbacks=callbacks, train_dataset=data,
      args=GKDConfig(lmbda=1.0, seq_kd=False, max_new_tokens=shared.RESPONSE,
                     max_length=1024, dataloader_drop_last=True,
                     **common(flags, steps)))


TRAINERS = {'distillation': distillation, 'gkd': gkd}


def inputs_of(by: str, rows_BT: np.ndarray, prompt: int) -> dict:
  """A batch as the trainer's loss takes it."""
  rows = torch.tensor(rows_BT, dtype=torch.long)
  ones = torch.ones_like(rows)
  if by == 'gkd':
    labels = rows.clone()
    labels[:, :prompt] = -100
    return {'input_ids': rows, 'attention_mask': ones, 'labels': labels}
  return {'prompt_ids': rows[:, :prompt], 'prompt_mask': ones[:, :prompt],
          'completion_ids': rows[:, prompt:],
          'completion_mask': ones[:, prompt:],
          'num_items_in_batch': torch.tensor(float(rows[:, prompt:].numel()))}


def loss_of(trainer, by: str, rows_BT: np.ndarray, prompt: int):
  """The trainer's own loss of a batch: a mean over response tokens."""
  count = torch.tensor(rows_BT[:, prompt:].size)
  return trainer.compute_loss(trainer.model, inputs_of(by, rows_BT, prompt),
                              num_items_in_batch=count)


def norm_of(model) -> float:
  return float(torch.nn.utils.get_total_norm(
      [p.grad for p in model.parameters() if p.grad is not None]))


def check(flags, by: str, teachers) -> dict:
  """{'divergence/teacher': loss and gradient norm of the fixed batch}."""
  tokenizer = AutoTokenizer.from_pretrained(flags.work / 'tokenizer')
  out = {}
  for name in teachers:
    trainer = TRAINERS[by](load(flags.work / work.STUDENT),
                           load(flags.work / name), tokenizer, flags, 0, [])
    trainer.model.train()
    for divergence, beta in work.BETAS.items():
      trainer.beta = beta
      loss = loss_of(trainer, by, shared.fixed().rows_BT, shared.PROMPT)
      loss.backward()
      out[f'{divergence}/{name}'] = {'loss': float(loss.detach()),
                                     'grad_norm': norm_of(trainer.model)}
      trainer.model.zero_grad()
  return out


def counted(trainer, by: str, clock: list, tokens: list) -> None:
  """Times sampling, and counts what it drew, inside the trainer."""
  name = ('generate_on_policy_outputs' if by == 'gkd'
          else '_generate_and_score_completions')
  generate = getattr(trainer, name)

  def timed(*args):
    begun = time.perf_counter()
    out = generate(*args)
    clock.append(time.perf_counter() - begun)
    drawn = (out[2] != -100).sum() if by == 'gkd' else (
        out['completion_mask'].sum())
    tokens.append(int(drawn))
    return out

  setattr(trainer, name, timed)


def main() -> None:
  flags = shared.arguments(by='distillation', checks=','.join(work.TEACHERS))
  torch.set_num_threads(flags.threads)
  checked = check(flags, flags.by, flags.checks.split(','))
  each = flags.steps + 1
  phases, sampling, tokens = Phases(each), [], []
  trainer = TRAINERS[flags.by](
      load(flags.work / work.STUDENT), load(flags.work / work.TEACHER),
      AutoTokenizer.from_pretrained(flags.work / 'tokenizer'), flags,
      each * len(work.BETAS), [phases])
  phases.trainer = trainer
  counted(trainer, flags.by, sampling, tokens)
  trainer.train()
  per_step = lambda xs: np.reshape(xs, (each * len(work.BETAS), -1)).sum(1)
  sampled, seconds = per_step(sampling), {}
  for i, (name, step) in enumerate(phases.laps.seconds.items()):
    drew = sampled[i * each:(i + 1) * each]
    seconds[name] = {'sampling': list(drew), 'step': step,
                     'update': list(np.subtract(step, drew))}
  work.report(flags.by, seconds, tokens=per_step(tokens).tolist(),
              check=checked, roofline=matmul_limit(),
              versions={'trl': trl.__version__, 'torch': torch.__version__,
                        'transformers': transformers.__version__})


if __name__ == '__main__':
  main()
