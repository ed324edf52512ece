"""Answers on disk: reused, asked for again where they are missing."""

import json

import numpy as np
import pytest

from tests.builders import RIGHT, question, rollout
from tests.processes import as_processes
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import (
  Answers,
  CallStats,
  Group,
  Prompt,
  PromptKind,
  Scores,
  StopReason,
  Summaries,
  TokenSequence,
  Verdict,
  Wanted,
)
from zppo_jax.tasks import TASKS
from zppo_jax.teachers import Capabilities, score_journal
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


  def hint(self, prompts, traces, step):
    return self.summarise(prompts, traces, step)


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
  # A hint is kept beside a summary of the same name, and is not graded.
  hint = first.hint(prompts('a'), ['x'], 3).rollouts[0]
  fickle.asked.clear()
  kept = opened(path, fickle).hint(prompts('a'), ['x'], 3).rollouts[0]
  assert hint.text == kept.text != short.rollouts[0].text
  assert kept.answer == '' and kept.verdict != Verdict.CORRECT
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


class Noisy(Fickle):
  """Scores with other numbers each time; none for a response that begins with
  token 9."""
  capabilities = Capabilities(99, True, False, False, repeatable=False, top=4,
                              gathers=True, entropy=True, temperature=True)

  def score(self, sequences, wanted, step):
    self.asked += [tuple(s.response) for s in sequences]
    came = [s.response[0] != 9 for s in sequences]
    number = len(self.asked)

    def made(dtype, *axes):
      return tuple(
          np.full((len(s.response), *axes), number / 7, dtype) if is_here
          else None for s, is_here in zip(sequences, came, strict=True))
    return Scores(
        logps=made(np.float32), calls=CallStats(len(sequences), number),
        top_ids=made(np.int32, wanted.top) if wanted.top else (),
        top_logps=made(np.float32, wanted.top) if wanted.top else (),
        given_logps=made(np.float32, 2) if len(wanted.ids) else (),
        entropies=made(np.float32) if wanted.entropy else ())


SEQUENCES = [TokenSequence(prompt=(1, 2), response=r)
             for r in ((3, 4), (9,), (3, 4), (5, 6, 7))]
ALL = Wanted(top=3, entropy=True, temperature=0.5, ids=[
    np.zeros((len(s.response), 2), np.int32) for s in SEQUENCES])


def equal(a, b):
  """Whether two Scores hold the same, bit for bit."""
  for name in ('logps', 'top_ids', 'top_logps', 'given_logps', 'entropies'):
    x, y = getattr(a, name), getattr(b, name)
    assert len(x) == len(y)
    for one, other in zip(x, y, strict=True):
      assert (one is None) == (other is None)
      if one is not None:
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize('wanted', [Wanted(), Wanted(top=2), ALL])
def test_scores_are_asked_for_once(wanted, tmp_path):
  """A sequence that occurs twice is asked once; what was missing is asked for
  again, the rest is read from the file, bit for bit."""
  path, noisy = tmp_path / 'teacher.jsonl', Noisy()
  first = opened(path, noisy).score(SEQUENCES, wanted, 1)
  assert noisy.asked == [(3, 4), (9,), (5, 6, 7)]
  assert first.calls.answers == 3 and first.logps[1] is None
  assert first.logps[0].tobytes() == first.logps[2].tobytes()
  noisy.asked.clear()
  again = opened(path, noisy)
  repeated = again.score(SEQUENCES, wanted, 5)
  equal(first, repeated)
  assert noisy.asked == [(9,)] and repeated.calls.answers == 1
  noisy.asked.clear()
  kept = [SEQUENCES[0], SEQUENCES[3]]
  equal(again.score(kept, wanted.of([0, 3]), 6),
        opened(path, noisy).score(kept, wanted.of([0, 3]), 7))
  assert noisy.asked == []


def test_other_wants_and_teachers_have_other_keys():
  """Prompt, response, K, ids, entropy, temperature and the teacher count; the
  border of prompt and response does, too."""
  of = lambda prompt=(1, 2), response=(3, 4), teacher='t', **fields: (
      score_journal.key_of(teacher, TokenSequence(prompt, response),
                           Wanted(**fields)))
  ids = lambda x: [np.full((2, 2), x, np.int32)]
  keys = [of(), of(teacher='u'), of(prompt=(1,)), of(response=(3,)),
          of((1,), (2, 3, 4)), of(top=1), of(top=2), of(entropy=True),
          of(temperature=0.5), of(ids=ids(0)), of(ids=ids(1)),
          of(response=(3, 5))]
  assert len(set(keys)) == len(keys)
  assert of() == of(prompt=np.int32([1, 2]), response=[3, 4])


def test_a_torn_or_changed_score(tmp_path):
  """A kill tears the last line, which is cut and asked for again; any other
  line that is none ends the run with file and line."""
  path, noisy = tmp_path / 'teacher.jsonl', Noisy()
  file = tmp_path / 'teacher_scores.jsonl'
  first = opened(path, noisy).score(SEQUENCES, Wanted(), 0)
  whole = file.read_bytes()
  line, last = whole.splitlines(keepends=True)
  file.write_bytes(whole[:-9])
  noisy.asked.clear()
  again = opened(path, noisy).score(SEQUENCES, Wanted(), 0)
  assert noisy.asked == [(9,), (5, 6, 7)]
  assert again.logps[0].tobytes() == first.logps[0].tobytes()
  assert len(file.read_bytes()) == len(whole)
  packed = json.loads(last)['logps']['base64']
  short = dict(json.loads(last), logps={'shape': [3, 1], 'base64': packed})
  del short['seal']
  for bad in (b'{}', b'7', b'null', b'[' * 100_000, b'\xff',
              last.rstrip().replace(packed[:2].encode(), b'zz', 1),
              json.dumps(short).encode(), json.dumps({'key': 'k'}).encode(),
              json.dumps({'key': 'k', 'logps': {'shape': [2], 'base64': '?'}
                          }).encode()):
    file.write_bytes(line + bad + b'\n' + last)
    with pytest.raises(ValueError, match=r'_scores\.jsonl, line 2: .* no sc'):
      opened(path, noisy)
    assert file.read_bytes() == line + bad + b'\n' + last


def test_a_want_that_the_teacher_lacks_is_not_looked_up(tmp_path):
  with pytest.raises(ValueError, match='the 5 likeliest tokens'):
    opened(tmp_path / 'teacher.jsonl', Noisy()).score(
        SEQUENCES, Wanted(top=5), 0)


def test_the_first_process_keeps_the_journals_of_all(tmp_path):
  """Answers and scores are written once, and each process knows them."""
  class Scoring(Fickle):
    capabilities = Capabilities(99, True, False, False, repeatable=False)

    def score(self, sequences, wanted, step=None):
      self.asked += [s.response for s in sequences]
      return Scores(logps=tuple(np.zeros(len(s.response), np.float32)
                                for s in sequences), calls=CallStats())

  path, teachers = tmp_path / 'teacher.jsonl', [Scoring() for _ in range(2)]
  rows = [TokenSequence(prompt=(1,), response=(2, i)) for i in (3, 4)]

  def work(index):
    of = opened(path, teachers[index])
    said = of.answer(prompts('a', 'b'), 3)
    scores = [of.score(rows).logps for _ in range(2)]
    return texts(said), [[x.tolist() for x in one] for one in scores]

  first, second = as_processes(2, work)
  assert first == second
  assert first[1] == [[[0.0, 0.0]] * 2] * 2
  assert len(path.read_text().splitlines()) == 2
  assert len((tmp_path / 'teacher_scores.jsonl').read_text().splitlines()) == 2
  assert teachers[0].asked.count((2, 3)) == 1

  again = as_processes(2, work)
  assert again == [first] * 2
  assert len(path.read_text().splitlines()) == 2
