"""Columns as texts and numbers: chats, paths, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from zppo_jax.chat import images
from zppo_jax.data import pool, suites, values
from zppo_jax.data.media import content

PNG = content(images.picture(Image.new('L', (8, 8), 5)))
ASK = {'role': 'user', 'content': 'What is 3 + 4?'}


def opened(tmp_path, rows, form='jsonl', **fields):
  """A pool of rows that were written to a file."""
  path = tmp_path / f'rows.{form}'
  if form == 'jsonl':
    path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  else:
    parquet.write_table(pa.Table.from_pylist(rows), path)
  of = dict(format=form, path=str(path), kind='number',
            columns=dict(text='prompt', answer='reward_model.ground_truth'))
  return pool.open_pool({'rows': {**of, **fields}}, {})


def verl(prompt, gold='7'):
  """A row of the schema of verl's files and DAPO-Math."""
  return {'data_source': 'math_dapo', 'prompt': prompt, 'ability': 'MATH',
          'reward_model': {'ground_truth': gold, 'style': 'rule'},
          'extra_info': {'index': 'a1'}}


@pytest.mark.parametrize('form', ['jsonl', 'parquet'])
def test_chats_and_paths_of_verls_schema(tmp_path, form):
  """fault C2: both columns were read as Python's repr."""
  (asked,) = opened(tmp_path, [verl([ASK])], form, columns=dict(
      text='prompt', answer='reward_model.ground_truth',
      id='extra_info.index', subset='data_source'))
  assert (asked.text, asked.answer, asked.id) == (
      'What is 3 + 4?', '7', 'rows/a1')


def test_a_systems_message_is_asked_before_the_users(tmp_path):
  """fault C2"""
  (asked,) = opened(tmp_path, [verl(
      [{'role': 'system', 'content': 'Be brief.'}, ASK])])
  assert asked.text == 'Be brief.\n\nWhat is 3 + 4?'


@pytest.mark.parametrize('chat', [
    [ASK, {'role': 'assistant', 'content': '7'}],
    [ASK, {'role': 'assistant', 'content': '7'}, ASK],
    [ASK, ASK], [{'role': 'system', 'content': 'Be brief.'}],
    [ASK, {'role': 'system', 'content': 'Be brief.'}],
    [{'role': 'tool', 'content': '7'}]])
def test_chats_of_other_turns_are_refused_by_their_roles(tmp_path, chat):
  """fault C2"""
  roles = ', '.join(m['role'] for m in chat)
  with pytest.raises(ValueError, match=rf'rows.jsonl, line 2.*chat of {roles}'):
    opened(tmp_path, [verl([ASK]), verl(chat)])


def test_a_path_takes_one_message_of_many(tmp_path):
  """fault C2"""
  rows = [{'messages': [ASK, {'role': 'assistant', 'content': 'It is 7.'}],
           'golds': ['7', '7.0']}]
  (asked,) = opened(tmp_path, rows, columns=dict(
      text='messages.0.content', answer='golds.0',
      responses='messages.1.content'))
  assert (asked.text, asked.answer, asked.responses) == (
      'What is 3 + 4?', '7', ('It is 7.',))


def test_a_column_with_dots_in_its_name_comes_first(tmp_path):
  row = {**verl('q'), 'reward_model.ground_truth': 9}
  (asked,) = opened(tmp_path, [row])
  assert asked.answer == '9'


def test_contents_as_parts_hold_words_and_images(tmp_path):
  """fault C2: an image of a part is shown, a mere place counts a column's."""
  Image.new('L', (8, 8), 5).save(tmp_path / 'a.png')
  parts = [{'type': 'image', 'image': 'a.png'},
           {'type': 'image_url', 'image_url': {'url': 'a.png'}},
           {'type': 'text', 'text': 'How many?'}]
  (asked,) = opened(tmp_path, [verl([{'role': 'user', 'content': parts}])])
  assert asked.text == 'How many?' and len(asked.media) == 2
  parts = [{'type': 'image'}, {'type': 'text', 'text': 'How many?'}]
  row = {**verl([{'role': 'user', 'content': parts}]), 'images': ['a.png']}
  (asked,) = opened(tmp_path, [row], images='images')
  assert asked.text == 'How many?' and len(asked.media) == 1
  with pytest.raises(ValueError, match='line 1: the question has 1 <image>'):
    opened(tmp_path, [{**row, 'images': []}], images='images')
  bad = [{'type': 'audio', 'audio': 'a.wav'}]
  with pytest.raises(ValueError, match=r'line 1.*content\[0\] is dict'):
    opened(tmp_path, [verl([{'role': 'user', 'content': bad}])])


@pytest.mark.parametrize('gold', [
    True, ['7'], {'value': '7'}, [], {}, float('nan'), float('inf')])
def test_golds_that_are_no_text_or_number_are_refused(tmp_path, gold):
  """fault C2"""
  with pytest.raises(ValueError, match=r'rows.jsonl, line 2: .*answer is'):
    opened(tmp_path, [verl('q'), verl('q', gold)])


@pytest.mark.parametrize(('field', 'value'), [
    ('hint', ['h']), ('id', {'a': 1}), ('subset', True), ('kind', ['text']),
    ('responses', [{'role': 'user', 'content': 'x'}]), ('responses', [True]),
    ('pass_rate', 'often'), ('pass_rate', [0.5]), ('pass_rate', True),
    ('text', {'question': 'q'}), ('text', ['q']), ('text', False)])
def test_every_field_refuses_what_it_cannot_be(tmp_path, field, value):
  """fault C2"""
  columns = dict(text='q', answer='a', **{
      field: 'f'}) if field not in ('text',) else dict(text='f', answer='a')
  rows = [{'q': 'q', 'a': '7', 'f': value}]
  with pytest.raises(ValueError, match=rf'rows.jsonl, line 1: .*{field}'):
    opened(tmp_path, rows, columns=columns)


@pytest.mark.parametrize(('gold', 'text'), [
    (7, '7'), (-0.5, '-0.5'), (10**30, str(10**30)), (7.0, '7.0'),
    ('  x', '  x')])
def test_numbers_are_their_text(tmp_path, gold, text):
  (asked,) = opened(tmp_path, [verl('q', gold)])
  assert asked.answer == text


def test_steps_of_a_path_that_lead_nowhere_are_named(tmp_path):
  """fault C2"""
  with pytest.raises(KeyError, match="no column 'reward_model.ground_truth'"):
    opened(tmp_path, [{'prompt': 'q', 'reward': '7'}])
  with pytest.raises(ValueError, match=(
      r"line 1.*'reward_model' has no field 'ground_truth'; fields there: "
      'gold')):
    opened(tmp_path, [{'prompt': 'q', 'reward_model': {'gold': '7'}}])
  with pytest.raises(ValueError, match=r"'reward_model' is str '7', which has"):
    opened(tmp_path, [{'prompt': 'q', 'reward_model': '7'}])
  row = {'a': None, 'b': ['x']}
  assert values.at(row, 'a.b.c') is None and values.at(row, 'b.0') == 'x'
  with pytest.raises(ValueError, match='is a list of 1'):
    values.at(row, 'b.1')


@pytest.mark.parametrize('field', ['q', 'a', 'h', 'n', 'w'])
def test_half_a_surrogate_pair_names_the_line(tmp_path, field):
  """fault C5: filters.text_hash raised UnicodeEncodeError."""
  rows = [{'q': 'q', 'a': '7', 'h': 'h', 'n': str(i), 'w': ['w']}
          for i in range(3)]
  rows[2][field] = 'x\ud83d' if field != 'w' else ['x\ud83d']
  with pytest.raises(ValueError, match=r"line 3: .*half a surrogate pair, "
                     r"'\\ud83d' at character 1") as e:
    opened(tmp_path, rows, columns=dict(
        text='q', answer='a', hint='h', id='n', responses='w'))
  str(e.value).encode()


def test_numbers_of_32_bits_are_those_of_json(tmp_path):
  """fault C6, in parquet: the gold was 0.30000001192092896."""
  table = pa.table({
      'prompt': ['q', 'r'], 'rate': pa.array([0.3, 0.7], pa.float32()),
      'reward_model': pa.array([{'ground_truth': 0.3}] * 2, pa.struct(
          [('ground_truth', pa.float32())]))})
  parquet.write_table(table, tmp_path / 'a.parquet')
  found = pool.open_pool({'rows': dict(
      format='parquet', path=str(tmp_path / 'a.parquet'), kind='number',
      columns=dict(text='prompt', answer='reward_model.ground_truth',
                   pass_rate='rate'), filters=dict(pass_rate=0.3))}, {})
  assert [q.answer for q in found] == ['0.3']


def test_a_third_in_32_bits_is_a_third():
  third = values.single(np.float32(1 / 3))
  assert third > 1 / 3 and values.at_most(third, 1 / 3)
  assert not values.at_most(third, 0.3333)


def test_options_of_benchmarks_are_texts_and_indices_of_options():
  """fault C2, in the benchmarks: str() and a negative index made answers."""
  row = dict(question='Which?', options=['red', 'blue'], answer=-1)
  read = suites.get('ai2d').read
  with pytest.raises(ValueError, match="answer is .-1.; there are 2 opt"):
    read(row)
  with pytest.raises(ValueError, match="answer is .2.; there are 2 opt"):
    read({**row, 'answer': '2'})
  with pytest.raises(ValueError, match='option 1 is list'):
    read({**row, 'options': ['red', ['blue']]})
  with pytest.raises(ValueError, match='options are int 3, not a list'):
    read({**row, 'options': '3'})
  assert read({**row, 'answer': 1}).answer == 'B'
