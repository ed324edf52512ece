"""The loss of a supervised step, by hand, by torch, and whatever its layout."""

import jax
import numpy as np
import pytest

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.long import LONG
from tests.sft import builders  # noqa: E402
from zppo_jax.algorithms.replay import ReplayBuffer  # noqa: E402
from zppo_jax.runs.totals import History  # noqa: E402
from zppo_jax.sft import build, step  # noqa: E402
from zppo_jax.train.resume import RunState  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')
WORDS = ('so', 'no, the end', 'why?', 'the other', 'a', 'then the end of it')


def chats(count):
  """Conversations of one to three answers."""
  out = []
  for i in range(count):
    turns = []
    for k in range(1 + i % 3):
      turns += [{'role': 'user', 'content': WORDS[(i + k) % 6]},
                {'role': 'assistant', 'content': WORDS[(2 * i + k + 1) % 6]}]
    out.append({'messages': turns})
  return out


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  path = tmp_path_factory.mktemp('sft')
  hub_builders.write(path / 'student', family='llama')
  builders.write_lines(path / 'chats.jsonl', chats(6))
  return path


def make_run(home, **changes):
  c = builders.micro_config('')
  with c.unlocked():
    c.student.update(weights=str(home / 'student'), unroll=1)
    c.data.task, c.data.batch = '', 6
    c.data.sources = dict(chats=dict(
        format='jsonl', path=str(home / 'chats.jsonl'),
        columns=dict(messages='messages')))
    c.eval.holdout = 0
    c.shapes.update(row_buckets=(192,), micro_tokens=6 * 192)
    # Far from Adam's division by small gradients: the update follows them.
    c.optimizer.update(learning_rate=0.1, eps=1.0, weight_decay=0.0,
                       clip_norm=1e9, schedule='constant')
  return build.build(builders.changed(c, **changes))


def done(run):
  """(numbers of the first step, params after it)."""
  at = RunState(step=0, state=run.init_state(), buffer=ReplayBuffer(1),
                history=History(), base={}, latest={})
  outcome = step.sft_step(run, at)
  return step.metrics_row(run, outcome), jax.device_get(outcome.state.params)


@pytest.fixture(scope='module')
def alone(home):
  """Each conversation in a row of its own, all rows in one micro-batch."""
  return done(make_run(home, shapes__layout='padded'))


def logits_of(run, tokens):
  """float64 [T, V] of one sequence that nothing else is near."""
  size = len(tokens)
  params = run.init_state().params
  hidden, _ = run.model.apply(
      params, np.int32([tokens]), np.arange(size, dtype=np.int32)[
          None, :, None], np.ones((1, size), np.int32))
  return np.float64(hidden[0]) @ np.float64(run.model.head(params))


@LONG
def test_the_loss_is_that_of_a_hand_computation(home, alone):
  run, row = make_run(home), alone[0]
  total, right, tokens = 0.0, 0, 0
  for i in range(6):
    taught = run.source.pool.reader.taught(run.source.pool.lesson(i))
    z = logits_of(run, taught.tokens)
    logp = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    for t, (token, says) in enumerate(zip(taught.tokens, taught.taught,
                                          strict=True)):
      if says:
        total -= logp[t - 1, token]
        right += z[t - 1].argmax() == token
        tokens += 1
  assert row['sft/tokens'] == tokens == row['tokens/student_trained']
  assert row['sft/loss'] == pytest.approx(total / tokens, abs=1e-5)
  assert row['sft/accuracy'] == pytest.approx(right / tokens)
  assert row['learning_rate'] == pytest.approx(0.1) and row['sft/epoch'] == 1.0


def test_the_loss_is_torchs_cross_entropy_of_labels(home, alone):
  torch = pytest.importorskip('torch')
  run = make_run(home)
  z, labels = [], []
  for i in range(6):
    taught = run.source.pool.reader.taught(run.source.pool.lesson(i))
    z.append(logits_of(run, taught.tokens)[:-1])
    labels += [token if says else -100 for token, says in zip(
        taught.tokens[1:], taught.taught[1:], strict=True)]
  theirs = torch.nn.functional.cross_entropy(
      torch.tensor(np.concatenate(z)), torch.tensor(labels), ignore_index=-100)
  assert alone[0]['sft/loss'] == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize('changes', [
    dict(shapes__layout='padded', shapes__micro_tokens=192),
    dict(shapes__layout='padded', shapes__row_buckets=(64, 128, 192),
         shapes__micro_tokens=256),
    dict(shapes__layout='packed'),
    dict(shapes__layout='packed', shapes__row_buckets=(192, 400),
         shapes__micro_tokens=192)],
    ids=['a row each', 'buckets', 'packed', 'packed, a row each'])
def test_layout_and_micro_batches_change_nothing(home, alone, changes):
  run = make_run(home, **changes)
  (row, params), (row_alone, params_alone) = done(run), alone
  for name in ('sft/loss', 'sft/accuracy', 'update/entropy',
               'update/grad_norm', 'sft/tokens'):
    assert row[name] == pytest.approx(row_alone[name], rel=1e-5), name
  before = jax.device_get(run.init_state().params)
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params_alone, before)
  assert max(jax.tree.leaves(moved)) > 1e-2
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
               params, params_alone)


def test_packed_rows_are_packed(home):
  run = make_run(home, shapes__layout='packed', shapes__micro_tokens=192)
  batches = step.micro_batches(run, run.source.draw(0))
  assert max(int(b.segment_BT.max()) for b in batches) > 1
  assert len(batches) < 6


def test_validation_is_the_loss_of_all_its_tokens(home, alone):
  run = make_run(home, eval__sources={'val': dict(
      format='jsonl', path=str(home / 'chats.jsonl'),
      columns=dict(messages='messages'))})
  numbers = step.evaluate(run, run.init_state()).results
  assert numbers['val/loss'] == pytest.approx(alone[0]['sft/loss'], rel=1e-5)
  assert numbers['val/accuracy'] == pytest.approx(alone[0]['sft/accuracy'])


def test_a_loss_that_is_not_finite_ends_the_run(home):
  run = make_run(home)
  row = {'sft/loss': 1.0, 'update/grad_norm': float('nan')}
  assert step.check(run, row) == 'update/grad_norm is nan'
  assert step.check(run, {**row, 'update/grad_norm': 1.0}) is None
