"""A hub folder goes in, trains under a hub teacher, and comes out."""

import pathlib
import runpy

import jax
import numpy as np
import pytest

from tests.long import LONG
from zppo_jax import main, tasks
from zppo_jax.chat import micro_chat
from zppo_jax.records import Grader, Question
from zppo_jax.train import build, loop, models
from zppo_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'micro.py'
# A response that ends answers by the length of its text: half of them are
# right, so that a random model has something to learn.
COIN = tasks.Task(
    pool=lambda size: [Question(f'q{i}', f'the {i}?', '1', 'all')
                       for i in range(size)],
    evaluation=lambda split, size: [
        Question(f'e{i}', f'the e{i}?', '1', split) for i in range(size)],
    grader=Grader(lambda text: str(len(text) % 2),
                  lambda answer, question: answer == question.answer),
    chat=micro_chat.CHAT)


@pytest.fixture
def coin(monkeypatch):
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)


def make_config(student, teacher, **changes):
  c = runpy.run_path(str(CONFIG))['get_config']()
  c.student.weights, c.teacher.weights = student, teacher
  c.data.task = 'coin'
  with c.unlocked():
    c.data.pool = dict(size=8)
  c.steps = 1
  c.algorithm.update(num_new=4, rollouts=4, tau=0.9, rho_aug=0.5, max_tokens=6,
                     teacher_max_tokens=6, updates=2)
  c.shapes.update(prompt_buckets=(704,), row_buckets=(712,), group_buckets=(2,),
                  micro_tokens=8 * 712)
  c.compression.update(cap=32, identity_below=32)
  c.eval.update(every=0, size=2, splits=('some',))
  c.lock()
  c.update_from_flattened_dict(changes)
  return c


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """Student and teacher: one vocabulary, other sizes and padding rows."""
  home = tmp_path_factory.mktemp('folders')
  return (hub_builders.write(home / 'student'),
          hub_builders.write(home / 'teacher', rows=320, seed=1,
                             num_layers=1))


@LONG
def test_in_trained_and_out(coin, folders, tmp_path):
  """One step with reformulations; the export is the trained model."""
  run = tmp_path / 'run'
  # So many ends that some of the six tokens of a response are one of them:
  # whatever is cut there is wrong, and a group of such has no gradient.
  made = loop.main(make_config(
      *folders, **{'student.end_tokens': tuple(range(3, 150))}), run)
  assert made['tokens']['teacher_prompt'] > 0 and 'idle_steps' not in made
  found = pretrained.load(str(run))
  moved = jax.tree.map(lambda x, y: float(np.abs(x - y).max()), found.params,
                       hub_builders.checkpoint()[1])
  assert min(jax.tree.leaves(moved)) > 0
  main.main(['export', f'--checkpoint={run}', f'--to={tmp_path}/out'])
  again = pretrained.load(str(tmp_path / 'out'))
  jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
  assert pretrained.chat(again).codec.end_id == 263

  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'out')
  tokens = np.array(pretrained.chat(again).plain('the end?').tokens)[None]
  one = np.ones_like(tokens)
  hidden = again.model.apply(
      again.params, tokens, np.arange(tokens.shape[1])[None, :, None], one)[0]
  with torch.no_grad():
    want = read(torch.as_tensor(tokens)).logits.numpy()
  np.testing.assert_allclose(
      hidden @ again.model.head(again.params), want, atol=2e-5)


def test_prompts_are_those_of_the_folder(coin, folders):
  """Student and teacher sample with their own padding rows."""
  run = build.build(make_config(*folders))
  assert run.sampler.chat.wording.opening == '<|im_start|>user\n'
  assert run.sampler.chat.codec.vocab_size == 288
  assert run.teacher.answers.chat.codec.vocab_size == 320
  assert run.description['tokenizer'] == folders[0]


def test_thinking_is_switched_for_student_and_teacher_alike(coin, folders):
  """Prompts are the student's; without a tokenizer there is no switch."""
  prompts = {}
  for value in models.THINKING:
    run = build.build(make_config(*folders, **{'student.thinking': value}))
    chat = run.sampler.chat
    prompts[value] = chat.codec.decode(chat.plain('hi').tokens)
  assert prompts['default'] == prompts['on']
  assert prompts['off'] == prompts['on'] + '<think>\n\n</think>\n\n'
  with pytest.raises(KeyError, match="student.thinking 'maybe'; known: d"):
    build.build(make_config(*folders, **{'student.thinking': 'maybe'}))
  with pytest.raises(ValueError, match="thinking is 'off'; micro/student came "
                     'without a tokenizer'):
    build.build(make_config('micro/student', 'micro/teacher',
                            **{'student.thinking': 'off'}))


def test_the_teacher_is_read_in_its_compute_type(coin, folders, monkeypatch):
  """Never in float32 first; norm scales stay, as in every rollout copy."""
  asked = {}
  real = pretrained.hub_checkpoint.load

  def spy(source, model, like):
    asked[source.path.name] = {
        path[-1].key: x.dtype.name
        for path, x in jax.tree_util.tree_leaves_with_path(like)}
    return real(source, model, like)

  monkeypatch.setattr(pretrained.hub_checkpoint, 'load', spy)
  run = build.build(make_config(*folders, **{'teacher.dtype': 'bfloat16'}))
  assert set(asked['student'].values()) == {'float32'}
  assert asked['teacher'].pop('scale') == 'float32'
  assert set(asked['teacher'].values()) == {'bfloat16'}
  assert run.teacher.params['embed'].dtype == 'bfloat16'


def test_another_vocabulary_is_refused(coin, folders, tmp_path):
  words = hub_builders.tokenizer()
  words.add_tokens(['<more>'])
  other = hub_builders.write(tmp_path / 'other', words)
  with pytest.raises(ValueError, match='271 words.*263, not 270.*1 entries'):
    build.build(make_config(folders[0], other))
  with pytest.raises(ValueError, match='teacher.weights.*another vocabulary'
                     '.*aligns texts of two tokenizers'):
    build.build(make_config(folders[0], 'micro/teacher'))


def test_folder_without_a_tokenizer_needs_the_tasks_rows(tmp_path):
  from zppo_jax.weights import hub_checkpoint
  model, params = hub_builders.checkpoint()
  hub_checkpoint.save(tmp_path / 'bare', params, model)
  c = runpy.run_path(str(CONFIG))['get_config']()
  c.student.weights = str(tmp_path / 'bare')
  with pytest.raises(ValueError, match=(
      'student.weights have 288 embedding rows.*has 40')):
    build.build(c)
