"""Answers that are asked before they are needed: the same answers, once."""

import threading
import time

import pytest

from tests.builders import question, rollout
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import (
  Answers,
  CallStats,
  Cause,
  Group,
  Prompt,
  PromptKind,
  Summaries,
)
from zppo_jax.teachers.ahead import AheadTeacher


def prompt(name):
  return Prompt(question(name), PromptKind.PLAIN, CHAT.plain('C h 4').tokens)


class Slow:
  """A teacher whose answers may be held back, by question."""

  def __init__(self):
    self.asked, self.free, self.lock = [], {}, threading.Lock()

  def _wait(self, what, prompts):
    (one,) = prompts
    name = one.question.id
    with self.lock:
      self.asked.append((what, name))
    if name in self.free:
      assert self.free[name].wait(30)
    return name

  def answer(self, prompts, step):
    name = self._wait('answer', prompts)
    if name == 'broken':
      raise ValueError(f'{name} in step {step}')
    failed = {Cause.MISSING: 1} if name == 'b' else {}
    return Answers((Group(prompts[0], (rollout(f'4 h {step} A {name}'),)),),
                   CallStats(answers=1, requests=2, failed=failed))

  def summarise(self, prompts, traces, step):
    self._wait('summary', prompts)
    return Summaries((rollout(f'{traces[0]} A {step}'),),
                     CallStats(answers=1, requests=1))


def test_answers_are_those_of_the_question_whatever_came_first():
  slow = Slow()
  slow.free = {name: threading.Event() for name in 'abc'}
  teacher = AheadTeacher(slow)
  prompts = [prompt(name) for name in 'abc']
  teacher.ask_ahead(prompts[:2], 3)
  teacher.ask_ahead(prompts[:2], 3)  # nothing new
  teacher.ask_ahead(prompts[2:], 3)
  until = time.monotonic() + 30
  while len(slow.asked) < 3 and time.monotonic() < until:
    time.sleep(0.01)
  assert sorted(slow.asked) == [('answer', name) for name in 'abc']
  for name in 'cba':  # the last that was asked answers first
    slow.free[name].set()
  groups, calls = teacher.answer([*prompts, prompt('d')], 3)
  assert [g.prompt.question.id for g in groups] == ['a', 'b', 'c', 'd']
  assert [g.rollouts[0].text for g in groups] == [
      f'4 h 3 A {name}' for name in 'abcd']
  assert calls == CallStats(answers=4, requests=8, failed={Cause.MISSING: 1})
  assert len(slow.asked) == 4 and not teacher.replies
  teacher.answer(prompts[:1], 4)  # another step asks anew
  assert len(slow.asked) == 5


def test_an_error_comes_up_where_the_answer_is_wanted():
  teacher = AheadTeacher(Slow())
  teacher.ask_ahead([prompt('broken')], 1)
  with pytest.raises(ValueError, match='broken in step 1'):
    teacher.answer([prompt('broken')], 1)


def test_summaries_are_looked_at_before_and_counted_once():
  slow = Slow()
  teacher, prompts = AheadTeacher(slow), [prompt('a'), prompt('b')]
  early = teacher.look_at_summaries(prompts[:1], ['x'], 2)
  assert early.rollouts[0].text == 'x A 2' and early.calls == CallStats()
  rollouts, calls = teacher.summarise(prompts, ['x', 'y'], 2)
  assert [r.text for r in rollouts] == ['x A 2', 'y A 2']
  assert calls == CallStats(answers=2, requests=2)
  assert sorted(slow.asked) == [('summary', 'a'), ('summary', 'b')]
