"""Rows of files as conversations, and rows that are none."""

import json

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from zppo_jax.chat.conversation import Field, Message
from zppo_jax.data import conversations
from zppo_jax.data.conversations import LessonSource
from zppo_jax.records import Picture

CHAT = [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]
MESSAGES = dict(messages='messages')


def source(tmp_path, rows, columns=None, **fields):
  path = tmp_path / 'rows.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return LessonSource(conversations.spec('s', dict(
      format='jsonl', path=str(path), columns=columns or MESSAGES, **fields)))


def only(tmp_path, row, columns=None, **fields):
  (lesson,) = source(tmp_path, [row], columns, **fields).lessons(0)
  return lesson


def user(*parts):
  return Message('user', parts)


def said(*parts):
  return Message('assistant', parts)


def test_chats_keep_roles_parts_and_reasoning(tmp_path):
  lesson = only(tmp_path, {'messages': [
      {'role': 'system', 'content': 's'},
      {'role': 'user', 'content': [{'type': 'text', 'text': 'a'}, 'b']},
      {'role': 'assistant', 'content': 'c', 'reasoning_content': 'r'},
      {'role': 'tool', 'content': 't', 'name': 'n'},
      {'role': 'assistant', 'content': 'd'}, {'role': 'user', 'content': 'e'}]})
  assert lesson.messages == (
      Message('system', ('s',)), user('a', 'b'), said('c', Field(
          'reasoning', 'r')), Message('tool', ('t', Field('name', 'n'))),
      said('d'))  # what nobody answers is left out
  assert lesson.id == 's/0' and not lesson.asked


def test_files_of_sharegpt(tmp_path):
  lesson = only(tmp_path, {'conversations': [
      {'from': 'system', 'value': 's'}, {'from': 'human', 'value': 'a'},
      {'from': 'gpt', 'value': 'b'}]}, dict(messages='conversations'))
  assert lesson.messages == (Message('system', ('s',)), user('a'), said('b'))


def test_prompts_and_answers_by_dotted_names(tmp_path):
  row = {'q': {'text': 'a'}, 'd.s': 's', 'a': ['x', 'b'], 'name': 7}
  lesson = only(tmp_path, row, dict(
      prompt='q.text', answer='a.1', system='d.s', id='name'))
  assert lesson.messages == (Message('system', ('s',)), user('a'), said('b'))
  assert lesson.id == 's/7'
  row = {'prompt': CHAT + [{'role': 'user', 'content': 'c'}],
         'completion': [{'role': 'assistant', 'content': 'd'}]}
  lesson = only(tmp_path, row, dict(prompt='prompt', answer='completion'))
  assert lesson.messages == (user('a'), said('b'), user('c'), said('d'))


def test_each_response_of_a_question_is_a_conversation(tmp_path):
  columns = dict(text='q', responses='r')
  of = source(tmp_path, [{'q': 'a', 'r': ['b', 'c']}, {'q': 'd', 'r': []}],
              columns)
  assert [(x.id, x.messages, x.asked) for x in of.lessons(0)] == [
      ('s/0/0', (user('a'), said('b')), True),
      ('s/0/1', (user('a'), said('c')), True)]
  assert of.lessons(1) == []


def test_pictures_of_parts_and_of_a_column(tmp_path):
  for name in 'xyz':
    Image.new('RGB', (4, 4)).save(tmp_path / f'{name}.png')
  row = {'messages': [{'role': 'user', 'content': [
      {'type': 'image', 'image': 'x.png'}, {'type': 'image'},
      {'type': 'text', 'text': 'a <image> b'}]},
      {'role': 'assistant', 'content': 'c'}], 'images': ['y.png', 'z.png']}
  parts = only(tmp_path, row, images='images').messages[0].parts
  assert [type(p) for p in parts] == [Picture, Picture, str, Picture, str]
  assert [p.path[-5:] for p in parts if isinstance(p, Picture)] == [
      'x.png', 'y.png', 'z.png']
  row = {'q': 'a', 'a': 'b', 'images': ['y.png']}
  parts = only(tmp_path, row, dict(prompt='q', answer='a'),
               images='images').messages[0].parts
  assert [type(p) for p in parts] == [Picture, str]
  with pytest.raises(ValueError, match='line 1: .*no further one'):
    only(tmp_path, {'messages': [{'role': 'user', 'content': [
        {'type': 'image'}]}, CHAT[1]]})


def test_parquet_holds_the_same(tmp_path):
  parquet.write_table(pa.Table.from_pylist([{'m': CHAT}, {'m': CHAT}]),
                      tmp_path / 'a.parquet', row_group_size=1)
  of = LessonSource(conversations.spec('s', dict(
      format='parquet', path=str(tmp_path / 'a.parquet'),
      columns=dict(messages='m'))))
  assert of.lessons(1)[0].messages == (user('a'), said('b'))
  assert of.where(1).endswith('a.parquet, row 1')


@pytest.mark.parametrize('messages, match', [
    ([CHAT[0]], 'no message has the role assistant'),
    ([CHAT[1]], 'first message has the role assistant'),
    ([CHAT[0], {'role': 'assistant', 'content': ' \n'}],
     r'message 1 \(role assistant\) is empty'),
    ([CHAT[0], {'role': 'assistant', 'content': None}],
     r'message 1 \(role assistant\) is empty'),
    ([CHAT[0], {'role': 'critic', 'content': 'b'}],
     r"messages\[1\].role is 'critic'; allowed: system, user, assistant, tool"),
    ([CHAT[0], {'role': 'assistant', 'content': 'b', 'tool_calls': [1]}],
     "'tool_calls', which cannot be learnt"),
    ([CHAT[0], {'role': 'assistant'}], 'a message has role and content'),
    ([CHAT[0], 'b'], r'messages\[1\] is str'),
    ('a', 'messages is str'), ([], 'messages is list'),
    ([CHAT[0], {'role': 'assistant', 'content': [{'type': 'audio'}]}],
     r'messages\[1\].content\[0\] is dict'),
    ([CHAT[0], {'role': 'assistant', 'content': '\ud800'}],
     'half a surrogate pair'),
])
def test_bad_rows_are_named(tmp_path, messages, match):
  of = source(tmp_path, [{'messages': CHAT}, {'messages': messages}])
  assert of.lessons(0)
  with pytest.raises(ValueError, match=r'rows\.jsonl, line 2: .*' + match):
    of.lessons(1)


def test_bad_answers_and_columns_are_named(tmp_path):
  pair = dict(prompt='q', answer='a')
  for answer, match in (('', 'is empty'), (None, 'is empty'),
                        (CHAT, 'answer is a chat of user, assistant')):
    with pytest.raises(ValueError, match='line 1: .*' + match):
      source(tmp_path, [{'q': 'a', 'a': answer}], pair).lessons(0)
  with pytest.raises(ValueError, match="line 1: no column 'a'; .*q, b"):
    source(tmp_path, [{'q': 'a', 'b': 'b'}], pair).lessons(0)
  with pytest.raises(KeyError, match='columns has prompt; allowed are'):
    source(tmp_path, [{}], dict(prompt='q'))
  with pytest.raises(KeyError, match="unknown field of sources.s: 'weight'"):
    source(tmp_path, [{}], weight=1)
  with pytest.raises(ValueError, match='one of columns and mapping'):
    source(tmp_path, [{}], mapping='gsm8k')
