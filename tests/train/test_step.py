"""One step, from the packaged weights: what each method does in it."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.builders import advantage_targets, small_config
from tests.long import long_but
from zppo_jax.algorithms import methods, zppo
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.learner import layouts, packing
from zppo_jax.records import Group, PromptKind, Rollout, StopReason, Verdict
from zppo_jax.runs import metrics
from zppo_jax.tasks import TASKS, micro
from zppo_jax.train import build, minibatches, step

pytestmark = pytest.mark.usefixtures('quick_compile')

# Their parts run in other rows; the smoke of studies/ runs them whole.
IN_PARTS = {'bare', 'bcq_again', *(
    f'{of}_{name}' for of in ('placebo', 'random', 'bare', 'again')
    for name in ('bcq', 'ncq'))}


@pytest.mark.parametrize('name', long_but(
    ['zppo', 'grpo', 'grpo_replay', 'hint', 'pope'],
    sorted(name for name, m in methods.METHODS.items()
           if not m.distils and name not in IN_PARTS)))
def test_every_method_runs_what_its_row_says(name):
  """Kinds of groups, buffer and teacher follow the table, nothing else."""
  c, method = small_config(method=name), methods.METHODS[name]
  hinted = 'hint' in method.reformulations
  c.hint.source, c.data.pool.hints = 'stored', hinted
  oracle = 'oracle_prefix' in method.reformulations
  c.data.pool.worked = oracle
  run = build.build(c)
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert (len(made.buffer) > 0) == method.replay == (made.settled is not None)
  asks = bool(method.reformulations) and not hinted and not oracle
  assert (run.teacher is not None) == asks
  again = 'again_bcq' in method.reformulations
  assert (row['groups/bcq'] > 0) == (not again and any(
      'bcq' in r for r in method.reformulations))
  assert ('groups/again_bcq' in row) == again == ('groups/again_ncq' in row)
  assert ('groups/prefix' in row) == any(
      'prefix' in r for r in method.reformulations)
  assert ('groups/hint' in row) == hinted
  assert (row['tokens/teacher_generated'] > 0) == asks


@pytest.mark.parametrize('kind', layouts.LAYOUTS)
def test_forced_tokens_carry_no_loss(kind):
  """In every layout the loss has the drawn tokens alone, whose context is the
  question and the forced tokens."""
  run = build.build(small_config(method='prefix'))
  of = recorded_groups()[2]
  forced = of.rollouts[0].tokens[:2]
  prompt = dataclasses.replace(of.prompt, kind=PromptKind.PREFIX, forced=2,
                               tokens=(*of.prompt.tokens, *forced))
  advantages = np.arange(1.0, 9.0, dtype=np.float32)[None]
  groups = [Group(prompt, of.rollouts)]
  batches = layouts.micro_batches(
      groups, advantage_targets(groups, advantages),
      run.layout._replace(kind=kind))
  trained = [tuple(row[mask > 0].tolist()) for b in batches for row, mask in
             zip(np.asarray(b.tokens_BT), np.asarray(b.mask_BT), strict=True)]
  drawn = [token for r in of.rollouts for token in r.tokens]
  assert sorted(t for row in trained for t in row) == sorted(drawn)
  assert packing.trained_tokens(groups) == len(drawn)


def test_decisions_are_the_same_on_every_mesh():
  """From the same recorded groups: advantages, mini-batches, rows."""
  groups = recorded_groups()
  found = []
  for shape in ((1, 1, 1), (2, 2, 2), (8, 1, 1)):
    mesh = dict(zip(('data', 'fsdp', 'tensor'), shape, strict=True))
    other = build.build(small_config(mesh=mesh))
    adv = minibatches.advantages(other, groups)
    minis, _ = minibatches.make(other, groups, adv, 0)
    rows = [sorted(tuple(map(int, row)) for b in of.batches
                   for row in np.asarray(b.tokens_BT) if row.any())
            for of in minis]
    found.append((adv, rows, [of.tokens for of in minis]))
  for adv, rows, tokens in found[1:]:
    np.testing.assert_allclose(adv, found[0][0], rtol=1e-6)
    assert rows == found[0][1] and tokens == found[0][2]


def recorded_groups():
  """Ten plain groups of real prompts, rewards 0 to 8 of 8, lengths vary."""
  rng = np.random.default_rng(0)
  task = TASKS['micro']
  prompts = zppo.plain_prompts(micro.pool(10, 0.5), task.chat)
  groups = []
  for i, prompt in enumerate(prompts):
    rollouts = []
    for g in range(8):
      tokens = (*(int(t) for t in rng.integers(10, 20, 3 + (i + g) % 9)), 1)
      verdict = Verdict.CORRECT if g < i % 9 else Verdict.WRONG
      rollouts.append(Rollout(tokens, (-1.0,) * len(tokens), '',
                              StopReason.END, verdict, ''))
    groups.append(Group(prompt, tuple(rollouts)))
  return groups


def test_layouts_are_scored_and_trained_alike():
  """The same recorded groups in every layout: the gap to the sampler, metrics
  and the next parameters; packed and shared take half of the positions or less.

  Adam's epsilon is large here: a step is otherwise the sign of a gradient,
  also of one that is rounding alone.
  """
  c = small_config()
  c.optimizer.eps = 1e-4
  run, groups = build.build(c), recorded_groups()
  adv = minibatches.advantages(run, groups)

  def train(kind):
    layout = run.layout._replace(kind=kind, max_tokens=400)
    of = dataclasses.replace(run, layout=layout)
    state = run.init_state()
    made = minibatches.score(
        of, state, minibatches.make(of, groups, adv, 0)[0])
    gap = float(max(minibatches.sampler_gaps(made)))
    state, sums, norms = step.update(of, state, made)
    row = metrics.of_updates(sums, [m.tokens for m in made], norms)
    return row | {'gap': gap}, sums, jax.device_get(state.params)

  padded, sums, want = train('padded')
  positions = lambda sums: sum(s.positions for s in sums)
  padding = padded.pop('update/padding')
  assert padded['gap'] > 1  # the recorded log-probs are made up
  for kind in ('packed', 'shared'):
    row, fewer, params = train(kind)
    assert positions(fewer) <= positions(sums) / 2, kind
    assert row.pop('update/padding') < padding < 1
    assert row == {name: pytest.approx(value, rel=1e-4, abs=1e-6)
                   for name, value in padded.items()}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(
        x, y, atol=1e-6), params, want)


def test_a_step_leaves_its_numbers_on_the_device(monkeypatch):
  """Sums, norms and gap are read by `metrics_row`, once and together."""
  run = build.build(small_config())
  reads, device_get = [], jax.device_get
  monkeypatch.setattr(jax, 'device_get', lambda tree: (
      reads.append(tree), device_get(tree))[1])
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  numbers = made.sums, made.norms, made.gaps, made.ewc
  assert any(of.batches for of in made.minibatches)
  # Of a mini-batch without rows the host knows the sums, which are 0.
  computed = [s for s, of in zip(made.sums, made.minibatches, strict=True)
              if of.batches]
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(
      (computed, *numbers[1:])))
  assert numbers not in reads
  row = step.metrics_row(run, made)
  assert reads[-1] == numbers and reads.count(numbers) == 1
  assert all(isinstance(v, (int, float)) for v in row.values())
  assert row['sampler_trainer/logp_gap_max'] == float(
      max(made.gaps)) > 0


def test_one_update_needs_no_scoring_pass():
  """I = 1: the old log-probs are the update's own, so the ratio is 1."""
  c = small_config()
  c.algorithm.updates = 1
  run = build.build(c)
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert row['update/ratio_max'] == row['update/ratio_min'] == 1.0
  assert 'sampler_trainer/logp_gap_max' not in row


def test_minibatch_scope_normalises_each_minibatch():
  """Statistics over one group: its advantages differ by a scalar."""
  run = build.build(small_config())
  groups = recorded_groups()
  whole = minibatches.advantages(run, groups)
  assert not whole[0].any() and whole[1].any()  # 0 of 8, then 1 of 8
  part = minibatches.advantages(run, groups[1:2])[0]
  # One group alone: sigma is its own, so this is (r - mean) / std.
  np.testing.assert_allclose(part[0], (1 - 1 / 8) / np.sqrt(7 / 64), rtol=1e-4)
  scale = part / whole[1]
  np.testing.assert_allclose(scale, scale[0], rtol=1e-5)
  assert abs(scale[0] - 1) > 0.1


def test_what_has_no_verdict_is_no_part_of_a_baseline():
  """One right, one wrong, six without a verdict: +1, -1 and six zeros."""
  run = build.build(small_config())
  of = recorded_groups()[1]
  one = lambda verdict: dataclasses.replace(of.rollouts[0], verdict=verdict)
  rollouts = (one(Verdict.CORRECT), one(Verdict.WRONG),
              *[one(Verdict.TIMEOUT), one(Verdict.CRASH)] * 3)
  found = minibatches.advantages(run, [Group(of.prompt, rollouts)])
  np.testing.assert_allclose(found, [[1, -1, *[0] * 6]], rtol=1e-4)
