"""Scores of given tokens by the teacher on the mesh."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.builders import small_config
from tests.long import LONG, long
from zppo_jax.algorithms import zppo
from zppo_jax.chat import segments
from zppo_jax.learner import scoring
from zppo_jax.records import TokenSequence, Wanted
from zppo_jax.tasks import micro
from zppo_jax.teachers import ANY_IDS, KINDS, Capabilities, lacking
from zppo_jax.train import build, teachers

pytestmark = pytest.mark.usefixtures('quick_compile')

K = 4


@pytest.fixture(scope='module')
def run():
  return build.build(small_config())


@pytest.fixture(scope='module')
def groups(run):
  prompts = zppo.plain_prompts(micro.pool(3, 0.5), run.sampler.chat)
  answers, asked = run.teacher.answer(prompts, 0)
  assert asked.answers == 12 and not asked.failed
  return answers


@pytest.fixture(scope='module')
def rows(groups):
  """Of several lengths, the second one cut short."""
  out = [TokenSequence(prompt=g.prompt.tokens, response=r.tokens)
         for g in groups for r in g.rollouts]
  out.insert(1, dataclasses.replace(out[0], response=out[0].response[:2]))
  return out


def logits(teacher, row):
  """float64 [R, columns of the head] that predict a response."""
  model = teacher.answers.engine.programs.model
  tokens = np.int32([[*row.prompt, *row.response]])
  hidden, _ = model.apply(
      teacher.params, tokens, np.arange(tokens.shape[1])[None, :, None],
      np.ones_like(tokens))
  z = np.float64(hidden[0]) @ np.float64(model.head(teacher.params))
  return z[len(row.prompt) - 1:-1]


def log_softmax(z):
  return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def picked(logps, row):
  return np.take_along_axis(logps, np.int32(row.response)[:, None], 1)[:, 0]


@LONG
def test_scores_are_the_samplers_own_but_for_padding(run, rows, groups):
  """The sampler counts the padding rows of the head, a score does not; dense
  softmaxes with and without them give both. Rows keep their order."""
  teacher, vocab = run.teacher, run.teacher.vocab
  assert vocab == segments.true_vocabulary(run.sampler.chat.codec)
  assert vocab < teacher.answers.engine.programs.model.config.vocab_size
  scores = teacher.score(rows)
  assert scores.calls.answers == len(rows) and teacher.capabilities.scores
  assert scores.top_ids == scores.given_logps == scores.entropies == ()
  drawn = [r.logps for g in groups for r in g.rollouts]
  drawn.insert(1, drawn[0][:2])
  for row, found, own in zip(rows, scores.logps, drawn, strict=True):
    z = logits(teacher, row)
    np.testing.assert_allclose(
        found, picked(log_softmax(z[:, :vocab]), row), atol=2e-5)
    np.testing.assert_allclose(own, picked(log_softmax(z), row), atol=2e-5)


@pytest.mark.parametrize('temperature', [long(1.0), 0.7])
def test_everything_against_a_dense_softmax(run, rows, temperature):
  teacher, rng = run.teacher, np.random.default_rng(0)
  given = [rng.integers(-1, teacher.vocab, (len(r.response), 3),
                        dtype=np.int32) for r in rows]
  scores = teacher.score(rows, Wanted(
      top=K, ids=given, entropy=True, temperature=temperature))
  for i, row in enumerate(rows):
    logps = log_softmax(logits(teacher, row)[:, :teacher.vocab] / temperature)
    near = lambda x, y: np.testing.assert_allclose(x, y, atol=5e-5)
    near(scores.logps[i], picked(logps, row))
    near(scores.entropies[i], -np.sum(np.exp(logps) * logps, -1))
    near(scores.top_logps[i], -np.sort(-logps, -1)[:, :K])
    near(np.take_along_axis(logps, scores.top_ids[i], 1), scores.top_logps[i])
    want = np.take_along_axis(logps, np.maximum(given[i], 0), 1)
    near(scores.given_logps[i], np.where(given[i] < 0, -np.inf, want))


def test_given_ids_that_are_the_top_ids_have_the_same_numbers(run, rows):
  """Bit for bit; the top is sorted, and its sum is no more than all mass."""
  scores = run.teacher.score(rows, Wanted(top=K))
  again = run.teacher.score(rows, Wanted(top=K, ids=scores.top_ids))
  for i in range(len(rows)):
    np.testing.assert_array_equal(again.top_ids[i], scores.top_ids[i])
    np.testing.assert_array_equal(again.given_logps[i], again.top_logps[i])
    assert (np.diff(scores.top_logps[i]) <= 0).all()
    assert (scores.top_ids[i] < run.teacher.vocab).all()
    assert (np.exp(scores.top_logps[i]).sum(-1) <= 1 + 1e-6).all()


def test_the_whole_vocabulary_without_padding(run, rows):
  """K = V: every id that means something once, and all mass."""
  teacher = run.teacher
  scores = teacher.score(rows[:1], Wanted(top=teacher.vocab))
  np.testing.assert_array_equal(
      np.sort(scores.top_ids[0], -1),
      np.broadcast_to(np.arange(teacher.vocab), scores.top_ids[0].shape))
  np.testing.assert_allclose(np.exp(scores.top_logps[0]).sum(-1), 1, rtol=1e-5)


def test_one_pass_per_sequence_and_one_program_per_form(run, rows):
  """Whatever is wanted: a form is made once, and each sequence is in one batch
  of it."""
  calls, made = [], []

  def score_fn(form):
    made.append(form)
    of = run.teacher.score_fn(form)

    def one(params, batch):
      segments_BT = jax.device_get(batch.segment_BT)
      calls.append(int((segments_BT.max(-1) > 0).sum()))
      return of(params, batch)
    return one

  teacher = dataclasses.replace(run.teacher, score_fn=score_fn)
  wanted = Wanted(top=K, ids=[np.zeros((len(r.response), 3), np.int32)
                              for r in rows], entropy=True)
  teacher.score(rows, wanted)
  assert made == [scoring.Form(top=K, given=True, entropy=True)]
  assert sum(calls) == len(rows)
  of = run.teacher.score_fn
  assert of(scoring.Form(top=K)) is of(scoring.Form(top=K))


def test_wanted_that_does_not_fit(run, rows):
  ids = [np.zeros((len(r.response), 2), np.int32) for r in rows]
  score = lambda **fields: run.teacher.score(rows, Wanted(**fields))
  with pytest.raises(ValueError, match='ids are given for responses of'):
    score(ids=ids[:-1])
  with pytest.raises(ValueError, match='ids have trailing axes'):
    score(ids=[*ids[:-1], ids[-1][:, :1]])
  with pytest.raises(ValueError, match=r'must be in \[-1, '):
    score(ids=[*ids[:-1], ids[-1] + run.teacher.vocab])
  with pytest.raises(ValueError, match='top is -1'):
    score(top=-1)
  with pytest.raises(ValueError, match='temperature is 0'):
    score(temperature=0)
  with pytest.raises(ValueError, match="kind is 'in_process'; .* the 999 like"):
    score(top=999)


def on_meshes(own):
  """A config on 2x2x2 whose teacher has a mesh of its own."""
  c = small_config(mesh=dict(data=2, fsdp=2, tensor=2, slices=1))
  c.teacher.mesh.data, c.teacher.mesh.fsdp, c.teacher.mesh.tensor = own
  return c


@LONG
def test_a_mesh_of_its_own_changes_no_answer(groups, run, rows):
  """Key/value heads are copied here; ids are those of one device, and log-probs
  are to rounding."""
  other = build.build(on_meshes((2, 1, 4)))
  mesh = other.teacher.answers.engine.programs.mesh
  assert mesh.devices.shape == (2, 1, 4) and other.mesh.devices.shape == (
      2, 2, 2)
  answers, _ = other.teacher.answer([g.prompt for g in groups], 0)
  ids = lambda groups: [[r.tokens for r in g.rollouts] for g in groups]
  assert ids(answers) == ids(groups)
  for got, want in zip(other.teacher.score(rows).logps,
                       run.teacher.score(rows).logps, strict=True):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@LONG
def test_an_int8_teacher(run, groups, rows):
  """It holds a quarter of the bytes of float32, answers, and scores what it
  samples."""
  c = small_config()
  c.teacher.rollout_weights = 'int8'
  small = build.build(c).teacher
  held = lambda params: sum(x.nbytes for x in jax.tree.leaves(params))
  assert held(small.params) < 0.3 * held(run.teacher.params)
  answers, _ = small.answer([g.prompt for g in groups[:1]], 0)
  rollouts = answers[0].rollouts
  scores = small.score([TokenSequence(prompt=answers[0].prompt.tokens,
                                      response=r.tokens) for r in rollouts])
  for logps, rollout in zip(scores.logps, rollouts, strict=True):
    np.testing.assert_allclose(logps, rollout.logps, rtol=0, atol=1e-4)
  gaps = [np.abs(a - b).max() for a, b in zip(
      small.score(rows).logps, run.teacher.score(rows).logps, strict=True)]
  assert 0 < max(gaps) < 1


@pytest.mark.parametrize('own, message', [
    ((0, 0, 8), 'teacher.mesh.data is 0'),
    ((1, 1, 4), 'teacher.mesh 1x1x4 .* needs 4 devices; 8 are here'),
    ((1, 1, 8), r"'heads' of size 4 .* mesh.tensor = 8")])
def test_meshes_of_a_teacher_that_do_not_fit(own, message):
  with pytest.raises(ValueError, match=message):
    build.build(on_meshes(own))


def test_the_update_needs_one_mesh():
  """A whole-vocabulary row runs both models in one program."""
  c = on_meshes((2, 1, 4))
  c.method, c.algorithm.updates = 'on_distill', 1
  with pytest.raises(ValueError, match=r'teacher.mesh is 2x1x4 .* mesh is 2x2x2'
                     r'.* distil.support'):
    build.build(c)


def test_an_unknown_form_of_weights():
  c = small_config()
  c.teacher.rollout_weights = 'int4'
  with pytest.raises(KeyError, match="teacher.rollout_weights 'int4'; known: "
                     'same, bfloat16, int8'):
    build.build(c)


NOTHING = Capabilities(0, False, True, True, True)
LISTS = Capabilities(9, True, False, False, False, top=20)


@pytest.mark.parametrize('able, wanted, said', [
    (NOTHING, Wanted(), 'does not return log-probs of given tokens. It returns '
     'no scores'),
    (LISTS, Wanted(), ''), (LISTS, Wanted(top=20), ''),
    (LISTS, Wanted(top=21), 'not return the 21 likeliest tokens. It returns '
     'log-probs of given tokens, a top K of at most 20'),
    (LISTS, Wanted(ids=ANY_IDS), 'not return log-probs of given ids. It'),
    (LISTS, Wanted(entropy=True, temperature=0.5),
     'not return entropies, temperature 0.5. It')])
def test_why_a_teacher_cannot_deliver(able, wanted, said):
  """The kind, what this teacher can, and what each kind can."""
  text = lacking('endpoint', able, wanted)
  assert said in text and bool(text) == bool(said)
  if said:
    assert text.startswith("teacher.kind is 'endpoint'; ")
    assert all(repr(kind) in text for kind in KINDS)


def test_all_kinds_are_described():
  assert KINDS.keys() == teachers.TEACHERS.keys()
