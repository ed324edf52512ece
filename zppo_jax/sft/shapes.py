"""`shapes.auto` of `zppo sft`: rows from the conversations, micro-batches from
the memory.

  row_buckets    the 90 % quantile of the conversations and the longest one
  patch_buckets  the same of their images and videos
  micro_tokens   as much of a step as fits

As for `zppo train` (train/shapes/auto.py), a field that was set by hand keeps
its value, and what is proposed is stored in the workdir's config.json.
"""

import dataclasses
from typing import Any

from zppo_jax.devices import hosts, memory, sharding
from zppo_jax.sft import step
from zppo_jax.sft.dataset import Room
from zppo_jax.sft.run import SftRun
from zppo_jax.train.shapes import auto, room, tables

# What may be proposed, with the values of configs/sft.py.
DEFAULTS = {'row_buckets': (2048, 8192), 'patch_buckets': (),
            'micro_tokens': 16384}
_MOST_PATCHES = 2**30


def of_workdir(config: Any, path: Any) -> Any:
  """The config with the shapes that a workdir stores; see auto.of_workdir."""
  return auto.of_workdir(config, path, DEFAULTS)


def proposed(config: Any) -> tuple[str, ...]:
  """The fields that shapes.auto proposes; see auto.proposed."""
  return auto.proposed(config, DEFAULTS)


def open_wide(config: Any, positions: int) -> Any:
  """The config with rows that hold whatever the model takes, so that all
  conversations are measured.

  Args:
    config: the config, whose shapes.auto is True.
    positions: the most tokens that the model takes.
  """
  names = tables.proposed(config.shapes, DEFAULTS)
  wide = {'row_buckets': (positions,), 'patch_buckets': (_MOST_PATCHES,),
          'micro_tokens': positions}
  return auto.with_shapes(config, {name: wide[name] for name in names})


def needed(run: SftRun, limit: int = 0) -> int | None:
  """Bytes per device of an update: what stands there and the temporaries of the
  largest program; None if the compiler says that it cannot be held.

  Args:
    run: the run; its longest conversation, and the one with the most patches,
      fill the micro-batches that are compiled.
    limit: a program that has room below it in any case is not compiled, and
      the most that its temporaries can be counts.
  """
  state, update = run.abstract_state, run.update_fn.keywords
  standing = sum(map(memory.device_bytes, (
      state.params, state.params, state.opt_state)))
  if run.adapted is not None:
    standing += memory.device_bytes(run.adapted.base)
  data = run.source.pool
  longest = {max(range(len(data)), key=lambda i, at=at: data.sizes[i][at])
             for at in (0, 2)}
  grads = update['zeros_fn'].eval_shape(state.params)
  programs = [update['accumulate_fn'].lower(
      grads, state.params, batch, *update['beside_fn'](state))
              for i in longest for batch in step.micro_batches(run, [data[i]])]
  programs.append(update['optimizer_fn'].lower(
      state, grads, 1.0, *update['anchor']))
  used = []
  for program in programs:
    most = room.most_temporaries(program)
    used.append(int(most) if standing + most <= limit
                else room.temporaries(program))
  return None if None in used else standing + max(used)


def resolved(c: Any, wide: SftRun, limit: int | None = None) -> SftRun:
  """The run with proposed shapes; it keeps the config with them.

  Args:
    c: the config, whose shapes.auto is True.
    wide: the run of `open_wide`.
    limit: bytes of a device; None for those of the devices here.
  """
  names = tables.proposed(c.shapes, DEFAULTS)
  if 'micro_tokens' in names:
    print('shapes.auto: proposing shapes from the data and the memory',
          flush=True)
  sizes = [size for of in (wide.source.pool, *wide.splits.values())
           for size in of.sizes]
  patches = [most for *_, most in sizes if most]
  chosen: dict[str, Any] = {}
  if 'row_buckets' in names:
    most = max(wide.room.row_buckets)
    chosen['row_buckets'] = tuple(sorted({min(size, most) for size in (
        tables.of_lengths([tokens for tokens, *_ in sizes]))}))
  if 'patch_buckets' in names:
    chosen['patch_buckets'] = tables.of_lengths(patches) if patches else ()
  of_rows = dataclasses.replace(wide, room=Room(
      row_buckets=chosen.get('row_buckets', wide.room.row_buckets),
      patch_buckets=chosen.get('patch_buckets', wide.room.patch_buckets)))
  if 'micro_tokens' in names:
    chosen['micro_tokens'] = _micro_tokens(
        of_rows, room.limit() if limit is None else limit)
  for name, value in chosen.items():
    print(f'shapes.auto: shapes.{name} = {value}', flush=True)
  return dataclasses.replace(
      of_rows, micro_tokens=chosen.get('micro_tokens', wide.micro_tokens),
      config=auto.with_shapes(c, chosen))


def _micro_tokens(run: SftRun, limit: int) -> int:
  """The most positions of a micro-batch that fit, or the least there are."""
  longest = (max(run.room.row_buckets)
             + max(run.room.patch_buckets, default=0))
  of_step = sum(sorted((tokens + patches for tokens, _, patches in
                        run.source.pool.sizes))[-run.source.batch:])
  shards = sharding.batch_shards(run.mesh)
  tries = tables.micro_counts(longest, -(-of_step // shards))
  for count in tries:
    bytes_ = needed(dataclasses.replace(run, micro_tokens=count), limit)
    fits = bytes_ is not None and bytes_ <= limit
    if hosts.agreed(fits, all, 'what fits'):
      return count
  print('shapes.auto: the update may not fit the memory, even with '
        f'micro_tokens = {tries[-1]}; lora.rank, a smaller student.dtype or '
        'more devices need less', flush=True)
  return tries[-1]
