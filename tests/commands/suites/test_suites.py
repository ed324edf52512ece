"""zppo eval --suites: a folder of benchmarks end to end, resumed, refused."""

import argparse
import json
import pathlib
import re
import runpy
import shutil

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests import fake_endpoint
from tests.builders import json_rows
from tests.data import published
from tests.hub_builders import write, write_seeing
from tests.long import LONG
from zppo_jax.commands import data, suites as command, table as commands
from zppo_jax.commands.suites import copies
from zppo_jax.data import suites
from zppo_jax.report.suites import table
from zppo_jax.train import evaluate
from zppo_jax.train.shapes import room, tables

pytestmark = pytest.mark.usefixtures('quick_compile')

BASE = pathlib.Path(__file__).parents[3] / 'configs' / 'base.py'
# Pictures and clips, earlier turns, an official judge, letters and numbers.
SOME = ('ai2d', 'dynamath', 'mmvet', 'mmlu_pro', 'aime25', 'multichallenge',
        'video_mmmu')


def says_the_first(fake, route, body, headers):
  """A judge's stub: the first reply that the judge's instructions show."""
  del fake, headers
  system = body['messages'][0]['content']
  (reply, *_) = re.findall(r'\{"[^{}]*\}', system.rpartition('Reply with')[2])
  return 200, {}, fake_endpoint.completion([reply], route)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  """The 31 suites in miniature, and a tiny model that sees."""
  folder = tmp_path_factory.mktemp('suites')
  published.write_all(folder / 'bench')
  write_seeing(folder / 'tiny', 'qwen3_5')
  return folder


@pytest.fixture
def judge():
  with fake_endpoint.serving(says_the_first) as (url, fake):
    yield url, fake


def config(home, url=''):
  """A config of the tiny model; one shape of rollouts."""
  c = runpy.run_path(str(BASE))['get_config']()
  c.student.update(weights=str(home / 'tiny'), dtype='float32')
  c.data.task = 'files'
  c.algorithm.update(max_tokens=6, num_new=8, rollouts=1)
  c.shapes.update(prompt_buckets=(640,), patch_buckets=(2048,), slots=8)
  c.judge.update(url=url, model='m' if url else '')
  return c


def wanted(home, **fields):
  return command.Wanted(**{'checkpoint': str(home / 'tiny'),
                           'folder': str(home / 'bench'), 'splits': SOME,
                           'temperature': 1.0, **fields})


def lines(path, name):
  return json_rows(path / 'suites' / name / 'samples.jsonl')


class Killed(Exception):
  """Stands for the end of a process between two suites."""


@LONG
def test_a_killed_evaluation_goes_on_at_the_next_suite(home, judge, tmp_path,
                                                       monkeypatch):
  url, fake = judge
  asked = []
  answer = evaluate.answer

  def watched(sampler, params, splits, seed):
    asked.extend(splits)
    return answer(sampler, params, splits, seed)

  def say(line):
    if line.startswith('3 of 7'):
      raise Killed

  monkeypatch.setattr(evaluate, 'answer', watched)
  to = tmp_path / 'to'
  outline = command.dry_run(config(home, url), wanted(home)).text
  assert not to.exists() and not asked and not fake.asked
  assert 'in all 29 questions' in outline and 'mmvet: 3 questions' in outline
  with pytest.raises(Killed):
    command.main(config(home, url), wanted(home), to, say)
  assert asked == ['ai2d', 'dynamath', 'mmvet']
  before = {name: lines(to, name) for name in asked}
  assert not (to / 'table.txt').exists()
  # Half a suite of the killed process is asked again as a whole.
  (to / 'suites' / 'aime25').mkdir()
  (to / 'suites' / 'aime25' / 'samples.partial').write_text('{"half"')
  said = []
  found = command.main(config(home, url), wanted(home), to, said.append)
  assert asked[3:] == ['aime25', 'mmlu_pro', 'multichallenge', 'video_mmmu']
  assert [line.endswith('(done before)') for line in said] == [True] * 3 + [
      False] * 4
  assert {name: lines(to, name) for name in before} == before
  assert [s['name'] for s in found] == list(asked)
  _check_files(to, found)
  _check_refusals(home, url, to, found)


def _check_files(to, found):
  """Samples, summaries, table and page say the same."""
  for summary in found:
    rows = lines(to, summary['name'])
    assert summary['questions'] == len(rows)
    assert summary['score']['score']['mean'] == pytest.approx(
        sum(row['points'] for row in rows) / len(rows))
    assert all(row['split'] == f'{suites.PREFIX}{summary["name"]}'
               for row in rows)
  stored = json.loads((to / 'summary.json').read_text())
  assert stored['suites'] == json.loads(json.dumps(found))
  shown = (to / 'table.txt').read_text()
  assert shown == table.text(found) + '\n'
  assert all(word in shown for word in (
      'VLM', 'LLM', 'Video', 'average of 3 of 16', 'average of 3 of 10',
      'mean of 3 families', 'worst case'))
  page = (to / 'report.html').read_text()
  assert all(f'<section id="{s["name"]}">' in page for s in found)


def _check_refusals(home, url, to, found):
  """What changed since is named, and nothing that was asked is lost."""
  again = lambda c=None, **fields: command.main(
      c or config(home, url), wanted(home, **fields), to, lambda line: None)
  for fields, match in (
      ({'temperature': 0.5}, 'temperature is 1.0 there and 0.5 here'),
      ({'limit': 2}, 'limit is 0 there and 2 here')):
    with pytest.raises(ValueError, match=match):
      again(**fields)
  other = config(home, url)
  other.algorithm.max_tokens = 5
  with pytest.raises(ValueError, match=r'algorithm\.max_tokens is 6 there'):
    again(other)
  with pytest.raises(ValueError, match='a judge is True there and False here'):
    again(config(home))
  # A folder of other weights under the same name.
  tiny = home / 'tiny'
  tiny.rename(home / 'first')
  write_seeing(tiny, 'qwen3_5', seed=1)
  try:
    with pytest.raises(ValueError, match='weights is .* there and .* here'):
      again()
  finally:
    tiny.rename(home / 'second')
    (home / 'first').rename(tiny)
  # Suites may be added and left out; other questions are refused.
  assert [s['name'] for s in again(splits=('bench:ai2d',))] == ['ai2d']
  summary = to / 'suites' / 'ai2d' / 'summary.json'
  summary.write_text(json.dumps({**found[0], 'digest': 'x'}))
  with pytest.raises(ValueError, match=r'suites/ai2d was evaluated on 3'):
    again(splits=('ai2d',))


def test_what_makes_no_sense_is_refused_before_anything_is_loaded(
    home, tmp_path):
  main = lambda c=None, to=tmp_path / 'to', **fields: command.main(
      c or config(home), wanted(home, **fields), to)
  for fields, error, match in (
      ({'decoding': 'papers'}, KeyError, "'papers'"),
      ({'decoding': 'paper'}, ValueError, 'temperature is 1.0 and decoding'),
      ({'num_rollouts': 0}, ValueError, 'rollouts is 0'),
      ({'limit': -1}, ValueError, 'limit is -1'),
      ({'splits': ('ai2e',)}, KeyError, 'ai2d'),
      ({'splits': ('ai2d', 'bench:ai2d')}, ValueError, 'more than once'),
      ({'splits': (), 'folder': str(tmp_path)}, FileNotFoundError,
       'holds no folder of a benchmark'),
      ({'splits': ('mmvet',)}, ValueError, "judge.url is ''"),
      ({'checkpoint': 'none', 'splits': ('ai2d',)}, FileNotFoundError,
       "no weights 'none'")):
    with pytest.raises(error, match=match):
      main(**fields)
  (tmp_path / 'used').mkdir()
  (tmp_path / 'used' / 'note').write_text('')
  with pytest.raises(FileExistsError, match='not empty'):
    main(to=tmp_path / 'used')
  c, temperature = command.decoded(config(home), wanted(
      home, temperature=0.0, decoding='paper'))
  assert (c.algorithm.max_tokens, c.algorithm.top_p, c.algorithm.top_k,
          temperature) == (12288, 0.95, 20, 0.6)


def test_two_benchmarks_may_have_one_copy(tmp_path):
  names = lambda *splits: copies.names_in(str(tmp_path), splits)
  for name in ('video_mme', 'ocrbench_en', 'no_suite'):
    (tmp_path / name).mkdir()
  assert names() == ['ocrbench_en', 'ocrbench_zh', 'video_mme']
  (tmp_path / 'video_mme' / 'subtitle').mkdir()
  assert names()[2:] == ['video_mme', 'video_mme_subtitles']
  # In the order of the table, whatever the order on the command line.
  assert names('mmlu', 'bench:mmmu_pro?vision') == ['mmmu_pro?vision', 'mmlu']


def test_prompts_that_no_bucket_holds_are_refused_or_counted(home, tmp_path):
  c = config(home)
  c.shapes.prompt_buckets = (130,)
  with pytest.raises(ValueError, match="bench:aime26: .*data.fit='drop'"):
    command.main(c, wanted(home, splits=('aime26',)), tmp_path / 'a')
  c.data.fit = 'drop'
  with pytest.raises(ValueError, match=(
      'none of 3 questions can be asked: 3 prompts that no bucket holds')):
    command.main(c, wanted(home, splits=('aime26',)), tmp_path / 'b')


def test_weights_of_no_run_get_shapes_from_the_questions(home, tmp_path,
                                                         monkeypatch):
  c = config(home)
  c.shapes.update({**tables.DEFAULTS, 'auto': True})
  monkeypatch.setattr(room, 'answers_fit', lambda *_: True)

  def asked(suite, policy, *_):
    at, left_out = suite.fitting()
    assert (len(at), left_out) == (3, {})
    assert policy.sampler.engine.shapes.prompt_lengths[-1] == suite.check[0]
    assert 130 < suite.check[0] <= 640
    raise Killed

  monkeypatch.setattr(command, '_asked', asked)
  with pytest.raises(Killed):
    command.main(c, wanted(home, splits=('aime26',)), tmp_path / 'to')


def test_a_model_of_text_is_not_shown_pictures(home, tmp_path):
  (suite,) = copies.find(config(home), str(home / 'bench'), ('hle',), 0)
  suite.chat = data._chat(write(tmp_path / 'text'))
  suite.check = (640, (), 'refuse')
  with pytest.raises(ValueError, match="has pictures .*data.fit='drop'"):
    suite.fitting()
  suite.check = (640, (), 'drop')
  at, left_out = suite.fitting()
  assert len(at) == 2 and left_out == {
      'pictures, and the model takes text alone': 1}
  outline = '\n'.join(suite.outline(False))
  assert '1 have pictures' in outline and 'judge.url is empty' in outline


@LONG
def test_all_31_in_miniature(home, judge, tmp_path):
  """Every suite, --dry-run first."""
  url, fake = judge
  every = wanted(home, splits=())
  outline = command.dry_run(config(home, url), every).text
  assert not fake.asked
  assert all(f'{name}: ' in outline for name in suites.BENCHMARKS)
  found = command.main(config(home, url), every, tmp_path / 'to',
                       lambda line: None)
  assert [s['name'] for s in found] == list(suites.BENCHMARKS)
  assert f'in all {sum(s["questions"] for s in found)} ' in outline
  shown = (tmp_path / 'to' / 'table.txt').read_text()
  assert all(f'average of {n} of {n}' in shown for n in (16, 10, 5))
  verdicts = {name for s in found for name in s['verdicts']}
  assert not verdicts & {'crash', 'timeout', 'gold_unreadable'}
  assert not sum(s['verdicts'].get('judge_malformed', 0) for s in found)
  kinds = {row['kind'] for s in found for row in lines(tmp_path / 'to',
                                                       s['name'])}
  assert {'mmvet', 'hle', 'multichallenge', 'charxiv_reasoning',
          'choice+judge', 'anls'} <= kinds
  # What is asked anew after a kill is what an evaluation in one go had asked.
  gone = ('charxiv', 'mmlu', 'video_mmmu')
  before = {name: lines(tmp_path / 'to', name) for name in gone}
  for name in gone:
    shutil.rmtree(tmp_path / 'to' / 'suites' / name)
  again = command.main(config(home, url), every, tmp_path / 'to',
                       lambda line: None)
  assert {name: lines(tmp_path / 'to', name) for name in gone} == before
  assert [s['score'] for s in again] == [s['score'] for s in found]


def test_a_dry_run_names_bad_suites_and_lists_the_others(home, tmp_path,
                                                         capsys):
  """The first bad one ended it. Of mmvet the pictures are bad alone."""
  for name in ('aime25', 'mmlu', 'mmvet'):
    published.write(tmp_path, name)
  for file in (tmp_path / 'aime25').rglob('*.jsonl'):
    file.write_text('{"question": "What?"}\n')
  (file,) = (tmp_path / 'mmvet').rglob('*.parquet')
  rows = parquet.read_table(file).to_pylist()
  rows[-1]['image'] = {'bytes': b'no picture', 'path': None}
  parquet.write_table(pa.Table.from_pylist(rows), file)
  with pytest.raises(SystemExit) as exit_of:
    commands._eval_suites(argparse.Namespace(
        config=config(home), checkpoint=str(home / 'tiny'),
        suites=str(tmp_path), splits='', limit=0, rollouts=1, k='',
        temperature=1.0, decoding='config', dry_run=True, to=tmp_path / 'to'))
  said = capsys.readouterr().out
  assert exit_of.value.code == 1
  assert '1 suites in ' in said and 'mmlu: 3 questions' in said
  assert "aime25: refused: " in said and "no column 'answer'" in said
  assert 'mmvet: refused: ' in said
  assert '2 suites refused: aime25, mmvet' in said
