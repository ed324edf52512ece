"""Graded rewards: components, weights, and what counts as right."""

import math

import pytest

from tests import builders
from tests.processes import as_processes
from zppo_jax.records import Grader, Group, Question, StopReason, Verdict
from zppo_jax.rollout import collect
from zppo_jax.verdicts import grading, rewards
from zppo_jax.verdicts.rewards import COMPONENTS, Response, RewardConfig

ASKED = Question('q', 'What?', '9', 'hard')
END, CUT = StopReason.END, StopReason.LENGTH


def response(text='', right=False, length=50, limit=100, truncated=False,
             **fields) -> Response:
  return Response(text=text, answer='', question=ASKED, right=right, score=0.25,
                  length=length, limit=limit, truncated=truncated, **fields)


def value(name, *of, **fields) -> float:
  return COMPONENTS[name].function(response(*of, **fields))


@pytest.mark.parametrize('name, text, want', [
    ('boxed', r'so \boxed{5}', 1), ('boxed', r'\boxed{4} or \boxed{5}', 0),
    ('boxed', r'\boxed{5', 0), ('boxed', r'\boxed{}', 0), ('boxed', '5', 0),
    ('think', '<think>a</think> b', 1), ('think', 'a</think>b', 1),
    ('think', '<think></think>b', 1), ('think', '<think>a</think> ', 0),
    ('think', '<think>a', 0), ('think', 'b', 0),
    ('think', '<think>a</think>b</think>c', 0),
    ('think', '<think>a<think>b</think>c', 0),
    ('think', 'x <think>a</think>b', 0),
    ('think', '<think>a</think>b<think>', 0),
    ('answer_tags', '<think>a</think>\n<answer>5</answer>\n', 1),
    ('answer_tags', '<think>a</think><answer> </answer>', 0),
    ('answer_tags', '<think>a</think><answer>5</answer> so', 0),
    ('answer_tags', '<think>a</think><answer>5</answer><answer>6</answer>', 0),
    ('answer_tags', '<answer>5</answer>', 0)])
def test_a_format_is_kept_or_not(name, text, want):
  assert value(name, text) == want


@pytest.mark.parametrize('length, want', [
    (10, 0), (80, 0), (90, -0.5), (100, -1), (120, -1)])
def test_soft_overlong_is_daps_equation_13(length, want):
  """R_length of DAPO with L_max = 100 and L_cache = 20, plus 1."""
  assert value('soft_overlong', length=length, limit=100,
               overlong=0.2) == pytest.approx(1 + want)


@pytest.mark.parametrize('right, length, truncated', [
    (True, 0, False), (True, 30, False), (True, 100, False),
    (False, 0, False), (False, 30, False), (False, 100, True)])
def test_cosines_sum_to_the_reward_of_yeo_et_al(right, length, truncated):
  """CosFn with r_0^c = 2, r_L^c = 1, r_0^w = -10, r_L^w = 0, r_e = -10."""
  def cos_fn(t, low, high):
    return high + 0.5 * (low - high) * (1 + math.cos(t * math.pi / 100))
  want = (-10 if truncated else cos_fn(length, 2, 1) if right
          else cos_fn(length, -10, 0))
  of = dict(right=right, length=length, limit=100, truncated=truncated)
  got = (-10 + 11 * value('right', **of) + 1 * value('cosine_right', **of)
         + 10 * value('cosine_wrong', **of))
  assert got == pytest.approx(want)


def test_linear_length_is_kimis_within_a_group():
  """lambda = 0.5 - (l - min) / (max - min), and min(0, lambda) if wrong."""
  of = COMPONENTS['linear_length'].function
  rows = [response(right=right, length=length) for right, length in (
      (True, 10), (True, 20), (True, 50), (False, 10), (False, 40))]
  assert of(rows) == pytest.approx([1, 0.75, 0, 0.5, 0.25])
  assert of(rows[:1] + [response(length=10)]) == [0.5, 0.5]


def scored(config, grade=lambda answer, question: 0.6, **own) -> Grader:
  return rewards.with_rewards(
      Grader(str.strip, grade, threshold=0.5, rewards=own),
      RewardConfig(**config), limit=10)


def graded(grader, text='9', stop=END, length=5):
  return grading.reward_all([(text, stop, ASKED)], [length], grader)[0]


def test_without_weights_nothing_changes():
  grader = scored(dict(weights={}))
  assert grader.scoring is None
  assert graded(grader)[:3] == (Verdict.CORRECT, '9', ())


@pytest.mark.parametrize('config, want', [
    (dict(threshold=0.7), Verdict.WRONG),
    (dict(threshold=0.6), Verdict.CORRECT),
    (dict(decides='unit', threshold=0.5), Verdict.WRONG),
    (dict(decides='unit', threshold=0.2), Verdict.CORRECT),
    # (2 x 0.6 + 1 x 0.25) / 3 = 0.483...; boxed does not decide
    (dict(weights=dict(score=2, unit=1, boxed=9), decides='total',
          threshold=0.48), Verdict.CORRECT),
    (dict(weights=dict(score=2, unit=1, boxed=9), decides='total',
          threshold=0.49), Verdict.WRONG),
])
def test_a_threshold_says_what_is_right(config, want):
  grader = scored({'weights': {}, **config}, unit=lambda response: 0.25)
  assert graded(grader).verdict == want
  assert graded(grader, stop=CUT).verdict == Verdict.TRUNCATED
  assert graded(grader, text=' ').verdict == Verdict.NO_ANSWER


def test_components_follow_the_verdict_that_was_decided():
  """The task's own read the grader's verdict; those of the table the new
  one."""
  grader = scored(dict(weights=dict(right=1, score=1, seen=1), decides='seen',
                       threshold=1.0),
                  seen=lambda response: 0.5 * response.right)
  assert graded(grader)[:3] == (Verdict.WRONG, '9', (
      ('right', 0.0), ('score', 0.6), ('seen', 0.5)))


def test_a_response_without_a_verdict_has_no_reward():
  """It has no components, and the reward 0 that a mask leaves out."""
  grader = scored(dict(weights=dict(boxed=1.0)))
  group = builders.group('q', right=1, size=2)
  crashed = builders.rollout(verdict=Verdict.CRASH)
  group = Group(group.prompt, (*group.rollouts, crashed))
  assert grader.scoring.of_group(group)[2] == {}
  assert grader.scoring.totals(group)[2] == 0


def test_totals_are_weighted_sums_with_those_of_the_group():
  grader = scored(dict(weights=dict(linear_length=-2.0, score=1.0)))
  rows = collect.from_texts([ASKED] * 1, [[('9', END), ('9 9 9', END)]],
                            builders.CHAT, grader)[0]
  group = Group(builders.group('q', right=1).prompt, rows)
  values = grader.scoring.of_group(group)
  assert [list(of) for of in values] == [
      ['linear_length', 'score', 'total']
      ] * 2
  assert [of['total'] for of in values] == pytest.approx([0.6 - 2, 0.6])
  assert grader.scoring.totals(group) == [of['total'] for of in values]


@pytest.mark.parametrize('config, own, error', [
    (dict(weights=dict(units=1.0)), {}, 'unknown reward.weights .units.; '
     r'known: right, score, .* \(of the task: none\)'),
    (dict(weights=dict(unit=1.0, un=1.0)), dict(unit=len),
     r'known: .*unit \(of the task: unit\)'),
    (dict(weights=dict(score=math.nan)), {}, 'reward.weights.score is nan'),
    (dict(weights=dict(score=0.0)), {}, 'one of them must not be 0'),
    (dict(weights={}, threshold=1.5), {}, 'reward.threshold is 1.5'),
    (dict(weights={}, overlong=0), {}, 'reward.overlong is 0'),
    (dict(weights={}, decides='boxed', threshold=0.5), {},
     'unknown reward.decides .boxed.; known: score, total'),
    (dict(weights={}, decides='total'), {}, 'it must be above 0'),
    (dict(weights=dict(boxed=1.0), decides='total', threshold=0.5), {},
     'no weight above 0 is one of'),
    (dict(weights=dict(score=1.0)), dict(think=len), "'think' has a name that"),
])
def test_what_does_not_fit_is_refused(config, own, error):
  with pytest.raises((KeyError, ValueError), match=error):
    scored(config, **own)


@pytest.mark.parametrize('wrong', [1.5, -0.1, math.nan, 'much', None])
def test_a_component_beyond_its_range_is_named(wrong):
  grader = scored(dict(weights=dict(unit=1.0)), unit=lambda response: wrong)
  with pytest.raises(ValueError, match="component 'unit' of question 'q' is"):
    graded(grader)


def test_processes_share_the_components():
  """Each is computed once, by one process, and all know it."""
  calls = []
  grader = scored(dict(weights=dict(unit=1.0)),
                  unit=lambda response: calls.append(1) or 0.5)
  rows = [(str(i), END, ASKED) for i in range(4)]
  alone = grading.reward_all(rows, [1] * 4, grader)
  calls.clear()
  found = as_processes(
      2, lambda number: grading.reward_all(rows, [1] * 4, grader))
  assert found == [alone, alone] and len(calls) == 4
