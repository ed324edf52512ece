"""Answers on disk as they come: a step that was killed reuses them.

An endpoint may answer the same question otherwise the next time. A run that
was killed takes the answers of the steps that it repeats from its journal and
so ends like one that was not. Answers that did not come are not recorded:
they are asked for again.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from zppo_jax.chat.wording import Chat
from zppo_jax.devices import disk
from zppo_jax.endpoints.replies import mended
from zppo_jax.records import (
  Answers,
  CallStats,
  Grader,
  Group,
  Prompt,
  Question,
  Rollout,
  Scores,
  StopReason,
  Summaries,
  TokenSequence,
)
from zppo_jax.rollout import collect
from zppo_jax.teachers import Capabilities, Teacher

ANSWER, SUMMARY = 'answer', 'summary'


def _row(line: bytes):
  """((step, what, id), its texts with their ends) of a line.

  Raises:
    ValueError: for a line of another form, or one that was edited.
  """
  row = disk.unsealed(line)
  try:
    step, what, name = key = row['step'], row['what'], row['id']
    texts = [(mended(text), StopReason[stop.upper()])
             for text, stop in row['texts']]
  except (LookupError, TypeError, AttributeError, ValueError) as e:
    raise ValueError(f'of another form: {e}') from e
  if type(step) is not int or not isinstance(what, str) or not isinstance(
      name, str):
    raise ValueError(f'of another form: {key}')
  return key, texts


def _read(path: pathlib.Path) -> dict:
  """Texts by (step, what, id); what a kill tore is cut off the file.

  Raises:
    ValueError: for a whole line that is no answer: no kill leaves one.
  """
  found: dict = {}
  raw = path.read_bytes() if path.exists() else b''
  *lines, torn = raw.split(b'\n')
  for number, line in enumerate(lines, 1):
    try:
      key, texts = _row(line)
      found[key] = texts
    except (ValueError, RecursionError) as e:
      raise ValueError(
          f'{path}, line {number}: {line[:60]!r} is no answer of a teacher '
          f'({e}); mend it, or remove it: then the answer is asked for again'
          ) from e
  if torn:
    os.truncate(path, len(raw) - len(torn))
  return found


@dataclasses.dataclass(frozen=True)
class CachedTeacher:
  """A teacher whose answers are kept.

  Attributes:
    teacher: who is asked for what is not known.
    path: teacher.jsonl of a run.
    chat: the student's.
    grader: of the answers.
    known: what the file held when it was opened.
  """
  teacher: Teacher
  path: pathlib.Path
  chat: Chat
  grader: Grader
  known: dict

  @classmethod
  def open(cls, teacher: Teacher, path, chat: Chat,
           grader: Grader) -> 'CachedTeacher':
    path = pathlib.Path(path)
    return cls(teacher, path, chat, grader, _read(path))

  @property
  def capabilities(self) -> Capabilities:
    return dataclasses.replace(self.teacher.capabilities, repeatable=True)

  def _recall(self, step: int, what: str, question: Question):
    texts = self.known.get((step, what, question.id))
    if texts is None:
      return None
    return collect.from_texts([question], [texts], self.chat, self.grader)[0]

  def _keep(self, step: int, what: str,
            found: Sequence[tuple[Prompt, Sequence[Rollout]]]) -> None:
    lines = [disk.sealed({
        'step': step, 'what': what, 'id': prompt.question.id,
        'texts': [[r.text, r.stop.name.lower()] for r in said]})
        for prompt, said in found if said]
    if lines:
      disk.append(self.path, ''.join(lines))

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """Known answers, and those of the teacher for the rest."""
    said = [self._recall(step, ANSWER, p.question) for p in prompts]
    asked = [p for p, s in zip(prompts, said, strict=True) if s is None]
    if not asked:
      return Answers(tuple(map(Group, prompts, said)), CallStats())
    groups, calls = self.teacher.answer(asked, step)
    self._keep(step, ANSWER, [(g.prompt, g.rollouts) for g in groups])
    new = iter(groups)
    return Answers(tuple(next(new) if s is None else Group(p, s)
                         for p, s in zip(prompts, said, strict=True)), calls)

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """Known summaries, and those of the teacher for the rest."""
    said = [self._recall(step, SUMMARY, p.question) for p in prompts]
    open_ = [i for i, s in enumerate(said) if s is None]
    out = [s[0] if s else None for s in said]
    calls = CallStats()
    if open_:
      found, calls = self.teacher.summarise(
          [prompts[i] for i in open_], [traces[i] for i in open_], step)
      self._keep(step, SUMMARY, [
          (prompts[i], () if r is None else (r,))
          for i, r in zip(open_, found, strict=True)])
      for i, rollout in zip(open_, found, strict=True):
        out[i] = rollout
    return Summaries(tuple(out), calls)

  def score(self, sequences: Sequence[TokenSequence]) -> Scores:
    """As the teacher's."""
    return self.teacher.score(sequences)
