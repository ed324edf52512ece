"""The journal of rollouts: what is read is what was written for this state."""

import numpy as np
import pytest

from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.randomness import Purpose
from zppo_jax.records import Prompt, PromptKind, Question, StopReason
from zppo_jax.rollout.journal import Drawn, RolloutJournal, payloads
from zppo_jax.rollout.requests import Completion

STEP, WEIGHTS = 3, np.uint32([7, 2**32 - 1])


def prompt(name, kind=PromptKind.PLAIN, text='C h 4'):
  return Prompt(question=Question(name, text, '9', 'hard'), kind=kind,
                tokens=CHAT.plain(text).tokens)


def completion(name, rollout, size=3, stop=StopReason.END):
  rng = np.random.default_rng([len(name), rollout])
  return Completion(
      id=name, rollout=rollout, text='', stop=stop,
      tokens=tuple(rng.integers(0, 40, size).tolist()),
      logps=tuple(np.float32(rng.normal(size=size)).tolist()))


PROMPTS = [prompt('a'), prompt('b'), prompt('a', PromptKind.NCQ, 'V h 4')]
ENDED = [(1, completion('b', 0)), (0, completion('a', 2, 5)),
         (2, completion('a', 2, 1, StopReason.LENGTH))]


def begun(path, step=STEP, weights=WEIGHTS, origin='o'):
  notes = []
  journal = RolloutJournal(path / 'rollouts', origin, notes.append)
  journal.begin(step, weights)
  return journal, notes


def written(path):
  journal, notes = begun(path)
  assert journal.known(STEP, Purpose.ROLLOUT, PROMPTS) == [{}, {}, {}]
  journal.keep(STEP, Purpose.ROLLOUT, PROMPTS, ENDED[:2])
  journal.keep(STEP, Purpose.ROLLOUT, PROMPTS, [])
  journal.keep(STEP, Purpose.ROLLOUT, PROMPTS, ENDED[2:])
  assert not notes
  return path / 'rollouts' / f'{STEP:08d}'


def of(done):
  return Drawn(tokens=done.tokens, logps=done.logps, stop=done.stop)


def test_what_was_drawn_is_read_bit_by_bit(tmp_path):
  written(tmp_path)
  journal, notes = begun(tmp_path)
  (_, b), (_, a), (_, ncq) = ENDED
  assert journal.known(STEP, Purpose.ROLLOUT, PROMPTS) == [
      {2: of(a)}, {0: of(b)}, {2: of(ncq)}]
  assert journal.taken == 3 and notes == [
      'step 3 begins with 3 rollouts that were drawn before']
  # Another purpose, or another prompt for the same question, has none.
  assert journal.known(STEP, Purpose.TEACHER, PROMPTS) == [{}, {}, {}]
  assert journal.known(STEP, Purpose.ROLLOUT, [prompt('a', text='C i 4')]) == [
      {}]


def test_what_it_holds_is_not_written_again(tmp_path):
  path = written(tmp_path)
  size = path.stat().st_size
  journal, _ = begun(tmp_path)
  journal.keep(STEP, Purpose.ROLLOUT, PROMPTS, ENDED)
  assert path.stat().st_size == size
  journal.keep(STEP, Purpose.ROLLOUT, PROMPTS, [(0, completion('a', 1))])
  again, _ = begun(tmp_path)
  assert sorted(again.known(STEP, Purpose.ROLLOUT, PROMPTS)[0]) == [1, 2]


def test_a_torn_tail_is_cut_at_every_byte(tmp_path):
  path = written(tmp_path)
  raw = path.read_bytes()
  ends = [0, *(end for end, _ in payloads(raw))]
  assert len(ends) == 4 and ends[-1] == len(raw)
  held = [0, 0, 2, 3]  # rollouts in the first records
  for size in range(len(raw)):
    path.write_bytes(raw[:size])
    journal, notes = begun(tmp_path)
    whole = max(i for i, end in enumerate(ends) if end <= size)
    known = journal.known(STEP, Purpose.ROLLOUT, PROMPTS)
    assert sum(map(len, known)) == held[whole]
    if whole:
      assert path.stat().st_size == ends[whole]
      assert (size > ends[whole]) == any('no whole record' in n for n in notes)
    else:  # the first record says whose rollouts they are
      assert not path.exists() and 'no whole first record' in notes[0]


def test_a_changed_byte_ends_the_file(tmp_path):
  path = written(tmp_path)
  raw = bytearray(path.read_bytes())
  raw[-2] ^= 1
  path.write_bytes(raw)
  journal, notes = begun(tmp_path)
  assert sum(map(len, journal.known(STEP, Purpose.ROLLOUT, PROMPTS))) == 2
  assert 'no whole record' in notes[0]


@pytest.mark.parametrize('change, named', [
    ({'weights': np.uint32([7, 0])}, 'weights'), ({'origin': 'p'}, 'origin')])
def test_the_rollouts_of_another_state_are_not_used(tmp_path, change, named):
  path = written(tmp_path)
  journal, notes = begun(tmp_path, **change)
  assert journal.known(STEP, Purpose.ROLLOUT, PROMPTS) == [{}, {}, {}]
  assert f'drawn from another state ({named})' in notes[0]
  assert not path.exists()


def test_steps_are_cut_when_a_checkpoint_holds_them(tmp_path):
  journal, _ = begun(tmp_path)
  for step in (3, 4, 5):
    journal.begin(step, WEIGHTS)
    journal.keep(step, Purpose.ROLLOUT, PROMPTS, ENDED)
  files = lambda: sorted(int(p.name) for p in (tmp_path / 'rollouts').iterdir())
  journal.cut(4)
  assert files() == [4, 5]
  journal.cut()
  assert not (tmp_path / 'rollouts').exists()
  journal.cut()


def test_rollouts_of_another_step_are_refused(tmp_path):
  journal, _ = begun(tmp_path)
  with pytest.raises(ValueError, match='is at step 3; rollouts of step 4'):
    journal.known(4, Purpose.ROLLOUT, PROMPTS)
  with pytest.raises(ValueError, match='is at step 3; rollouts of step 2'):
    journal.keep(2, Purpose.ROLLOUT, PROMPTS, ENDED)
