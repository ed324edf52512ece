"""A step's numbers, by name. Units are in docs/metrics.md."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from zppo_jax.records import Group, PromptKind, StopReason
from zppo_jax.replay import ReplayBuffer, Settlement
from zppo_jax.update import Sums
from zppo_jax.zppo import Reformulated


def of_groups(groups: Sequence[Group]) -> dict[str, float]:
  """Accuracy and shape of the rollouts, by prompt kind."""
  out = {}
  for kind in PromptKind:
    of_kind = [g for g in groups if g.prompt.kind == kind]
    name = kind.name.lower()
    out[f'groups/{name}'] = len(of_kind)
    if of_kind:
      out[f'accuracy/{name}'] = float(np.mean([g.accuracy for g in of_kind]))
      out[f'trivial/{name}'] = float(np.mean([g.trivial for g in of_kind]))
  rows = [r for g in groups for r in g.rollouts]
  out['rollouts/length'] = float(np.mean([len(r.tokens) for r in rows]))
  out['rollouts/truncated'] = float(
      np.mean([r.stop == StopReason.LENGTH for r in rows]))
  # The negative log-prob of what was sampled estimates the entropy.
  out['rollouts/surprise'] = float(
      -sum(sum(r.logps) for r in rows) / sum(len(r.tokens) for r in rows))
  verdicts = Counter(r.verdict for r in rows)
  for verdict, count in verdicts.items():
    out[f'verdict/{verdict.name.lower()}'] = count / len(rows)
  return out


def of_plain_splits(plain: Sequence[Group]) -> dict[str, float]:
  """Plain accuracy by the questions' split."""
  splits = {g.prompt.question.split for g in plain}
  return {
      f'accuracy/plain/{split}': float(np.mean(
          [g.accuracy for g in plain if g.prompt.question.split == split]))
      for split in sorted(splits)}


def of_buffer(buffer: ReplayBuffer, settled: Settlement) -> dict[str, float]:
  """Fill and traffic of the buffer."""
  visits = [e.visits for e in buffer.entries.values()]
  return {
      'buffer/size': len(buffer),
      'buffer/admitted': len(settled.admitted),
      'buffer/graduated': len(settled.graduated),
      'buffer/evicted': len(settled.evicted),
      'buffer/visits_mean': float(np.mean(visits)) if visits else 0.0,
  }


def of_reformulation(made: Reformulated) -> dict[str, float]:
  """The teacher, compression and the prompts that came of them."""
  out = {'hard/questions': made.hard, 'hard/asked': len(made.visits),
         'hard/over_bound': made.over_bound, 'hard/removed': made.removed}
  if made.visits:
    out['teacher/answered'] = float(
        np.mean([bool(v.teacher_correct) for v in made.visits]))
    out['teacher/accuracy'] = float(
        np.mean([g.accuracy for g in made.teacher]))
  if made.compressed is not None:
    out['compression/asked'] = made.compressed.asked
    out['compression/kept'] = made.compressed.kept
    out['compression/over_bound'] = made.compressed.over_bound
    for reason, count in Counter(made.compressed.failures).items():
      out[f'compression/failed/{reason.name.lower()}'] = count
  return out


def of_updates(sums: Sequence[Sums], token_counts: Sequence[int],
               norms: Sequence[float]) -> dict[str, float]:
  """The updates of a step; clip shares are of all response tokens."""
  tokens = sum(token_counts)
  total = lambda name: float(sum(getattr(s, name) for s in sums))
  trained = max(total('tokens'), 1.0)
  return {
      'update/loss': total('loss') / tokens,
      'update/grad_norm': float(np.mean(norms)),
      'update/entropy': total('entropy') / trained,
      'update/trained_tokens': total('tokens') / tokens,
      'update/empty': sum(float(s.tokens) == 0 for s in sums),
      'update/clip_low': total('clip_low') / tokens,
      'update/clip_high': total('clip_high') / tokens,
      'update/clip_dual': total('clip_dual') / tokens,
      'update/ratio_max': float(
          np.exp(max(float(s.log_ratio_max) for s in sums))),
      'update/ratio_min': float(
          np.exp(min(float(s.log_ratio_min) for s in sums))),
  }


def of_tokens(groups: Sequence[Group], made: Reformulated) -> dict[str, int]:
  """Tokens prefilled (once a prompt) and generated, by role."""
  out = {}
  for role, found in (('student', groups), ('teacher', made.teacher)):
    out[f'tokens/{role}_prompt'] = sum(len(g.prompt.tokens) for g in found)
    out[f'tokens/{role}_generated'] = sum(
        len(r.tokens) for g in found for r in g.rollouts)
  c = made.compressed
  out['tokens/compression_prompt'] = c.prompt_tokens if c else 0
  out['tokens/compression_generated'] = c.generated_tokens if c else 0
  return out
