"""Neighbours of the seeds as rows: their terms, signals, weights and routes.

Each row is the fields of a methods.Method; docs/neighbours.md has the papers,
their formulas, and where we differ. d = log p_T - log p_S of a sampled token.
A number behind a name is its arXiv id. What a row has `pinned` is what it is
made of; what is `usual` its paper has, and a config may say otherwise.

| name | source | what a token gets |
|---|---|---|
| opd | on-policy distillation (Tinker) | policy gradient with d |
| exopd | ExOPD, 2602.12125 | d + 0.25 (log p_T - log p_base) |
| reopold | REOPOLD, 2603.11137 | max(d, ln 0.17 / 0.83) |
| rg_opd | RG-OPD | d where it agrees with the verdict |
| fast_opd | Fast-OPD, 2602.15260 | reverse KL on the first 2,048 tokens |
| eopd | EOPD, 2603.07079 | d, and forward KL where H_T > 0.8 |
| revisit_opd | Revisit-OPD, 2603.25562 | reverse KL on T's 32, renormalised |
| veto | Veto, 2601.07155 | reverse KL to p_T p_S^beta, beta 0.8 to 0 |
| uni_opd | Uni-OPD, 2605.03677 | d with margin 0.4, balance 1, |d| < 10 |
| scope | SCOPE, 2604.10688 | right: -log p_S; wrong: d; by perplexity |
| trrd | RLAD, 2602.22495 | the verdict, its ratio against p_T^.5 p_old^.5 |
| stable_opd | Stable-OPD, 2604.08527 | d; stored answers: 0.1 x -log p_S |
| idft | IDFT, 2602.12222 | -log p_S of stored answers, times p_S^gamma |
| forget_sftrl | Forget-SFTRL | -log p_S of stored answers where H_S is high |
| essd | essd, 2604.01193 | -log p_S of hot samples, at temperature 1 |
| iterative_sft | RbD, 2510.18874 | the same of right rollouts |
| npo | NPO, 2604.20733 | the verdict; right answers of T replace wrong ones |
| kdrl | KDRL | the verdict, and the estimator k2 |
| fire_opd | FiRe-OPD | d where T is sure and S is not; best 80 % by p_T |
| tip | TIP, 2604.14084 | d, by the soft-OR of S's entropy and |d| |
| tropd | TrOPD, 2606.01249 | d > -2: d; else forward KL on the teacher's ids |
| iw_opd | IW-OPD, 2606.22600 | d, less behind a drifted prefix |
| paced | PACED | a divergence, by p (1 - p) of the group's accuracy p |

Rows whose teacher reads a context (privileged/contexts.py). By their papers it
is a copy of the student (teacher.kind 'own'):

| name | source | context | what a token gets |
|---|---|---|---|
| ptd_po | PTD-PO, 2606.07000 | hint | the verdict, and JSD on wrong rollouts |
| ptd_as_released | its released code | hint | the same with a gradient of 0 |
| rlsd | RLSD, 2604.03128 | reference | the verdict, scaled by exp(+-d) |
| srpo | SRPO, 2604.02288 | sibling | wrong beside right: JSD; else verdict |
| sdpo | SDPO, 2601.20802 | sibling | JSD on the student's 100 and the rest |
| sdft | SDFT, 2601.19897 | demonstration | forward KL |
| opsd | OPSD, 2601.18734 | reference | JSD |
| opsdc | OPSDC, 2603.05433 | concise | reverse KL |
| opcd | OPCD, 2602.12275 | document | reverse KL on S's 100 and the rest |
| opsdl | OPSDL, 2604.17535 | slice | reverse KL |

Rows in which the model itself draws rollouts while it reads a context
(algorithms/lessons.py). y: the student's own rollouts; z: those under the
context, trained behind the plain question unless another place is named:

| name | source | context | what a token gets |
|---|---|---|---|
| hdpo | HDPO, 2603.23871 | reference | y: the verdict; right z: JSD |
| star | STaR, 2203.14465 | answer | right y and z: -log p_S |
| gates | GATES, 2602.20574 | document | y: clip(d) / 10; agreed z: -log p_S |
| pi_distill | 2602.04942 | demonstration | z in context: the verdict; z: KL |
| hinted | 2602.12222 | reference | right z: -log p_S, times p_S^gamma |

In hdpo and star, z are of questions without a right y.

ZPPO and GRPO + replay with a divergence on their plain rollouts, which are
combinations of our own (docs/study.md):

| name | of | what a token gets |
|---|---|---|
| zppo_distill | ZPPO | the verdict; behind the plain question a divergence |
| grpo_replay_distill | GRPO + replay | the same |
"""

import functools
from collections.abc import Mapping
from typing import Any

from zppo_jax.algorithms import distillation
from zppo_jax.objectives import surrogates

_SCORES = frozenset({'teacher_scores'})


def _signal(signal: str, **fields: Any) -> dict[str, Any]:
  """A row whose policy term is a signal of the teacher."""
  credit = {'signal': signal, **fields.pop('credit', {})}
  return dict(loss=surrogates.make_surrogate, surrogate=True, old_logps=True,
              terms=('policy',), needs=_SCORES, credit=credit, **fields)


def _both(**fields: Any) -> dict[str, Any]:
  """A row with the verdict's advantage, and a divergence somewhere."""
  return dict(loss=distillation.make_surrogate_and_divergence, surrogate=True,
              old_logps=True, compares=True, terms=('policy', 'divergence'),
              **fields)


def _divergence(**fields: Any) -> dict[str, Any]:
  """A row with a divergence on some tokens."""
  return dict(loss=distillation.make_divergence, compares=True,
              terms=('divergence',), **fields)


def _likelihood(**fields: Any) -> dict[str, Any]:
  """A row of negative log-likelihood on the policy's own rollouts. It is taken
  at temperature 1: at the sampler's, its expected gradient over all samples
  would be 0, because the mean of a score is."""
  return dict(loss=distillation.make_negative_log_likelihood,
              terms=('divergence',),
              pinned={'distil.student_temperature': 1.0}, **fields)


_REVERSE = {'distil.divergence': 'reverse'}
_JSD = {'distil.divergence': 'jensen_shannon'}
_KEPT = {'distil.support': 'student', 'distil.rest': 'bucket'}


def _reads(context: str) -> dict[str, str]:
  return {'distil.context': context}


# 'wrong_below(1)' is PTD-PO's gate at its default: any failure in the group.
_PTD = dict(credit={'route': 'wrong_below(1)'})
_OF_PTD = {**_reads('hint'), 'distil.coefficient': 0.05}
# A copy of the student that follows it, where the teacher is of kind 'own'.
_FOLLOWING = {'teacher.own.weights': 'ema'}
ROWS: Mapping[str, Mapping[str, Any]] = {
    'opd': _signal('log_ratio'),
    'exopd': _signal('extrapolated(1.25)', credit={'base': 'initial'}),
    'reopold': _signal('floored(0.17)'),
    'rg_opd': _signal('gated(0)'),
    'uni_opd': _signal('log_ratio', usual={
        'distil.reducer': 'per_rollout'}, credit={
        'margin': 'spread(0.4)', 'balance': '1',
        'policy_weights': 'bounded(10)'}),
    'stable_opd': _signal('log_ratio', credit={'gold': '0.1'}, reference={
        'kind': 'k2', 'coefficient': 0.01}),
    'trrd': dict(loss=distillation.make_anchored_surrogate, old_logps=True,
                 terms=('policy',), needs=_SCORES),
    'fast_opd': _divergence(pinned=_REVERSE, credit={'weights': 'first(2048)'}),
    'revisit_opd': _divergence(pinned={
        **_REVERSE, 'distil.support': 'teacher',
        'distil.rest': 'renormalised'}, usual={'distil.top': 32}),
    'veto': _divergence(pinned=_REVERSE, usual={
        'distil.target': 'geometric(linear:0.8:0)'}),
    'eopd': dict(_both(pinned={
        'distil.divergence': 'forward', 'distil.support': 'teacher',
        'distil.rest': 'dropped'}, usual={'distil.top': 16}, credit={
            'signal': 'log_ratio', 'weights': 'teacher_entropy(0.8)'})),
    'scope': dict(
        loss=distillation.make_surrogate_and_likelihood, surrogate=True,
        old_logps=True, needs=_SCORES, terms=('policy', 'divergence'), credit={
            'signal': 'log_ratio', 'policy_route': 'wrong',
            'policy_rollout_weights': 'ppl_teacher(1)', 'route': 'correct',
            'rollout_weights': 'ppl_student(1)'}),
    'ptd_po': _both(usual={**_JSD, **_KEPT, **_OF_PTD}, **_PTD),
    'ptd_as_released': {
        **_both(pinned={**_JSD, **_KEPT}, usual=_OF_PTD, **_PTD),
        'loss': distillation.make_surrogate_and_released_ptd},
    'rlsd': _signal('verdict_scaled(linear:0.5:0, 0.2)',
                    usual=_reads('reference')),
    'srpo': _both(usual={**_JSD, **_KEPT, **_reads('sibling'), **_FOLLOWING},
                  credit={'policy_route': 'not wrong_with_sibling',
                          'route': 'wrong_with_sibling'}),
    'sdpo': _divergence(usual={**_JSD, **_KEPT, **_reads('sibling'),
                               **_FOLLOWING}),
    'sdft': _divergence(usual={'distil.divergence': 'forward', **_FOLLOWING,
                               **_reads('demonstration')}),
    'opsd': _divergence(usual={**_JSD, **_reads('reference')}),
    'opsdc': _divergence(usual={**_REVERSE, **_reads('concise')}),
    'opcd': _divergence(usual={**_REVERSE, **_KEPT, **_reads('document')}),
    'opsdl': _divergence(usual={**_REVERSE, **_reads('slice')}),
    'idft': dict(loss=distillation.make_negative_log_likelihood,
                 states='stored', terms=('divergence',),
                 credit={'weights': 'in_distribution'}),
    'npo': dict(loss=distillation.make_guided_surrogate, states='guided',
                old_logps=True, terms=('policy',), needs=_SCORES,
                pinned=_reads('same')),
    'kdrl': dict(
        loss=functools.partial(distillation.make_surrogate_and_estimate,
                               kind='k2'),
        surrogate=True, old_logps=True, needs=_SCORES,
        terms=('policy', 'divergence'), usual={'distil.coefficient': 0.002}),
    'fire_opd': _signal('log_ratio', credit={
        'policy_weights': 'entropy_product',
        'policy_rollout_weights': 'keep_best(0.8)'}),
    'tip': _signal('log_ratio', credit={'policy_weights': 'soft_or(1, 1)'}),
    'tropd': _both(pinned={
        'distil.divergence': 'forward', 'distil.support': 'teacher'}, credit={
            'signal': 'log_ratio', 'policy_weights': 'trusted(2)',
            'weights': 'outlier(2)'}),
    'iw_opd': _signal('log_ratio', credit={
        'policy_weights': 'prefix_drift(0.5)'}),
    'paced': _divergence(credit={'rollout_weights': 'accuracy(1, 1)'}),
    'forget_sftrl': dict(loss=distillation.make_negative_log_likelihood,
                         states='stored', terms=('divergence',),
                         credit={'weights': 'entropy_top(0.2)'}),
    'essd': _likelihood(),
    'iterative_sft': _likelihood(credit={'route': 'correct'}),
    'hdpo': _both(states='joint', pinned=_JSD, usual={
        **_reads('reference'), 'distil.asked_of': 'cliff',
        'distil.support': 'teacher', 'distil.top': 64}, credit={
            'policy_route': 'student', 'route': 'carried & correct'}),
    'star': dict(loss=distillation.make_negative_log_likelihood,
                 states='joint', terms=('divergence',), usual={
                     **_reads('answer'), 'distil.asked_of': 'cliff'},
                 credit={'route': 'correct'}),
    'gates': dict(
        loss=distillation.make_surrogate_and_likelihood, surrogate=True,
        old_logps=True, states='joint', needs=_SCORES,
        terms=('policy', 'divergence'), usual=_reads('document'), credit={
            'signal': 'clipped(5)', 'coefficient': '0.1',
            'policy_route': 'student',
            'route': 'carried & consensus(0.5)'}),
    'pi_distill': dict(
        loss=distillation.make_joint, surrogate=True, old_logps=True,
        states='context', compares=True, terms=('policy', 'divergence'), usual={
            **_reads('demonstration'), 'distil.trained_under': 'both',
            'distil.divergence': 'forward', 'distil.support': 'student'},
        credit={'policy_route': 'privileged', 'route': 'carried'}),
    'hinted': dict(loss=distillation.make_negative_log_likelihood,
                   states='context', terms=('divergence',),
                   usual=_reads('reference'),
                   credit={'route': 'carried & correct',
                           'weights': 'in_distribution'}),
    **{name: dict(_both(credit={'route': 'plain'}), replay=True,
                  reformulations=reformulations)
       for name, reformulations in (
           ('zppo_distill', ('bcq', 'ncq')), ('grpo_replay_distill', ()))},
}
