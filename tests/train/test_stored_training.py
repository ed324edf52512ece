"""configs/smollm2.py on a tiny model of that architecture: stored worked
solutions, verdicts of the sandbox, stopped and resumed."""

import json
import pathlib
import runpy

import pytest

from tests.builders import ROOT, json_rows
from tests.long import LONG
from zppo_jax import models
from zppo_jax.runs import same_config
from zppo_jax.train import loop
from zppo_jax.weights import hub_checkpoint

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
pytest.importorskip('reasoning_gym')
from benchmarks import random_models  # noqa: E402
from tests import hub_builders  # noqa: E402

DIGITS = range(15, 25)  # of '0' to '9' in the tokenizer's alphabet
END = 263


@pytest.fixture(scope='module')
def student(tmp_path_factory):
  """A random Llama that often says digits, and soon ends."""
  folder = tmp_path_factory.mktemp('student')
  model = models.build(
      'llama', vocab_size=hub_builders.ROWS, width=16, num_layers=2,
      num_heads=4, num_kv_heads=2, head_dim=4, mlp_width=20,
      max_positions=2048, qk_norm=False, tied=False)
  params = random_models.draw(model, 0)
  params['embed'][:, 0] = 8  # a channel that is on: the head's bias
  params['head'][0] = 0
  params['head'][0, [*DIGITS]] = 1
  params['head'][0, END] = 1.4
  hub_checkpoint.save(folder, params, model)
  tokenizer = hub_builders.tokenizer()
  tokenizer.save_pretrained(folder)
  assert tokenizer.convert_ids_to_tokens(list(DIGITS)) == [*'0123456789']
  return str(folder)


def make_config(student):
  c = runpy.run_path(str(ROOT / 'configs' / 'smollm2.py'))['get_config'](
      student)
  c.steps = 2
  c.data.pool.size = 16
  c.algorithm.update(rollouts=8, max_tokens=4, temperature=1.0)
  c.shapes.update(prompt_buckets=(704,), row_buckets=(708,), group_buckets=(4,),
                  micro_tokens=8 * 708)
  c.checkpoint.every = 1
  c.eval.update(every=0, size=2)
  return c


def lines(path):
  return [{k: v for k, v in row.items()
           if not k.startswith(('time/', 'compilations/'))}
          for row in json_rows(path / 'metrics.jsonl')]


@LONG
def test_two_steps_and_the_same_resumed(student, tmp_path, monkeypatch):
  """Each hard question's teacher answer is its worked solution, graded right
  by the sandbox; a run that died in its second step ends like the whole one."""
  loop.main(make_config(student), tmp_path / 'whole')
  rows = lines(tmp_path / 'whole')
  assert [row['step'] for row in rows] == [0, 1]
  for row in rows:
    assert row['teacher/answered'] == row['teacher/accuracy'] == 1
    assert row['groups/bcq'] == row['groups/ncq'] == 2
    assert row['verdict/ungraded'] == 0 < row['verdict/wrong']
  assert any(row['verdict/correct'] * row['update/trained_tokens'] > 0
             for row in rows if 'verdict/correct' in row)
  shown = json_rows(tmp_path / 'whole/samples.jsonl')
  asked = [s for s in shown if s['teacher']]
  assert asked
  for sample in asked:
    (answer,) = sample['teacher']
    assert answer['text'].startswith('<think>\n')
    assert answer['answer'] == sample['question']['answer']
    (bcq,) = [g for g in sample['groups'] if g['kind'] == 'bcq'] or [None]
    if bcq:
      assert answer['text'] in bcq['prompt']

  original = loop.train_step

  def dying(run, state, buffer, step, *rest):
    if step == 1:
      raise RuntimeError('died')
    return original(run, state, buffer, step, *rest)

  with monkeypatch.context() as m:
    m.setattr(loop, 'train_step', dying)
    with pytest.raises(RuntimeError, match='died'):
      loop.main(make_config(student), tmp_path / 'run')
  assert len(lines(tmp_path / 'run')) == 1
  loop.main(make_config(student), tmp_path / 'run')
  assert lines(tmp_path / 'run') == rows
  for name in ('samples.jsonl', 'buffer.jsonl', 'eval.jsonl',
               'final.safetensors'):
    assert (tmp_path / 'run' / name).read_bytes() == (
        tmp_path / 'whole' / name).read_bytes(), name


def test_the_config_is_that_of_the_study():
  """What studies/results/smollm2 was run with, the weights' place aside."""
  kept = json.loads(pathlib.Path(
      ROOT / 'studies/results/smollm2/run.json').read_text())
  made = runpy.run_path(str(ROOT / 'configs' / 'smollm2.py'))['get_config'](
      'somewhere')
  for section in ('algorithm', 'data'):
    now = same_config.flat({section: json.loads(made[section].to_json())})
    # Later fields are as they were.
    assert {name: value for name, value in now.items()
            if same_config.ADDED.get(name) != value
            } == same_config.flat({section: kept[section]})
