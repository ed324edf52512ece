"""Makes the embedded world's students and teachers from scratch (SFT)."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable

import jax
import numpy as np

from zppo_jax import allowed, models, randomness
from zppo_jax.devices import sharding
from zppo_jax.learner import optimizers, packing, states, update
from zppo_jax.objectives import losses
from zppo_jax.randomness import Purpose
from zppo_jax.records import TokenSequence, TrainingSequence
from zppo_jax.tasks import micro_corpus
from zppo_jax.weights import safetensors_file


@dataclasses.dataclass(frozen=True)
class Plan:
  """A supervised run.

  Attributes:
    model: the network.
    mixture: what is taught.
    rows: exercise name -> rows per step.
    steps: optimizer steps.
    seed: the seed of the initial weights and of the corpus.
    optimizer: the fields of AdamW.
    mesh: the shape of the mesh.
    buckets: allowed row lengths.
    patch_buckets: allowed patches of a row.
    micro_tokens: the positions of a micro-batch on each batch shard.
    packed: whether rows share rows (packing.bucketed_rows).
    logprob_chunk: the number of positions whose logits exist at a time.
  """
  model: models.Model
  mixture: micro_corpus.Mixture
  rows: dict[str, int]
  steps: int
  seed: int
  optimizer: optimizers.AdamWConfig
  mesh: sharding.MeshConfig
  buckets: tuple[int, ...]
  patch_buckets: tuple[int, ...]
  micro_tokens: int
  packed: bool
  logprob_chunk: int


LAYOUTS = {'padded': False, 'packed': True}  # shapes.layout -> Plan.packed


def corpus_batch(plan: Plan, step: int) -> list[TrainingSequence]:
  """The sequences of one step, each of weight 1."""
  rng = randomness.host_rng(plan.seed, step, Purpose.CORPUS)
  rows = []
  for name, make in micro_corpus.EXERCISES.items():  # the table's order
    for _ in range(plan.rows.get(name, 0)):
      prompt, response = make(rng, plan.mixture)
      rows.append(packing.weighted(
          TokenSequence(prompt=prompt.tokens, response=response,
                        media=prompt.media), advantage=1.0))
  return rows


def run(plan: Plan, log: Callable[[dict], None]):
  """Trains and returns host params.

  Args:
    plan: the supervised run.
    log: is called with {'step', 'loss' (nats per token), 'time' (s)} after
      every 50th step and after the last one.
  """
  mesh = sharding.make_mesh(plan.mesh)
  tx = optimizers.adamw(plan.optimizer, steps=plan.steps, seed=plan.seed)
  shardings = states.state_shardings(plan.model, tx, mesh)
  loss_fn = functools.partial(
      update.policy_loss, model=models.on_mesh(plan.model, mesh),
      temperature=1.0, chunk=plan.logprob_chunk,
      loss=losses.negative_log_likelihood)
  step_fn = update.compile_update(
      loss_fn=loss_fn, tx=tx, mesh=mesh, shardings=shardings)
  key = randomness.step_key(plan.seed, 0, Purpose.INIT)
  state = states.new_state(plan.model.init(key), tx, shardings)
  begun = time.perf_counter()
  for step in range(plan.steps):
    batches = packing.bucketed_rows(
        corpus_batch(plan, step), max_tokens=plan.micro_tokens,
        multiple=sharding.batch_shards(mesh), buckets=plan.buckets,
        patch_buckets=plan.patch_buckets, num_axes=plan.model.num_axes,
        packed=plan.packed)
    tokens = sum(float(b.mask_BT.sum()) for b in batches)
    batches = [sharding.put_batch(mesh, b) for b in batches]
    state, sums, _ = step_fn(state, batches, tokens)
    if step % 50 == 0 or step == plan.steps - 1:
      log({'step': step, 'loss': float(sums.loss) / tokens,
           'time': time.perf_counter() - begun})
  return jax.tree.map(np.asarray, sharding.to_host(state.params))


def save(path, params, plan: Plan, config: dict) -> None:
  """Writes the weights with the config that made them."""
  safetensors_file.save(path, params, {
      'model': models.describe(plan.model), 'config': config})


def build(config) -> Plan:
  """The plan of a config (configs/micro_pretrain.py).

  Raises:
    KeyError: for an unknown belief, exercise or model family.
    ValueError: for numbers out of range.
  """
  c = config
  belief = dict(c.belief)
  kind = belief.pop('kind')
  make_belief = allowed.known('belief.kind', kind, BELIEFS)
  for name in c.rows:
    allowed.one_of('exercise of rows', name, micro_corpus.EXERCISES)
  if kind != 'truth' and c.rows.get('compression'):
    raise ValueError(
        f'rows.compression is {c.rows.compression} with belief.kind {kind!r}: '
        'traces to compress are true, a student would learn hard facts from '
        'them; allowed: 0')
  allowed.one_of('mixture.form', c.mixture.form, micro_corpus.FORMS)
  if c.shapes.layout not in LAYOUTS:
    raise ValueError(f'shapes.layout is {c.shapes.layout!r}; a corpus has no '
                     f'groups that share prompts, allowed: '
                     f'{", ".join(LAYOUTS)}')
  allowed.number('steps', c.steps, '>= 1', whole=True)
  fields = c.model.to_dict()
  return Plan(
      model=models.build(fields.pop('family'), **fields),
      mixture=micro_corpus.Mixture(belief=make_belief(belief), **c.mixture),
      rows=dict(c.rows), steps=c.steps, seed=c.seed,
      optimizer=optimizers.AdamWConfig(**c.optimizer),
      mesh=sharding.MeshConfig(**c.mesh),
      buckets=tuple(c.shapes.row_buckets),
      patch_buckets=tuple(c.shapes.patch_buckets),
      micro_tokens=c.shapes.micro_tokens, packed=LAYOUTS[c.shapes.layout],
      logprob_chunk=c.shapes.logprob_chunk)


# belief.kind -> function of the other belief fields
BELIEFS = {
    'truth': lambda fields: micro_corpus.truth(),
    'misconceived': lambda fields: micro_corpus.misconceived(**fields),
}


def main(config, path) -> None:
  """Trains by a config and writes the weights, the config within them."""
  plan = build(config)
  params = run(plan, lambda row: print(
      f'step {row["step"]:4d}  loss {row["loss"]:.4f} nats/token  '
      f'{row["time"]:.0f} s', flush=True))
  save(path, params, plan, json.loads(config.to_json_best_effort()))
