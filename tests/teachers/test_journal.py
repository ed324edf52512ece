"""Answers on disk: reused, asked for again where they are missing."""

import json

import pytest

from tests.builders import RIGHT, question, rollout
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import (
  Answers,
  CallStats,
  Group,
  Prompt,
  PromptKind,
  StopReason,
  Summaries,
  Verdict,
)
from zppo_jax.tasks import TASKS
from zppo_jax.teachers import Capabilities
from zppo_jax.teachers.journal import CachedTeacher


class Fickle:
  """Says something else each time; knows nothing of 'mute'."""
  capabilities = Capabilities(99, False, False, False, repeatable=False)

  def __init__(self):
    self.asked = []

  def _say(self, prompt):
    self.asked.append(prompt.question.id)
    return rollout(f'4 h {len(self.asked)} A {len(self.asked)}',
                   Verdict.WRONG)

  def answer(self, prompts, step):
    return Answers(tuple(
        Group(p, () if p.question.id == 'mute' else (self._say(p), rollout()))
        for p in prompts), CallStats(2 * len(prompts), 1))

  def summarise(self, prompts, traces, step):
    return Summaries(tuple(
        None if p.question.id == 'mute' else self._say(p) for p in prompts),
        CallStats(len(prompts), 1))


def prompts(*names):
  return [Prompt(question(n), PromptKind.PLAIN, CHAT.plain('C h 4').tokens)
          for n in names]


def texts(answers):
  return [[r.text for r in g.rollouts] for g in answers.groups]


def opened(path, teacher):
  return CachedTeacher.open(teacher, path, CHAT, TASKS['micro'].grader)


def test_a_repeated_step_has_the_same_answers(tmp_path):
  path, fickle = tmp_path / 'teacher.jsonl', Fickle()
  first = opened(path, fickle)
  said = first.answer(prompts('a', 'mute', 'b'), 3)
  assert first.capabilities.repeatable
  short = first.summarise(prompts('a', 'mute'), ['x', 'y'], 3)
  again = opened(path, fickle)
  fickle.asked.clear()
  repeated = again.answer(prompts('a', 'mute', 'b'), 3)
  assert texts(repeated) == texts(said)
  assert texts(said) == [['4 h 1 A 1', RIGHT], [], ['4 h 2 A 2', RIGHT]]
  assert [r.verdict for r in repeated.groups[0].rollouts] == [
      Verdict.WRONG, Verdict.CORRECT]
  assert again.summarise(prompts('a', 'mute'), ['x', 'y'], 3
                         ).rollouts[0].text == short.rollouts[0].text
  assert fickle.asked == []  # 'mute' was asked again, and said nothing
  assert repeated.calls.answers == 2  # of 'mute' alone
  assert again.answer(prompts('a'), 3).calls == CallStats()


def test_another_step_is_asked_anew(tmp_path):
  path, fickle = tmp_path / 'teacher.jsonl', Fickle()
  opened(path, fickle).answer(prompts('a'), 3)
  assert texts(opened(path, fickle).answer(prompts('a'), 4)) == [
      ['4 h 2 A 2', RIGHT]]


def test_a_torn_line_is_cut_and_written_again(tmp_path):
  path, fickle = tmp_path / 'teacher.jsonl', Fickle()
  opened(path, fickle).answer(prompts('a', 'b'), 0)
  whole = path.read_text()
  path.write_text(whole[:-9])
  again = opened(path, fickle)
  assert texts(again.answer(prompts('a', 'b'), 0)) == [
      ['4 h 1 A 1', RIGHT], ['4 h 3 A 3', RIGHT]]
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [x['id'] for x in lines] == ['a', 'b']


def test_how_a_text_ended_is_kept(tmp_path):
  class Cut(Fickle):
    def _say(self, prompt):
      return rollout('4 h 9', Verdict.TRUNCATED, StopReason.LENGTH)
  path = tmp_path / 'teacher.jsonl'
  opened(path, Cut()).answer(prompts('a'), 0)
  (group,) = opened(path, Fickle()).answer(prompts('a'), 0).groups
  assert group.rollouts[0].stop == StopReason.LENGTH
  assert group.rollouts[0].tokens == CHAT.response('4 h 9')[:-1]


@pytest.mark.parametrize('line', [
    b'{}', b'7', b'null', b'[' * 100_000, b'\xff', b'{"step": 0',
    b'{"step": [], "what": "answer", "id": "a", "texts": []}',
    b'{"step": 0, "what": "answer", "id": "a", "texts": [["x", 5]]}',
    b'{"step": 0, "what": "answer", "id": "a", "texts": [[5, "end"]]}',
    b'{"step": 0, "what": "answer", "id": "a", "texts": [["x", "smoke"]]}',
    b'{"step": 0, "what": "answer", "id": "a", "texts": [["x"]]}',
    b'{"step": 0, "what": "answer", "id": "a", "texts": 3}',
])
def test_a_line_that_is_no_answer(line, tmp_path):
  """fault E1: it is refused with file and line, and cut where a kill tore
  it; it neither crashes nor takes what follows with it."""
  path, fickle = tmp_path / 'teacher.jsonl', Fickle()
  opened(path, fickle).answer(prompts('a', 'b'), 0)
  whole = path.read_bytes()
  first, second = whole.splitlines(keepends=True)
  path.write_bytes(first + line + b'\n' + second)
  with pytest.raises(ValueError, match=r'teacher\.jsonl, line 2: .* no ans'):
    opened(path, fickle)
  assert path.read_bytes() == first + line + b'\n' + second
  path.write_bytes(whole + line)
  fickle.asked.clear()
  assert texts(opened(path, fickle).answer(prompts('a', 'b'), 0))
  assert fickle.asked == [] and path.read_bytes() == whole


def test_a_surrogate_of_an_older_journal(tmp_path):
  """fault E1: it is mended as it is read."""
  path = tmp_path / 'teacher.jsonl'
  path.write_text('{"step": 0, "what": "answer", "id": "a", "texts": '
                  '[["4 h \\ud83d", "end"]]}\n')
  assert texts(opened(path, Fickle()).answer(prompts('a'), 0)) == [
      ['4 h \ufffd']]
