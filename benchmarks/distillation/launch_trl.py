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
  """Times the steps of each divergence in turn.

  Sampling is what runs between `draw` and its end; all else of a step is the
  update.
  """

  def __init__(self, steps: int):
    self.steps, self.done, self.trainer = steps, 0, None
    self.clocks = {name: work.Clock() for name in work.BETAS}
    self.tokens = [0]

  def _begin(self):
    name = list(work.BETAS)[min(self.done // self.steps, len(work.BETAS) - 1)]
    self.trainer.beta, self.clock = work.BETAS[name], self.clocks[name]
    self.clock.restart()

  def on_train_begin(self, *args, **kwargs):
    self._begin()

  def on_step_end(self, *args, **kwargs):
    self.clock.add('update')
    self.clock.close()
    self.done += 1
    self.tokens.append(0)
    self._begin()

  def draw(self, generate, count):
    """`generate`, timed; count(its output) is the number of its tokens."""

    def timed(*args):
      self.clock.add('update')
      out = generate(*args)
      self.clock.add('sampling')
      self.tokens[-1] += int(count(out))
      return out

    return timed


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


# What samples in a trainer, and the number of tokens in its result.
SAMPLING = {
    'gkd': ('generate_on_policy_outputs', lambda out: (out[2] != -100).sum()),
    'distillation': ('_generate_and_score_completions',
                     lambda out: out['completion_mask'].sum()),
}


def main() -> None:
  flags = shared.arguments(by='distillation', checks='')
  torch.set_num_threads(flags.threads)
  checked = check(flags, flags.by, filter(None, flags.checks.split(',')))
  each = flags.steps + 1
  phases = Phases(each)
  trainer = TRAINERS[flags.by](
      load(flags.work / work.STUDENT), load(flags.work / work.TEACHER),
      AutoTokenizer.from_pretrained(flags.work / 'tokenizer'), flags,
      each * len(work.BETAS), [phases])
  phases.trainer = trainer
  name, count = SAMPLING[flags.by]
  setattr(trainer, name, phases.draw(getattr(trainer, name), count))
  if flags.steps:
    trainer.train()
  seconds = {name: clock.seconds for name, clock in phases.clocks.items()}
  work.report(flags.by, seconds if flags.steps else {},
              tokens=phases.tokens[:-1],
              check=checked, roofline=matmul_limit(),
              versions={'trl': trl.__version__, 'torch': torch.__version__,
                        'transformers': transformers.__version__})


if __name__ == '__main__':
  main()
