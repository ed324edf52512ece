"""A row of BENCHMARKS, and the names that its fields take."""

import dataclasses
from collections.abc import Callable, Mapping as Dict

from zppo_jax.data.mappings.mapping import Mapped, Row

FAMILIES = ('image', 'text', 'video')
SCORING = ('exact+judge', 'rule+judge', 'deterministic', 'official judge')
# The forms of a gold answer. A choice's is the place of the right option, its
# letter or its text; 'value' stands for answers that are no choices, and a text
# with 'or' says which rows have which.
GOLDS = ('index', 'letter', 'text', 'value')
# Columns that data/suites/copies.py adds to each row: the config that its file
# holds, its number in the file, the variant of a question, the folder.
CONFIG, ROW, VARIANT, HOME = '#config', '#row', '#variant', '#home'
ADDED = (CONFIG, ROW, VARIANT, HOME)
# How points become the figure of a table: the mean over questions; that over
# subsets of the mean of each (of OCRBench v2: over abilities).
AVERAGES = ('rows', 'macro')
# The reasons for which rows are skipped that hold no answer or no question.
NO_GOLD, NO_QUESTION = 'no gold', 'no question'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """A config of a set.

  Attributes:
    path: a regular expression; it is searched in the path of a file, in small
      letters.
    count: the published number of questions; 0 if it is not known.
  """
  path: str
  count: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
  """A choice of rows that a split may ask for: `bench:NAME?OPTION`.

  Attributes:
    skip: row -> the reason why it is left out; '' keeps it.
    count: the published number of questions that stay.
  """
  skip: Callable[[Row], str]
  count: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
  """A row.

  Attributes:
    title: the full name.
    family: in FAMILIES.
    hub: the id of the data set.
    split: what to fetch of it.
    scoring: that of the paper, in SCORING.
    gold: the form of the gold answer, in GOLDS.
    columns: the columns that `read` needs in every file.
    read: row -> mappings.Mapped, with the kind.
    kinds: how answers are compared, in verdicts.kinds; P and TYPE stand for
      what a row says.
    count: the questions of a complete copy; 0 if it is not published.
    rows: the rows that are read for them; 0 stands for `count`.
    earlier: `rows` in earlier revisions.
    ids: the columns that name a question together; () takes the row's number.
    subset: the column by which results are reported beside the total.
    files: names of splits; a file of another split is left out. () takes all.
    pick: a regular expression, searched in paths in small letters; if files
      match it, the others are left out.
    apart: one for files that are another set of the same repository.
    configs: by published name; a file's path tells its config.
    free: the number of configs, where each is a folder or a file of its own.
    variants: names of the questions of a row, if it holds several.
    optional: columns that some files lack; they are None there.
    lower: whether names of columns are read in small letters.
    images: columns, as in mappings.Mapping.
    video: the column that names the video.
    options: by name.
    shares: the suite whose copy is read if there is none of this one.
    average: how points become the figure of a table: in AVERAGES.
    confirmed: whether a public description confirms the columns. The others are
      from memory and may be wrong; errors about them say so.
    note: the difference from the paper.
    unknown: what public material does not tell.
  """
  title: str
  family: str
  hub: str
  split: str
  scoring: str
  gold: str
  columns: tuple[str, ...]
  read: Callable[[Row], Mapped]
  kinds: tuple[str, ...]
  count: int = 0
  rows: int = 0
  earlier: tuple[int, ...] = ()
  ids: tuple[str, ...] = ()
  subset: str = ''
  files: tuple[str, ...] = ()
  pick: str = ''
  apart: str = ''
  configs: Dict[str, Config] = dataclasses.field(default_factory=dict)
  free: int = 0
  variants: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()
  lower: bool = False
  images: str = ''
  video: str = ''
  options: Dict[str, Option] = dataclasses.field(default_factory=dict)
  shares: str = ''
  average: str = 'rows'
  confirmed: bool = True
  note: str = ''
  unknown: str = ''


def skipped(reason: str) -> Mapped:
  """A row that cannot be asked."""
  return Mapped('', '', '', skip=reason)
