"""One update of ours at a wide vocabulary; its peak memory.

`rl` is the update of GRPO on the same rows. The compiler's own count of the
gradient's program is reported beside what is resident. Freed memory goes back
to the system here, unlike in `zppo train`, so that the peak is the update's.
"""

import ctypes
import dataclasses

import jax

from benchmarks.distillation import launch_ours, work
from benchmarks.side_by_side import launch_ours as rl, work as shared
from zppo_jax.chat.wording import BOXED, Chat
from zppo_jax.learner import layouts, packing
from zppo_jax.records import Grader, Question, TokenSequence
from zppo_jax.tasks import Task
from zppo_jax.train import build

TASKS = {'distillation': 'reverse', 'rl': launch_ours.RL}


class Words(rl.Words):
  """`rl.Words` with the wide vocabulary."""
  vocab_size = work.UPDATE_VOCAB
  ids = {shared.word(i): i for i in range(vocab_size)}
  end_id = vocab_size
  sampled_ids = frozenset(range(vocab_size))


def pool():
  return [Question('0', shared.word(1), '', 'all')]


TASK = Task(pool, lambda split, size: pool()[:size],
            Grader(str, lambda answer, question: True),
            Chat(Words(), dataclasses.replace(BOXED, closing='')))


def config(folder, task: str):
  student, teacher = work.UPDATE_FOLDERS
  c = launch_ours.config(folder, task, teacher)
  c.student.weights = str(folder / student)
  c.data.task = f'{__spec__.name}:TASK'
  c.algorithm.update(num_new=1, max_tokens=work.UPDATE_RESPONSE,
                     teacher_max_tokens=work.UPDATE_RESPONSE)
  length = work.UPDATE_PROMPT + work.UPDATE_RESPONSE
  c.shapes.update(prompt_buckets=(work.UPDATE_PROMPT,), row_buckets=(length,),
                  micro_tokens=work.UPDATE_ROWS * length)
  return c


def batch_of(task: str):
  """The rows under prompts of their own, on the host."""
  targets = {'advantage': 1.0} if task == launch_ours.RL else {}
  rows = [[packing.weighted(TokenSequence(
      prompt=row[:work.UPDATE_PROMPT], response=row[work.UPDATE_PROMPT:]),
                            **targets)] for row in work.update_tokens()]
  return layouts.fill(rows, layouts.BatchShape(
      work.UPDATE_ROWS, 1, work.UPDATE_PROMPT, work.UPDATE_RESPONSE, 0), 1)


def counted(run, state, batch) -> dict[str, int]:
  """Bytes of the gradient's program, by the compiler."""
  parts = run.update_fn.keywords
  found = parts['accumulate_fn'].lower(
      parts['zeros_fn'](state.params), state.params, batch,
      *parts['beside_fn'](state)).compile().memory_analysis()
  return {'temporaries': found.temp_size_in_bytes,
          'arguments': found.argument_size_in_bytes}


def main() -> None:
  flags = shared.arguments(by='distillation')
  run = build.build(config(flags.work, TASKS[flags.by]))
  state, batch = run.init_state(), batch_of(TASKS[flags.by])
  count = float(work.UPDATE_ROWS * work.UPDATE_RESPONSE)
  compiled = counted(run, state, batch)
  update = lambda state: jax.block_until_ready(
      run.update_fn(state, [batch], count))
  state, sums, norm = update(state)
  ctypes.CDLL('libc.so.6').malloc_trim(0)
  with work.Memory() as memory:
    update(state)
  work.report(flags.by, {}, compiled=compiled, check={'reverse/update': {
      'loss': float(sums.loss) / count, 'grad_norm': float(norm)}},
              memory={'before': memory.before, 'peak': memory.peak},
              versions={'jax': jax.__version__})


if __name__ == '__main__':
  main()
