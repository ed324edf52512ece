"""`zppo fisher`: the diagonal of the Fisher information of student.weights.

The model answers questions of a config, and the squared gradient of each
response's log-prob is averaged (learner/ewc.py). Responses are drawn as in
training, so that algorithm.top_p = 1 and algorithm.top_k = 0 are wanted: of a
cut distribution it would be another expectation. `algorithm.ewc.fisher` takes
the file.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from zppo_jax import allowed
from zppo_jax.algorithms import zppo
from zppo_jax.algorithms.credit import gold
from zppo_jax.devices import sharding
from zppo_jax.learner import ewc, layouts, update
from zppo_jax.randomness import Purpose
from zppo_jax.records import Group
from zppo_jax.rollout import collect
from zppo_jax.train.build import build
from zppo_jax.train.run import Run
from zppo_jax.weights import safetensors_file


def _questions(run: Run, split: str, count: int) -> list:
  """The first questions of a split, or of the pool of training."""
  pool = run.source.pool if not split else allowed.known(
      '--split', split, run.splits)
  return [pool[i] for i in range(min(count, len(pool)))]


def _responses(run: Run, params, questions: list) -> list[Group]:
  """Groups of one response each, drawn by the student."""
  groups = collect.collect(
      run.sampler, run.reshard_fn(params),
      zppo.plain_prompts(questions, run.chat), seed=run.seed, step=0,
      purpose=Purpose.ROLLOUT)
  return [Group(g.prompt, (r,)) for g in groups for r in g.rollouts if r.tokens]


def diagonal(run: Run, params, groups: list[Group], temperature: float,
             chunk: int):
  """The mean squared gradient over groups of one response.

  Args:
    run: the run, whose layout makes the micro-batches.
    params: in the training sharding.
    groups: groups of one response.
    temperature: that of the log-probs.
    chunk: positions whose logits exist at a time.
  """
  shardings = jax.tree.map(lambda x: x.sharding, run.abstract_state.params)
  loss_fn = functools.partial(
      update.policy_loss, model=run.sampler.engine.programs.model,
      loss=gold.likelihood, temperature=temperature, chunk=chunk)
  add = ewc.compile_fisher(loss_fn, shardings,
                           sharding.batch_sharding(run.mesh))
  total = jax.jit(
      lambda p: jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), p),
      out_shardings=shardings)(params)
  # A micro-batch of the least size holds the one response.
  layout = run.layout._replace(max_tokens=1, rollouts=1, lessons=None)
  for group in groups:
    (batch,) = layouts.micro_batches(
        [group], {(0, 0): {gold.WEIGHT: np.ones(
            len(group.rollouts[0].tokens), np.float32)}}, layout)
    total = add(total, params, sharding.put_batch(run.mesh, batch))
  return jax.tree.map(lambda x: x / len(groups), total)


def main(config: ConfigDict, to: str, questions: int, split: str) -> None:
  """Writes the diagonal of a config's student.

  Args:
    config: a config; its method may be any.
    to: the safetensors file.
    questions: how many are answered, algorithm.rollouts times each.
    split: a split of eval.splits; '': the training questions.

  Raises:
    KeyError: for an unknown split.
    ValueError: for a number out of its range, a cut distribution, or if no
      response has a token.
  """
  allowed.number('--questions', questions, '>= 1', whole=True)
  for name, bounds in (('top_p', '[1, 1]'), ('top_k', '[0, 0]')):
    allowed.number(f'algorithm.{name}', config.algorithm[name], bounds,
                   note=': the expectation is over the model itself')
  run = build(config)
  params = run.init_state().params
  groups = _responses(run, params, _questions(run, split, questions))
  if not groups:
    raise ValueError('no response has a token; there is nothing to average')
  run.sampler.engine.release()
  fisher = diagonal(run, params, groups, config.algorithm.temperature,
                    config.shapes.logprob_chunk)
  safetensors_file.save(to, jax.tree.map(
      np.asarray, sharding.to_host(fisher)), {
          'model': run.description['model'], 'responses': len(groups)})
  total = sum(float(np.sum(x)) for x in jax.tree.leaves(
      sharding.to_host(fisher)))
  print(f'{to}: the diagonal of the Fisher information over {len(groups)} '
        f'responses; its trace is {total:.6g} nats^2', flush=True)
