"""Bad input is refused by build.build, with field and value, before any
program is compiled."""

import pathlib
import re
import runpy

import jax
import numpy as np
import pytest

from tests.builders import small_config
from zppo_jax import assets, models
from zppo_jax.models import decoder
from zppo_jax.train import build, loop
from zppo_jax.weights import safetensors_file

ROOT = pathlib.Path(__file__).parents[2]
_COMPILED: list[str] = []  # a name per compilation in this process


def _listen(event, seconds, **fields):
  del seconds
  if event == '/jax/core/compile/backend_compile_duration':
    _COMPILED.append(str(fields.get('fun_name', event)))


@pytest.fixture(scope='module', autouse=True)
def _listener():
  jax.monitoring.register_event_duration_secs_listener(_listen)
  jax.random.key(0)  # one tiny program of jax itself, needed for shapes
  before = len(_COMPILED)
  jax.jit(lambda x: x + 1)(0.0)
  assert len(_COMPILED) > before, 'compilations are no longer announced'
  yield
  jax.monitoring.unregister_event_duration_listener(_listen)


def make_config(**changes):
  """configs/micro.py with a method that needs no teacher, and changes."""
  config = runpy.run_path(f'{ROOT}/configs/micro.py')['get_config']()
  config.method = 'grpo_replay'
  config.lock()
  config.update_from_flattened_dict(changes)
  return config


@pytest.fixture
def refused():
  """build's message for a config; it must fail before it compiles."""
  def refuse(error, **changes):
    config = make_config(**changes)
    _COMPILED.clear()
    with pytest.raises(error) as e:
      build.build(config)
    assert _COMPILED == []
    return str(e.value.args[0])
  return refuse


def test_a_row_has_its_papers_updates_unless_the_config_says_otherwise(
    capsys, tmp_path):
  """The base's 4 was refused, so that --config.method alone did not do. The
  workdir stores what the row has, and a resume compares it."""
  config = make_config(method='off_distill')
  assert build.build(config).num_updates == 1
  said = capsys.readouterr().out
  assert "'off_distill' has algorithm.updates = 1, as its paper does" in said
  assert config.algorithm.updates == 4
  there = loop.RL.of_workdir(config, tmp_path)
  assert there.algorithm.updates == 1
  capsys.readouterr()
  assert build.with_row(there) is there
  assert build.with_row(make_config()).algorithm.updates == 4
  assert not capsys.readouterr().out


def test_the_unchanged_config_builds():
  run = build.build(make_config())
  assert run.teacher is None
  assert run.rules.num_replay == 8
  assert len(run.source.pool) == 800


# Field and value of each message; a value that another one bounds comes with
# that bound.
@pytest.mark.parametrize('changes, words', [
    # the mesh
    ({'mesh.data': 3}, ('mesh 3x1x1', '3 devices', '8 are here')),
    ({'mesh.data': 4, 'mesh.fsdp': 4}, ('mesh 4x4x1', '16 devices')),
    ({'mesh.fsdp': 0}, ('mesh.fsdp is 0', '>= 1')),
    ({'mesh.tensor': 8}, ("'heads' of size 4", 'mesh.tensor = 8')),
    ({'mesh.slices': 2}, ('mesh.data is 1', 'mesh.slices = 2')),
    ({'method': 'zppo', 'teacher.mesh.data': 8},
     ('teacher.mesh.fsdp is 0', '>= 1')),
    # shapes: what is cached or trained must fit
    ({'algorithm.max_tokens': 17},
     ('shapes.row_buckets end at 200', 'algorithm.max_tokens', '201')),
    ({'shapes.prompt_buckets': (8, 185)}, ('shapes.row_buckets', '200', '201')),
    ({'shapes.prompt_buckets': (4,)}, ('6 tokens', 'prompt_buckets is 4')),
    ({'shapes.prompt_buckets': (8, 250), 'shapes.row_buckets': (300,)},
     ('prompt bucket 250', 'max_tokens 16', '266', 'max_positions, 256',
      'prompt_buckets may end at 240')),
    # data
    ({'data.pool.size': 31}, ('pool has 31', 'a step draws 32')),
    ({'data.pool.size': 100_000}, ('50000 hard questions',)),
    ({'data.pool.hard_share': 1.5}, ('hard_share is 1.5', '[0, 1]')),
    ({'data.repeat': False}, ('200 steps of 32', 'data.repeat=True', '25')),
    ({'eval.size': 257}, ("'hard' has 256", '257')),
    # Algorithm 1
    ({'algorithm.buffer_capacity': 7},
     ('algorithm.buffer_capacity is 7', '= 8')),
    ({'algorithm.tau': 0.0}, ('tau is 0.0', '(0, 1]')),
    ({'algorithm.tau': 1.5}, ('tau is 1.5', '(0, 1]')),
    ({'algorithm.tau': float('nan')}, ('tau is nan', '(0, 1]')),
    ({'algorithm.num_new': 0}, ('num_new is 0', '>= 1')),
    ({'algorithm.rho_replay': -0.5}, ('rho_replay is -0.5', '>= 0')),
    ({'algorithm.rho_aug': float('nan')}, ('rho_aug is nan', '>= 0')),
    ({'algorithm.rollouts': 0}, ('algorithm.rollouts is 0', '>= 2')),
    ({'algorithm.updates': 0}, ('algorithm.updates is 0', '>= 1')),
    ({'steps': 0}, ('steps is 0', '>= 1')),
    ({'algorithm.max_tokens': 0}, ('max_tokens is 0', '>= 1')),
    ({'algorithm.temperature': -1.0}, ('temperature is -1.0', 'or 0')),
    ({'algorithm.temperature': 1e-37}, ('temperature is 1e-37', '1e-20')),
    ({'algorithm.temperature': float('inf')}, ('is inf', 'finite')),
    ({'algorithm.top_p': 0.0}, ('top_p is 0.0', '(0, 1]')),
    ({'algorithm.top_k': -1}, ('top_k is -1', '>= 0')),
    ({'algorithm.clip.low': 1.0}, ('clip.low is 1.0', '[0, 1)')),
    ({'algorithm.clip.dual': 1.0}, ('clip.dual is 1.0', '> 1')),
    ({'algorithm.correction.bound': 1.0}, ('correction.bound is 1.0', '> 1')),
    ({'algorithm.correction.bound': float('nan')}, ('bound is nan', '> 1')),
    ({'compression.cap': 0}, ('compression.cap is 0', '>= 1')),
    ({'compression.identity_below': 33},
     ('compression.identity_below is 33', 'cap is 32')),
    # the optimizer and the model
    ({'optimizer.learning_rate': float('nan')}, ('learning_rate is nan',)),
    ({'optimizer.clip_norm': 0.0}, ('clip_norm is 0.0', '> 0')),
    ({'student.attention': 'splash'},
     ("student.attention is 'splash': the platform is cpu; splash needs tpu",
      'auto, xla')),
    ({'method': 'zppo', 'teacher.attention': 'cudnn'},
     ("teacher.attention is 'cudnn': the platform is cpu; cudnn needs gpu",)),
    # slots: whole groups of 8 and of 4 on every device
    ({'shapes.slots': 0}, ('shapes.slots is 0', 'None', 'multiple of 8')),
    ({'shapes.slots': 12}, ('shapes.slots is 12', 'multiple of 8',
                            'algorithm.rollouts = 8')),
    ({'shapes.slots': 96, 'mesh.data': 4, 'mesh.fsdp': 2},
     ('shapes.slots is 96', 'multiple of 64', '8 data device')),
], ids=lambda x: '_'.join(x) if isinstance(x, dict) else '')
def test_bad_value_is_named(refused, changes, words):
  message = refused(ValueError, **changes)
  assert all(word in message for word in words), message


@pytest.mark.parametrize('changes, known', [
    ({'algorithm.correction.kind': 'tis'},
     ("correction.kind 'tis'", 'none, token_truncate, token_mask')),
    ({'student.rollout_weights': 'int4'},
     ("student.rollout_weights 'int4'", 'same, bfloat16, int8')),
    ({'student.dtype': 'float16'}, ("'float16'", 'float32, bfloat16')),
    ({'student.remat': 'some'}, ("'some'", 'none, full, dots')),
    ({'student.attention': 'flash'}, ("'flash'", 'auto, xla, splash, cudnn')),
    ({'method': 'zpo'}, ("'zpo'", 'grpo_replay', 'zppo', 'placebo')),
    ({'data.task': 'chess'}, ("'chess'", 'micro')),
    ({'algorithm.normaliser': 'batch'},
     ("'batch'", 'without_zero', 'with_zero', 'none', 'group')),
    ({'algorithm.advantage_scope': 'step'},
     ("'step'", 'rollout_batch', 'minibatch')),
    ({'eval.splits': ('hard', 'harder')},
     ("'harder'", 'hard_composed', 'easy_list')),
    ({'shapes.layout': 'dense'},
     ("shapes.layout 'dense'", 'shared, padded, packed')),
    ({'optimizer.schedule': 'steps'},
     ("optimizer.schedule 'steps'", 'constant, linear, cosine')),
], ids=lambda x: '_'.join(x) if isinstance(x, dict) else '')
def test_unknown_name_lists_the_known(refused, changes, known):
  message = refused(KeyError, **changes)
  assert all(name in message for name in known), message


def test_unknown_weights_list_the_packaged(refused):
  message = refused(FileNotFoundError, **{'student.weights': 'micro/pupil'})
  assert "'micro/pupil'" in message and 'micro/student' in message


@pytest.fixture
def spoilt(tmp_path):
  """Path of the student's weights after a change of its arrays."""
  def write(change):
    source = assets.find('micro/student')
    described = safetensors_file.description(source)
    fields = {'family': 'decoder', **described['model']}
    model = models.build(**fields)
    params = safetensors_file.load(
        source, jax.eval_shape(model.init, jax.random.key(0)))
    safetensors_file.save(tmp_path / 'spoilt.safetensors', change(params),
                          described)
    return str(tmp_path / 'spoilt.safetensors')
  return write


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_one_weight_that_is_not_finite_is_found(refused, spoilt, value):
  def change(params):
    params['blocks']['mlp']['up'] = np.array(params['blocks']['mlp']['up'])
    params['blocks']['mlp']['up'].flat[-1] = value
    return params
  path = spoilt(change)
  message = refused(ValueError, **{'student.weights': path})
  assert path in message
  assert 'blocks/mlp/up holds NaN or infinite' in message


def test_missing_and_unknown_tensors_are_named(refused, spoilt):
  def change(params):
    params['embedding'] = params.pop('embed')
    return params
  message = refused(ValueError, **{'student.weights': spoilt(change)})
  assert "missing tensors ['embed']" in message
  assert "unknown tensors ['embedding']" in message


def test_misshapen_tensor_is_named(refused, spoilt):
  def change(params):
    params['embed'] = params['embed'][:-1]
    return params
  message = refused(ValueError, **{'student.weights': spoilt(change)})
  assert re.search(r'embed has shape \(39, 64\); the model has \(40, 64\)',
                   message)


def test_damaged_file_is_named(refused, tmp_path):
  source = assets.find('micro/student').read_bytes()
  path = tmp_path / 'cut.safetensors'
  path.write_bytes(source[:len(source) // 2])
  message = refused(ValueError, **{'student.weights': str(path)})
  assert str(path) in message


# 64 mini-batches of at most 48 groups would leave some empty and divide their
# gradient by zero tokens.
@pytest.mark.parametrize('changes, words', [
    ({'algorithm.updates': 64}, ('algorithm.updates is 64',)),
    ({'algorithm.teacher_rollouts': 0}, ('teacher_rollouts is 0',)),
    ({'data.pool.size': 0}, ('size', '0')),
    ({'eval.size': 0}, ('eval.size is 0',)),
    ({'seed': -1}, ('seed is -1',)),
    ({'shapes.group_buckets': ()}, ('shapes.group_buckets',)),
    ({'shapes.prompt_buckets': ()}, ('shapes.prompt_buckets',)),
    ({'shapes.prefill_tokens': 0}, ('shapes.prefill_tokens is 0',)),
    ({'method': 'grpo_both', 'algorithm.rest_saturated': 3},
     ('rest_saturated is 3', "'grpo_both'", 'allowed here: 0')),
    ({'algorithm.rest_saturated': -1}, ('rest_saturated', '-1', '>= 0')),
    ({'shapes.row_buckets': ()}, ('shapes.row_buckets',)),
    ({'teacher.kind': 'stored'}, ("teacher.kind is 'stored'", 'in_process')),
    ({'shapes.response_buckets': (8, 12)},
     ('shapes.response_buckets is (8, 12)', 'algorithm.max_tokens = 16')),
], ids=lambda x: '_'.join(x) if isinstance(x, dict) else '')
def test_number_out_of_range_is_named(refused, changes, words):
  message = refused(ValueError, **{'method': 'zppo', **changes})
  assert all(word in message for word in words), message


def test_slots_bound_the_rows_that_decode():
  """Of the student's and the teacher's engine; more than a batch asks for
  changes nothing."""
  most = lambda run: (run.sampler.engine.shapes.slots[-1],
                      run.teacher.answers.engine.shapes.slots[-1])
  found = {}
  for slots in (None, 8, 10_000):
    c = small_config()
    c.shapes.slots = slots
    found[slots] = most(build.build(c))
  assert found == {None: (80, 8), 8: (8, 8), 10_000: (80, 8)}


def test_a_second_run_of_the_same_model_traces_no_network(monkeypatch):
  """Shapes of params, state and caches are those of the first; the program of
  the rollout copy is kept."""
  first = build.build(small_config(method='opd_k2'))
  monkeypatch.setattr(decoder.Decoder, '__call__', None)
  second = build.build(small_config(method='opd_k3'))
  assert second.abstract_state == first.abstract_state
  assert second.reshard_fn.at_once is first.reshard_fn.at_once is not None
