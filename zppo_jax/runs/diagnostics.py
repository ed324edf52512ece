"""Diagnostics of distillation: numbers that say why a run goes wrong.

They are plain functions of host arrays and texts; runs/metrics.py writes those
that cost no further pass of a model. Sources are named where a paper has the
number; bounds that a paper gives are defaults.
"""

import itertools
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zppo_jax import allowed
from zppo_jax.objectives.credit import margins, signals
from zppo_jax.objectives.credit.signals import COPIED, TENTHS, UNLIKELY

TAIL = 10_000  # characters whose repetition counts (Stable-OPD)


def repetition(text: str) -> float:
  """Bytes of the last TAIL characters over their compressed bytes.

  Above 10 a text repeats itself (length lock; Stable-OPD, 2604.08527). A short
  text has a small number, because zlib has a header of some bytes.
  """
  tail = text[-TAIL:].encode()
  return len(tail) / len(zlib.compress(tail, 9)) if tail else 0.0


def repeated_ngrams(tokens: Sequence[int], n: int = 4) -> float:
  """The share of n-grams that stood in the sequence before."""
  grams = [tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1)]
  return 1 - len(set(grams)) / len(grams) if grams else 0.0


def word_rate(texts: Iterable[str], words: Iterable[str]) -> float:
  """Occurrences of words per 1,000 words, whole words in any case.

  For epistemic words ('wait', 'hmm') it falls when a student stops doubting.
  """
  wanted = {word.lower() for word in words}
  found = [word for text in texts for word in re.findall(r"\w+", text.lower())]
  return 1000 * sum(word in wanted for word in found) / len(found) if (
      found) else 0.0


def phrase_rate(texts: Sequence[str], phrases: Iterable[str]) -> float:
  """The share of texts that hold one of the phrases, in any case: phrases of
  the teacher's context that leak."""
  wanted = [phrase.lower() for phrase in phrases]
  hits = [any(phrase in text.lower() for phrase in wanted) for text in texts]
  return float(np.mean(hits)) if hits else 0.0


def branches(responses: Sequence[Sequence[int]]) -> float:
  """Branches of the prefix tree of a group's responses, per response.

  Responses that begin alike share a path; a node with n followers, one of which
  may be the end, has n - 1 branches. 0: all are equal; (n - 1) / n: no two of n
  are. How late they part does not count. (A measure of exploration; ours.)
  """
  distinct = {tuple(response) for response in responses}
  return (len(distinct) - 1) / len(responses) if responses else 0.0


def parting(responses: Sequence[Sequence[int]]) -> float:
  """The mean share of two responses' shorter length that they begin alike with,
  over all pairs of a group; 0 without a pair. Near 1: the group explores in its
  last tokens alone."""
  shares = []
  for a, b in itertools.combinations(responses, 2):
    length = min(len(a), len(b))
    if length:
      same = itertools.takewhile(lambda x: x[0] == x[1],
                                 zip(a, b, strict=False))
      shares.append(sum(1 for _ in same) / length)
  return float(np.mean(shares)) if shares else 0.0


def copied(teacher_logps: Iterable[np.ndarray], above: float = COPIED) -> float:
  """The share of tokens that the teacher holds for all but certain, as it does
  for an answer that stands in its context."""
  logps = np.concatenate([np.zeros(0), *map(np.asarray, teacher_logps)])
  return float(np.mean(logps > above)) if logps.size else 0.0


def large(differences: Iterable[np.ndarray], bound: float) -> float:
  """The share of tokens with |log p_T - log p_S| > bound, nats."""
  d = np.concatenate([np.zeros(0), *map(np.asarray, differences)])
  return float(np.mean(np.abs(d) > bound)) if d.size else 0.0


def cliff(student_logps: Iterable[np.ndarray],
          below: float = UNLIKELY) -> float:
  """The share of positions at which the student gives the teacher's likeliest
  token less than `below`: there the teacher asks for what the student would all
  but never write.

  Args:
    student_logps: [R] per rollout, nats, the student's log-probs of the
      teacher's likeliest token.
    below: a probability.
  """
  logps = np.concatenate([np.zeros(0), *map(np.asarray, student_logps)])
  return float(np.mean(logps < np.log(below))) if logps.size else 0.0


def by_depth(values: Iterable[np.ndarray], parts: int = TENTHS) -> np.ndarray:
  """The mean of a number per token by its place in its response.

  Args:
    values: [R] per rollout.
    parts: 10 for deciles.

  Returns:
    float64 [parts]; nan for a part that no token lies in.
  """
  total, count = np.zeros(parts), np.zeros(parts)
  for x in values:
    x = np.asarray(x, np.float64)
    places = np.arange(len(x)) * parts // max(len(x), 1)
    np.add.at(total, places, x)
    np.add.at(count, places, 1)
  return np.divide(total, count, out=np.full(parts, np.nan), where=count > 0)


def overlap_ratio(student_ids_RK: np.ndarray,
                  teacher_ids_RK: np.ndarray) -> float:
  """The mean share of the teacher's K likeliest ids that are among the
  student's. (Rethinking OPD: K 16; a low overlap learns little.)"""
  both = (np.asarray(teacher_ids_RK)[:, :, None]
          == np.asarray(student_ids_RK)[:, None, :]).any(axis=-1)
  return float(both.mean()) if both.size else 0.0


def overlap_advantage(student_ids_RK: np.ndarray, student_logps_RK: np.ndarray,
                      teacher_ids_RK: np.ndarray, teacher_logps_RK: np.ndarray
                      ) -> float:
  """Minus the mean reverse KL over the ids that are among the K likeliest of
  both, renormalised over them, nats: 0 where the two agree there, and at a
  position without a common id. (Rethinking OPD.)

  Args:
    student_ids_RK, teacher_ids_RK: the likeliest ids of each.
    student_logps_RK, teacher_logps_RK: their log-probs, nats.
  """
  out = []
  for s_ids, s, t_ids, t in zip(student_ids_RK, student_logps_RK,
                                teacher_ids_RK, teacher_logps_RK, strict=True):
    common, of_s, of_t = np.intersect1d(s_ids, t_ids, return_indices=True)
    out.append(float(signals.overlap(
        np.asarray(s)[None, of_s], np.asarray(t)[None, of_t]).sum())
        if common.size else 0.0)
  return float(np.mean(out)) if out else 0.0


def order_consistency(groups: Iterable[tuple[np.ndarray, np.ndarray]]
                      ) -> float | None:
  """The share of (right, wrong) pairs whose right rollout has the higher return
  of the teacher. (Uni-OPD.) None without a pair.

  Args:
    groups: (returns [G] nats, right: bool [G]) of each group.
  """
  counts = [margins.order_consistency(*group) for group in groups]
  pairs = sum(total for _, total in counts)
  return sum(ordered for ordered, _ in counts) / pairs if pairs else None


def context_lift(right_with: Sequence[bool],
                 right_without: Sequence[bool]) -> float:
  """How much more often a teacher is right with its context than without, on
  the same questions. A lift of 0 has nothing to teach."""
  return float(np.mean(right_with) - np.mean(right_without))


def confidence_gap(stated: Sequence[float], right: Sequence[bool]) -> float:
  """Mean stated probability minus the share that is right; above 0 is
  overconfident."""
  return float(np.mean(stated) - np.mean(right))


def depth_recovery(lengths: Sequence[int], right: Sequence[Sequence[bool]]
                   ) -> dict[int, float]:
  """How often a teacher is right that continues the first L tokens of wrong
  responses, by L: where it falls, an error is beyond repair.

  Args:
    lengths: L of each prefix.
    right: whether each continuation of that prefix is right.

  Returns:
    L -> the share that is right, ascending; an L without a continuation is
    left out.
  """
  by_length: dict[int, list[bool]] = {}
  for length, verdicts in zip(lengths, right, strict=True):
    by_length.setdefault(length, []).extend(verdicts)
  return {length: float(np.mean(x))
          for length, x in sorted(by_length.items()) if x}


def teaching_gain(before: float, after: float, teacher: float) -> float:
  """The student's gain in accuracy after a fixed number of steps per accuracy
  of its teacher: a strong teacher may teach little.

  Raises:
    ValueError: for a teacher that is never right.
  """
  allowed.number("the teacher's accuracy", teacher, '(0, 1]')
  return (after - before) / teacher


def drift(base_logps: Iterable[np.ndarray],
          tuned_logps: Iterable[np.ndarray]) -> float:
  """KL(base || tuned) per token, nats, from texts that the base wrote: the mean
  of log p_base - log p_tuned. It predicts forgetting (RL's Razor)."""
  differences = [np.asarray(b, np.float64) - np.asarray(t, np.float64)
                 for b, t in zip(base_logps, tuned_logps, strict=True)]
  d = np.concatenate([np.zeros(0), *differences])
  return float(d.mean()) if d.size else 0.0


def changed_share(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
  """The share of parameters that differ after rounding to bfloat16.

  Args:
    before, after: name -> array, with equal names.
  """
  import ml_dtypes
  rounded = lambda x: np.asarray(x, np.float32).astype(ml_dtypes.bfloat16)
  changed = [int((rounded(before[name]) != rounded(after[name])).sum())
             for name in before]
  size = sum(np.size(x) for x in before.values())
  return sum(changed) / size if size else 0.0


def forgetting(accuracy: np.ndarray) -> np.ndarray:
  """How much of each task was lost by the last stage.

  Args:
    accuracy: [stages, tasks], after each stage.

  Returns:
    [tasks]: the best accuracy of any earlier stage minus the last; below 0
    where the last stage is the best.
  """
  accuracy = np.asarray(accuracy, np.float64)
  if len(accuracy) < 2:
    return np.zeros(accuracy.shape[1:])
  return accuracy[:-1].max(axis=0) - accuracy[-1]
