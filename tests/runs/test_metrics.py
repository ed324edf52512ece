"""A step's numbers, by hand."""

import numpy as np
import pytest

from tests.builders import group, question, rollout, wrong
from zppo_jax.algorithms import zppo
from zppo_jax.algorithms.credit.scores import Returned, Scored
from zppo_jax.algorithms.lessons import Drawn, Lessons
from zppo_jax.algorithms.replay import Entry, ReplayBuffer, Settlement
from zppo_jax.learner.update import no_sums
from zppo_jax.records import (
  CallStats,
  Group,
  Prompt,
  PromptKind,
  StopReason,
  Verdict,
)
from zppo_jax.runs import metrics
from zppo_jax.train import guards


def test_lengths_and_stop_reasons():
  cut = rollout('4 h 9 A 9', Verdict.TRUNCATED, StopReason.LENGTH)
  plain = Group(group('q', 1, 1).prompt, (rollout(), cut, cut, cut))
  found = metrics.of_groups([plain, group('r', 2, 4, PromptKind.BCQ)])
  assert found['stop/length'] == 3 / 8 and found['stop/end'] == 5 / 8
  assert found['length/plain'] == (6 + 3 * 5) / 4 and found['length/bcq'] == 6
  assert found['rollouts/length_max'] == 6
  assert found['accuracy/plain'] == 0.25 and found['accuracy/bcq'] == 0.5


def test_advantages():
  found = metrics.of_advantages(np.array([[2.0, -1, 0], [0, 0, 0]]))
  assert found == {'advantage/positive': 1 / 6, 'advantage/abs_max': 2.0}


def test_visits_of_those_that_left_and_those_that_stay():
  entries = [Entry(question(str(n)), 0, 0.0, n) for n in range(5)]
  buffer = ReplayBuffer(9, {e.question.id: e for e in entries[3:]})
  found = metrics.of_buffer(buffer, Settlement((), (entries[1],),
                                               tuple(entries[:3])))
  assert found['buffer/graduated_visits_mean'] == 1
  assert found['buffer/evicted_visits_mean'] == 1
  assert found['buffer/visits_mean'] == 3.5
  assert found['buffer/visits_max'] == 4
  empty = metrics.of_buffer(ReplayBuffer(9), Settlement((), (), ()))
  assert 'buffer/graduated_visits_mean' not in empty
  assert empty['buffer/visits_max'] == 0


def test_scores_of_tokens_without_scores_of_the_policy():
  """Rollouts draw each token at -1. The teacher has -1.5 for the right one, -2
  for one wrong and -.5 for the other: d is -.5, -1 and .5, so that one of two
  pairs is in order and the margin is -.5 - (-.25)."""
  of = group('q', 1, 3)
  lessons = Lessons('student', [of])
  teacher = {(0, g): np.full(len(r.tokens), x) for g, (r, x) in enumerate(
      zip(of.rollouts, (-1.5, -2., -.5), strict=True))}
  found = metrics.of_scores(lessons, Scored(targets={}, sampled=teacher))
  assert found['distil/order_consistency'] == .5
  assert found['distil/margin'] == pytest.approx(-.25)
  assert found['distil/log_ratio'] == pytest.approx(np.mean(np.concatenate(
      [*teacher.values()])) + 1)
  assert found['distil/copied'] == found['distil/beyond_10'] == 0
  assert metrics.of_scores(lessons, Scored(targets={})) == {}
  # Who drew under a context did not draw behind this prompt.
  carried = Group(Prompt(question('q'), PromptKind.CARRIED, (1,)), of.rollouts)
  assert metrics.of_scores(Lessons('student', [carried]), Scored(
      targets={}, sampled=teacher)) == {'distil/copied': 0}


def test_the_order_of_a_teacher_inside_the_update():
  """Returns of question a are -1 (right), -3 and 0 (wrong), of b in the next
  update 3 (right) and 1; a number that the update does not tell is left out."""
  of = lambda number, question, right, tokens=2: Returned(
      number, question, right, tokens)
  sums = lambda *x: no_sums().replace(total={'distil/rollouts': np.array(x)})
  found = metrics.of_order(
      [[of(0, 'a', True), of(1, 'a', False), of(2, 'a', False, 1),
        of(3, 'a', False)], [of(0, 'b', True, 1), of(1, 'b', False, 1)]],
      [sums(-2., -6., 0.), sums(3., 1.)])
  assert found == {'distil/order_consistency': 2 / 3,
                   'distil/margin': (.5 + 2) / 2}
  assert metrics.of_order([[]], [no_sums()]) == {}


def test_numbers_of_tenths():
  """Tenth 0 has 2 and 2 tokens of two updates, tenth 9 has 1, others none."""
  tenth = lambda *pairs: np.array([dict(pairs).get(i, 0.) for i in range(10)])
  sums = [no_sums().replace(tokens=4., total={
      'distil/taught': 3., 'distil/divergence': 6., 'distil/tenths': of,
      'distil/divergence_depth': depth})
      for of, depth in ((tenth((0, 2.), (9, 1.)), tenth((0, 5.), (9, 1.))),
                        (tenth((0, 2.)), tenth((0, 3.))))]
  assert metrics.of_distillation(sums) == {
      'distil/divergence': 2., 'distil/divergence_depth_0': 2.,
      'distil/divergence_depth_9': 1., 'distil/taught': .75}


def test_the_lift_of_drawn_rollouts():
  """3 of 4 right under a context, 1 of 4 plain; the other question was not
  asked plain."""
  drawn = Drawn(groups=[group('q', 3, 4), group('r', 4, 4)], untold={},
                copies=0, over_long=0)
  lessons = Lessons('context', [], drawn=drawn)
  assert metrics.of_drawn(lessons, [group('q', 1, 4)])['drawn/lift'] == .5
  assert 'drawn/lift' not in metrics.of_drawn(lessons)


def test_a_probe_counts_who_follows_the_wrong_candidate():
  """Two questions; the wrong candidates answered 3 and nothing."""
  prompt = Prompt(question('q'), PromptKind.BCQ, (1, 2, 3))
  silent = rollout('4 h', Verdict.NO_ANSWER)
  groups = [Group(prompt, (rollout(), wrong(3), wrong(3), wrong(4))),
            Group(prompt, (rollout(), rollout(), rollout(), silent))]
  probe = zppo.Probe((prompt, prompt), ('3', ''), (0.5, 0.75), CallStats())
  found = metrics.of_probe(probe, groups)
  assert found['probe/questions'] == 2
  assert found['probe/bcq'] == 0.5 and found['probe/plain'] == 0.625
  assert found['probe/follows_wrong'] == 2 / 8
  assert found['tokens/probe_prompt'] == 6
  assert metrics.of_probe(zppo.Probe((), (), (), CallStats()), []) == {
      'probe/questions': 0, 'tokens/probe_prompt': 0,
      'tokens/probe_generated': 0}


def test_what_has_no_verdict_counts_for_nothing():
  """Accuracy, triviality and candidates are of the graded; a share stops."""
  lost = rollout(verdict=Verdict.TIMEOUT)
  group = Group(Prompt(question(), PromptKind.PLAIN, (1,)),
                (rollout(), lost, rollout('4 h', Verdict.WRONG), lost))
  assert group.accuracy == 0.5 and not group.trivial
  assert len(group.wrong) == 1
  dark = Group(group.prompt, (lost, lost))
  assert dark.trivial and not dark.accuracy < 1 and not dark.accuracy >= 0
  row = metrics.of_groups([group, dark])
  assert row['accuracy/plain'] == 0.5
  assert row['verdict/ungraded'] == pytest.approx(4 / 6)
  assert guards.ungraded(row, 0.7) is None
  assert 'timeout 0.667' in guards.ungraded(row, 0.2)


def test_clip_shares_are_of_all_response_tokens():
  """10 of 40 tokens were trained on, in two updates: rows without an
  advantage are left out, and their tokens count."""
  sums = [no_sums().replace(loss=3.0, tokens=6.0, total={
              'clip_low': 2.0, 'clip_high': 1.0, 'entropy': 12.0}),
          no_sums().replace(loss=1.0, tokens=4.0, total={
              'clip_low': 2.0, 'clip_dual': 4.0, 'entropy': 8.0})]
  found = metrics.of_updates(sums, [30, 10], [1.0, 1.0])
  assert found['update/clip_low'] == 4 / 40
  assert found['update/clip_high'] == 1 / 40
  assert found['update/clip_dual'] == 4 / 40
  assert found['update/loss'] == 4 / 40
  assert found['update/trained_tokens'] == 10 / 40
  assert found['update/entropy'] == 20 / 10  # of what was trained
