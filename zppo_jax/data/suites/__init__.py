"""BENCHMARKS: the paper's 31 evaluation sets (App. B.2, Tables 5-7).

A split `bench:NAME` of a config reads a local copy; nothing is downloaded:

  config.eval.benchmarks/NAME/   the files of the set as they are published
  config.eval.benchmarks/NAME/frames/VIDEO/   frames of each video

`bench:NAME?PART` reads a part: a config (`mmmu_pro?vision`), a kind of question
(`charxiv?reasoning`), or an option of the row (`mmlu_redux?ok`).

A prompt holds the question, its options as lines `A. ...` and the chat's
closer; the paper strips upstream directives likewise.

  benchmark    a row of the table
  table        the rows
  copies       which files of a copy are read
  choices      options, and the letter of the right one
  image_rows, text_rows, video_rows, charts, subtitles   rows as questions
"""

import functools
import math
import pathlib
from collections.abc import Callable, Sequence

from zppo_jax import allowed
from zppo_jax.data import pool, sources, values
from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row
from zppo_jax.data.suites import copies
from zppo_jax.data.suites.benchmark import (
  AVERAGES,
  CONFIG,
  FAMILIES,
  GOLDS,
  HOME,
  ROW,
  SCORING,
  VARIANT,
  Benchmark,
  Option,
)
from zppo_jax.data.suites.table import BENCHMARKS
from zppo_jax.records import Decoding, Question
from zppo_jax.verdicts import kinds

__all__ = ['ANSWERS', 'AVERAGES', 'BENCHMARKS', 'DECODING', 'FAMILIES', 'GOLDS',
           'PREFIX', 'SCORING', 'Benchmark', 'get', 'load', 'mapping',
           'open_pool', 'open_source', 'parts']

PREFIX, PART = 'bench:', '?'
# The paper's decoding of all benchmarks, with one answer per question. Its
# presence penalty of 1.5 is not built here. An image has 256 to 1280 x 32 x 32
# pixels.
DECODING = Decoding(max_tokens=12288, temperature=0.6, top_p=0.95, top_k=20)
ANSWERS = 1
# Scoring classes whose judge is asked where a rule finds no right answer.
_JUDGED = ('exact+judge', 'rule+judge')
_EVERY = Option(skip=lambda row: '')


def get(name: str) -> Benchmark:
  """A row of BENCHMARKS; KeyError names the known ones."""
  return allowed.known('benchmark', name, BENCHMARKS)


def parts(of: Benchmark) -> tuple[str, ...]:
  """What may stand behind the `?` of a split."""
  kinds_of = dict.fromkeys(v.partition('_')[0] for v in of.variants)
  return (*of.configs, *kinds_of, *of.options)


def mapping(of: Benchmark, judged: bool = False,
            option: Option = _EVERY) -> Mapping:
  """The mapping of the rows of a benchmark.

  It reads rows of copies.Rows, or a sample of plain ones: what copies adds is
  blank there, and one of several questions is read.

  Args:
    of: the benchmark.
    judged: whether a run has a judge, which is then asked where the paper's
      scoring falls back to one.
    option: the rows that stay.
  """
  after = of.scoring in _JUDGED and judged
  return Mapping(
      source=of.hub, columns=of.columns,
      read=functools.partial(_read, of, option.skip, after),
      images=of.images, unconfirmed=() if of.confirmed else of.columns,
      pictured=of.family == 'image')


def _read(of: Benchmark, skip: Callable[[Row], str], judged: bool,
          row: Row) -> Mapped:
  """A question of a row, with the name and the subset that the table states.

  A NaN is no value: tools that know no null in numbers write one.
  """
  row = {**dict.fromkeys(of.optional), CONFIG: '', ROW: 0, HOME: '',
         VARIANT: of.variants[-1] if of.variants else '', **{
             name: None if isinstance(value, float) and math.isnan(value)
             else value for name, value in row.items()}}
  words = of.read(row)
  reason = words.skip or skip(row)
  if reason:
    return words._replace(skip=reason)
  name = [values.text(row[c], c) for c in of.ids]
  return words._replace(
      id='/'.join(n for n in name if n),
      kind=kinds.with_judge(words.kind) if judged else words.kind,
      subset=words.subset or (values.text(row[of.subset], of.subset)
                              if of.subset else ''))


def _home(name: str, of: Benchmark, folder: str) -> pathlib.Path:
  """The folder of a copy, or that of the suite which has the same files."""
  above = pathlib.Path(folder).expanduser()
  if of.shares and not (above / name).is_dir() and (above / of.shares).is_dir():
    return above / of.shares
  return above / name


def _named(split: str) -> tuple[str, Benchmark, str]:
  """(name, row, part) of a split; KeyError names the known ones."""
  name, _, part = split.removeprefix(PREFIX).partition(PART)
  of = get(name)
  if part:
    allowed.one_of(f'part of {PREFIX}{name}:', part, parts(of))
  return name, of, part


def _copy(split: str, folder: str) -> copies.Copy:
  """The files of a split, as `open_source`."""
  name, of, part = _named(split)
  if not folder:
    raise ValueError(f'eval.splits has {split!r}; eval.benchmarks must name '
                     'the folder that holds local copies')
  home = _home(name, of, folder)
  copy = copies.find(of, home, part if part in of.configs else '')
  if copy is None:
    frames = (f', and frames of its videos into {home}/frames/VIDEO/'
              if of.video else '')
    raise FileNotFoundError(
        f'{of.title} is not on disk: fetch {of.hub} ({of.split}) and put its '
        f'files ({", ".join(copies.FORMS)}) into {home}{frames}'
        f'{allowed.looked_from(home)}')
  return copy


def open_source(split: str, folder: str, bounds: sources.Bounds | None = None,
                judged: bool = False) -> sources.Source:
  """The rows of a benchmark's local copy.

  Args:
    split: `bench:NAME` or `bench:NAME?PART`; the prefix may be left out.
    folder: config.eval.benchmarks, which holds the copies.
    bounds: of data.pool; None takes the defaults.
    judged: as in `mapping`.

  Raises:
    KeyError: for an unknown benchmark or part, or for missing columns.
    FileNotFoundError: if there is no copy; it says what to fetch, and whereto.
    ValueError: if a file cannot be read, or if `folder` is ''.
  """
  return _opened(split, _copy(split, folder), bounds, judged)


def open_home(name: str, home: pathlib.Path,
              bounds: sources.Bounds | None = None) -> sources.Source:
  """The rows of a copy in a folder of any name; raises as `open_source`."""
  of = get(name)
  copy = copies.find(of, home)
  if copy is None:
    raise FileNotFoundError(f'{home} holds no file of {of.title}')
  return _opened(name, copy, bounds, False)


def _opened(split: str, copy: copies.Copy, bounds: sources.Bounds | None,
            judged: bool) -> sources.Source:
  name, of, part = _named(split)
  variants = [v for v in of.variants if v.partition('_')[0] == part
              or part not in {v.partition('_')[0] for v in of.variants}]
  rows = functools.partial(copies.Rows, of, copy, variants=variants)
  label = PREFIX + name + (PART + part if part else '')
  return sources.Source(
      sources.Spec(label, copy.form, str(copy.home), mapping='of its own',
                folder=str(copy.home)),
      mapping=mapping(of, judged, of.options.get(part, _EVERY)),
      bounds=bounds, rows=rows)


def open_pool(split: str, folder: str, bounds: sources.Bounds | None = None,
              judged: bool = False) -> pool.Pool:
  """The questions of a benchmark's local copy.

  Args, Raises: as `open_source`; ValueError for a row that cannot be read, too.

  Returns:
    A pool whose notes say where the copy differs from the published set.
  """
  copy = _copy(split, folder)
  source = _opened(split, copy, bounds, judged)
  out = pool.Pool([source], {})
  _, of, part = _named(split)
  out.notes = tuple(f'{source.of.name}: {note}' for note in (
      *_of_count(of, part, len(source), len(out)), *copy.notes))
  return out


def _of_count(of: Benchmark, part: str, rows: int,
              questions: int) -> tuple[str, ...]:
  """A note, if a copy holds another number of rows than is published."""
  expected: tuple[int, ...]
  if part in of.configs:
    expected = (of.configs[part].count,)
  elif part in of.options:
    rows, expected = questions, (of.options[part].count,)
  elif part:  # some of the variants
    count = sum(v.partition('_')[0] == part for v in of.variants)
    expected = (of.count // len(of.variants) * count,)
  else:
    expected = (of.rows or of.count, *of.earlier)
  if rows == expected[0]:
    return ()
  if rows in expected:
    return (f'{rows:,} rows, as in an earlier revision; the newest has '
            f'{expected[0]:,}',)
  return (f'{rows:,} rows; the published set has {expected[0]:,}',)


def load(split: str, folder: str, size: int,
         bounds: sources.Bounds | None = None,
         judged: bool = False) -> Sequence[Question]:
  """The first `size` questions of a benchmark's local copy, as `open_pool`."""
  return open_pool(split, folder, bounds, judged)[:size]
