"""`zppo fisher`, and a run whose parameters its file holds, from end to end."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.builders import json_rows, small_config
from tests.long import LONG
from zppo_jax import assets
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.commands import dry_run, fisher
from zppo_jax.train import build, loop, resume, step
from zppo_jax.weights import safetensors_file

pytestmark = pytest.mark.usefixtures('quick_compile')


def config_of(**changes):
  c = small_config(method='grpo')
  c.algorithm.update(num_new=4, rollouts=4, temperature=1.6, updates=1)
  c.data.pool.hard_share = 0.5
  c.update_from_flattened_dict(changes)
  return c


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp('fisher') / 'f.safetensors'
  fisher.main(config_of(), str(path), 2, 'easy')
  return path


def log_prob(model, group, params):
  """log p of a group's one response at temperature 1.6, over whole logits."""
  response = group.rollouts[0].tokens
  tokens = jnp.array([[*group.prompt.tokens, *response]], jnp.int32)
  T = tokens.shape[1]
  hidden_BTD, _ = model.apply(
      params, tokens, jnp.arange(T, dtype=jnp.int32)[None, :, None],
      jnp.ones((1, T), jnp.int32), media=None, compact=True)
  logps = jax.nn.log_softmax(hidden_BTD[0] @ model.head(params) / 1.6)
  start = len(group.prompt.tokens)
  places = start - 1 + np.arange(len(response))
  return logps[places, np.array(response)].sum()


@LONG
def test_the_diagonal_is_a_mean_of_squares(file):
  """Over 2 questions x 4 responses; of one response it is the square of the
  gradient that a plain differentiation of its log-prob has."""
  run = build.build(config_of())
  assert safetensors_file.description(file)['responses'] == 8
  params = run.init_state().params
  questions = list(run.splits['easy'])[:2]
  groups = fisher._responses(run, params, questions)
  run.sampler.engine.release()
  each = [fisher.diagonal(run, params, [g], 1.6, 512) for g in groups]
  square = jax.tree.map(jnp.square, jax.jit(jax.grad(functools.partial(
      log_prob, run.sampler.engine.programs.model, groups[0])))(params))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-3, atol=1e-5), each[0], square)
  mean = jax.tree.map(lambda *xs: sum(xs) / len(xs), *each)
  stored = safetensors_file.load(file, mean)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-6), stored, jax.device_get(mean))
  assert min(float(np.min(x)) for x in jax.tree.leaves(stored)) >= 0


@LONG
def test_a_held_run_resumes_to_the_byte(tmp_path, file):
  """One step and one more equal two, with parameters that are not trained;
  another file is refused."""
  own = tmp_path / 'f.safetensors'
  shutil.copy(file, own)
  held = {'algorithm.ewc.coefficient': 1e3, 'algorithm.ewc.fisher': str(own),
          'optimizer.frozen': ('embed', '*norm/scale'),
          'optimizer.learning_rate': 1e-3}
  loop.main(config_of(**held, steps=2), tmp_path / 'whole')
  loop.main(config_of(**held, steps=1), tmp_path / 'run')
  manifest = json.loads(
      (tmp_path / 'run/checkpoints/1/host/metadata').read_text())
  assert len(manifest['ewc']) == 64
  contents = own.read_bytes()
  like = build.build(config_of()).abstract_state.params
  safetensors_file.save(own, jax.tree.map(
      lambda x: 2 * x, safetensors_file.load(own, like)),
      safetensors_file.description(own))
  with pytest.raises(ValueError, match='other contents of student.weights or'):
    loop.main(config_of(**held, steps=2), tmp_path / 'run')
  own.write_bytes(contents)
  loop.main(config_of(**held, steps=2), tmp_path / 'run')
  names = ('run', 'whole')
  rows = [json_rows(tmp_path / name / 'metrics.jsonl') for name in names]
  penalties = [[row['ewc/penalty'] for row in of] for of in rows]
  assert penalties[0] == penalties[1] and penalties[0][-1] > 0
  final = [tmp_path / name / 'final.safetensors' for name in names]
  assert final[0].read_bytes() == final[1].read_bytes()
  trained = safetensors_file.load(final[0], like)
  start = safetensors_file.load(assets.find('micro/student'), like)
  moved = {'/'.join(str(k.key) for k in path): bool(np.any(x)) for path, x in
           jax.tree_util.tree_flatten_with_path(
               jax.tree.map(np.subtract, trained, start))[0]}
  assert {name for name, x in moved.items() if not x} == {
      name for name in moved if name == 'embed' or name.endswith('norm/scale')}


def test_memory_programs_and_refusals(tmp_path, file):
  held = {'algorithm.ewc.coefficient': 1.0, 'algorithm.ewc.fisher': str(file)}
  run = build.build(config_of(**held))
  memory = dry_run.standing_memory(run)
  assert memory['anchor of the parameters'] == 2 * memory['student parameters']
  assert 'ewc' in resume.manifest(config_of(**held), run)
  with pytest.raises(FileNotFoundError):
    build.build(config_of(**{**held, 'algorithm.ewc.fisher': 'none'}))
  with pytest.raises(ValueError, match="optimizer.frozen has 'heads'"):
    build.build(config_of(**{'optimizer.frozen': ('heads',)}))
  with pytest.raises(ValueError, match='algorithm.top_k is 4.*over the model'):
    fisher.main(config_of(**{'algorithm.top_k': 4}), 'x', 1, '')
  assert optax.tree.norm(run.ewc.start) > 0


@LONG
def test_anchors_are_the_same_on_a_mesh(file):
  """One step of stable_opd with stored answers, a penalty of the policy, one of
  the parameters, and parameters that are not trained, on 1 and on 8 devices."""
  numbers = []
  for shape in ((1, 1, 1), (2, 2, 2)):
    c = config_of(**{
        'method': 'stable_opd', 'data.pool.worked': True,
        'algorithm.ewc.coefficient': 1.0,
        'algorithm.ewc.fisher': str(file), 'optimizer.frozen': ('embed',)})
    c.mesh.update(dict(zip(('data', 'fsdp', 'tensor'), shape, strict=True)))
    run = build.build(c)
    state, buffer = run.init_state(), ReplayBuffer(run.buffer_capacity)
    for i in range(2):  # in the second the parameters have moved
      made = step.train_step(run, state, buffer, i)
      state, row = made.state, step.metrics_row(run, made)
    numbers.append([row[name] for name in (
        'update/loss', 'update/grad_norm', 'gold/nll', 'gold/tokens',
        'reference/kl', 'ewc/penalty')])
  assert min(numbers[0]) > 0
  np.testing.assert_allclose(*numbers, rtol=1e-3)
