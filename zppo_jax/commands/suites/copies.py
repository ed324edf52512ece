"""The local copies of benchmarks that an evaluation asks."""

import collections
import dataclasses
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from zppo_jax import allowed
from zppo_jax.chat.wording import Chat
from zppo_jax.data import digest, prompt_lengths, suites
from zppo_jax.data.pool import Pool
from zppo_jax.data.sources import Bounds, ascii_name, roots
from zppo_jax.data.suites.video_rows import SUBTITLES
from zppo_jax.records import Question
from zppo_jax.verdicts import kinds


@dataclasses.dataclass
class Suite:
  """A benchmark and its questions.

  Attributes:
    split: as a config names it, with suites.PREFIX.
    pool: its questions.
    chat: of the model that is asked, once it is known.
    check: (longest prompt in tokens, patch buckets, data.fit), likewise.
  """
  split: str
  pool: Pool
  chat: Chat | None = None
  check: tuple[int, Sequence[int], str] | None = None

  @property
  def name(self) -> str:
    """Of its folder among the results: the split without a prefix."""
    return self.split.removeprefix(suites.PREFIX)

  @property
  def base(self) -> str:
    """The name of the row of suites.BENCHMARKS."""
    return self.name.partition('?')[0]

  @property
  def shows(self) -> bool:
    """Whether its questions may have pictures or videos."""
    of = suites.get(self.base)
    return bool(of.images or of.video)

  @property
  def skipped(self) -> dict[str, int]:
    """Reason -> rows that were skipped."""
    return next(iter(self.pool.skipped.values()), {})

  @property
  def notes(self) -> tuple[str, ...]:
    """How the copy differs from the published set."""
    return tuple(note.removeprefix(f'{self.split}: ')
                 for note in self.pool.notes)

  @property
  def digest(self) -> str:
    """Of the words of all questions."""
    return digest.joined(digest.of_words(q) for q in self.pool.words())

  def _why_not(self, question: Question) -> tuple[str, str]:
    """(why a question cannot be asked, the reason under which it is counted);
    ('', '') if it can."""
    longest, patches, _ = self.check
    if question.media and self.chat.vision is None:
      return (f'question {question.id!r} has pictures or videos, and the model '
              'takes text alone', 'pictures, and the model takes text alone')
    why = prompt_lengths.why_overlong(question, self.chat, longest, patches)
    return why, 'prompts that no bucket holds' if why else ''

  def fitting(self) -> tuple[list[int], dict[str, int]]:
    """(numbers of the questions that are asked, reason -> number of others).

    Raises:
      ValueError: for a prompt that no bucket holds or pictures in a chat of
        text alone, unless data.fit is 'drop'; if nothing is left.
    """
    at: list[int] = []
    left_out: collections.Counter[str] = collections.Counter()
    for i in range(len(self.pool)):
      why, reason = self._why_not(self.pool[i])
      if why and self.check[2] != 'drop':
        raise ValueError(f"{self.split}: {why}; data.fit='drop' leaves such "
                         'questions out and counts them, and --splits leaves '
                         'out suites')
      if why:
        left_out[reason] += 1
      else:
        at.append(i)
    if not at:
      raise ValueError(f'{self.split}: none of {len(self.pool)} questions can '
                       'be asked: ' + '; '.join(
                           f'{n} {reason}' for reason, n in left_out.items()))
    return at, dict(left_out)

  def outline(self, has_judge: bool) -> list[str]:
    """What would be asked, in lines: counts, kinds, prompts, judge."""
    tokens, patches, unseen = [], [0], 0
    for i in range(len(self.pool)):
      question = self.pool[i]
      if question.media and self.chat.vision is None:
        unseen += 1
        continue
      size = self.chat.outline(question.text, question.media, question.turns)
      tokens.append(size[0])
      patches.append(size[1])
    of = collections.Counter(q.kind for q in self.pool.words())
    skipped = ''.join(f', {n:,} skipped: {why}'
                      for why, n in self.skipped.items())
    lines = [f'{self.name}: {len(self.pool):,} questions{skipped}']
    if unseen:
      lines.append(f'  {unseen:,} have pictures or videos, and the model takes '
                   'text alone')
    if tokens:
      lines.append(
          f'  prompts: {statistics.median(tokens):,.0f} tokens (median), '
          f'at most {max(tokens):,}'
          + (f'; at most {max(patches):,} patches' if any(patches) else ''))
    lines.append('  answers: ' + ', '.join(
        f'{kind} {n:,}' for kind, n in of.most_common()))
    alone = sum(n for kind, n in of.items() if kind in kinds.JUDGED)
    after = sum(n for kind, n in of.items() if kinds.judged(kind)) - alone
    if alone or after:
      lines.append(f'  judge: {alone:,} answers to every question'
                   + (f', {after:,} where comparing fails' if after else '')
                   + ('' if has_judge else '; judge.url is empty'))
    return [*lines, *(f'  {note}' for note in self.notes)]


def _is_there(name: str, home: pathlib.Path) -> bool:
  """Whether a folder holds a copy of a benchmark, or of the one with the same
  files; subtitles are files of their own."""
  shared = suites.get(name).shares
  if (home / name).is_dir() or not shared:
    return (home / name).is_dir()
  return (home / shared / SUBTITLES).is_dir() if (
      name == 'video_mme_subtitles') else (home / shared).is_dir()


def names_in(folder: str, splits: Sequence[str]) -> list[str]:
  """The splits to evaluate, in the order of suites.BENCHMARKS.

  Args:
    folder: holds a folder per benchmark.
    splits: with or without suites.PREFIX; () takes all that are there. Two
      benchmarks may have one copy.

  Raises:
    FileNotFoundError: if the folder holds no benchmark, with their names.
    KeyError: for an unknown benchmark.
  """
  home = pathlib.Path(folder).expanduser()
  if splits:
    names = [split.removeprefix(suites.PREFIX) for split in splits]
    twice = [n for n, count in collections.Counter(names).items() if count > 1]
    if twice:
      raise ValueError(f'splits names {twice[0]!r} more than once')
    order = list(suites.BENCHMARKS)
    for name in names:
      suites.get(name.partition('?')[0])
    return sorted(names, key=lambda n: order.index(n.partition('?')[0]))
  there = [name for name in suites.BENCHMARKS if _is_there(name, home)]
  if not there:
    raise FileNotFoundError(
        f'{home} holds no folder of a benchmark; their names are '
        f'{", ".join(suites.BENCHMARKS)}')
  return there


REFUSALS = (KeyError, ValueError, OSError)  # of a copy that cannot be read


def find(config, folder: str, splits: Sequence[str], limit: int,
         refused: dict[str, str] | None = None) -> list[Suite]:
  """The open suites of a folder; every question's words are read once.

  Args:
    config: of a run: bounds of files in data.pool, and whether it has a judge.
    folder: holds a folder per benchmark.
    splits: as in `names_in`.
    limit: the most questions of each; 0: all.
    refused: gets name -> reason of suites that cannot be opened, which are left
      out; None raises the first of them.

  Raises:
    As `names_in` and suites.open_pool.
  """
  allowed.number('limit', limit, '>= 0', whole=True)
  fields = config.data.pool
  bounds = Bounds(roots(fields.get('media_roots', ()), 'data.pool'),
                  fields.get('max_bytes', Bounds.max_bytes))
  out = []
  for name in names_in(folder, splits):
    try:
      pool: Any = suites.open_pool(f'{suites.PREFIX}{name}', folder, bounds,
                                   judged=bool(config.judge.url))
    except REFUSALS as e:
      if refused is None:
        raise
      refused[name] = ascii_name(e)
      continue
    if limit and len(pool) > limit:
      pool = pool.keep('limit', range(limit))
    out.append(Suite(f'{suites.PREFIX}{name}', pool))
  return out
