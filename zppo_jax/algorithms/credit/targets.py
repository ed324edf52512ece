"""What the two terms of a loss read of each token, from stored scores.

Everything is decided for a whole mini-batch before micro-batches exist, so that
their number, the layout and the mesh change nothing.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from zppo_jax.algorithms.credit.settings import Balance, Credit, Term, at
from zppo_jax.algorithms.targets import (
  REFERENCE_WEIGHT,
  TargetContext,
  Targets,
  draws,
  sampler_logps,
)
from zppo_jax.objectives.credit import (
  balance,
  margins,
  rollout_weights,
  signals,
  token_weights,
)
from zppo_jax.objectives.credit.evidence import Evidence
from zppo_jax.randomness import Purpose, question_rng
from zppo_jax.records import Group, PromptKind, Scores, TokenSequence

Place = tuple[int, int]  # (group, rollout)
# (sequences, ids of each to gather, or ()) -> their scores.
Score = Callable[[Sequence[TokenSequence], Sequence[np.ndarray]], Scores]
# A field of Evidence -> the name of the stored score that fills it.
SCORES = {'logps': 'own_logp', 'entropies': 'own_entropy',
          'teacher_logps': 'teacher_logp',
          'teacher_entropies': 'teacher_entropy', 'base_logps': 'base_logp'}
# Scores that are there to make targets from and that no loss reads.
UNREAD = ('own_logp', 'own_entropy', 'base_logp', 'own_kept_logps')


def reverse_of_kept(own_RK: np.ndarray, teacher_RK: np.ndarray) -> np.ndarray:
  """KL(S || T) of each position on K kept ids and one bucket of the rest.

  Args:
    own_RK, teacher_RK: log-probs of the same ids, nats.

  Returns:
    float64 [R] nats, at most the divergence over the whole vocabulary.
  """
  def with_rest(logps: np.ndarray) -> np.ndarray:
    logps = np.asarray(logps, np.float64)
    rest = np.log(np.maximum(1 - np.exp(logps).sum(axis=-1), 1e-8))
    return np.concatenate([logps, rest[:, None]], axis=-1)
  s, t = with_rest(own_RK), with_rest(teacher_RK)
  return (np.exp(s) * (s - t)).sum(axis=-1)


def routed(term: Term, groups: Sequence[Group], seed: int, step: int,
           done: int) -> dict[Place, bool]:
  """Whether each rollout that has a token is on a term's route."""
  out = {}
  for p, group in enumerate(groups):
    taken_G = term.route(group, draws(group, seed, step, Purpose.ROUTES), done)
    for g, rollout in enumerate(group.rollouts):
      if rollout.tokens:
        out[p, g] = bool(taken_G[g])
  return out


def taught_places(credit: Credit, groups: Sequence[Group], seed: int, step: int,
                  done: int) -> set[Place]:
  """The rollouts for which some term reads the teacher: the others need no pass
  of it."""
  places: set[Place] = set()
  policy = credit.policy if credit.asks_teacher else None
  for term in (policy, credit.divergence):
    if term:
      places |= {place for place, taken in routed(
          term, groups, seed, step, done).items() if taken}
  return places


def read_places(credit: Credit, groups: Sequence[Group], seed: int, step: int,
                done: int) -> list[Place]:
  """The rollouts on some term's route, in order."""
  return sorted({place for term in (credit.policy, credit.divergence) if term
                 for place, taken in routed(
                     term, groups, seed, step, done).items() if taken})


def with_own(targets: Targets, groups: Sequence[Group],
             places: Sequence[Place], own: Score | None,
             base: Score | None) -> Targets:
  """Stored scores with those of the student and of a base model.

  Args:
    targets: (group, rollout) -> the teacher's scores.
    groups: the groups.
    places: the rollouts that are scored.
    own: (sequences, their kept ids or ()) -> Scores of the student before the
      step's updates; None for none.
    base: the same of the base model.
  """
  out = {place: dict(of) for place, of in targets.items()}
  if not places:
    return out
  sequences = [TokenSequence(
      prompt=groups[p].prompt.tokens, media=groups[p].prompt.media,
      response=groups[p].rollouts[g].tokens) for p, g in places]
  kept = [targets.get(place, {}).get('kept_ids') for place in places]
  if own is not None:
    ids = [x for x in kept if x is not None]
    scores = own(sequences, ids if len(ids) == len(kept) else ())
    for name, arrays in (('own_logp', scores.logps),
                         ('own_entropy', scores.entropies),
                         ('own_kept_logps', scores.given_logps)):
      for place, array in zip(places, arrays, strict=bool(arrays)):
        out.setdefault(place, {})[name] = np.asarray(array)
  if base is not None:
    for place, array in zip(places, base(sequences, ()).logps, strict=True):
      out.setdefault(place, {})['base_logp'] = np.asarray(array)
  return out


def _evidence(context: TargetContext, place: Place) -> Evidence:
  p, g = place
  scores = context.scored.get(place, {})
  divergences = None
  if 'own_kept_logps' in scores and 'kept_logps' in scores:
    divergences = reverse_of_kept(scores['own_kept_logps'],
                                  scores['kept_logps'])
  return Evidence(
      divergences=divergences,
      tokens=np.asarray(context.groups[p].rollouts[g].tokens),
      accuracy=context.groups[p].accuracy,
      advantage=float(context.advantages[p][g])
      if np.size(context.advantages[p]) else None,
      **{field: scores.get(name) for field, name in SCORES.items()})


def _scored(context: TargetContext, place: Place) -> bool:
  """Whether the teacher's scores of a rollout came."""
  taught = context.scored.get(place, {}).get('taught')
  return taught is None or bool(np.all(taught))


def _foreign(context: TargetContext, place: Place) -> bool:
  """Whether another policy drew a rollout."""
  p, g = place
  return not context.groups[p].rollouts[g].sampled


def _rng(context: TargetContext, group: Group,
         purpose: Purpose) -> np.random.Generator:
  """A generator of a group, by the names of seed, step and question, so that
  no other group and no layout changes its draws."""
  return question_rng(context.seed, context.step, purpose,
                      group.prompt.question.id, group.prompt.kind)


@dataclasses.dataclass(frozen=True)
class _Signals:
  """The signal of each rollout, and what margins and balance did to it."""
  by_place: dict[Place, np.ndarray]
  left_out: frozenset[Place] = frozenset()


def _margins(credit: Credit, context: TargetContext,
             differences: Mapping[Place, np.ndarray],
             signal: dict[Place, np.ndarray]) -> _Signals:
  """Shifts signals, or leaves rollouts out, group by group."""
  assert credit.margin is not None
  by_place, left_out = dict(signal), set()
  change = functools.partial(
      credit.margin.row.function, kind=credit.margin_kind)
  numbers = dict(zip(('delta', 'keep'), credit.margin.at(context.done),
                     strict=False))
  for p, group in enumerate(context.groups):
    places = [(p, g) for g, r in enumerate(group.rollouts)
              if (p, g) in differences and r.graded]
    returns_G = np.array([margins.returns(differences[x]) for x in places])
    right_G = np.array([group.rollouts[g].reward == 1 for _, g in places], bool)
    if credit.margin_verdicts == 'permuted':
      right_G = margins.permuted(right_G, _rng(context, group, Purpose.MARGIN))
    changed = change(returns_G, right_G, **numbers)
    if isinstance(changed, margins.Masked):
      left_out |= set(itertools.compress(places, ~changed.kept_G))
      continue
    for place, shift in zip(places, changed, strict=True):
      if shift:
        by_place[place] = by_place[place] + shift
  return _Signals(by_place=by_place, left_out=frozenset(left_out))


def _balanced(ratios: Balance, context: TargetContext,
              known: Mapping[Place, Evidence]) -> frozenset[Place]:
  """The rollouts that balance leaves out of each group. Margins count them
  all the same, because they were taken before."""
  out: set[Place] = set()
  stay = balance.at_random if ratios.at_random else balance.online
  for p, group in enumerate(context.groups):
    ratio = ratios.of(group.prompt.question.source)
    if ratio is None:
      continue
    places = [(p, g) for g, r in enumerate(group.rollouts)
              if (p, g) in known and r.graded]
    right = np.array([group.rollouts[g].reward == 1 for _, g in places], bool)
    rng = _rng(context, group, Purpose.BALANCE)
    out |= set(itertools.compress(places, ~stay(right, ratio, rng)))
  return frozenset(out)


def _signals(credit: Credit, context: TargetContext,
             known: Mapping[Place, Evidence]) -> _Signals:
  """The signal of every rollout of the policy term."""
  if credit.signal is None:
    return _Signals({place: np.ones(len(of)) for place, of in known.items()})
  by_place = {place: np.asarray(credit.signal(of, context.done))
              for place, of in known.items()}
  out = _Signals(by_place)
  if credit.margin is not None:
    out = _margins(credit, context, {
        place: of.difference for place, of in known.items()}, by_place)
  gamma = at(credit.discount, context.done)
  if gamma:
    out = dataclasses.replace(out, by_place={
        place: signals.discounted(x, gamma)
        for place, x in out.by_place.items()})
  return out


def _weights(term: Term, context: TargetContext,
             known: Mapping[Place, Evidence]) -> dict[Place, np.ndarray]:
  """The product of a term's weights of each routed rollout, [R]."""
  places = list(known)
  by_token = token_weights.product(
      term.weights, [known[x] for x in places], context.done)
  weights = dict(zip(places, by_token, strict=True))
  if term.rollout_weights:
    for p in sorted({p for p, _ in places}):
      members = [x for x in places if x[0] == p]
      of_G = rollout_weights.product(
          term.rollout_weights, [known[x] for x in members], context.done)
      for place, weight in zip(members, of_G, strict=True):
        weights[place] = weights[place] * weight
  return weights


def _known(term: Term, credit: Credit, context: TargetContext,
           reads: frozenset[str]) -> dict[Place, Evidence]:
  """The evidence of the rollouts of a term's route. A rollout whose scores did
  not come is left out of a term that reads them, and so is a text of another
  policy whose log-probs under it did not come."""
  reads_teacher = bool(reads & {'teacher_logps', 'teacher_entropies'})
  return {place: _evidence(context, place) for place, taken in routed(
      term, context.groups, context.seed, context.step, context.done).items()
      if taken and (not (reads_teacher or _foreign(context, place))
                    or _scored(context, place))}


def _policy(credit: Credit, context: TargetContext) -> dict[Place, np.ndarray]:
  """The number that multiplies log p_S of each token, [R] per rollout."""
  term = credit.policy
  assert term is not None
  reads = term.reads | (credit.signal.row.reads if credit.signal
                        else frozenset())
  known = _known(term, credit, context, reads)
  signal = _signals(credit, context, known)
  left_out = signal.left_out
  if credit.balance is not None:
    left_out |= _balanced(credit.balance, context, known)
  weights = _weights(term, context, known)
  combine = signals.combine_of(credit.combine)
  coefficient = at(credit.coefficient, context.done)
  out = {}
  for place, of in known.items():
    if place in left_out:
      continue
    verdict = np.full(len(of), of.advantage or 0.0)
    total = (verdict if credit.signal is None else combine(
        verdict, signal.by_place[place], coefficient))
    out[place] = np.asarray(total * weights[place], np.float32)
  return out


# (mini-batch, the rollouts that the divergence term teaches) -> whether each
# rollout with a token is held by a penalty towards a reference.
Anchored = Callable[[TargetContext, Collection[Place]], Mapping[Place, bool]]


def two_terms(context: TargetContext, *, credit: Credit,
              all_graded: bool = False, sampler: bool = True,
              anchored: Anchored | None = None, drawn: bool = False) -> Targets:
  """'advantage' and 'weight' of each token, beside the teacher's scores.

  A rollout is trained if one of them is not 0 somewhere. A rollout that the
  verdict's advantage alone would train is trained wherever that is not 0.

  Args:
    context: the mini-batch.
    credit: the settings.
    all_graded: whether every rollout with a verdict is trained, because a
      penalty towards a reference reads them all.
    sampler: whether the sampler's log-probs are a target. The update then
      counts the padding of the vocabulary, as the sampler does. A signal is a
      difference of log-probs over the true vocabulary, which a row of signals
      keeps to.
    anchored: the route of that penalty, of which REFERENCE_WEIGHT is then a
      target; None: it holds all that are trained.
    drawn: whether some rollouts were drawn under a context. 'on_policy' is then
      1 on those that were drawn behind the prompt on which they are trained,
      and the ratios of the others, which no loss reads, are not watched.
  """
  advantage = _policy(credit, context) if credit.policy else {}
  weight: dict[Place, np.ndarray] = {}
  if credit.divergence:
    known = {place: of for place, of in _known(
        credit.divergence, credit, context, credit.divergence.reads).items()
        if _scored(context, place)}
    weight = _weights(credit.divergence, context, known)
  held = anchored and anchored(
      context, {place for place, w in weight.items() if np.any(w)})
  out: Targets = {}
  for p, group in enumerate(context.groups):
    for g, rollout in enumerate(group.rollouts):
      a, w = advantage.get((p, g)), weight.get((p, g))
      idle = (a is None or not np.any(a)) and (w is None or not np.any(w))
      if held is not None:
        idle = idle and not held.get((p, g))
      if not rollout.tokens or idle and not (all_graded and rollout.graded):
        continue
      zeros = np.zeros(len(rollout.tokens), np.float32)
      of = {name: x for name, x in context.scored.get((p, g), {}).items()
            if name not in UNREAD}
      if credit.policy:
        of['advantage'] = zeros if a is None else a
        if sampler:
          of['sampler_logp'] = sampler_logps(rollout)
      if drawn:
        of['on_policy'] = zeros + (group.prompt.kind != PromptKind.CARRIED)
      if credit.divergence:
        of['weight'] = zeros if w is None else np.asarray(w, np.float32)
      if held is not None:
        of[REFERENCE_WEIGHT] = zeros + np.float32(held.get((p, g), False))
      out[p, g] = of
  return out
