"""zppo_jax doing the work: the pieces of a training step, rewards fixed."""

import dataclasses
import runpy

import jax
import numpy as np
import optax

from benchmarks.side_by_side import work
from benchmarks.side_by_side.make_work import MODEL
from zppo_jax.algorithms.zppo import plain_prompts
from zppo_jax.bench import roofline
from zppo_jax.chat.wording import BOXED, Chat
from zppo_jax.devices import malloc
from zppo_jax.learner import layouts, packing
from zppo_jax.randomness import Purpose
from zppo_jax.records import Grader, Question, TokenSequence, Verdict
from zppo_jax.rollout import collect
from zppo_jax.tasks import Task
from zppo_jax.train import build, minibatches, step


class Words:
  """A codec of one word an id; none ends a response."""
  vocab_size = work.SHAPE['vocab_size']
  ids = {work.word(i): i for i in range(vocab_size)}
  pad_id, end_id = 0, work.END_ID
  reserved_ids = frozenset()
  sampled_ids = frozenset(range(vocab_size))

  def encode_template(self, text):
    return [self.ids[w] for w in text.split()]

  def encode_content(self, text):
    return self.encode_template(text), 0

  def decode(self, ids):
    return ' '.join(map(work.word, ids))


def pool():
  return [Question(f'{i}', text, '', 'all')
          for i, text in enumerate(work.texts(work.fixed().prompts_PT))]


TASK = Task(pool, lambda split, size: pool()[:size],
            Grader(str, lambda answer, question: True),
            Chat(Words(), dataclasses.replace(BOXED, closing='')))


def config(weights: str):
  c = runpy.run_path('configs/base.py')['get_config']()
  c.method = 'grpo'
  c.student.update(weights=weights, dtype='float32', remat='none',
                   unroll=work.SHAPE['num_layers'])
  c.data.update(task=f'{__spec__.name}:TASK', repeat=True)
  c.algorithm.update(
      num_new=work.PROMPTS, rollouts=work.GROUP, max_tokens=work.RESPONSE,
      updates=1, clip=dict(low=work.RATIO_CLIP, high=work.RATIO_CLIP, dual=10.))
  c.optimizer.update(
      learning_rate=work.LEARNING_RATE, b1=work.BETAS[0], b2=work.BETAS[1],
      eps=work.EPS, weight_decay=work.DECAY, clip_norm=work.CLIP_NORM,
      state_dtype='float32')
  c.shapes.update(
      prompt_buckets=(work.PROMPT,), row_buckets=(work.PROMPT + work.RESPONSE,),
      group_buckets=(work.PROMPTS,),
      micro_tokens=work.MICRO_ROWS // work.GROUP * work.PROMPT
      + work.MICRO_ROWS * work.RESPONSE)
  c.eval.update(size=1, splits=('all',))
  return c


def rewarded(groups):
  """Groups with the rewards that all tools give."""
  pick = lambda i: Verdict.CORRECT if work.reward(i) else Verdict.WRONG
  return [dataclasses.replace(g, rollouts=tuple(
      dataclasses.replace(r, verdict=pick(i))
      for i, r in enumerate(g.rollouts))) for g in groups]


def check(run, state, folder):
  """Log-probs, loss and gradient of the fixed batch."""
  fixed = work.fixed()
  rows = [packing.weighted(
      TokenSequence(prompt=r[:work.PROMPT], response=r[work.PROMPT:]),
      advantage=a) for r, a in zip(fixed.rows_BT, fixed.adv_B, strict=True)]
  batch = layouts.fill(
      [rows[i:i + work.GROUP] for i in range(0, work.ROWS, work.GROUP)],
      layouts.BatchShape(work.PROMPTS, work.GROUP, work.PROMPT, work.RESPONSE,
                         0), 1)
  logp = np.asarray(run.score_fn(state.params, batch)[0])
  parts = run.update_fn.keywords
  grads, sums = parts['accumulate_fn'](
      parts['zeros_fn'](state.params), state.params, batch)
  count = work.ROWS * work.RESPONSE
  return work.agreed(folder, 'ours', logp, sums.loss / count,
                     optax.tree.norm(grads) / count)


def main() -> None:
  flags = work.arguments()
  assert malloc.keep()  # as `zppo train` does
  run = build.build(config(str(flags.work / MODEL)))
  state = run.init_state()
  prompts = plain_prompts(run.source.draw(0), run.sampler.chat)
  laps, tokens = work.Laps(), []
  for i in range(flags.steps + 1):
    laps.lap('other')
    params = run.reshard_fn(state.params)
    groups = rewarded(collect.collect(
        run.sampler, params, prompts, seed=0, step=i, purpose=Purpose.ROLLOUT))
    laps.lap('sampling')
    batches, _ = minibatches.make(
        run, groups, minibatches.advantages(run, groups), i)
    state = step.update(run, state, minibatches.score(run, state, batches))[0]
    jax.block_until_ready(state)
    laps.lap('update')
    tokens.append(packing.trained_tokens(groups))
  seconds = {k: laps.seconds[k] for k in ('sampling', 'update')}
  seconds['step'] = [a + b for a, b in zip(*seconds.values(), strict=True)]
  peak = work.peak_rss()
  checked = check(run, run.init_state(), flags.work)
  work.report('ours', seconds, peak, tokens=tokens, check=checked,
              versions={'jax': jax.__version__},
              roofline=roofline.apart('float32'))


if __name__ == '__main__':
  main()
