"""A journal of a teacher's answers, which repeated steps reuse.

An endpoint may answer the same question differently the next time. A run that
was killed takes the answers of the steps that it repeats from its journal, so
that it ends like one that was not. Answers that did not come are not recorded,
because a repeated step requests them again.
"""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Callable, Sequence

from zppo_jax.chat.wording import Chat
from zppo_jax.devices import disk, hosts
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
  Wanted,
)
from zppo_jax.rollout import collect
from zppo_jax.teachers import PLAIN, Capabilities, Teacher, check
from zppo_jax.teachers.score_journal import ScoreJournal

ANSWER, SUMMARY, HINT = 'answer', 'summary', 'hint'


def _row(line: bytes):
  """((step, what, id), texts with their stop reasons) of a line.

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
  """Texts by (step, what, id). A last line that a kill tore is cut off.

  Raises:
    ValueError: for a whole line that is no answer, because no kill leaves one.
  """
  texts_by_key: dict = {}
  raw = path.read_bytes() if path.exists() else b''
  *lines, torn = raw.split(b'\n')
  for number, line in enumerate(lines, 1):
    try:
      key, texts = _row(line)
      texts_by_key[key] = texts
    except (ValueError, RecursionError) as e:
      raise ValueError(
          f'{path}, line {number}: {line[:60]!r} is no answer of a teacher '
          f'({e}); mend it, or remove it: then the answer is asked for again'
          ) from e
  if torn:
    os.truncate(path, len(raw) - len(torn))
  return texts_by_key


@dataclasses.dataclass(frozen=True)
class CachedTeacher:
  """A teacher with a journal of its answers.

  Attributes:
    teacher: it gets the requests whose answers the journal does not hold.
    path: teacher.jsonl of a run.
    chat: the student's chat.
    grader: grades the answers.
    known: the texts that the file held when it was opened, by (step, what, id).
    scores: the scores, in a file of their own.
    kind: its teacher.kind, for errors.
  """
  teacher: Teacher
  path: pathlib.Path
  chat: Chat
  grader: Grader
  known: dict
  scores: ScoreJournal
  kind: str
  _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

  @classmethod
  def open(cls, teacher: Teacher, path, chat: Chat, grader: Grader, *,
           name: str = '', kind: str = 'endpoint') -> 'CachedTeacher':
    """The teacher with the journals at `path` and beside it.

    Args:
      teacher, path, chat, grader, kind: the attributes.
      name: says which teacher it is: scores of another one are not reused.

    Raises:
      ValueError: for a whole line of a file that is none of its own.
    """
    path = pathlib.Path(path)
    known = hosts.from_first(lambda: _read(path), 'the journal of the teacher')
    return cls(
        teacher=teacher, path=path, chat=chat, grader=grader, known=known,
        scores=ScoreJournal.open(path.with_name(f'{path.stem}_scores.jsonl'),
                                 name), kind=kind)

  @property
  def capabilities(self) -> Capabilities:
    return dataclasses.replace(self.teacher.capabilities, repeatable=True)

  def _recall(self, step: int, what: str, question: Question):
    texts = self.known.get((step, what, question.id))
    if texts is None:
      return None
    return collect.from_texts(
        [question], [texts], self.chat,
        collect.UNGRADED if what == HINT else self.grader)[0]

  def _record(self, step: int, what: str,
              answered: Sequence[tuple[Prompt, Sequence[Rollout]]]) -> None:
    lines = [disk.sealed({
        'step': step, 'what': what, 'id': prompt.question.id,
        'texts': [[r.text, r.stop.name.lower()] for r in rollouts]})
        for prompt, rollouts in answered if rollouts]
    if lines and hosts.first():
      with self._lock:
        disk.append(self.path, ''.join(lines))

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """The recorded answers, and new ones of the teacher for the rest."""
    recorded = [self._recall(step, ANSWER, p.question) for p in prompts]
    requests = [p for p, rollouts in zip(prompts, recorded, strict=True)
                if rollouts is None]
    if not requests:
      return Answers(groups=tuple(map(Group, prompts, recorded)),
                     calls=CallStats())
    groups, calls = self.teacher.answer(requests, step)
    self._record(step, ANSWER, [(g.prompt, g.rollouts) for g in groups])
    new = iter(groups)
    return Answers(
        groups=tuple(next(new) if rollouts is None else Group(p, rollouts)
                     for p, rollouts in zip(prompts, recorded, strict=True)),
        calls=calls)

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """The recorded summaries, and new ones of the teacher for the rest."""
    return self._single(SUMMARY, self.teacher.summarise, prompts, traces, step)

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """The recorded hints, and new ones of the teacher for the rest."""
    return self._single(HINT, self.teacher.hint, prompts, traces, step)

  def _single(self, what: str, ask: Callable[..., Summaries],
              prompts: Sequence[Prompt], traces: Sequence[str],
              step: int) -> Summaries:
    """Texts of which there is one per prompt."""
    recorded = [self._recall(step, what, p.question) for p in prompts]
    missing = [i for i, rollouts in enumerate(recorded) if rollouts is None]
    summaries = [rollouts[0] if rollouts else None for rollouts in recorded]
    calls = CallStats()
    if missing:
      new, calls = ask([prompts[i] for i in missing],
                       [traces[i] for i in missing], step)
      self._record(step, what, [
          (prompts[i], () if r is None else (r,))
          for i, r in zip(missing, new, strict=True)])
      for i, rollout in zip(missing, new, strict=True):
        summaries[i] = rollout
    return Summaries(rollouts=tuple(summaries), calls=calls)

  def score(self, sequences: Sequence[TokenSequence], wanted: Wanted = PLAIN,
            step: int | None = None) -> Scores:
    """The recorded scores, and new ones of the teacher for the rest.

    A sequence that occurs several times is scored once.
    """
    check(self.kind, self.capabilities, wanted, sequences)
    keys = self.scores.keys(sequences, wanted)
    first = {key: i for i, key in reversed(list(enumerate(keys)))
             if key not in self.scores.places}
    calls = CallStats()
    if first:
      new = sorted(first.values())
      scores = self.teacher.score(
          [sequences[i] for i in new], wanted.of(new), step)
      calls = scores.calls
      self.scores.record([keys[i] for i in new], scores)
    return self.scores.scores(keys, wanted, calls)
