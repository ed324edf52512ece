"""Files as a pool, drawn from by seed and step."""

import json
import sys

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.builders import assert_uniform
from tests.processes import as_processes
from zppo_jax.chat import images
from zppo_jax.data import pool as pools
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.data.media import content
from zppo_jax.devices import hosts

COLUMNS = dict(text='q', answer='a')


def png(shade: int) -> bytes:
  return content(images.picture(Image.new('L', (120, 110), shade)))


@pytest.fixture
def files(tmp_path):
  """10 rows of JSON, 20 of parquet with images, of which 2 repeat."""
  (tmp_path / 'words.jsonl').write_text(''.join(
      json.dumps({'q': f'word {i}?', 'a': i, 'hint': 'h', 'work': ['w']}) + '\n'
      for i in range(10)))
  rows = [{'q': f'seen {i % 18}?', 'a': str(i), 'name': f'n{i}',
           'image': {'bytes': png(i % 18), 'path': None}} for i in range(20)]
  parquet.write_table(pa.Table.from_pylist(rows), tmp_path / 'seen.parquet',
                      row_group_size=4)
  return {
      'words': dict(format='jsonl', path=str(tmp_path / 'words.jsonl'),
                    columns={**COLUMNS, 'hint': 'hint', 'responses': 'work'},
                    kind='number'),
      'seen': dict(format='parquet', path=str(tmp_path / 'seen.parquet'),
                   columns={**COLUMNS, 'id': 'name'}, kind='text',
                   images='image')}


def test_rows_become_questions(files):
  pool = pools.open_pool(files, {})
  assert len(pool) == 30 and pool.parts == (10, 20) and pool.weights is None
  asked = pool[3]
  assert (asked.id, asked.text, asked.answer, asked.kind, asked.split) == (
      'words/3', 'word 3?', '3', 'number', 'words')
  assert (asked.hint, asked.responses, asked.source, asked.media) == (
      'h', ('w',), 'words', ())
  asked = pool[12]
  assert (asked.id, asked.kind) == ('seen/n2', 'text')
  assert images.decode(asked.media[0]).getpixel((0, 0)) == (2, 2, 2)
  told = list(pool.words())
  assert told[3] == pool[3] and told[12].media == ()
  assert [q.id for q in told] == list(pool.ids)
  assert pool.ids[12] == 'seen/n2' and pool[-1].id == 'seen/n19'


def test_filters_are_counted_by_source(files):
  files['words']['filters'] = {'prompt_characters': 6}
  with pytest.raises(ValueError, match='no question of words is left; words: '
                     '10 rows, 10 by prompt_characters, 0 kept\nseen: 20 '
                     'rows, 20 kept; data.pool.sources.words.filters.'
                     'prompt_characters is 6$'):
    pools.open_pool(files, {})
  del files['words']['filters']
  with pytest.raises(ValueError, match='0 kept\n.*; data.pool.filters.'
                     'prompt_characters is 5$'):
    pools.open_pool(files, {'prompt_characters': 5, 'duplicates': True})
  missing = {**files['words'], 'path': 'gone'}
  with pytest.raises(FileNotFoundError, match=(
      'data.pool.sources.words.path: no .jsonl file at gone')):
    pools.open_pool({'words': missing}, {})
  files['words']['filters'] = {'answer_characters': 2}
  pool = pools.open_pool(files, {'duplicates': True})
  assert pool.counts['duplicates'] == {'words': 0, 'seen': 2}
  assert pool.account().splitlines() == [
      'words: 10 rows, 10 kept', 'seen: 20 rows, 2 by duplicates, 18 kept']


def test_images_as_files_when_there_is_a_store(files, tmp_path):
  pool = pools.open_pool(files, {}, str(tmp_path / 'store'))
  (shown,) = pool[12].media
  assert shown.path.startswith(str(tmp_path / 'store'))
  assert pool[12].media == pool[12].media
  assert len(list((tmp_path / 'store').rglob('*'))) == 2  # a folder, a file


def test_a_missing_column_names_file_row_and_columns(files):
  files['words']['columns']['hint'] = 'hints'
  with pytest.raises(KeyError, match=r"words.jsonl, line 1: no column 'hints', "
                     r"which the source 'words' reads; columns there: q, a"):
    pools.open_pool(files, {})


def test_a_row_without_the_column_is_named(files, tmp_path):
  with open(tmp_path / 'words.jsonl', 'a') as f:
    f.write('{"q": "x"}\n')
  with pytest.raises(KeyError, match=r"line 11: no column 'a', .*there: q"):
    pools.open_pool(files, {})


@pytest.mark.parametrize(('changes', 'error', 'match'), [
    (dict(mapping='gsm8k'), ValueError, 'one of mapping and columns'),
    (dict(weight=0), ValueError, 'weight is 0; it must be > 0'),
    (dict(colour='red'), KeyError, "seen: 'colour'; known: format, path"),
    (dict(filters=dict(x=1)), KeyError, "seen.filters: 'x'; known: prompt_"),
    (dict(columns=dict(text='q', answer='a', id='a2')), KeyError, "'a2'"),
    (dict(format='tsv'), KeyError, "unknown format 'tsv'"),
])
def test_bad_sources_are_refused(files, changes, error, match):
  files['seen'].update(changes)
  with pytest.raises(error, match=match):
    pools.open_pool(files, {})


def test_a_blank_question_or_answer_is_skipped(tmp_path):
  (tmp_path / 'a.jsonl').write_text(
      '{"q": " \\n", "a": 1}\n{"q": "x", "a": " "}\n{"q": "x", "a": 2}\n')
  found = pools.open_pool({'m': dict(
      format='jsonl', path=str(tmp_path), kind='number',
      columns=dict(text='q', answer='a'))}, {})
  assert found.ids == ('m/2',) and found.counts['skipped'] == {'m': 2}


def test_equal_ids_are_refused(files):
  files['seen']['columns']['id'] = 'q'
  with pytest.raises(ValueError, match=r"'seen/seen 0\?': rows 0 and 18"):
    pools.open_pool(files, {})


def test_a_foreign_row_names_file_and_mapping(tmp_path):
  (tmp_path / 'a.jsonl').write_text('{"question": "q", "answer": 7}\n')
  with pytest.raises(ValueError, match=r"a.jsonl, line 1: not of the mapping "
                     "'gsm8k': AttributeError"):
    pools.open_pool({'g': dict(format='jsonl', path=str(tmp_path / 'a.jsonl'),
                               mapping='gsm8k')}, {})


def test_a_column_that_nobody_confirmed_is_said_to_be_one(tmp_path):
  """By a mapping's own marks, and where its rows cannot be read."""
  (tmp_path / 'a.jsonl').write_text(json.dumps(
      {'question': 'q', 'answer': '7', 'PassRate_7BBase': 0.5,
       'category': 'c', 'qid': 'p', 'image': []}) + '\n')
  spec = dict(format='jsonl', path=str(tmp_path / 'a.jsonl'))
  with pytest.raises(KeyError, match="no column 'hint', .*; no public "
                     "description was found for 'hint'"):
    pools.open_pool({'v': dict(spec, mapping='virl39k_hinted')}, {})
  assert len(pools.open_pool({'v': dict(spec, mapping='virl39k')}, {})) == 1
  with pytest.raises(KeyError, match="no column 'problem'") as e:
    pools.open_pool({'v': dict(spec, mapping='math')}, {})
  assert 'public' not in str(e.value)


def drawn(source, steps):
  return [[q.id for q in source.draw(step)] for step in steps]


def test_draws_of_files_depend_on_seed_and_step_alone(files):
  source = QuestionLoader(pools.open_pool(files, {}), 4, 0, True)
  forward = drawn(source, range(20))
  again = QuestionLoader(pools.open_pool(files, {}), 4, 0, True)
  assert drawn(again, reversed(range(20))) == forward[::-1]
  assert source.steps_per_pass == 7
  for epoch in range(2):
    seen = sum(forward[7 * epoch:7 * epoch + 7], [])
    assert len(set(seen)) == 28
  assert source.find('seen/n2').id == 'seen/n2'


def test_the_position_knows_another_pool(files):
  source = QuestionLoader(pools.open_pool(files, {}), 4, 0, True)
  fewer = QuestionLoader(pools.open_pool(files, {'duplicates': True}), 4, 0,
                         True)
  assert source.position(9)['pool'] != fewer.position(9)['pool']
  assert {k: v for k, v in source.position(9).items() if k != 'pool'} == {
      'pass': 1, 'questions': 8}


def test_a_mixture_keeps_its_weights_and_repeats_nothing(files):
  files['words']['weight'] = 3.0
  files['seen']['weight'] = 1.0
  source = QuestionLoader(pools.open_pool(files, {}), 4, 0, True)
  assert source.steps_per_pass == 3  # 10 words last for 13 draws
  for epoch in range(5):
    steps = range(3 * epoch, 3 * epoch + 3)
    seen = sum(drawn(source, steps), [])
    assert len(set(seen)) == 12
    assert sum(i.startswith('words') for i in seen) == 9
  assert drawn(source, [7]) == drawn(source, [7])
  first = [drawn(source, [3 * e])[0] for e in range(400)]
  assert_uniform([i for ids in first for i in ids if i.startswith('words')],
                 [f'words/{i}' for i in range(10)])
  with pytest.raises(ValueError, match='30 questions, 13 in a pass'):
    QuestionLoader(source.pool, 14, 0, True)


def test_processes_share_a_step(files):
  source = QuestionLoader(pools.open_pool(files, {}), 5, 0, True)
  whole = [q.id for q in source.draw(2)]
  parts = [[q.id for q in source.draw(2, i, 2)] for i in range(2)]
  assert parts == [whole[0::2], whole[1::2]]
  with pytest.raises(ValueError, match='index is 2; .* in .0, 2.'):
    source.draw(2, 2, 2)


def test_what_is_left_out_later_is_counted(files):
  pool = pools.open_pool(files, {})
  kept = pool.keep('prompt_tokens', [1, 2, 11])
  assert kept.parts == (2, 1) and [q.id for q in kept] == [
      'words/1', 'words/2', 'seen/n1']
  assert kept.account().splitlines()[0] == (
      'words: 10 rows, 8 by prompt_tokens, 2 kept')


@pytest.fixture
def trap(tmp_path, monkeypatch):
  """A module that leaves a file behind where it is imported or called."""
  mark = tmp_path / 'it_ran'
  (tmp_path / 'zppo_trap.py').write_text(
      f'import pathlib\npathlib.Path({str(mark)!r}).touch()\n\n'
      'def mark(answer, gold):\n  return 1.0\n')
  monkeypatch.syspath_prepend(tmp_path)
  yield mark
  sys.modules.pop('zppo_trap', None)


@pytest.mark.parametrize('kind', [
    'zppo_trap:mark', 'zppo_trap:nothing', 'zppo_trap', 'os:system', ':',
    'Math', 'zppo_trap:mark ', '../x:y'])
def test_a_row_names_no_function(tmp_path, trap, kind):
  """fault B7: a row's kind is a name of the table; what a data file says is
  never imported, and the error names file and row."""
  path = tmp_path / 'rows.jsonl'
  path.write_text(''.join(json.dumps({'q': f'{i}?', 'a': '1', 'k': k}) + '\n'
                          for i, k in enumerate(['number', kind])))
  fields = dict(format='jsonl', path=str(path),
                columns={**COLUMNS, 'kind': 'k'})
  with pytest.raises(ValueError, match=r'rows\.jsonl, line 2: .*kind is .*'
                     'data.pool.sources.mine.kind'):
    pools.open_pool({'mine': fields}, {})
  assert not trap.exists()


def test_a_config_names_a_function(tmp_path, trap):
  """The config's kind stands over a row's, and may be a function."""
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps({'q': '1?', 'a': '1', 'k': 'os:system'}) + '\n')
  for columns in (COLUMNS, {**COLUMNS, 'kind': 'k'}):
    fields = dict(format='jsonl', path=str(path), kind='zppo_trap:mark',
                  columns=columns)
    pool = pools.open_pool({'mine': fields}, {})
    assert pool[0].kind == 'zppo_trap:mark'
  assert not trap.exists()  # nothing has been graded


def test_kinds_of_the_table_may_differ_by_row(tmp_path):
  path = tmp_path / 'rows.jsonl'
  named = ['number', 'judge', 'text', None]
  path.write_text(''.join(json.dumps({'q': f'{k}?', 'a': '1', 'k': k}) + '\n'
                          for k in named))
  pool = pools.open_pool({'mine': dict(
      format='jsonl', path=str(path), columns={**COLUMNS, 'kind': 'k'})}, {})
  assert [q.kind for q in pool.words()] == ['number', 'judge', 'text', '']


def test_processes_share_the_rows_and_have_one_pool(files, monkeypatch):
  """Words are read once in all when the pool opens, images once in all for
  their digests, whoever read some before."""
  alone = pools.open_pool(files, {})
  wanted = alone.ids, alone.contents(), alone.record()
  read, mapped = [], pools.Source.mapped
  monkeypatch.setattr(pools.Source, 'mapped', lambda self, index: (
      read.append((self.of.name, index)), mapped(self, index))[1])

  def work(index):
    pool = pools.open_pool(files, {})
    hosts.wait('opened')
    opened = len(read)
    hosts.wait('counted')
    pool.tracks = True
    pool[12 + index]
    return pool.ids, pool.contents(), pool.record(), opened

  results = as_processes(2, work)
  assert [of[:3] for of in results] == [wanted] * 2
  assert [of[3] for of in results] == [30, 30]
  assert len(read) == 30 + 2 + 20  # the rows, one by each process, the images


def test_a_row_that_cannot_be_read_is_the_error_of_all_processes(
    files, tmp_path):
  with (tmp_path / 'words.jsonl').open('a') as f:
    f.write(json.dumps({'q': 'no answer?'}) + '\n')
  errors = as_processes(3, lambda index: pools.open_pool(files, {}))
  assert [type(e) for e in errors] == [KeyError] * 3
  assert {str(e) for e in errors} == {str(errors[0])}


def test_skipped_rows_are_counted_by_reason(tmp_path):
  lines = [{'question': 'Q?', 'answer': '#### 7'}, {'question': 'Q?',
           'answer': '7'}, {'question': ' ', 'answer': '#### 7'},
           {'question': 'Q?', 'answer': '#### '}]
  (tmp_path / 'a.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  found = pools.open_pool({'a': dict(format='jsonl', path=str(
      tmp_path / 'a.jsonl'), mapping='gsm8k')}, {})
  reasons = {'no #### in the answer': 1, 'no question': 1, 'no gold': 1}
  assert found.skipped == {'a': reasons}
  assert found.record()['skipped'] == {'a': reasons}
  assert found.keep('x', [0]).skipped == {'a': reasons}
  assert found.account().splitlines() == [
      'a: 4 rows, 3 skipped, 1 kept', *(
          f'  a: 1 skipped: {why}' for why in reasons)]
