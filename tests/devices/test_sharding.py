"""The tables, the meshes, what decoding communicates, sharded = single."""

import functools
import math
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import builders
from tests.long import LONG, long
from zppo_jax import models
from zppo_jax.arrays import MicroBatch, TrainState
from zppo_jax.devices import sharding
from zppo_jax.learner import forward, optimizers, packing, states, update
from zppo_jax.models import layers
from zppo_jax.objectives import advantages, losses
from zppo_jax.rollout import weight_sync
from zppo_jax.rollout.build import make_engine

pytestmark = pytest.mark.usefixtures('quick_compile')

MESHES = [(1, 1, 1), (2, 2, 2), (8, 1, 1)]


def shapes_of(model):
  return jax.eval_shape(model.init, jax.random.key(0))


def test_every_parameter_has_a_row(make_tiny):
  """Which names its axes in their order; and no row is left over."""
  used = set()
  sizes = dict(layers=2, vocab=24, width=16, heads=4, kv_heads=2, head_dim=6,
               mlp=20, norm=16, pair=2, taps=3, channels=48)
  qwen3_5 = models.build(
      'qwen3_5', vocab_size=24, width=16, num_layers=4, num_heads=4,
      num_kv_heads=2, head_dim=6, mlp_width=20, max_positions=8, period=2,
      delta_key_heads=2, delta_value_heads=4, delta_key_dim=6,
      delta_value_dim=6, conv_kernel=3, rotary_share=1, rope_sections=(1, 1, 1))
  tower = dict(
      depth=2, width=8, num_heads=2, mlp_width=12, out_width=16, patch_size=2,
      temporal_patch=2, channels=3, merge=2, num_positions=9, image_id=20,
      video_id=21, start_id=22, end_id=23, taps=(0, 1))
  qwen3_vl = models.build(
      'qwen3_vl', vocab_size=24, width=16, num_layers=2, num_heads=4,
      num_kv_heads=2, head_dim=6, mlp_width=20, max_positions=8,
      rope_sections=(1, 1, 1), vision=tower)
  of_tower = dict(layers=2, width=8, heads=2, head_dim=4, mlp=12, norm=8,
                  patch_values=24, positions=9, qkv=3)
  for model in (make_tiny(tied=True, qk_norm=False)[0],
                make_tiny(tied=False)[0], qwen3_5, qwen3_vl):
    shapes = shapes_of(model)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
      axes = sharding.param_axes(path)
      names = [k.key for k in path]
      if 'vision' not in names:
        assert leaf.shape == tuple(sizes[axis] for axis in axes)
      elif 'merger' not in names and 'taps' not in names:
        assert leaf.shape == tuple(of_tower[axis] for axis in axes), names
      assert (axes[0] == 'layers') == bool(sharding.STACKED & set(names))
      used |= {'/'.join(names[-2:]), names[-1]} & set(sharding.PARAM_AXES)
  assert used == set(sharding.PARAM_AXES)


def test_every_axis_has_a_rule():
  """In both tables; rollouts hold whole widths, training cuts them."""
  axes = {a for row in sharding.PARAM_AXES.values() for a in row} | {
      'layers', 'rank'}
  assert axes == set(sharding.TRAIN_RULES) == set(sharding.ROLLOUT_RULES)
  assert sharding.TRAIN_RULES['width'] == 'fsdp'
  assert set(sharding.ROLLOUT_RULES.values()) == {None, 'tensor'}


def test_unknown_parameter_is_named(make_mesh):
  """With its whole path."""
  tree = {'blocks': {'mlp': {'gaet': np.zeros((2, 4, 4))}}}
  with pytest.raises(KeyError, match='blocks/mlp/gaet has no row'):
    sharding.param_shardings(tree, make_mesh(), sharding.TRAIN_RULES)


@pytest.mark.parametrize('fields, mesh, message', [
    (dict(width=18), (1, 4, 2),
     r"parameter \['.*'\]: axis 'width' of size 18.*fsdp = 4"),
    (dict(vocab_size=25), (2, 2, 2),
     r"\['embed'\].*'vocab' of size 25.*tensor = 2"),
    (dict(num_heads=3, num_kv_heads=1), (2, 2, 2),
     r"\['attention'\]\['[qo]'\].*'heads' of size 3.*tensor = 2"),
    (dict(mlp_width=21), (4, 1, 2), r"'mlp' of size 21.*tensor = 2"),
    (dict(num_heads=4, num_kv_heads=4), (1, 1, 8),
     r"'heads' of size 4.*tensor = 8")])
def test_axes_that_do_not_divide(make_mesh, fields, mesh, message):
  """Before anything is compiled, naming the parameter, its axis and size."""
  shapes = shapes_of(models.build('decoder', **{
      'vocab_size': 24, 'width': 16, 'num_layers': 1, 'num_heads': 4,
      'num_kv_heads': 2, 'head_dim': 6, 'mlp_width': 24, 'max_positions': 8,
      **fields}))
  with pytest.raises(ValueError, match=message):
    sharding.param_shardings(shapes, make_mesh(*mesh), sharding.TRAIN_RULES)


@pytest.mark.parametrize('shape, message', [
    ((0, 1, 1), 'mesh.data is 0'), ((1, -1, 1), 'mesh.fsdp is -1'),
    ((1, 1, 1, 0), 'mesh.slices is 0'),
    ((2, 2, 4), '2x2x4.*needs 16 devices; 8 are here'),
    ((2, 2, 1), '2x2x1.*needs 4 devices; 8 are here. Allowed: 1x1x1 or a '),
    ((2, 2, 2, 4), 'mesh.data is 2; .* multiple of mesh.slices = 4')])
def test_meshes_that_do_not_fit(shape, message):
  """Too many devices, idle ones, axes below 1, and slices that are cut."""
  with pytest.raises(ValueError, match=message):
    sharding.make_mesh(sharding.MeshConfig(*shape))


def device(process, **more):
  return types.SimpleNamespace(process_index=process, **more)


def test_no_process_may_be_idle():
  """A mesh of one device leaves the others of one process idle, not those of
  another, which would wait for ever."""
  with pytest.raises(ValueError, match=r'own.mesh 1x1x1 .* needs 1 devices; 2 '
                     r'are here, on 2 processes. Allowed: a product of 2'):
    sharding.make_mesh(sharding.MeshConfig(), [device(0), device(1)],
                       'own.mesh')


def test_slices_are_those_of_the_devices():
  """A TPU says in which slice it lies."""
  tpus = [device(i, platform='tpu', slice_index=i, device_kind='TPU v5e')
          for i in range(2)]
  with pytest.raises(ValueError, match='mesh.slices is 1; .* in 2 slice'):
    sharding.make_mesh(sharding.MeshConfig(2), tpus)


def test_meshes_that_fit():
  """All devices in order, or one of them; the batch lies over two axes."""
  mesh = sharding.make_mesh(sharding.MeshConfig(2, 2, 2))
  assert dict(mesh.shape) == {'data': 2, 'fsdp': 2, 'tensor': 2}
  assert [d.id for d in mesh.devices.flat] == list(range(8))
  assert sharding.batch_shards(mesh) == 4
  assert sharding.make_mesh(sharding.MeshConfig()).devices.size == 1
  slices = sharding.make_mesh(sharding.MeshConfig(4, 2, 1, slices=2))
  assert [d.id for d in slices.devices.flat] == list(range(8))


def test_batches_are_cut_and_come_back(make_mesh):
  """Rows over (data, fsdp), whole over tensor; to_host undoes it."""
  mesh = make_mesh(2, 2, 2)
  batch = {'a': np.arange(24).reshape(8, 3), 'b': np.arange(4.0)}
  placed = sharding.put_batch(mesh, batch)
  for shard in placed['a'].addressable_shards:
    row = 2 * (shard.device.id // 2)
    np.testing.assert_array_equal(shard.data, batch['a'][row:row + 2])
  jax.tree.map(np.testing.assert_array_equal, sharding.to_host(placed), batch)


@pytest.mark.parametrize('state_dtype', ['float32', 'bfloat16'])
def test_state_shardings(tiny, make_mesh, state_dtype):
  """Moments lie as their parameters do, counts are everywhere."""
  model, params = tiny
  mesh = make_mesh(2, 2, 2)
  tx = optimizers.adamw(optimizers.AdamWConfig(state_dtype=state_dtype))
  shardings = states.state_shardings(model, tx, mesh)
  state = states.new_state(params, tx, shardings)
  placed = jax.tree.map(lambda x: x.sharding.shard_shape(x.shape), state)
  moments = [x for x in jax.tree.leaves(
      placed.opt_state, is_leaf=lambda x: x == placed.params)
      if x == placed.params]
  assert len(moments) == 2  # mu and nu
  assert placed.params['embed'] == (24 // 2, 16 // 2)
  assert placed.params['blocks']['attention']['q'] == (2, 8, 2, 6)
  assert placed.params['blocks']['mlp']['down'] == (2, 10, 8)
  assert placed.params['norm']['scale'] == (16,)
  of_moments = {x.dtype for x in jax.tree.leaves(state.opt_state) if x.ndim}
  assert of_moments == {jnp.dtype(state_dtype)}
  replicated = [x for x in jax.tree.leaves(state.opt_state) if x.ndim == 0]
  assert replicated and all(x.sharding.is_fully_replicated
                            for x in [*replicated, state.updates])


def test_reshard_to_rollouts(tiny, make_mesh, make_tiny):
  """Widths whole, matrices in the compute type; so are params in place."""
  mesh = make_mesh(2, 2, 2)
  model, _ = make_tiny(dtype='bfloat16')
  placed = jax.device_put(tiny[1], sharding.param_shardings(
      tiny[1], mesh, sharding.TRAIN_RULES))
  out = weight_sync.compile_reshard(model, mesh)(placed)
  assert out['embed'].sharding.shard_shape((24, 16)) == (12, 16)
  assert out['embed'].dtype == out['blocks_1']['mlp']['up'].dtype == (
      jnp.bfloat16)
  jax.tree.map(lambda x, p: np.testing.assert_array_equal(
      x.astype(jnp.bfloat16), p.astype(jnp.bfloat16)),
      *jax.device_get((out, layers.unstack(tiny[1]))))
  for params in (placed, tiny[1]):
    copy = weight_sync.place_copy(params, model, mesh)
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((copy, out)))
    assert jax.tree.map(lambda x: x.sharding, copy) == jax.tree.map(
        lambda x: x.sharding, out)


def test_leaves_are_copied_one_by_one(make_tiny, make_mesh):
  """The largest first; equal leaves share a program."""
  model, _ = make_tiny(dtype='bfloat16', tied=False)
  reshard = weight_sync.compile_reshard(model, make_mesh(2, 2, 2))
  programs = {one.name: one.program for one in reshard.leaves}
  assert len(programs) == len(reshard.leaves) == len(jax.tree.leaves(
      shapes_of(model)))
  assert programs['blocks/attention/k'] is programs['blocks/attention/v']
  assert programs['blocks/mlp/gate'] is programs['blocks/mlp/up']
  assert programs['blocks/mlp/gate'] is not programs['blocks/mlp/down']
  copies = jax.tree.leaves(reshard.copy)
  sizes = [sum(math.prod(copies[i].sharding.shard_shape(copies[i].shape))
               for i in one.places) for one in reshard.leaves]
  assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


@LONG
def test_rollout_copy_scores_like_the_trainer_in_bf16(tiny, make_mesh,
                                                      make_tiny):
  """Casting what the trainer casts anyway, and nothing that it does not:
  norm scales multiply in float32 there (bf16 ones cost 0.01 nats a token)."""
  mesh, (model, _) = make_mesh(), make_tiny(dtype='bfloat16')
  copy = weight_sync.compile_reshard(model, mesh)(tiny[1])
  logps = jax.jit(functools.partial(
      forward.token_logps, model=model, temperature=1.0, chunk=64))
  np.testing.assert_array_equal(
      logps(copy, recorded())[0],
      logps(layers.unstack(tiny[1]), recorded())[0])


# What the compiled decode loop communicates on 2x2x2.

COLLECTIVE = re.compile(
    r'= (?P<out>\S.*?) (?P<op>all-gather|all-reduce|all-to-all|reduce-scatter|'
    r'collective-permute|collective-broadcast|ragged-all-to-all)(-start)?\(')
NUM_ROLLOUTS = 33  # a size that no parameter has


def numbers(text):
  return [int(x) for x in re.findall(r'\d+', text)]


def iota(text):
  """HLO's [2,4]T(1,0): a range of the product, reshaped and transposed."""
  shape, _, order = text.partition('T')
  ids = np.arange(math.prod(numbers(shape))).reshape(numbers(shape))
  return ids.transpose(numbers(order)) if order else ids


def device_groups(line):
  """The groups of devices of a collective, in each of HLO's notations."""
  found = re.search(r'(?:replica_groups|source_target_pairs)=\{\{(.*?)\}\}',
                    line)
  if found:
    return [numbers(group) for group in found[1].split('},{')]
  found = re.search(r'replica_groups=(\[[\d,]+\])<=(\S+\]?(?:T\([\d,]+\))?)',
                    line)
  if found:
    return iota(found[2].rstrip(',')).reshape(numbers(found[1])).tolist()
  found = re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?\]"
                    r"(?:T\([\d,]+\))?)\))? \{(.*?)\}", line)
  assert found, f'unknown notation: {line}'
  axes = re.findall(r"'(\w+)'=(\d+)", found[1])
  sizes = [int(size) for _, size in axes]
  ids = (iota(found[2]) if found[2] else np.arange(8)).reshape(sizes)
  chosen = [i for i, (name, _) in enumerate(axes) if f"'{name}'" in found[3]]
  ids = np.moveaxis(ids, chosen, range(-len(chosen), 0))
  return ids.reshape(-1, math.prod(sizes[i] for i in chosen)).tolist()


def loop_collectives(text, everywhere=False):
  """(operation, result shapes, device groups) inside while loops of an HLO
  module, in all that their bodies and conditions call; or of all of it."""
  bodies, name = {}, None
  for line in text.splitlines():
    head = re.match(r'(?:ENTRY )?%([\w.\-]+) \(.*\{$', line)
    if head:
      name = head[1]
      bodies[name] = []
    elif name and line.startswith('  '):
      bodies[name].append(line)
  called = lambda lines: {n for line in lines
                          for n in re.findall(r'%([\w.\-]+)', line)} & set(
                              bodies)
  inside = set()
  todo = {n for lines in bodies.values() for line in lines if ' while(' in line
          for n in re.findall(r'(?:body|condition)=%([\w.\-]+)', line)}
  while todo:
    inside |= todo
    todo = called(line for n in todo for line in bodies[n]) - inside
  out = []
  for line in (line for n in (bodies if everywhere else inside)
               for line in bodies[n]):
    found = COLLECTIVE.search(line)
    if found:
      results = [tuple(numbers(s)) for s in re.findall(
          r'\w\[([\d,]*)\]', found['out'])]
      out.append((found['op'], results, device_groups(line)))
  return out


@functools.cache
def decoding_collectives(rules, axes=(2, 2, 2), mlp_width=26, pinned=True):
  """Those of the decode loop with parameters under `rules`, and the model,
  which is on the mesh if its activations are `pinned`."""
  mesh = sharding.make_mesh(sharding.MeshConfig(*axes))
  model = models.build(
      'decoder', vocab_size=44, width=20, num_layers=2, num_heads=4,
      num_kv_heads=2, head_dim=6, mlp_width=mlp_width, max_positions=32,
      tied=False)
  model = models.on_mesh(model, mesh) if pinned else model
  codec = types.SimpleNamespace(
      vocab_size=44, end_id=1, sampled_ids=frozenset(range(1, 44)))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, 'ROLLOUT_RULES', dict(rules))
    engine = make_engine(
        model=model, mesh=mesh, max_tokens=9, num_rollouts=(NUM_ROLLOUTS,),
        chat=types.SimpleNamespace(codec=codec, decode_response=None),
        prompt_buckets=(8,), group_buckets=(4,))
    shapes = jax.eval_shape(layers.unstack, shapes_of(model))
    placed = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes,
        sharding.param_shardings(shapes, mesh, sharding.ROLLOUT_RULES))
  compiled = engine.programs.largest(placed)['decode chunk'].compile()
  return (loop_collectives(compiled.as_text()),
          loop_collectives(compiled.as_text(), True), shapes)


def parameter_gathers(collectives, shapes, tensor=2):
  """All-gathers whose result is a parameter's, one layer's, or a tensor
  shard of either, whatever the order of its axes."""
  sizes = set()
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    axes = sharding.param_axes(path)
    for first in (0, 1) if axes[0] == 'layers' else (0,):
      cut = lambda axis: sharding.TRAIN_RULES[axis] == 'tensor'
      shard = [size // tensor if cut(axis) else size
               for size, axis in zip(leaf.shape, axes, strict=True)]
      sizes |= {math.prod(s[first:]) for s in (leaf.shape, shard)}
  return [result for op, results, _ in collectives if op == 'all-gather'
          for result in results if math.prod(result) in sizes]


def beyond_tensor(collectives, tensor=2):
  """Result shapes of collectives that leave a (data, fsdp) coordinate."""
  return [result for _, results, groups in collectives for result in results
          if any(len({device // tensor for device in group}) > 1
                 for group in groups)]


def rules_of(**changes):
  return tuple(sorted({**sharding.ROLLOUT_RULES, **changes}.items(),
                      key=lambda item: item[0]))


@LONG
def test_decode_loop_gathers_no_parameter():
  """Rows and weights meet where they lie: a (data, fsdp) coordinate talks
  to no other, but for one boolean, whether all rows have ended."""
  collectives, everywhere, shapes = decoding_collectives(rules_of())
  assert len(collectives) > 5  # over tensor there are some
  assert parameter_gathers(everywhere, shapes) == []
  assert set(beyond_tensor(collectives)) == {()}


@LONG
def test_copied_heads_are_gathered_neither():
  """Two key/value heads over four devices: copies are cut where they lie."""
  collectives, everywhere, shapes = decoding_collectives(
      rules_of(), (2, 1, 4), 28)
  assert len(collectives) > 5
  assert parameter_gathers(everywhere, shapes, 4) == []
  assert set(beyond_tensor(collectives, 4)) == {()}


@LONG
def test_training_sharding_would_communicate_in_the_loop():
  """Both checks can fail, here where nothing pins activations.

  Under TRAIN_RULES this XLA leaves the weights where they are and moves
  activations over fsdp, twice a layer and token: the second check sees it.
  Cut along the head dimension it gathers weights: the first one does.
  """
  collectives, _, shapes = decoding_collectives(
      rules_of(**sharding.TRAIN_RULES), pinned=False)
  moved = [shape for shape in beyond_tensor(collectives) if shape]
  assert len(moved) >= 4
  # Once per decode chunk: XLA moves it out of the loop.
  _, everywhere, shapes = decoding_collectives(
      rules_of(head_dim='fsdp'), pinned=False)
  gathered = parameter_gathers(everywhere, shapes)
  assert (20, 2, 6) in gathered  # a layer's queries, tensor shard


@pytest.mark.parametrize('line, groups', [
    ('replica_groups={{0,2},{1,3}}, x={1}', [[0, 2], [1, 3]]),
    ('source_target_pairs={{0,1},{1,0}}, x', [[0, 1], [1, 0]]),
    ('replica_groups=[2,4]<=[8], x', [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ('replica_groups=[4,2]<=[2,2,2]T(0,2,1), dimensions={0}',
     [[0, 2], [1, 3], [4, 6], [5, 7]]),
    ("replica_groups=mesh['a'=4,'b'=2] {'a'}, x",
     [[0, 2, 4, 6], [1, 3, 5, 7]]),
    ("replica_groups=mesh['a'=2,'b'=1,'c'=4], device_ids=([4,2]T(1,0)) {'a'}",
     [[0, 1], [2, 3], [4, 5], [6, 7]])])
def test_device_groups_by_hand(line, groups):
  """HLO's four notations."""
  assert device_groups(line) == groups


# Sharded = single, from the same recorded rollouts.

V = 24


def recorded():
  """16 rows of 12 positions with old log-probs some way off."""
  rng = np.random.default_rng(0)
  draw = lambda n: rng.integers(1, V, n).tolist()
  rows = [builders.training(
      draw(rng.integers(2, 5)), draw(rng.integers(1, 8)),
      advantage=rng.normal()) for _ in range(16)]
  batch = packing.pad_rows(rows, 16, 12)
  return batch.with_target('old_logp', np.float32(
      -3 + rng.uniform(-1, 1, batch.mask_BT.shape)))


def loss_and_gradient(model, params, mesh, batch: MicroBatch):
  loss_fn = functools.partial(
      update.policy_loss, model=model, temperature=0.9, chunk=5,
      loss=functools.partial(
          losses.clipped_surrogate, clip=losses.ClipBounds()))
  tx = optax.sgd(1.0)
  shardings = states.state_shardings(model, tx, mesh)
  update_fn = update.compile_update(loss_fn=loss_fn, tx=tx, mesh=mesh,
                                    shardings=shardings)
  grads, sums, _ = update_fn(
      TrainState(jax.device_put(params, shardings.params), None, None),
      [sharding.put_batch(mesh, batch)], None,
      optimizer_fn=lambda state, grads, token_count: (grads, None))
  return sharding.to_host((sums, grads))


@pytest.mark.parametrize('dtype, tolerance', [
    ('float32', 1e-5), long('float64', 1e-10)])
def test_sharded_equals_single(make_tiny, make_mesh, dtype, tolerance):
  """Loss and ||d|| / ||g|| of every tensor's gradient on three meshes."""
  _, params = make_tiny(tied=False)
  with jax.enable_x64(dtype == 'float64'):
    model, _ = make_tiny(tied=False, dtype=dtype)
    batch = jax.tree.map(
        lambda x: x.astype(dtype) if x.dtype == np.float32 else x, recorded())
    params = jax.tree.map(lambda x: np.asarray(x).astype(dtype), params)
    single, *others = (
        loss_and_gradient(model, params, make_mesh(*shape), batch)
        for shape in MESHES)
  numbers = lambda sums: {
      'loss': sums.loss, 'entropy': sums.total['entropy'],
      'highest': sums.highest['log_ratio'], 'lowest': sums.lowest['log_ratio']}
  counts = lambda sums: [sums.tokens, *(
      sums.total[f'clip_{bound}'] for bound in ('low', 'high', 'dual'))]
  assert all(count > 0 for count in counts(single[0])[1:3])
  for sums, grads in others:
    for name, number in numbers(sums).items():
      np.testing.assert_allclose(number, numbers(single[0])[name],
                                 rtol=tolerance)
    assert counts(sums) == counts(single[0])
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(single[1]),
                         strict=True):
      assert got.dtype == want.dtype == dtype
      distance = np.linalg.norm(got - want) / np.linalg.norm(want)
      assert distance <= tolerance


@pytest.mark.parametrize('name', sorted(advantages.NORMALISERS))
def test_advantages_are_identical_on_any_mesh(make_mesh, name):
  """Bit for bit: statistics are global, not a shard's."""
  rng = np.random.default_rng(1)
  rewards = (rng.random((16, 8)) < rng.choice([0, .2, .6], (16, 1)))
  rewards = rewards.astype(np.float32)
  mask = np.ones_like(rewards)
  mask[-3:] = 0
  out = []
  for shape in MESHES:
    mesh = make_mesh(*shape)
    rows = sharding.batch_sharding(mesh)
    fn = jax.jit(advantages.NORMALISERS[name], in_shardings=(rows, rows),
                 out_shardings=rows)
    out.append(sharding.to_host(fn(*sharding.put_batch(
        mesh, (rewards, mask)))))
  assert out[0].any()
  np.testing.assert_array_equal(out[0], out[1])
  np.testing.assert_array_equal(out[0], out[2])


def test_a_batch_of_one_cpu_stays_on_the_host(make_mesh):
  """And a jitted function computes from it what it computes from arrays that
  lie on the device; on more devices the rows are cut."""
  batch = {'tokens': np.arange(8, dtype=np.int32).reshape(4, 2)}
  one, two = make_mesh(1, 1, 1), make_mesh(2, 1, 1)
  assert sharding.put_batch(one, batch) is batch
  placed = sharding.batch_sharding(one)
  f = jax.jit(lambda b: b['tokens'].sum(0), in_shardings=placed)
  np.testing.assert_array_equal(f(batch), f(jax.device_put(batch, placed)))
  cut = sharding.put_batch(two, batch)['tokens']
  assert [s.data.tolist() for s in cut.addressable_shards] == [
      [[0, 1], [2, 3]], [[4, 5], [6, 7]]]
