"""The numbers of a step, by name. docs/metrics.md gives their units."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from zppo_jax.algorithms.compression import Compressed
from zppo_jax.algorithms.credit.scores import Returned, Scored
from zppo_jax.algorithms.lessons import Lessons
from zppo_jax.algorithms.privileged import contexts
from zppo_jax.algorithms.privileged.hints import Hints
from zppo_jax.algorithms.replay import ReplayBuffer, Settlement
from zppo_jax.algorithms.zppo import Probe, Reformulated
from zppo_jax.learner.update import Sums
from zppo_jax.objectives.credit import margins
from zppo_jax.records import CallStats, Group, PromptKind, StopReason
from zppo_jax.runs import diagnostics
from zppo_jax.verdicts.rewards import TOTAL, Scoring

# Statistics of a tenth of a response, their numbers apart.
_TENTHS = 'distil/tenths'
_OF_DEPTH = ('distil/divergence_depth', 'distil/depth')
_ROLLOUTS = 'distil/rollouts'  # sums of d by rollout
_APART = (_TENTHS, *_OF_DEPTH, _ROLLOUTS)
REWARD = 'reward/'  # before the name of a component
# Kinds whose groups are counted in every step, also where there are none.
_COUNTED = (PromptKind.PLAIN, PromptKind.BCQ, PromptKind.NCQ)


def of_groups(groups: Sequence[Group]) -> dict[str, float]:
  """Accuracy and length statistics of the rollouts, by prompt kind."""
  out = {}
  for kind in PromptKind:
    of_kind = [g for g in groups if g.prompt.kind == kind]
    if not of_kind and kind not in _COUNTED:
      continue
    name = kind.name.lower()
    out[f'groups/{name}'] = len(of_kind)
    graded = [g.accuracy for g in of_kind if g.graded]
    if graded:
      out[f'accuracy/{name}'] = float(np.mean(graded))
    if of_kind:
      out[f'trivial/{name}'] = float(np.mean([g.trivial for g in of_kind]))
      out[f'length/{name}'] = float(np.mean(
          [len(r.tokens) for g in of_kind for r in g.rollouts]))
  rows = [r for g in groups for r in g.rollouts]
  lengths = [len(r.tokens) for r in rows]
  out['rollouts/length'] = float(np.mean(lengths))
  out['rollouts/length_max'] = max(lengths)
  for reason in StopReason:
    out[f'stop/{reason.name.lower()}'] = float(
        np.mean([r.stop == reason for r in rows]))
  # The negative log-prob of the sampled tokens estimates the entropy.
  out['rollouts/surprise'] = float(
      -sum(sum(r.logps) for r in rows)
      / max(sum(len(r.logps) for r in rows), 1))
  return out | {f'verdict/{name}': share
                for name, share in of_verdicts(groups).items()}


def of_verdicts(groups: Sequence[Group]) -> dict[str, float]:
  """Shares of the rollouts by verdict, and `ungraded`: those without one."""
  rows = [r for g in groups for r in g.rollouts]
  counts = Counter(r.verdict for r in rows)
  return {**{v.name.lower(): count / len(rows) for v, count in counts.items()},
          'ungraded': sum(not r.graded for r in rows) / len(rows)}


def of_rewards(groups: Sequence[Group], scoring: Scoring | None
               ) -> dict[str, float]:
  """Means over the graded rollouts of groups of each component, and of their
  weighted sum; {} without weights, and if none is graded."""
  if scoring is None:
    return {}
  values = [of for g in groups for of in scoring.of_group(g) if of]
  return {name: float(np.mean([of[name] for of in values]))
          for name in (*scoring.names, TOTAL) if values}


def of_plain_splits(plain: Sequence[Group]) -> dict[str, float]:
  """Plain accuracy by the questions' split."""
  plain = [g for g in plain if g.graded]
  splits = {g.prompt.question.split for g in plain}
  return {
      f'accuracy/plain/{split}': float(np.mean(
          [g.accuracy for g in plain if g.prompt.question.split == split]))
      for split in sorted(splits)}


def of_buffer(buffer: ReplayBuffer, settled: Settlement) -> dict[str, float]:
  """The fill and the traffic of the buffer."""
  visits = [e.visits for e in buffer.entries.values()]
  out = {
      f'buffer/{fate}_visits_mean': float(np.mean([e.visits for e in entries]))
      for fate, entries in (('graduated', settled.graduated),
                            ('evicted', settled.evicted)) if entries}
  return out | {
      'buffer/size': len(buffer),
      'buffer/admitted': len(settled.admitted),
      'buffer/graduated': len(settled.graduated),
      'buffer/evicted': len(settled.evicted),
      'buffer/visits_mean': float(np.mean(visits)) if visits else 0.0,
      'buffer/visits_max': max(visits, default=0),
  }


def of_advantages(advantages_PG: np.ndarray) -> dict[str, float]:
  """The share of rollouts with a positive advantage, and the largest size."""
  return {'advantage/positive': float(np.mean(advantages_PG > 0)),
          'advantage/abs_max': float(np.max(np.abs(advantages_PG)))}


def of_probe(probe: Probe, groups: Sequence[Group]) -> dict[str, float]:
  """BCQ accuracy on questions that are mostly solved when asked plain."""
  out = {'probe/questions': len(groups),
         'tokens/probe_prompt': sum(len(g.prompt.tokens) for g in groups),
         'tokens/probe_generated': sum(
             len(r.tokens) for g in groups for r in g.rollouts)}
  if groups:
    follows = [bool(wrong) and r.answer == wrong
               for g, wrong in zip(groups, probe.wrong, strict=True)
               for r in g.rollouts]
    graded = [(g.accuracy, plain) for g, plain in zip(
        groups, probe.accuracies, strict=True) if g.graded]
    if graded:
      bcq, plain = np.mean(graded, axis=0)
      out['probe/bcq'], out['probe/plain'] = float(bcq), float(plain)
    out['probe/follows_wrong'] = float(np.mean(follows))
  return out


def of_reformulation(reformulated: Reformulated) -> dict[str, float]:
  """The teacher, compression and the prompts that came out of them."""
  out = {'hard/questions': reformulated.hard,
         'hard/asked': len(reformulated.teacher),
         'hard/over_bound': reformulated.over_bound,
         'hard/removed': reformulated.removed}
  if reformulated.teacher:
    out['teacher/answered'] = float(
        np.mean([bool(v.teacher_correct) for v in reformulated.visits]))
    graded = [g.accuracy for g in reformulated.teacher if g.graded]
    if graded:
      out['teacher/accuracy'] = float(np.mean(graded))
  for name, written in reformulated.written.items():
    out[f'{name}/asked'] = written.requested
    out[f'{name}/kept'] = written.unchanged
    out[f'{name}/over_bound'] = written.over_bound
    for reason, count in Counter(written.failures).items():
      out[f'{name}/failed/{reason.name.lower()}'] = count
  return out


def of_calls(reformulated: Reformulated, calls: CallStats) -> dict[str, float]:
  """Statistics of the calls; {} if no request was sent and no answer failed.

  Args:
    reformulated: the step's reformulations.
    calls: the calls of the whole step, probes included.
  """
  if not calls.requests and not calls.failed:
    return {}
  lost = [g for g in reformulated.teacher if not g.rollouts]
  return {
      'teacher/wanted': calls.answers, 'teacher/requests': calls.requests,
      'teacher/retries': calls.retries, 'teacher/fallbacks': len(lost),
      **{f'teacher/failed/{cause.name.lower()}': count
         for cause, count in sorted(calls.failed.items())}}


def _total(sums: Sequence[Sums], name: str) -> float:
  """A statistic summed over updates; one that a loss does not have is 0."""
  return float(sum(s.total.get(name, 0) for s in sums))


def of_lessons(lessons: Lessons, scored: Scored) -> dict[str, float]:
  """Whose tokens a step trained on, and the scores that are missing."""
  out = {'distil/student_states': float(lessons.of_student),
         'distil/lessons': sum(len(g.rollouts) for g in lessons.groups)}
  if lessons.states == 'guided':
    out['distil/guides'] = sum(
        not r.sampled for g in lessons.groups for r in g.rollouts)
  if scored.tokens:
    out['distil/missing'] = scored.missing / scored.tokens
  if lessons.teacher:
    out['distil/over_long'] = lessons.over_long
    out['teacher/answered'] = float(
        np.mean([bool(g.correct) for g in lessons.teacher]))
    graded = [g.accuracy for g in lessons.teacher if g.graded]
    if graded:
      out['teacher/accuracy'] = float(np.mean(graded))
  return out


def of_drawn(lessons: Lessons, plain: Sequence[Group] = ()
             ) -> dict[str, float]:
  """Rollouts that were drawn under a context; {} for a method without them.

  Args:
    lessons: what is trained on.
    plain: the groups of the step, for the accuracy of the same questions.
  """
  drawn = lessons.drawn
  if drawn is None:
    return {}
  rollouts = [r for g in drawn.groups for r in g.rollouts]
  out = {'drawn/questions': len(drawn.groups), 'drawn/copies': drawn.copies,
         'drawn/over_long': drawn.over_long,
         'drawn/trained': sum(len(g.rollouts) for g in lessons.groups
                              if g.prompt.kind == PromptKind.CARRIED),
         'drawn/trained_in_context': sum(
             len(g.rollouts) for g in lessons.groups
             if g.prompt.kind == PromptKind.PRIVILEGED),
         'tokens/drawn_prompt': sum(len(g.prompt.tokens)
                                    for g in drawn.groups),
         'tokens/drawn_generated': sum(len(r.tokens) for r in rollouts)}
  graded = [g.accuracy for g in drawn.groups if g.graded]
  if graded:
    out['drawn/accuracy'] = float(np.mean(graded))
  asked = {g.prompt.question.id: g.accuracy for g in plain
           if g.graded and g.prompt.kind == PromptKind.PLAIN}
  both = [(g.accuracy, asked[g.prompt.question.id]) for g in drawn.groups
          if g.graded and g.prompt.question.id in asked]
  if both:
    out['drawn/lift'] = diagnostics.context_lift(*zip(*both, strict=True))
  return out | {f'drawn/untold/{why.name.lower()}': count for why, count
                in sorted(Counter(drawn.untold.values()).items())}


def of_contexts(lessons: contexts.Lessons | None) -> dict[str, float]:
  """What the teacher read; {} if that is what the student read."""
  if lessons is None:
    return {}
  total = len(lessons.prompts) + len(lessons.untaught)
  out = {'context/taught': len(lessons.prompts) / max(total, 1)}
  if lessons.prompts:
    out['context/tokens'] = float(np.mean(
        [len(prompt.tokens) for prompt in lessons.prompts.values()]))
  return out | {f'context/untaught/{why.name.lower()}': count for why, count
                in sorted(Counter(lessons.untaught.values()).items())}


def _differences(lessons: Lessons, scored: Scored,
                 teacher: Mapping[tuple[int, int], np.ndarray]
                 ) -> dict[tuple[int, int], np.ndarray]:
  """d of each rollout: against the policy's own scores where the row has them,
  else against the log-probs with which the policy drew the tokens."""
  out = {}
  for (p, g), teacher_R in teacher.items():
    rollout = lessons.groups[p].rollouts[g]
    own_R = scored.targets.get((p, g), {}).get('own_logp')
    if own_R is None and rollout.sampled and (
        lessons.groups[p].prompt.kind != PromptKind.CARRIED):
      own_R = np.asarray(rollout.logps, np.float64)
    if own_R is not None:
      out[p, g] = teacher_R - own_R
  return out


def of_scores(lessons: Lessons, scored: Scored) -> dict[str, float]:
  """What the stored scores of the sampled tokens say of a teacher; {} without
  them. d is log p_T - log p_S of a token."""
  teacher = {place: np.asarray(logps, np.float64)
             for place, logps in scored.sampled.items()}
  if not teacher:
    return {}
  d = _differences(lessons, scored, teacher)
  out = {'distil/copied': diagnostics.copied(teacher.values())}
  if not d:
    return out
  depth = diagnostics.by_depth(map(np.abs, d.values()))
  out |= {'distil/log_ratio': float(np.mean(np.concatenate([*d.values()]))),
          'distil/beyond_10': diagnostics.large(d.values(), 10.0)}
  out |= {f'distil/depth_{i}': float(x) for i, x in enumerate(depth)
          if np.isfinite(x)}
  return out | _order([
      [(margins.returns(d[p, g]), r.reward == 1)
       for g, r in enumerate(group.rollouts) if r.graded and (p, g) in d]
      for p, group in enumerate(lessons.groups)])


def _order(groups: Iterable[Sequence[tuple[float, bool]]]
           ) -> dict[str, float]:
  """Whether the teacher prefers right rollouts, by (its return, whether it is
  right) of each; {} without a group that has a right and a wrong one."""
  pairs = [(np.array([x for x, _ in members]),
            np.array([right for _, right in members], bool))
           for members in groups]
  consistency = diagnostics.order_consistency(pairs)
  if consistency is None:
    return {}
  return {'distil/order_consistency': consistency,
          'distil/margin': float(np.mean([
              x for group in pairs
              if (x := margins.margin(*group)) is not None]))}


def of_order(returned: Sequence[Sequence[Returned]],
             sums: Sequence[Sums]) -> dict[str, float]:
  """`order_consistency` and `margin` of a teacher inside the update; {} for
  another.

  Args:
    returned: the rollouts of each update whose sums of d it tells.
    sums: of each update.
  """
  groups: dict[tuple[int, str], list[tuple[float, bool]]] = {}
  for update, (rollouts, of) in enumerate(zip(returned, sums, strict=True)):
    total = np.asarray(of.total.get(_ROLLOUTS, ()), np.float64)
    for one in rollouts:
      if one.number < len(total):
        groups.setdefault((update, one.question), []).append(
            (total[one.number] / one.tokens, one.right))
  return _order(groups.values())


def of_texts(lessons: Lessons, words: Sequence[str] = (),
             phrases: Sequence[str] = ()) -> dict[str, float]:
  """How much the trained texts repeat themselves, and how often they say what
  is watched for.

  Args:
    lessons: what is trained on.
    words, phrases: those of diagnostics.word_rate and phrase_rate; () for none.
  """
  rollouts = [r for g in lessons.groups for r in g.rollouts]
  if not rollouts:
    return {}
  texts = [r.text for r in rollouts]
  said = {}
  if words:
    said['distil/word_rate'] = diagnostics.word_rate(texts, words)
  if phrases:
    said['distil/phrase_rate'] = diagnostics.phrase_rate(texts, phrases)
  responses = [[r.tokens for r in g.rollouts] for g in lessons.groups]
  return {
      **said,
      'distil/branches': float(np.mean(
          [diagnostics.branches(group) for group in responses])),
      'distil/parting': float(np.mean(
          [diagnostics.parting(group) for group in responses])),
      'distil/repetitive': float(np.mean([
          diagnostics.repetition(r.text) > 10 for r in rollouts])),
      'distil/repeated_4grams': float(np.mean([
          diagnostics.repeated_ngrams(r.tokens) for r in rollouts]))}


def of_distillation(sums: Sequence[Sums]) -> dict[str, float]:
  """Means over the taught tokens of the statistics of
  distillation_losses; {} if nothing was taught."""
  taught = _total(sums, 'distil/taught')
  if not taught:
    return {}
  names = sorted({name for s in sums for name in s.total
                  if name.startswith('distil/')} - {'distil/taught', *_APART})
  tokens = float(sum(s.tokens for s in sums))
  return {**{name: _total(sums, name) / taught for name in names},
          **_by_depth(sums), 'distil/taught': taught / tokens}


def _by_depth(sums: Sequence[Sums]) -> dict[str, float]:
  """Means over the taught tokens of each tenth of a response that has some."""
  total = lambda name: np.sum([np.asarray(s.total[name], np.float64)
                               for s in sums if name in s.total], axis=0)
  tokens = np.atleast_1d(total(_TENTHS))
  return {f'{name}_{i}': float(total(name)[i] / tokens[i])
          for name in _OF_DEPTH if any(name in s.total for s in sums)
          for i in np.flatnonzero(tokens)}


def of_updates(sums: Sequence[Sums], token_counts: Sequence[int],
               norms: Sequence[float],
               loss_counts: Sequence[int] | None = None) -> dict[str, float]:
  """Numbers of a step's updates; clip shares are of all response tokens.

  Args:
    sums: of each update.
    token_counts: response tokens of each mini-batch.
    norms: the gradient norm of each update.
    loss_counts: what the summed loss of each is divided by; None: tokens.
  """
  loss_count = max(sum(token_counts if loss_counts is None else loss_counts), 1)
  tokens = max(sum(token_counts), 1)  # updates without a group have 0 tokens
  field = lambda name: float(sum(getattr(s, name) for s in sums))
  total = functools.partial(_total, sums)
  trained = max(field('tokens'), 1.0)
  return {
      'update/loss': field('loss') / loss_count,
      'update/grad_norm': float(np.mean(norms)),
      'update/entropy': total('entropy') / trained,
      'update/trained_tokens': field('tokens') / tokens,
      'update/padding': field('padding') / max(field('positions'), 1.0),
      'update/empty': sum(float(s.tokens) == 0 for s in sums),
      'update/clip_low': total('clip_low') / tokens,
      'update/clip_high': total('clip_high') / tokens,
      'update/clip_dual': total('clip_dual') / tokens,
      'update/ratio_max': float(
          np.exp(max(float(s.highest.get('log_ratio', 0)) for s in sums))),
      'update/ratio_min': float(
          np.exp(min(float(s.lowest.get('log_ratio', 0)) for s in sums))),
  }


def of_gap(sums: Sequence[Sums]) -> dict[str, float]:
  """|trainer - sampler| log-prob over trained tokens; {} if nothing was
  trained."""
  trained = float(sum(s.tokens for s in sums))
  if not trained:
    return {}
  return {
      'sampler_trainer/logp_gap_mean': _total(sums, 'gap') / trained,
      'sampler_trainer/logp_gap_max': max(
          float(s.highest.get('gap', 0)) for s in sums)}


def of_correction(sums: Sequence[Sums]) -> dict[str, float]:
  """Importance weights and the gap behind them (`of_gap`), over trained tokens;
  {} if nothing was trained."""
  trained = float(sum(s.tokens for s in sums))
  if not trained:
    return {}
  return {'correction/weight': _total(sums, 'weight') / trained,
          'correction/held': _total(sums, 'weight_held') / trained,
          **of_gap(sums)}


def of_sequence_clips(sums: Sequence[Sums], rollouts: int) -> dict[str, float]:
  """Shares of all rollouts whose objective a bound of the sequence ratio holds;
  {} for a loss without such a ratio, and if nothing was trained."""
  return {f'update/{name}': _total(sums, name) / rollouts
          for name in ('sequence_clip_low', 'sequence_clip_high')
          if any(name in s.total for s in sums)}


def of_reference(sums: Sequence[Sums]) -> dict[str, float]:
  """The mean KL to the reference over trained tokens, or over those on the
  anchor's route and their share of the trained ones; {} if there are none."""
  trained = float(sum(s.tokens for s in sums))
  routed = any('reference/anchored' in s.total for s in sums)
  anchored = _total(sums, 'reference/anchored') if routed else trained
  if not anchored:
    return {}
  return {'reference/kl': _total(sums, 'reference/kl') / anchored,
          **({'reference/anchored': anchored / trained} if routed else {})}


def of_gold(sums: Sequence[Sums], over_long: int) -> dict[str, float]:
  """Tokens of stored answers in a step, their mean -log p where there are some,
  and the answers that were too long."""
  tokens = _total(sums, 'gold/tokens')
  return {'gold/tokens': tokens, 'gold/over_long': over_long, **(
      {'gold/nll': _total(sums, 'gold/nll') / tokens} if tokens else {})}


def of_tokens(groups: Sequence[Group], teacher: Sequence[Group],
              written: Mapping[str, Compressed | Hints]) -> dict[str, int]:
  """Tokens prefilled (once per prompt) and generated, by role.

  Args:
    groups: the student's.
    teacher: the teacher's.
    written: as in `Reformulated`.
  """
  out = {}
  for role, of_role in (('student', groups), ('teacher', teacher)):
    out[f'tokens/{role}_prompt'] = sum(len(g.prompt.tokens) for g in of_role)
    out[f'tokens/{role}_generated'] = sum(
        len(r.tokens) for g in of_role for r in g.rollouts)
  out |= {'tokens/compression_prompt': 0, 'tokens/compression_generated': 0}
  for name, of in written.items():
    out[f'tokens/{name}_prompt'] = of.prompt_tokens
    out[f'tokens/{name}_generated'] = of.generated_tokens
  return out
