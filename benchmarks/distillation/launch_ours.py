"""zppo_jax doing the work: an RL step, then distillation of the same size.

The pieces are those of a training step (side_by_side.launch_ours); rows and
settings say the rest.
"""

import jax
import optax

from benchmarks.distillation import work
from benchmarks.side_by_side import launch_ours as rl, work as shared
from zppo_jax.algorithms.zppo import plain_prompts
from zppo_jax.bench import roofline
from zppo_jax.devices import malloc
from zppo_jax.learner import layouts, packing
from zppo_jax.randomness import Purpose
from zppo_jax.records import TokenSequence
from zppo_jax.rollout import collect
from zppo_jax.train import build, minibatches, step

RL = 'rl'  # our RL step, the measure of the others
KEPT = 'reverse_top_64'
# task -> (method, fields of the section `distil`)
TASKS = {
    RL: ('grpo', {}),
    'reverse': ('opd_reverse', {'support': 'whole'}),
    'jensen_shannon': ('opd_jsd', {'support': 'whole', 'beta': 0.5}),
    KEPT: ('opd_reverse', {'support': 'student', 'top': work.TOP,
                           'rest': 'bucket'}),
}


def config(folder, task: str, teacher: str = work.TEACHER):
  method, distil = TASKS[task]
  c = rl.config(str(folder / work.STUDENT))
  c.method = method
  c.data.task = f'{rl.__name__}:TASK'
  c.distil.update(distil)
  # The teacher answers nothing here, but its engine must fit its positions.
  c.algorithm.update(teacher_rollouts=1, teacher_max_tokens=shared.RESPONSE)
  c.compression.cap = shared.RESPONSE - 1
  c.teacher.update(kind='in_process', weights=str(folder / teacher),
                   dtype='float32', remat='none',
                   unroll=shared.SHAPE['num_layers'])
  return c


def _rows():
  """The fixed batch in groups of one prompt."""
  rows = [packing.weighted(TokenSequence(
      prompt=row[:shared.PROMPT], response=row[shared.PROMPT:]))
          for row in shared.fixed().rows_BT]
  return [rows[i:i + shared.GROUP]
          for i in range(0, shared.ROWS, shared.GROUP)]


def check(folder, task: str, teacher: str) -> dict:
  """Loss and gradient norm of the fixed batch by the update's own program."""
  run = build.build(config(folder, task, teacher))
  state = run.init_state()
  batch = layouts.fill(
      _rows(),
      layouts.BatchShape(shared.PROMPTS, shared.GROUP, shared.PROMPT,
                         shared.RESPONSE, 0), 1)
  parts = run.update_fn.keywords
  grads, sums = parts['accumulate_fn'](
      parts['zeros_fn'](state.params), state.params, batch,
      *parts['beside_fn'](state))
  count = shared.ROWS * shared.RESPONSE
  return {'loss': float(sums.loss) / count,
          'grad_norm': float(optax.tree.norm(grads)) / count}


def steps(folder, task: str, count: int) -> tuple[dict, list[int]]:
  """({phase: seconds of each step}, trained tokens of each step)."""
  run = build.build(config(folder, task))
  state = run.init_state()
  prompts = plain_prompts(run.source.draw(0), run.sampler.chat)
  clock, tokens = work.Clock(), []
  for i in range(count):
    clock.restart()
    params = run.reshard_fn(state.params)
    groups = rl.rewarded(collect.collect(
        run.sampler, params, prompts, seed=0, step=i, purpose=Purpose.ROLLOUT))
    clock.add('sampling')
    scored = minibatches.score_by_teacher(run, state, params, groups, i)
    batches, _ = minibatches.make(
        run, groups, minibatches.advantages(run, groups), i, scored)
    state = step.update(run, state, minibatches.score(run, state, batches))[0]
    jax.block_until_ready(state)
    clock.add('update')
    clock.close()
    tokens.append(packing.trained_tokens(groups))
  return clock.seconds, tokens


def main() -> None:
  flags = shared.arguments(tasks=','.join(TASKS), checks='')
  assert malloc.keep()  # as `zppo train` does
  checked = {f'{task}/{teacher}': check(flags.work, task, teacher)
             for teacher in filter(None, flags.checks.split(','))
             for task in work.BETAS}
  seconds, tokens = {}, []
  for task in filter(None, flags.tasks.split(',')):
    seconds[task], drawn = steps(flags.work, task, flags.steps + 1)
    tokens += drawn
  work.report('ours', seconds, tokens=tokens, check=checked,
              versions={'jax': jax.__version__},
              roofline=roofline.apart('float32'))


if __name__ == '__main__':
  main()
