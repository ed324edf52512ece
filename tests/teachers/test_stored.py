"""Stored answers: drawn by name, graded anew, missing where there are none."""

import dataclasses

import pytest

from tests.builders import RIGHT, question
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import Cause, Prompt, PromptKind, Verdict
from zppo_jax.tasks import TASKS
from zppo_jax.teachers.stored import StoredTeacher

TEACHER = StoredTeacher(CHAT, TASKS['micro'].grader, 2, seed=0)


def prompt(name, *responses):
  asked = dataclasses.replace(question(name), responses=responses)
  return Prompt(asked, PromptKind.PLAIN, CHAT.plain(asked.text).tokens)


def test_answers_are_graded_and_missing_ones_counted():
  groups, asked = TEACHER.answer(
      [prompt('a', RIGHT, '4 h 1 A 1', 'l'), prompt('b', RIGHT), prompt('c')],
      0)
  assert [len(g.rollouts) for g in groups] == [2, 1, 0]
  (one,) = groups[1].rollouts
  assert (one.text, one.verdict, one.answer) == (RIGHT, Verdict.CORRECT, '9')
  assert one.tokens == CHAT.response(RIGHT) and one.logps == ()
  assert (asked.answers, asked.requests) == (6, 0)
  assert asked.failed == {Cause.MISSING: 3}


def test_draws_are_a_function_of_question_and_step():
  asked = prompt('a', *(f'A {i}' for i in range(10)))
  drawn = lambda step, p=asked: tuple(
      r.answer for r in TEACHER.answer([p], step).groups[0].rollouts)
  assert [drawn(s) for s in range(9)] == [drawn(s) for s in range(9)]
  assert len({drawn(s) for s in range(20)}) > 10
  others = [prompt(f'q{i}', *asked.question.responses) for i in range(20)]
  assert len({drawn(0, p) for p in others}) > 10


def test_it_writes_no_summaries_and_tells_no_log_probs():
  able = TEACHER.capabilities
  assert able.max_compression_prompt == 0 and not able.scores
  assert able.repeatable and able.pictures and able.clips
  with pytest.raises(ValueError, match="teacher.kind is 'stored'"):
    TEACHER.score([])
