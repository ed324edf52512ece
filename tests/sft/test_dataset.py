"""The order of conversations, their room, and data that changed."""

import json
from collections import Counter

import numpy as np
import pytest

from tests.sft.builders import micro_rows, write_lines
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.data import digest
from zppo_jax.sft import dataset
from zppo_jax.sft.dataset import Lessons, Reader, Room

ROOM = Room(row_buckets=(32,), patch_buckets=())


def opened(tmp_path, rows, room=ROOM, on_overlong='refuse', **more):
  columns = dict(id='id', text='text', responses='responses')
  sources = {'s': dict(format='jsonl', columns=columns, path=write_lines(
      tmp_path / 's.jsonl', rows)), **more}
  return dataset.open_dataset('data.sources', sources, Reader(CHAT, None), room,
                              on_overlong)


def test_a_sequence_has_its_mask_and_weights(tmp_path):
  (sequence,) = opened(tmp_path, [
      {'id': 'a', 'text': 'C h 4', 'responses': ['4 h 9 A 9']}])
  assert sequence.sequence.prompt == CHAT.plain('C h 4').tokens
  assert sequence.sequence.response == CHAT.response('4 h 9 A 9')
  assert sequence.mask_R.tolist() == [True] * 6
  np.testing.assert_array_equal(sequence.targets['advantage'], np.ones(6))


@pytest.mark.parametrize('batch', [3, 7, 16])
def test_a_pass_holds_every_conversation_once(tmp_path, batch):
  lessons = Lessons(opened(tmp_path, micro_rows(7)), batch=batch, seed=0)
  drawn = [i for step in range(14) for i in lessons.chosen(step)]
  for epoch in range(2 * batch):
    assert Counter(drawn[7 * epoch:7 * epoch + 7]) == dict.fromkeys(range(7), 1)
  assert drawn[:7] != drawn[7:14]
  other = Lessons(lessons.pool, batch=batch, seed=1)
  assert [other.chosen(s) for s in range(3)] != [
      lessons.chosen(s) for s in range(3)]
  chosen = lessons.chosen(2)
  for i, sequence in zip(chosen, lessons.draw(2), strict=True):
    assert sequence.sequence.response == lessons.pool[i].sequence.response


def test_steps_beyond_the_passes_are_refused(tmp_path):
  lessons = Lessons(opened(tmp_path, micro_rows(7)), 3, 0, epochs=1.5)
  lessons.check_steps(3)
  with pytest.raises(ValueError, match='is 4; data.epochs = 1.5 .*hold 3'):
    lessons.check_steps(4)


def test_overlong_conversations_are_refused_or_dropped_and_counted(tmp_path):
  rows = micro_rows(6)  # 4 + 6, 9 or 12 tokens
  room = Room(row_buckets=(13, 8), patch_buckets=())
  with pytest.raises(ValueError, match=r's\.jsonl, line 3: the conversation '
                     'has 16 tokens; the largest of shapes.row_buckets is 13'):
    opened(tmp_path, rows, room)
  data = opened(tmp_path, rows, room, 'drop')
  assert len(data) == 4 and data.counts['overlong'] == {'s': 2}
  assert [size for size, *_ in data.sizes] == [10, 13, 10, 13]
  assert data.account() == 's: 6 rows, 2 overlong, 4 conversations'
  with pytest.raises(ValueError, match='no conversation of s is left'):
    opened(tmp_path, rows, Room((8,), ()), 'drop')
  with pytest.raises(KeyError, match='refuse, drop'):
    opened(tmp_path, rows, room, 'cut')


def test_questions_without_responses_are_counted(tmp_path):
  data = opened(tmp_path, [*micro_rows(2), {
      'id': 'x', 'text': 'C h 4', 'responses': []}])
  assert len(data) == 2 and data.counts['unanswered'] == {'s': 1}


def test_held_out_rows_keep_their_conversations_together(tmp_path):
  rows = [{**row, 'responses': row['responses'] * 2} for row in micro_rows(6)]
  rest, out = dataset.split(opened(tmp_path, rows), 2, seed=3)
  assert len(out) == 4 and len(rest) == 8
  assert not {p[:2] for p in out.places} & {p[:2] for p in rest.places}
  with pytest.raises(ValueError, match='eval.holdout is 6; .* 6 rows'):
    dataset.split(opened(tmp_path, rows), 6, seed=3)


def test_a_resume_on_other_data_names_the_row(tmp_path):
  rows = micro_rows(5)
  lessons = Lessons(opened(tmp_path, rows), 2, 0)
  stored = lessons.position(3)
  assert stored == {'pass': 1, 'conversations': 1, 'pool': stored['pool']}
  lessons.check_position(stored, 3, tmp_path)
  with pytest.raises(ValueError, match='would go on at'):
    Lessons(lessons.pool, 3, 0).check_position(stored, 3, tmp_path)
  # The run writes this file beside its checkpoints.
  (tmp_path / digest.NAME).write_text(json.dumps(lessons.record()))
  rows[2] = {**rows[2], 'responses': ['4 h 9 A 0']}
  with pytest.raises(ValueError, match=r"on other data: 5 .* then, 5 now; .*"
                     r"s\.jsonl, line 3, 's/2/0'"):
    Lessons(opened(tmp_path, rows), 2, 0).check_position(stored, 3, tmp_path)
