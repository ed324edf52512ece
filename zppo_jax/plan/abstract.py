"""The run of a config without weights, tokenizers, data and devices.

`train/build.build` makes it as it makes every run, from shapes in the place of
what lies outside: so whatever changes there changes in a plan too.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from zppo_jax import assets, models, randomness
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import BOXED, Chat
from zppo_jax.plan import topologies
from zppo_jax.plan.topologies import Topology
from zppo_jax.tasks import Task
from zppo_jax.teachers import Capabilities
from zppo_jax.train import build, teachers
from zppo_jax.train.models import Loaded
from zppo_jax.train.run import Run
from zppo_jax.verdicts import verifier
from zppo_jax.weights import (
  families,
  hub_checkpoint,
  presets,
  pretrained,
  safetensors_file,
)


class _Ids(NamedTuple):
  """A codec of bare ids: it has the sizes of a vocabulary and no words."""
  vocab_size: int
  ids: dict[str, int]
  pad_id: int = 0
  end_id: int = 0
  reserved_ids: frozenset = frozenset()
  sampled_ids: frozenset = frozenset()


class _Questions(NamedTuple):
  """A pool that holds no questions."""
  pool: tuple = ()


class _Elsewhere(NamedTuple):
  """A teacher that runs on other devices, with all that it could be asked."""
  capabilities: Capabilities = Capabilities(
      max_compression_prompt=2**30, scores=True, pictures=True, clips=True,
      repeatable=False, top=2**30, gathers=True, entropy=True, temperature=True)


def _preset(name: str) -> presets.Preset | None:
  """The published size whose name a path ends in, the longest such name."""
  last = pathlib.Path(name).name.lower()
  names = [n for n in presets.PRESETS if n.lower() in last]
  return presets.PRESETS[max(names, key=len)] if names else None


def network(spec, who: str) -> models.Model:
  """The network of a config section; no weight is read.

  It is that of a folder, a file or a packaged name, if it is here, else of the
  published size in its name.

  Args:
    spec: `student` or `teacher` of a config.
    who: the name of the section, for errors.

  Raises:
    ValueError: if the weights are not here and no preset is in their name.
  """
  computed = {'dtype': spec.dtype, 'remat': spec.remat,
              'attention': spec.attention, 'unroll': spec.unroll}
  path = pathlib.Path(spec.weights)
  if spec.weights and path.exists() and hub_checkpoint.is_hub(path):
    return pretrained.outline(path, computed)[1].model
  try:
    described = safetensors_file.description(assets.find(
        str(path / pretrained.FINAL) if spec.weights and path.is_dir()
        else spec.weights))
  except FileNotFoundError:
    described = None
  if described is not None:
    return models.build(**{
        'family': 'decoder', **described['model'], **computed})
  if (preset := _preset(spec.weights)) is None:
    raise ValueError(
        f'{who}.weights is {spec.weights!r}; a plan needs the folder of a '
        'checkpoint, a packaged model, or a path that ends in the name of a '
        f'published size: {", ".join(presets.PRESETS)}')
  row = families.FAMILIES[preset.config['model_type']]
  config = row.from_hub(preset.config)
  return models.build(preset.config['model_type'], **{
      **{name: getattr(config, name) for name in config.__dataclass_fields__},
      **computed})


def _vocabulary(config) -> int:
  """Ids that mean something to student and teacher alike. The padding rows of
  an embedding are not known without a tokenizer, and count as ids."""
  sizes = [network(config.student, 'student').config.vocab_size]
  sizes += [network(spec, who).config.vocab_size
            for who, spec in with_weights(config.teacher).items()]
  return min(sizes)


def with_weights(section) -> dict[str, Any]:
  """The sections of the teachers that have weights of their own, by name.

  Args:
    section: `teacher` of a config.
  """
  return {who: spec for who, spec in teachers.sections(section).items()
          if spec.kind == 'in_process' and spec.weights}


def blocks_of(model: models.Model) -> int:
  """The blocks that a rollout copy has one entry for."""
  params = jax.eval_shape(model.init, randomness.like_key())
  return jax.tree.leaves(params['blocks'])[0].shape[0]


def shortened(model: models.Model, blocks: int | None) -> models.Model:
  """The model with fewer blocks; None keeps all."""
  if blocks is None:
    return model
  per_block = model.config.num_layers // blocks_of(model)
  config = dataclasses.replace(model.config, num_layers=blocks * per_block)
  return models.FAMILIES[model.family].build(config)._replace(
      family=model.family)


def loaded(model: models.Model, place: Any, vocabulary: int) -> Loaded:
  """A model as train.models.load_model returns it, of shapes.

  Args:
    model: the network.
    place: shapes of parameters -> the same with shardings; None: no shardings.
    vocabulary: its ids that mean something.
  """
  like = jax.eval_shape(model.init, randomness.like_key())
  codec = _Ids(model.config.vocab_size,
               {str(i): i for i in range(vocabulary)})
  return Loaded(model, like if place is None else place(like),
                Chat(codec, BOXED), {'model': models.describe(model)})


def _load(spec, place=None, thinking: str = 'default', day: Day | None = None,
          who: str = 'student', *, vocabulary: int,
          blocks: int | None) -> Loaded:
  """As train.models.load_model, with shapes for parameters."""
  del thinking, day
  return loaded(shortened(network(spec, who), blocks), place, vocabulary)


def _no_questions(config, method) -> build.Questions:
  del config, method
  nothing = lambda *_, **__: ()
  return build.Questions(
      task=Task(nothing, nothing, verifier.BOXED), source=_Questions(),
      splits={}, verifier=None)


def fsdp_of(field: str, mesh, count: int) -> int:
  """The fsdp axis with which a mesh has `count` devices and keeps the others.

  Args:
    field: the section of the mesh, for errors.
    mesh: the section.
    count: the number of devices.

  Raises:
    ValueError: if data x tensor does not divide the number of devices.
  """
  if count % (mesh.data * mesh.tensor):
    raise ValueError(
        f'{field}.data x {field}.tensor is {mesh.data} x {mesh.tensor}; they '
        f'must divide the {count} devices of --topology')
  return count // (mesh.data * mesh.tensor)


def fitted(config, topology: Topology):
  """(the config on a topology, {field: value} of what was changed for it).

  The meshes get as many devices as the topology has (`fsdp_of`), and each batch
  shard keeps its slots; of fewer slots than shards one is left, which counts as
  the fewest that fill the shards.

  Raises:
    ValueError: see `fsdp_of`.
  """
  changed = {}
  fsdp = fsdp_of('mesh', config.mesh, topology.count)
  if fsdp != config.mesh.fsdp:
    changed['mesh.fsdp'] = fsdp
    if config.shapes.slots is not None:
      changed['shapes.slots'] = max(
          1, config.shapes.slots * fsdp // config.mesh.fsdp)
  for who, mesh in _meshes(config.teacher).items():
    fsdp = fsdp_of(who, mesh, topology.count)
    if fsdp != mesh.fsdp:
      changed[f'{who}.fsdp'] = fsdp
  return changed_config(config, changed), changed


def _meshes(section) -> dict[str, Any]:
  """The meshes of their own that teachers have, by the section that says so: a
  member of a panel that says nothing has the panel's."""
  common, of = section.get('mesh', {}), teachers.sections(section)
  own = {'teacher.mesh': common, **{
      f'{who}.mesh': spec.mesh for who, spec in of.items()
      if dict(spec.get('mesh', {})) != dict(common)}}
  return {who: mesh for who, mesh in own.items() if any(mesh.values())}


def changed_config(config, changes: dict[str, Any]):
  """A copy of a config with other values of some dotted fields."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    for field, value in changes.items():
      *sections, name = field.split('.')
      functools.reduce(lambda c, key: c[key], sections, config)[name] = value
  return config


def outside(topology: Topology, load: Callable[..., Loaded]) -> build.Outside:
  """What a run of shapes takes from outside: no question, and no server.

  Args:
    topology: the devices.
    load: as train.models.load_model.
  """
  return build.Outside(
      worded=lambda c, task, loaded: loaded.chat,
      devices=topologies.devices(topology), questions=_no_questions,
      fitting=lambda config, asked, chat, most: asked, load=load,
      teachers={**teachers.TEACHERS, 'endpoint': lambda context: _Elsewhere()})


def run_of(config, topology: Topology, blocks: int | None = None) -> Run:
  """The run of a config on a topology: every array is a shape.

  Args:
    config: the config on the topology.
    topology: the devices.
    blocks: how many blocks student and teacher have; None: all of theirs.

  Raises:
    ValueError, KeyError: as train.build.build; see `network`, and for a config
      of supervised runs.
  """
  if config.get('method') == 'sft':
    raise ValueError("method is 'sft'; `zppo plan` plans the runs of `zppo "
                     'train`')
  return build.build(config, outside=outside(topology, functools.partial(
      _load, vocabulary=_vocabulary(config), blocks=blocks)))
