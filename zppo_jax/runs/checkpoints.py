"""Training checkpoints by orbax: asynchronous, atomic, kept by a policy.

A checkpoint holds the TrainState, the JSON that the loop passes to it (buffer,
totals, data position) and a manifest: model, config, versions, a checksum of
every leaf, and a digest of all this JSON. A directory gets its final name only
when it is complete. No pickle is used.
"""

import dataclasses
import errno
import functools
import json
import logging
import os
import pathlib
import shutil
import threading
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from zppo_jax import allowed
from zppo_jax.arrays import FollowedState, TrainState
from zppo_jax.devices import disk, hosts, sharding
from zppo_jax.learner import states
from zppo_jax.models import lora
from zppo_jax.models.lora import Lora

FORMAT = 1
BEST = 'best.json'  # in WORKDIR/best; written by train/control/best.py
_LONGEST_CAUSE = 300  # characters of an error's cause
# Fields in the JSON of every checkpoint; earlier versions wrote no others.
HELD = frozenset({'format', 'model', 'config', 'versions', 'step', 'host',
                  'leaves', 'checksums'})


@dataclasses.dataclass(frozen=True)
class Policy:
  """When checkpoints are made and which of them are kept.

  Attributes:
    every: steps between two checkpoints; 0 makes only the one at the end.
    keep: the number of newest checkpoints that are kept.
    keep_every: checkpoints at multiples of this step are always kept; 0: none.
    journal: whether rollouts are kept on disk until a checkpoint holds their
      step (rollout/journal.py). Without it a run ends after its step when a
      signal comes, and a killed run draws its steps anew.
  """
  every: int
  keep: int
  keep_every: int
  journal: bool = True

  def __post_init__(self):
    for name, lowest in (('every', 0), ('keep', 1), ('keep_every', 0)):
      allowed.number(f'checkpoint.{name}', getattr(self, name), f'>= {lowest}',
                     whole=True)
    allowed.one_of('checkpoint.journal', self.journal, (True, False))

  def due(self, step: int) -> bool:
    return bool(self.every) and step % self.every == 0


class CheckpointError(RuntimeError):
  """A checkpoint could not be written or read."""


def leaf_checksum(x) -> jax.Array:
  """uint32 of a leaf's bits and their places; it is the same on every mesh.

    sum_i bits_i (1 + 2 (i . p))  mod 2^32, p the first odd primes
  """
  size = jnp.dtype(x.dtype).itemsize
  bits = jax.lax.bitcast_convert_type(
      x, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[size])
  bits = bits.astype(jnp.uint32)
  weight = jnp.ones((), jnp.uint32)
  for axis, prime in zip(range(bits.ndim), (3, 5, 7, 11, 13, 17), strict=False):
    place = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    weight = weight + 2 * prime * place
  return jnp.sum(bits * weight, dtype=jnp.uint32)


_checksum_tree = jax.jit(lambda tree: jax.tree.map(leaf_checksum, tree))


def checksums(tree) -> dict[str, int]:
  """The checksum of every leaf, by leaf name."""
  leaves = jax.tree_util.tree_flatten_with_path(_checksum_tree(tree))[0]
  return {jax.tree_util.keystr(path): int(value) for path, value in leaves}


@functools.cache
def _fingerprint_fn(mesh):
  def stacked(tree):
    return jnp.stack([leaf_checksum(x) for x in jax.tree.leaves(tree)])
  return jax.jit(stacked, out_shardings=sharding.replicated(mesh))


def fingerprint(tree) -> jax.Array:
  """uint32 [leaves]: the checksums of leaves on a mesh, whole on each device
  and perhaps not computed yet."""
  return _fingerprint_fn(jax.tree.leaves(tree)[0].sharding.mesh)(tree)


def leaf_types(tree) -> dict[str, str]:
  """'float32[3,4]' and the like for every leaf, by leaf name."""
  return {jax.tree_util.keystr(path):
          f'{x.dtype}[{",".join(map(str, x.shape))}]' for path, x in
          jax.tree_util.tree_flatten_with_path(tree)[0]}


def _differences(ours: dict, theirs: dict) -> str:
  names = [n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)]
  shown = [f'{n} is {theirs.get(n)!r} there and {ours.get(n)!r} here'
           for n in names[:4]]
  return ', '.join(shown) + (f', and {len(names) - 4} more'
                             if len(names) > 4 else '')


def _wrong_content(step: int, content: Any) -> str | None:
  """Why JSON is not that of a checkpoint after `step` steps, or None."""
  if not isinstance(content, dict):
    return 'its JSON is no object'
  content = dict(content)
  digest = content.pop('digest', None)
  # Earlier versions wrote no digest and no field outside HELD.
  if digest is None and not content.keys() <= HELD or (
      digest is not None and digest != disk.digest(content)):
    return 'its JSON is not what was written'
  missing = (HELD - {'config', 'versions'}) - content.keys()
  if missing:
    return f'its JSON has no {min(missing)!r}'
  if content['step'] != step:
    return f'it is the one after {content["step"]} steps'
  return None


def peek(folder: pathlib.Path, step: int) -> dict | None:
  """The JSON part of a checkpoint, read without opening other checkpoints.

  It is None if the checkpoint does not exist.

  Raises:
    CheckpointError: if the checkpoint is damaged.
  """
  file = folder / str(step) / 'host' / 'metadata'
  if not file.is_file():
    return None
  try:
    content = json.loads(file.read_text())
    wrong = _wrong_content(step, content)
  except (ValueError, RecursionError) as e:
    wrong = str(e)
  if wrong is not None:
    raise CheckpointError(f'{folder / str(step)} is damaged: {wrong}')
  return content


def _in_orbax(file: str) -> bool:
  return 'orbax' in pathlib.PurePath(file).parts


def _is_no_further_part(record: logging.LogRecord) -> bool:
  """False for the error of a further part of a save, for which orbax does not
  wait after the first one has failed; asyncio logs it at any later time."""
  trace = record.exc_info[2] if record.exc_info else None
  return not any(
      _in_orbax(frame.filename) for frame in traceback.extract_tb(trace))


class _HeldBack(logging.Filter):
  """Holds back the pages that orbax logs about a save that failed, because
  `Checkpoints.wait` raises the same error in one sentence. Threads of that save
  that still work then may log theirs later."""

  def __init__(self):
    super().__init__()
    self._records: list[logging.LogRecord] = []
    self._saving = False
    self._late: set[int | None] = set()  # threads of a save that has failed

  def begin(self) -> None:
    self._saving = True
    _ORBAX_LOGS_TO.addFilter(self)
    logging.getLogger('asyncio').addFilter(_is_no_further_part)

  def filter(self, record: logging.LogRecord) -> bool:
    if record.levelno < logging.ERROR or not _in_orbax(record.pathname):
      return True
    if record.thread in self._late:
      return False
    if self._saving:
      self._records.append(record)
    return not self._saving

  def settle(self, raised: bool) -> None:
    """Forgets the records if their error was raised, and logs them if not."""
    self._saving = False
    self._late = {
        thread.ident for thread in threading.enumerate()
        if type(thread).__module__.startswith('orbax')} if raised else set()
    if not self._late:
      _ORBAX_LOGS_TO.removeFilter(self)
    records, self._records = self._records, []
    for record in () if raised else records:
      _ORBAX_LOGS_TO.callHandlers(record)


# orbax numbers the saves of a process, and a save that begins between two parts
# of another would take its number: then the other writes into no directory.
_SAVING = threading.Lock()
_ORBAX_LOGS_TO = logging.getLogger('absl')


@dataclasses.dataclass
class _Kept(ocp.checkpoint_managers.PreservationPolicy):
  """Which checkpoints are not deleted: orbax asks after each save."""
  of: 'Checkpoints'

  def should_preserve(self, checkpoints, *, context):
    del context
    policy, newest = self.of.policy, len(checkpoints) - self.of.policy.keep
    return [i >= newest or info.step == self.of.kept
            or bool(policy.keep_every and info.step % policy.keep_every == 0)
            for i, info in enumerate(checkpoints)]


class Checkpoints:
  """The checkpoints of one run.

  Args:
    path: their directory, which is made if it is missing.
    policy: when checkpoints are made, and how many are kept.
    manifest: JSON values stored with every checkpoint: 'model' and, of a run
      with adapters, 'lora' (checked on restore), 'config', 'versions'.
    read_only: whether to make, delete and save nothing in the directory.

  Attributes:
    notes: sentences for the user about the checkpoints that were read.
    kept: a step whose checkpoint stays whatever the policy says; None: none.
  """

  def __init__(self, path, policy: Policy, manifest: dict,
               read_only: bool = False):
    self.path, self.policy = pathlib.Path(path).absolute(), policy
    # The manifest as it is when read back: tuples become lists.
    self._manifest = json.loads(json.dumps({'format': FORMAT, **manifest}))
    self._pending: int | None = None
    self._held_back = _HeldBack()
    self.notes: list[str] = []
    self.kept: int | None = None
    if not read_only and hosts.first() and self.path.is_dir():
      for partial in self.path.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(partial)  # left by a process that died while it wrote
    self._manager = ocp.CheckpointManager(
        self.path, item_names=('state', 'host'),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=_Kept(self),
            enable_async_checkpointing=True, create=not read_only,
            read_only=read_only))

  def steps(self) -> list[int]:
    """Steps of complete checkpoints, ascending."""
    self._manager.reload()
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """The step of the newest complete checkpoint, as the first process sees it;
    None without one."""
    return hosts.broadcast(max(self.steps(), default=None), 'checkpoints')

  def _failed(self, step: int | None, error: Exception) -> CheckpointError:
    good = [s for s in self.steps() if s != step]
    last = f'the one after {good[-1]} steps' if good else 'none'
    cause = f'{type(error).__name__}: {error}'
    if os.strerror(errno.ENOSPC) in cause:  # orbax's message fills a page
      cause = f'the disk is full ({os.strerror(errno.ENOSPC)})'
    if len(cause) > _LONGEST_CAUSE:  # --traceback shows all of it
      cause = f'{cause[:_LONGEST_CAUSE]}...'
    return CheckpointError(
        f'the checkpoint after {step} steps was not written to {self.path}: '
        f'{cause}. Last good checkpoint: {last}')

  def save(self, step: int, state: TrainState, host: dict,
           files: dict | None = None) -> None:
    """Starts writing the checkpoint after `step` steps.

    Args:
      step: the number of steps done.
      state: the state on the device.
      host: JSON values.
      files: JSON values about the run's files at this moment; `read` returns
        them.

    Raises:
      CheckpointError: if this checkpoint, or the one before it, cannot be
        written.
    """
    self.wait()
    content = {**self._manifest, 'step': step, 'host': host,
               'files': files or {}, 'leaves': leaf_types(state),
               'checksums': checksums(state)}
    content = json.loads(json.dumps(content))  # as it is when read back
    content['digest'] = disk.digest(content)
    self._pending = step
    self._held_back.begin()
    try:
      with _SAVING:
        self._manager.save(step, args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            host=ocp.args.JsonSave(content)))
    except Exception as e:  # any error of orbax or the file system
      self._held_back.settle(raised=True)
      raise self._failed(step, e) from e

  def wait(self) -> None:
    """Waits until all is on disk; CheckpointError if it cannot be written."""
    step, self._pending = self._pending, None
    try:
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
    except Exception as e:
      self._held_back.settle(raised=True)
      raise self._failed(step, e) from e
    self._held_back.settle(raised=False)

  def close(self) -> None:
    """Waits and closes; CheckpointError as in `wait`."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def read(self, step: int) -> dict:
    """The JSON part of a checkpoint.

    Raises:
      CheckpointError: if it is damaged or has an unknown format.
    """
    where = self.path / str(step)
    try:
      content = self._manager.restore(
          step, args=ocp.args.Composite(host=ocp.args.JsonRestore()))['host']
      version = content['format']
    except Exception as e:
      raise self._damaged(step, e) from e
    if version != FORMAT:
      raise CheckpointError(f'{where} has format {version}; this version reads '
                            f'{FORMAT}')
    self._check_content(step, content)
    return content

  def _check_content(self, step: int, content: dict) -> None:
    """CheckpointError unless the JSON is what was written for this step."""
    wrong = _wrong_content(step, content)
    if wrong is not None:
      raise self._damaged(step, wrong)
    if 'digest' not in content:
      note = (f'{self.path / str(step)} is of an earlier version: its JSON has '
              'no digest and was not checked')
      if note not in self.notes:
        self.notes.append(note)

  def _damaged(self, step: int, error) -> CheckpointError:
    good = [s for s in self.steps() if s < step]
    earlier = (f'an earlier one, after {good[-1]} steps, is used once '
               f'{self.path / str(step)} is moved away' if good
               else 'there is no earlier one')
    return CheckpointError(f'{self.path / str(step)} is damaged: {error}; '
                           f'{earlier}')

  def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict]:
    """The state and host values after `step` steps.

    Args:
      step: one of `steps()`.
      like: arrays or ShapeDtypeStructs with the shardings wanted.

    Raises:
      CheckpointError: if the checkpoint is of another model (naming the
        fields), of other adapters or of other weights below them, is damaged
        (naming the leaf or the file), or is of another optimizer.
    """
    content, where = self.read(step), self.path / str(step)
    _check_adapters(where, content.get('lora'), self._manifest.get('lora'))
    wanted = like
    if isinstance(like, FollowedState) != _followed(content['leaves']):
      like = _other_form(like)
    if content['model'] != self._manifest['model']:
      raise CheckpointError(
          f'{where} is of another model: '
          f'{_differences(self._manifest["model"], content["model"])}')
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        like)
    if content['leaves'] != leaf_types(abstract):
      raise CheckpointError(
          f'{where} holds another optimizer\'s state: '
          f'{_differences(leaf_types(abstract), content["leaves"])}')
    try:
      state = self._manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract)))['state']
    except Exception as e:
      raise self._damaged(step, e) from e
    wrong = [n for n, value in checksums(state).items()
             if value != content['checksums'].get(n)]
    if wrong:
      raise self._damaged(step, f'checksum of {", ".join(wrong)}')
    return _in_form_of(wanted, state), content['host']


def _check_adapters(where: pathlib.Path, there: dict | None,
                    here: dict | None) -> None:
  """CheckpointError unless the state of a checkpoint fits the adapters of a
  run: both train all weights, or the same adapters of the same weights."""
  if there is None and here is None:
    return
  rank = lambda of: of['rank'] if of else 0
  if rank(there) != rank(here):
    raise CheckpointError(
        f'{where} was trained with lora.rank {rank(there)}, which is '
        f'{rank(here)} here; with 0 all weights are trained, and a checkpoint '
        'holds them. To begin from weights that were merged, name the '
        'finished run as student.weights')
  if there['base']['digest'] != here['base']['digest']:
    raise CheckpointError(
        f'{where} holds adapters of other weights: those of '
        f'{there["base"]["weights"]!r}, digest {there["base"]["digest"]}; '
        f'student.weights is {here["base"]["weights"]!r}, digest '
        f'{here["base"]["digest"]}. Put the former weights back')
  fields = [{name: of[name] for name in ('alpha', 'matrices')}
            for of in (here, there)]
  if fields[0] != fields[1]:
    raise CheckpointError(f'{where} holds other adapters (lora): '
                          f'{_differences(*fields)}')


def _followed(leaves: dict) -> bool:
  """Whether a checkpoint holds a copy that follows params."""
  return any(name.startswith('.own') for name in leaves)


def _other_form(like: TrainState) -> TrainState:
  """The same state without its copy, or with one."""
  if isinstance(like, FollowedState):
    return states.without_copy(like)
  return states.shaped_like(like, jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, np.float32, sharding=x.sharding),
      like.params))


def _in_form_of(wanted: TrainState, state: TrainState) -> TrainState:
  """A state in the form that a run has. A run that forks from one without a
  copy starts the copy at its params; one that needs none drops it."""
  if isinstance(wanted, FollowedState) == isinstance(state, FollowedState):
    return state
  if isinstance(state, FollowedState):
    return states.without_copy(state)
  return states.with_copy(state)


def adapters_of(adapted: Lora, weights: str) -> dict:
  """The record of a run's adapters in the manifest of its checkpoints, which do
  not hold the weights below them.

  Args:
    adapted: the section and the frozen weights.
    weights: where these came from, student.weights.

  Returns:
    {rank, alpha, matrices, base: {weights, digest}}; the digest is the same on
    every mesh.
  """
  return {'rank': adapted.config.rank, 'alpha': adapted.config.alpha,
          'matrices': list(lora.chosen(adapted.config, adapted.base)),
          'base': {'weights': weights,
                   'digest': disk.digest(checksums(adapted.base))}}


def restore_any(path, like: TrainState, model: dict,
                lora: dict | None = None) -> TrainState:
  """The state of the checkpoint that a path names; of a run, the newest one.

  Args:
    path: see `open_any`.
    like: see `Checkpoints.restore`.
    model: the description that the checkpoint's model must have.
    lora: the manifest's record of its adapters, or None.

  Raises:
    FileNotFoundError, CheckpointError: see `open_any`, `Checkpoints.restore`.
  """
  folder, step = open_any(path)
  store = Checkpoints(folder, Policy(0, 1, 0), {
      'model': model, **({} if lora is None else {'lora': lora})},
                      read_only=True)
  state, _ = store.restore(store.latest() if step is None else step, like)
  store.close()
  return state


def open_any(path: Any) -> tuple[pathlib.Path, int | None]:
  """(directory of checkpoints, step or None) that a user's path names.

  Args:
    path: a workdir, its `checkpoints` folder, one checkpoint in it, or its
      folder `best`, whose checkpoint is kept there too.

  Raises:
    FileNotFoundError: if there is no checkpoint there.
  """
  path = pathlib.Path(path)
  if (record := path / BEST).is_file():
    return path.parent / 'checkpoints', json.loads(record.read_text())['step']
  if path.name.isdigit() and path.is_dir():
    return path.parent, int(path.name)
  for folder in (path / 'checkpoints', path):
    if folder.is_dir() and any(p.name.isdigit() for p in folder.iterdir()):
      return folder, None
  raise FileNotFoundError(f'no checkpoint at {path}: expected a workdir, its '
                          'checkpoints folder or one checkpoint in it')
