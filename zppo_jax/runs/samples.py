"""Samples of a step for a person to read: questions, prompts and replies.

A line of samples.jsonl is one question of one step; docs/metrics.md describes
its fields.
"""

import re
from collections.abc import Sequence

import numpy as np

from zppo_jax.algorithms.zppo import Reformulated
from zppo_jax.chat import pictures
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import Purpose, host_rng
from zppo_jax.records import (
  Clip,
  Group,
  Instance,
  PromptKind,
  Question,
  Rollout,
)
from zppo_jax.verdicts.rewards import Scoring

MOST_SHOWN = 4  # thumbnails of a question


def choose(plain: Sequence[Group], reformulated: Reformulated, count: int,
           seed: int, step: int) -> list[str]:
  """Ids of the questions to record.

  Reformulated questions come first, but one place is kept for the others if
  there are any. Both are drawn by (seed, step).
  """
  rng = host_rng(seed, step, Purpose.SAMPLES)
  ids = [g.prompt.question.id for g in plain]
  asked = list(dict.fromkeys(p.question.id for p in reformulated.prompts))
  others = [i for i in ids if i not in set(asked)]
  shuffled = lambda names: [names[i] for i in rng.permutation(len(names))]
  asked, others = shuffled(asked), shuffled(others)
  room = max(count - 1, 1) if others else count
  chosen = asked[:room]
  return chosen + others[:count - len(chosen)]


def _rollout(rollout: Rollout, advantage: float, rewards: dict) -> dict:
  return {'text': rollout.text, 'verdict': rollout.verdict.name.lower(),
          'answer': rollout.answer, 'reward': rollout.reward,
          'length': len(rollout.tokens), 'stop': rollout.stop.name.lower(),
          'advantage': advantage, **({'rewards': rewards} if rewards else {})}


def _candidates(instance: Instance, texts: dict) -> list[dict]:
  question = instance.question.id
  return [{'text': texts[question, c.text], 'answer': c.answer,
           'verdict': c.verdict.name.lower()} for c in instance.candidates]


def spelt(text: str) -> str:
  """A prompt with each run of a placeholder as one word: `<|x_pad|>×64`."""
  return re.sub(
      r'(<\|\w+_pad\|>)(?:\1)+',
      lambda m: f'{m[1]}×{len(m[0]) // len(m[1])}', text)


def media(question: Question) -> list[dict]:
  """A question's pictures and clips as small JPEGs, MOST_SHOWN of them in all.

  Returns:
    For each picture or clip: `kind` ('picture' or 'clip'), `count` (its
    frames), `size` (of the first, in pixels, as 'WIDTHxHEIGHT') and `shown`,
    which has thumbnails in base64; those of a clip are evenly spaced.
  """
  out, left = [], MOST_SHOWN
  for i, item in enumerate(question.media):
    frames = item.frames if isinstance(item, Clip) else (item,)
    others = len(question.media) - i - 1
    count = max(min(len(frames), left - others), min(left, 1))
    left -= count
    places = np.linspace(0, len(frames) - 1, count).astype(int)
    width, height = pictures.size(frames[0])
    out.append({
        'kind': 'clip' if isinstance(item, Clip) else 'picture',
        'count': len(frames), 'size': f'{width}x{height}',
        'shown': [pictures.thumbnail(frames[p]) for p in places]})
  return out


def _question(question: Question) -> dict:
  return {'id': question.id, 'text': question.text, 'answer': question.answer,
          'split': question.split,
          **({'media': media(question)} if question.media else {})}


def _group(group: Group, advantages_G, candidates: list[dict],
           chat: Chat, scoring: Scoring | None) -> dict:
  rewards = ([{}] * len(group.rollouts) if scoring is None
             else scoring.of_group(group))
  return {
      'kind': group.prompt.kind.name.lower(),
      'prompt': spelt(chat.codec.decode(group.prompt.tokens)),
      'candidates': candidates,
      'rollouts': [_rollout(r, float(a), of) for r, a, of in zip(
          group.rollouts, advantages_G, rewards, strict=True)]}


def rows(groups: Sequence[Group], advantages_PG: np.ndarray,
         reformulated: Reformulated, replayed: Sequence[str], step: int, *,
         count: int, seed: int, chat: Chat,
         lessons: Sequence[Group] = (),
         scoring: Scoring | None = None) -> list[dict]:
  """Lines of samples.jsonl for a step.

  Args:
    groups: all groups of the student.
    advantages_PG: the advantages of their rollouts.
    reformulated: the step's reformulations.
    replayed: ids of questions that came from the buffer.
    step: the step.
    count: the most questions.
    seed: the run's seed.
    chat: decodes prompts to text.
    lessons: groups of texts of others that were trained on, with those that
      were not kept.
    scoring: tells the components of rewards; None without weights.
  """
  by_id: dict[str, list[int]] = {}
  for i, group in enumerate(groups):
    by_id.setdefault(group.prompt.question.id, []).append(i)
  texts = {key: text for written in reformulated.written.values()
           for key, text in written.texts.items()}
  candidates = {(i.question.id, i.kind): _candidates(i, texts)
                for i in reformulated.instances}
  teacher = {g.prompt.question.id: g
             for g in (*reformulated.teacher, *lessons)}
  plain = [g for g in groups if g.prompt.kind == PromptKind.PLAIN]
  out = []
  for name in choose(plain, reformulated, count, seed, step):
    of_question = [groups[i] for i in by_id[name]]
    question = of_question[0].prompt.question
    answers = teacher[name].rollouts if name in teacher else ()
    out.append({
        'step': step,
        'question': _question(question),
        'accuracy': next(g.accuracy if g.graded else None for g in of_question
                         if g.prompt.kind == PromptKind.PLAIN),
        'replayed': name in set(replayed),
        'teacher': [{'text': r.text, 'verdict': r.verdict.name.lower(),
                     'answer': r.answer} for r in answers],
        'groups': [_group(groups[i], advantages_PG[i],
                          candidates.get((name, groups[i].prompt.kind), []),
                          chat, scoring) for i in by_id[name]]})
  return out
