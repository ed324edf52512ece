"""Turns a config of `zppo sft` into a run, and refuses bad configs.

All checks are made before anything is compiled.
"""

import functools

import jax

from zppo_jax import allowed, models, tasks
from zppo_jax.arrays import MicroBatch, PolicyOutput
from zppo_jax.chat import dates
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import Chat
from zppo_jax.data import sources
from zppo_jax.devices import sharding
from zppo_jax.devices.shared_jit import shared_jit
from zppo_jax.learner import optimizers, states, update
from zppo_jax.models import attention
from zppo_jax.models.lora import Lora, OfAdapters
from zppo_jax.objectives import losses, top_logps
from zppo_jax.runs import alarms, checkpoints, watch
from zppo_jax.sft import dataset, shapes
from zppo_jax.sft.dataset import Dataset, Lessons, Reader, Room
from zppo_jax.sft.run import SftRun
from zppo_jax.train import models as loading
from zppo_jax.train.builders import anchor

METHOD = 'sft'  # config.method
HELD_OUT = 'held_out'  # the split of eval.holdout
LAYOUTS = {'padded': False, 'packed': True}  # shapes.layout -> whether packed


def check_method(c) -> None:
  """ValueError for a config of another command."""
  if c.get('method') != METHOD:
    raise ValueError(f'method is {c.get("method")!r}; zppo sft takes a config '
                     f'of method {METHOD!r}, such as configs/sft.py')


def _check_numbers(c) -> None:
  """ValueError for a number out of its range, or an empty bucket table;
  KeyError for an unknown layout."""
  for field, value, lowest in (
      ('seed', c.seed, 0), ('steps', c.steps, 1),
      ('data.batch', c.data.batch, 1),
      ('shapes.micro_tokens', c.shapes.micro_tokens, 1),
      ('shapes.logprob_chunk', c.shapes.logprob_chunk, 1),
      ('eval.every', c.eval.every, 0), ('eval.size', c.eval.size, 0),
      ('eval.holdout', c.eval.holdout, 0)):
    allowed.number(field, value, f'>= {lowest}', whole=True)
  allowed.number('data.epochs', c.data.epochs, '>= 0', note=' (0: no limit)')
  allowed.one_of('shapes.layout', c.shapes.layout, LAYOUTS)
  buckets = c.shapes.row_buckets
  if not buckets or min(buckets) < 2:
    raise ValueError(f'shapes.row_buckets is {tuple(buckets)}; it must hold at '
                     'least one size, each >= 2')


def _student(c, mesh,
             day: Day) -> tuple[loading.Loaded, Chat, Lora | None]:
  loaded = loading.load_model(
      c.student, loading.place_trained(c, mesh), c.student.thinking, day)
  if loaded.chat is None and not c.data.task:
    raise ValueError('student.weights came without a tokenizer; data.task must '
                     'name the task whose chat they read')
  chat = loading.worded(
      c, tasks.get(c.data.task) if c.data.task else None, loaded)
  loading.check_vocabulary('student', loaded, chat)
  loading.check_attention('student', loaded, mesh)
  loaded, adapted = loading.with_adapters(c, loaded, mesh)
  return loaded, chat, adapted


def _data(c, reader: Reader,
          room: Room) -> tuple[Lessons, dict[str, Dataset]]:
  """The conversations to train on, and those of each validation split."""
  bounds = sources.Bounds(sources.roots(c.data.media_roots, 'data'),
                        c.data.max_bytes)
  open_ = functools.partial(
      dataset.open_dataset, reader=reader, room=room,
      on_overlong=c.data.on_overlong, store=c.data.store, bounds=bounds)
  data = open_('data.sources', c.data.sources.to_dict())
  print(data.account(), flush=True)
  splits = {name: open_('eval.sources', {name: fields}) for name, fields in
            c.eval.sources.to_dict().items()}
  if c.eval.holdout:
    if HELD_OUT in splits:
      raise ValueError(f'eval.sources has {HELD_OUT!r}, which is the split of '
                       'eval.holdout; give it another name')
    data, splits[HELD_OUT] = dataset.split(data, c.eval.holdout, c.seed)
  size = c.eval.size
  splits = {name: of.keep(range(min(size, len(of)))) if size else of
            for name, of in splits.items()}
  source = Lessons(pool=data, batch=c.data.batch, seed=c.seed,
                   epochs=c.data.epochs)
  source.check_steps(c.steps)
  return source, splits


def likelihood(output: PolicyOutput, batch: MicroBatch, *, chunk: int):
  """`losses.negative_log_likelihood`, and whether each token is the likeliest
  one ('accuracy'); a Loss."""
  loss_BT, _ = losses.negative_log_likelihood(output, batch)
  hidden_BTD, head_DV = jax.lax.stop_gradient(
      (output.hidden_BTD, output.head_DV))
  # Here position t predicts token t, there token t + 1.
  ahead_BTD = jax.numpy.roll(hidden_BTD, -1, axis=1)
  _, _, top_BTK = top_logps.top_logps(
      ahead_BTD, head_DV, batch.tokens_BT, top=1, chunk=chunk,
      mesh=output.mesh)
  return loss_BT, {'accuracy': top_BTK[..., 0] == batch.tokens_BT}


def _sums(params, batch: MicroBatch, *, loss_fn) -> update.Sums:
  return loss_fn(params, batch)[1]


def build(config, day: Day | None = None) -> SftRun:
  """Checks a config and builds the run; nothing is compiled yet, unless
  shapes.auto tries what fits.

  Args:
    config: configs/sft.py, or one that is derived from it.
    day: the date in prompts; None: the config's date, else today.

  Raises:
    KeyError: for an unknown name; the message lists the known ones.
    ValueError: for a value or a row that does not fit, naming it.
    FileNotFoundError: for files that do not exist.
  """
  if not config.shapes.auto:
    return _build(config, day)
  mesh = sharding.make_mesh(sharding.MeshConfig(**config.mesh))
  positions = loading.load_model(
      config.student, loading.place_trained(config, mesh),
      config.student.thinking, day or dates.choose(config), weights=False
      ).model.config.max_positions
  return shapes.resolved(
      config, _build(shapes.open_wide(config, positions), day))


def _build(config, day: Day | None) -> SftRun:
  """`build`, of given shapes."""
  c = config
  _check_numbers(c)
  policy = checkpoints.Policy(**c.checkpoint)
  try:
    of = optimizers.AdamWConfig(**c.optimizer)
    tx = optimizers.adamw(of, steps=c.steps, seed=c.seed)
    rate = optimizers.rate(of, c.steps)
  except ValueError as e:
    raise ValueError(f'optimizer.{e}') from e
  vain = watch.Limits(max_idle=c.guard.max_idle, min_answered=0.0, window=1,
                      alarms=alarms.read('guard.alarms', c.guard.alarms))
  mesh = sharding.make_mesh(sharding.MeshConfig(**c.mesh))
  loaded, chat, adapted = _student(c, mesh, day or dates.choose(c))
  room = Room(row_buckets=tuple(c.shapes.row_buckets),
              patch_buckets=tuple(c.shapes.patch_buckets))
  source, splits = _data(
      c, Reader(chat, loading.THINKING[c.student.thinking]), room)
  model = models.on_mesh(loaded.model, mesh)
  trained = model if adapted is None else model._replace(init=adapted.init)
  shardings = states.state_shardings(trained, tx, mesh)
  loss_fn = functools.partial(
      update.policy_loss, model=model, temperature=1.0,
      chunk=c.shapes.logprob_chunk,
      loss=functools.partial(likelihood, chunk=c.shapes.logprob_chunk))
  evaluate_fn = shared_jit(
      functools.partial(_sums, loss_fn=loss_fn),
      in_shardings=(None if adapted else shardings.params,
                    sharding.batch_sharding(mesh)),
      out_shardings=sharding.replicated(mesh))
  return SftRun(
      steps=c.steps, seed=c.seed, source=source, splits=splits,
      eval_every=c.eval.every, checkpoint=policy, vain=vain,
      description=loaded.description, chat=chat, model=model, mesh=mesh,
      room=room, micro_tokens=c.shapes.micro_tokens,
      packed=LAYOUTS[c.shapes.layout], rate=rate,
      update_fn=update.compile_update(
          loss_fn=loss_fn, tx=tx, mesh=mesh, shardings=shardings,
          trained=anchor.trained_of(c, loaded.params), adapted=adapted),
      evaluate_fn=evaluate_fn if adapted is None else OfAdapters(
          evaluate_fn, adapted.join),
      init_state=states.Initial(lambda: states.new_state(
          loading.first_params(c, loaded, adapted), tx, shardings)),
      abstract_state=states.abstract_state(trained, tx, shardings),
      adapted=adapted)


def kernels(run: SftRun) -> list[str]:
  """A line for each shape of rows, with the attention kernel that it gets."""
  c = run.model.config
  heads, lines = attention.heads_of(c, run.mesh), []
  shards = sharding.batch_shards(run.mesh)
  for length, patches in dataset.shapes(run.room):
    rows = dataset.rows_of(length, patches, run.micro_tokens, shards)
    for part, size in (('decoder', length), ('vision', patches)):
      if size and part in heads:
        choice = attention.choose(c.attention, run.mesh,
                                  attention.AttentionShape(
                                      rows, size, *heads[part], c.dtype))
        lines.append(f'attention of rows {rows} x {length}, {part} of {size}: '
                     f'{choice.kernel}, {choice.why}')
  return list(dict.fromkeys(lines))
