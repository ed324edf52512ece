"""One update at a wide vocabulary by trl or plain torch; its peak memory.

`dense` is the loss as one writes it: the logits of the response positions of
both models, their log-softmax, and a sum over the vocabulary.
"""

import ctypes
import types

import torch
import transformers
import trl
from transformers import AutoTokenizer

from benchmarks.distillation import launch_trl, work
from benchmarks.side_by_side import work as shared


def dense_loss(student, teacher, rows):
  """Reverse KL, a mean over response tokens."""
  keep = work.UPDATE_RESPONSE + 1
  logits = lambda model: model(
      input_ids=rows, logits_to_keep=keep).logits[:, :-1]
  s = torch.log_softmax(logits(student), -1)
  with torch.no_grad():
    t = torch.log_softmax(logits(teacher), -1)
  return (s.exp() * (s - t)).sum(-1).mean()


def loss_fn(flags, student, teacher):
  """() -> the loss of the batch."""
  rows = work.update_tokens()
  if flags.by == 'dense':
    tokens = torch.tensor(rows, dtype=torch.long)
    return lambda: dense_loss(student, teacher, tokens)
  tokenizer = AutoTokenizer.from_pretrained(flags.work / 'tokenizer')
  sizes = types.SimpleNamespace(work=flags.work)
  trainer = launch_trl.TRAINERS[flags.by](student, teacher, tokenizer, sizes,
                                          0, [])
  trainer.beta = work.BETAS['reverse']
  return lambda: launch_trl.loss_of(trainer, flags.by, rows,
                                    work.UPDATE_PROMPT)


def main() -> None:
  flags = shared.arguments(by='dense')
  torch.set_num_threads(flags.threads)
  student, teacher = (
      launch_trl.load(flags.work / name) for name in work.UPDATE_FOLDERS)
  student.train()
  loss_of = loss_fn(flags, student, teacher)
  tx = torch.optim.AdamW(
      student.parameters(), lr=shared.LEARNING_RATE, betas=shared.BETAS,
      eps=shared.EPS, weight_decay=shared.DECAY)

  def update() -> dict:
    loss = loss_of()
    loss.backward()
    # torch 2.13 sums the squares of 39 M float32 numbers with an error of 1e-3.
    norm = sum(p.grad.double().square().sum() for p in student.parameters())
    torch.nn.utils.clip_grad_norm_(student.parameters(), shared.CLIP_NORM)
    tx.step()
    tx.zero_grad()
    return {'loss': float(loss.detach()), 'grad_norm': float(norm.sqrt())}

  first = update()  # makes the moments, and warms up
  ctypes.CDLL('libc.so.6').malloc_trim(0)
  with work.Memory() as memory:
    update()
  work.report(flags.by, {}, check={'reverse/update': first},
              memory={'before': memory.before, 'peak': memory.peak},
              versions={'trl': trl.__version__, 'torch': torch.__version__,
                        'transformers': transformers.__version__})


if __name__ == '__main__':
  main()
