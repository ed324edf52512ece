"""A resumed run has the same questions: what they hold, not their names."""

import dataclasses
import hashlib
import json

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.builders import question
from zppo_jax.chat import images
from zppo_jax.data import digest, pool as pools
from zppo_jax.data.loader import QuestionLoader
from zppo_jax.data.media import content
from zppo_jax.tasks import files

ROWS = [{'q': f'{i}?', 'a': str(i), 'h': 'h', 'w': ['w'], 'k': 'text',
         'image': 'a.png', 'film': {'frames': ['a.png'], 'fps': 2}}
        for i in range(6)]


def draw(home, form='jsonl', **fields) -> QuestionLoader:
  """A source of draws of all files of a folder."""
  of = dict(format=form, path=str(home), images='image', video='film',
            columns=dict(text='q', answer='a', hint='h', responses='w',
                         kind='k'), **fields)
  source = QuestionLoader(files.pool({'mine': of}), 2, 0, True)
  source.position(0)  # as of now: images are read as late as they can be
  return source


def write(home, rows, name='a.jsonl'):
  (home / name).write_text(''.join(json.dumps(r) + '\n' for r in rows))


def refusal(home, source, of) -> str:
  """What a run that goes on with `source` says to a checkpoint of `of`."""
  (home / digest.NAME).write_text(json.dumps(of.record()))
  with pytest.raises(ValueError) as e:
    source.check_position(of.position(3), 3, home)
  return str(e.value)


@pytest.fixture
def home(tmp_path):
  """A folder of six rows and their picture, and one for runs."""
  (tmp_path / 'data').mkdir()
  (tmp_path / 'run').mkdir()
  Image.new('L', (8, 8)).save(tmp_path / 'data' / 'a.png')
  write(tmp_path / 'data', ROWS)
  return tmp_path


@pytest.mark.parametrize(('column', 'value'), [
    ('q', 'other?'), ('a', '77'), ('h', 'hint'), ('w', ['w', 'v']),
    ('w', []), ('k', 'number'), ('image', None),
    ('film', {'frames': ['a.png'], 'fps': 3}),
    ('film', {'frames': ['a.png', 'a.png'], 'fps': 2})])
def test_other_contents_under_the_same_name_are_refused(home, column, value):
  """fault C1: the digest was of names alone, here row numbers."""
  before = draw(home / 'data')
  write(home / 'data', [*ROWS[:4], {**ROWS[4], column: value}, ROWS[5]])
  after = draw(home / 'data')
  assert before.pool.ids == after.pool.ids
  assert before.position(3) != after.position(3)
  said = refusal(home / 'run', after, before)
  assert 'the checkpoint after 3 steps was trained on other data' in said
  assert said.endswith(f"{home / 'data' / 'a.jsonl'}, line 5, question "
                       "'mine/4'")


@pytest.mark.parametrize('stored', [False, True])
def test_other_pixels_at_the_same_path_are_refused(home, stored):
  """fault C1: of files, and of bytes inside a parquet file."""
  before = draw(home / 'data')
  Image.new('L', (8, 8), 1).save(home / 'data' / 'a.png')
  after = draw(home / 'data')
  assert 'line 1, question' in refusal(home / 'run', after, before)

  more = {'store': str(home / 'store')} if stored else {}
  made = []
  for shade in (7, 8):
    rows = [{'q': f'{i}?', 'a': '1', 'image': {'path': None, 'bytes': content(
        images.picture(Image.new('L', (8, 8), shade if i == 3 else 0)))}}
            for i in range(6)]
    parquet.write_table(pa.Table.from_pylist(rows),
                        home / 'data' / 'b.parquet', row_group_size=2)
    made.append(QuestionLoader(files.pool({'mine': dict(
        format='parquet', path=str(home / 'data'), images='image', kind='text',
        columns=dict(text='q', answer='a'))}, **more), 2, 0, True))
    made[-1].position(0)
  said = refusal(home / 'run', made[1], made[0])
  assert said.endswith(f"{home / 'data' / 'b.parquet'}, row 3, question "
                       "'mine/3'")


def test_rows_that_came_went_or_were_swapped_are_told(home):
  """fault C1"""
  before = draw(home / 'data')
  write(home / 'data', [*ROWS, dict(ROWS[0], q='7?')])
  more = draw(home / 'data')
  # A pass of as many steps: only what the pool holds decides.
  assert '6 questions then, 7 now; the first that differs is ' in refusal(
      home / 'run', more, before)
  assert '7 questions then, 6 now; the first that is gone was in ' + (
      f"mine: {home / 'data' / 'a.jsonl'}") in refusal(
          home / 'run', before, more)
  write(home / 'data', [ROWS[1], ROWS[0], *ROWS[2:]])
  assert 'line 1, question' in refusal(home / 'run', draw(home / 'data'),
                                       before)


def test_the_file_of_several_is_named(home):
  """fault C1"""
  write(home / 'data', ROWS[:2], 'b.jsonl')
  before = draw(home / 'data')
  write(home / 'data', [ROWS[0], dict(ROWS[1], a='x')], 'b.jsonl')
  assert f"{home / 'data' / 'b.jsonl'}, line 2, question 'mine/7'" in refusal(
      home / 'run', draw(home / 'data'), before)


def test_equal_contents_go_on_wherever_they_lie(home):
  before = draw(home / 'data')
  (home / 'data').rename(home / 'moved')
  assert before.position(3)['questions'] == 0
  after = draw(home / 'moved')
  after.check_position(before.position(3), 3, home / 'run')
  with pytest.raises(ValueError, match='stands at .* would go on at'):
    after.check_position(before.position(3), 4, home / 'run')


def test_without_a_record_of_rows_it_is_refused_all_the_same(home):
  """fault C1"""
  before = draw(home / 'data')
  write(home / 'data', [dict(ROWS[0], a='x'), *ROWS[1:]])
  after = draw(home / 'data')
  for text in ('', '{"bytes": 8}', '[]', '{"bytes": 0, "rows": "x"}'):
    if text:
      (home / 'run' / digest.NAME).write_text(text)
    with pytest.raises(ValueError, match='other data: .*does not say which'):
      after.check_position(before.position(3), 3, home / 'run')


def test_a_run_of_an_older_version_goes_on(home):
  """Its digest is of names, or there is none for questions of no file."""
  source = draw(home / 'data')
  names = hashlib.blake2b('\n'.join(source.pool.ids).encode(),
                          digest_size=8).hexdigest()
  old = {**source.position(3), 'pool': names}
  source.check_position(old, 3, home)
  with pytest.raises(ValueError, match='other data'):
    source.check_position({**old, 'pool': names[::-1]}, 3, home)
  drawn = QuestionLoader(tuple(question(f'q{i}') for i in range(4)), 2, 0, True)
  drawn.check_position({'pass': 1, 'questions': 2}, 3, home)


def test_questions_of_no_file_are_compared_too(tmp_path):
  """fault C1, for tasks of a user's own."""
  pool = tuple(question(f'q{i}') for i in range(4))
  before = QuestionLoader(pool, 2, 0, True)
  other = dataclasses.replace(pool[2], answer='other')
  after = QuestionLoader((*pool[:2], other, pool[3]), 2, 0, True)
  assert refusal(tmp_path, after, before).endswith("is question 'q2'")
  before.check_position(before.position(3), 3, tmp_path)


def test_words_are_those_of_the_opening(tmp_path, monkeypatch):
  """Without images, nothing is read for a digest."""
  of = {'mine': dict(format='jsonl', path=str(tmp_path), kind='text',
                     columns=dict(text='q', answer='a'))}
  write(tmp_path, ROWS)
  source = QuestionLoader(files.pool(of), 2, 0, True)
  write(tmp_path, ROWS[::-1])
  other = QuestionLoader(files.pool(of), 2, 0, True)
  monkeypatch.setattr(pools.Source, 'question', None)
  assert source.position(3) != other.position(3)


def test_what_was_read_is_not_read_again(home, monkeypatch):
  """Fitting prompts reads the pool; its digests come with it."""
  source = draw(home / 'data')
  list(source.pool)
  kept = source.pool.keep('some', [0, 2, 4])
  monkeypatch.setattr(pools.Source, 'question', None)
  assert len(source.contents) == 6
  assert kept.contents() == [source.contents[i] for i in (0, 2, 4)]
  with pytest.raises(TypeError):
    source.pool[0]
