"""Compression of candidates: what is asked, what fails, what replaces it."""

import dataclasses

import pytest

from tests.builders import question, rollout
from zppo_jax.algorithms.compression import (
  CompressionConfig,
  CompressionFailure,
  compress,
)
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.records import (
  CallStats,
  PromptKind,
  StopReason,
  Summaries,
  Verdict,
)

TRACE = rollout('4 h 7 7 i 2 A 7 2', Verdict.WRONG)  # 9 words and the end
EVERYTHING = CompressionConfig(cap=3, identity_below=0)


class FakeSummariser:
  """Answers every prompt with the same summary; keeps what it was asked."""

  def __init__(self, summary):
    self.summary, self.prompts = summary, []

  def __call__(self, prompts, traces):
    assert len(traces) == len(prompts)
    self.prompts += prompts
    return Summaries((self.summary,) * len(prompts), CallStats(len(prompts)))


def summary(text, stop=StopReason.END):
  return rollout(text, Verdict.WRONG, stop)


def run(traces, ask, config=EVERYTHING, max_prompt=99):
  return compress([(question(q), t) for q, t in traces], config, CHAT,
                  max_prompt, ask)


def one(trace, answered, **kwargs):
  """(text shown for one trace, failures) when the teacher answers so."""
  made = run([('q', trace)], FakeSummariser(answered), **kwargs)
  assert made.requested == 1 and made.unchanged == made.over_bound == 0
  assert list(made.texts) == [('q', trace.text)]
  return made.texts['q', trace.text], made.failures


def test_a_summary_with_the_answer_of_its_trace_is_shown():
  assert one(TRACE, summary('i 2 A 7 2')) == ('i 2 A 7 2', ())


def test_a_wrong_trace_keeps_its_own_wrong_answer():
  # The gold answer is 9: a summary that corrects the trace is thrown away.
  assert one(TRACE, summary('A 9')) == (
      'A 7 2', (CompressionFailure.OTHER_ANSWER,))


@pytest.mark.parametrize(('answered', 'reason'), [
    (summary('i 2 7'), CompressionFailure.NO_ANSWER),
    (summary(''), CompressionFailure.NO_ANSWER),
    (summary('A 7 3'), CompressionFailure.OTHER_ANSWER),
    (summary('A 7'), CompressionFailure.OTHER_ANSWER),
    (summary('i 2 A 7 2', StopReason.LENGTH), CompressionFailure.OVER_CAP),
    (summary('i 2 7', StopReason.LENGTH), CompressionFailure.OVER_CAP),
    (None, CompressionFailure.MISSING),
])
def test_a_failure_has_a_reason_and_shows_the_last_cap_tokens(
    answered, reason):
  assert one(TRACE, answered) == ('A 7 2', (reason,))


def test_a_trace_without_an_answer_cannot_be_compressed():
  trace = rollout('4 h 7 7 i 2', Verdict.NO_ANSWER)
  assert one(trace, summary('A 7 2')) == (
      '7 i 2', (CompressionFailure.OTHER_ANSWER,))
  assert one(trace, summary('7 i')) == (
      '7 i 2', (CompressionFailure.NO_ANSWER,))


def test_the_tail_counts_no_end_token_and_is_all_of_a_short_trace():
  cut = rollout(TRACE.text, Verdict.TRUNCATED, StopReason.LENGTH)
  for trace in (TRACE, cut):
    for cap, shown in ((1, '2'), (5, 'i 2 A 7 2'), (99, TRACE.text)):
      config = CompressionConfig(cap, 0)
      assert one(trace, summary(''), config=config)[0] == shown


def test_failures_are_counted_one_by_one():
  answers = {'1': summary('A 1'), '2': summary('h'), '3': summary('A 1'),
             '4': summary('h'), '5': summary('A 5', StopReason.LENGTH)}
  traces = [rollout(f'4 h {v} A {v}', Verdict.WRONG) for v in answers]
  made = run([('q', t) for t in traces], lambda *_: Summaries(
      tuple(answers.values()), CallStats()))
  assert made.failures == (
      CompressionFailure.NO_ANSWER, CompressionFailure.OTHER_ANSWER,
      CompressionFailure.NO_ANSWER, CompressionFailure.OVER_CAP)
  assert made.requested == 5
  assert [made.texts['q', t.text] for t in traces] == [
      'A 1', '2 A 2', '3 A 3', '4 A 4', '5 A 5']


def test_identity_below_a_length_in_tokens():
  assert len(TRACE.tokens) == 10
  ask = FakeSummariser(summary('i 2 A 7 2'))
  below = run([('q', TRACE)], ask, CompressionConfig(20, 11))
  assert below.texts == {('q', TRACE.text): TRACE.text}
  assert (below.unchanged, below.requested, ask.prompts) == (1, 0, [])
  at = run([('q', TRACE)], ask, CompressionConfig(20, 10))
  assert at.texts == {('q', TRACE.text): 'i 2 A 7 2'}
  assert (at.unchanged, at.requested, len(ask.prompts)) == (0, 1, 1)


def test_a_trace_too_long_for_the_teacher_is_cut_unasked_and_counted():
  ask = FakeSummariser(summary('i 2 A 7 2'))
  fits = len(CHAT.compression(TRACE.text).tokens)
  assert fits == 11  # nine words between <response> and <summary>
  made = run([('q', TRACE)], ask, max_prompt=fits - 1)
  assert made.texts == {('q', TRACE.text): 'A 7 2'}
  assert (made.over_bound, made.requested, made.failures) == (1, 0, ())
  assert not ask.prompts
  made = run([('q', TRACE)], ask, max_prompt=fits)
  assert (made.over_bound, made.requested) == (0, 1)


def test_equal_traces_of_a_question_are_counted_and_asked_once():
  ask = FakeSummariser(summary('A 7 2'))
  made = run([('q', TRACE), ('q', TRACE), ('r', TRACE), ('q', TRACE)], ask)
  assert made.requested == len(ask.prompts) == 2
  assert set(made.texts) == {('q', TRACE.text), ('r', TRACE.text)}
  kept = run([('q', TRACE)] * 3, ask, CompressionConfig(20, 20))
  assert kept.unchanged == 1
  over = run([('q', TRACE)] * 3, ask, max_prompt=1)
  assert over.over_bound == 1


def test_right_and_wrong_traces_get_the_same_prompt_and_a_name_of_their_own():
  right = dataclasses.replace(TRACE, verdict=Verdict.CORRECT)
  other = rollout('4 h 7 A 7')
  ask = FakeSummariser(summary('A 7 2'))
  run([('q', right), ('q', other), ('r', TRACE)], ask)
  first, second, third = ask.prompts
  assert first.tokens == third.tokens != second.tokens
  assert CHAT.codec.decode(first.tokens) == (
      f'<response> {TRACE.text} <summary>')
  assert {p.kind for p in ask.prompts} == {PromptKind.PLAIN}
  # Draws are keyed by the question's id: no two traces may share one.
  assert len({p.question.id for p in ask.prompts}) == 3
  assert all(p.question.id != 'q' for p in ask.prompts)
  again = FakeSummariser(summary('A 7 2'))
  run([('r', TRACE)], again)  # nor may it depend on who else is asked
  assert again.prompts == [third]


def test_nothing_to_compress():
  made = run([], FakeSummariser(None))
  assert made.texts == {} and made.failures == ()
  assert made.requested == made.unchanged == made.over_bound == 0


def test_a_teacher_that_loses_an_answer_is_an_error():
  with pytest.raises(ValueError):
    run([('q', TRACE)], lambda *_: Summaries((), CallStats()))


@pytest.mark.parametrize(('fields', 'message'), [
    (dict(cap=0), 'compression.cap is 0'),
    (dict(cap=-1), 'compression.cap is -1'),
    (dict(cap=8, identity_below=9), 'identity_below is 9.*cap is 8'),
    (dict(cap=8, identity_below=-1), 'identity_below is -1'),
])
def test_bad_configs_name_field_and_value(fields, message):
  with pytest.raises(ValueError, match=message):
    CompressionConfig(**fields)
  CompressionConfig(cap=8, identity_below=8)
