"""A local copy of a benchmark: which of its files are read, and as what rows.

A hub's repository may hold other splits, other configs and other forms beside
the wanted files. The names of files and folders tell them apart.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from zppo_jax.data import readers, values
from zppo_jax.data.suites.benchmark import (
  ADDED,
  CONFIG,
  HOME,
  ROW,
  VARIANT,
  Benchmark,
)

FORMS = ('parquet', 'arrow', 'jsonl', 'json', 'csv')  # the first that is there
# Folders of media, and files that describe others.
_MEDIA = ('frames', 'videos', 'video', 'images', 'subtitle')
_ABOUT = ('dataset_info', 'dataset_infos', 'dataset_dict', 'state')
_SPLITS = 'train|testmini|test|validation|valid|val|dev'
_SPLIT = re.compile(rf'(?:^|.*[-_.])({_SPLITS})$|^({_SPLITS})(?=[-_.])',
                    re.IGNORECASE)
_SHARD = re.compile(r'[-_.]?\d{5}-of-\d{5}(-[0-9a-f]+)?$')
_NO_CONFIG = ('', 'data', 'json', 'default', 'main')
_NAMED = 5  # files or configs that a note names


class Copy(NamedTuple):
  """Files of a copy.

  Attributes:
    home: its folder.
    form: in FORMS.
    files: in the order of names.
    configs: that of each file; '' where the set has none.
    notes: what was left out.
  """
  home: pathlib.Path
  form: str
  files: tuple[pathlib.Path, ...]
  configs: tuple[str, ...]
  notes: tuple[str, ...] = ()


def _stem(path: pathlib.Path) -> str:
  return _SHARD.sub('', path.stem)


def split_of(path: pathlib.PurePath) -> str:
  """The split that a file's name tells, or its folder's; '' if none does."""
  for part in (_stem(pathlib.Path(path)), *reversed(path.parent.parts)):
    if of := _SPLIT.match(part):
      return (of[1] or of[2]).lower()
  return ''


def named_alike(name: str) -> str:
  """A name of a data set without what differs between its spellings."""
  return name.lower().replace('_', '-')


def free_config(path: pathlib.PurePath, hub: str = '') -> str:
  """The config of a file where each is a file or a folder: its name without
  split and shard, or the nearest folder's.

  A folder that is a split has its config above it, whatever the file is called
  (`law/val/0000.parquet`).

  Args:
    path: inside of the copy.
    hub: the id of the set, whose last part names no config
      (`law/ceval-exam-val.parquet`).
  """
  no_config = (*_NO_CONFIG, named_alike(hub.rpartition('/')[2]))

  def first(parts: Iterable[str]) -> str:
    for part in parts:
      of = _SPLIT.match(part)
      if of and of[2]:
        part = part[len(of[2]):].strip('-_.')
      elif of:
        part = part[:-len(of[1])].strip('-_.')
      if named_alike(part) not in no_config and not part.isdecimal():
        return part
    return ''

  stem, folders = _stem(pathlib.Path(path)), path.parent.parts
  splits = [i for i, part in enumerate(folders)
            if re.fullmatch(_SPLITS, part, re.IGNORECASE)]
  if splits and not _SPLIT.match(stem) and (
      above := first(reversed(folders[:splits[-1]]))):
    return above
  return first((stem, *reversed(folders)))


def _there(home: pathlib.Path) -> list[pathlib.Path]:
  """The files of all forms, as paths in the folder, in the order of names."""
  out = []
  for folder, inner, names in os.walk(home):
    at = pathlib.Path(folder).relative_to(home)
    inner[:] = sorted(n for n in inner if not n.startswith('.') and not (
        at == pathlib.Path() and n.lower() in _MEDIA))
    out += [at / n for n in names if n.rpartition('.')[2] in FORMS
            and n.rpartition('.')[0] not in _ABOUT]
  return sorted(out)


def _few(names: Sequence[object]) -> str:
  more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
  return f'{", ".join(map(str, names[:_NAMED]))}{more}'


def _config(of: Benchmark, path: pathlib.Path, home: pathlib.Path) -> str:
  if of.free:
    return free_config(path, of.hub)
  if not of.configs:
    return ''
  # The folder of the copy counts too, if a user put one config into it.
  told = path.as_posix().lower()
  for name, config in of.configs.items():
    if re.search(config.path, told):
      return name
  raise ValueError(
      f'{home / path}: its path does not tell which config of {of.title} it '
      f'holds; put the files of each into a folder: {", ".join(of.configs)}')


def find(of: Benchmark, home: pathlib.Path, config: str = '') -> Copy | None:
  """The files of a copy that are read; None if there is no file at all.

  Args:
    of: the benchmark.
    home: its folder.
    config: the one that is wanted; '' takes all.

  Raises:
    FileNotFoundError: if the files that are there are of other splits.
    ValueError: for a file whose config is not told.
  """
  there = _there(home)
  if not there:
    return None
  wanted = [p for p in there
            if (not of.files or split_of(p) in ('', *of.files))
            and not (of.apart and re.search(of.apart, p.as_posix().lower()))]
  if of.pick:
    picked = [p for p in wanted if re.search(of.pick, p.as_posix().lower())]
    wanted = picked or wanted
  form = next((f for f in FORMS if any(p.suffix == f'.{f}' for p in wanted)),
              '')
  wanted = [p for p in wanted if p.suffix == f'.{form}']
  configs = [_config(of, p, home) for p in wanted]
  if config:
    kept = [i for i, name in enumerate(configs) if name == config]
    wanted, configs = [wanted[i] for i in kept], [configs[i] for i in kept]
  if not wanted:
    raise FileNotFoundError(
        f'{home} holds no file of {of.title}, {of.split}'
        f'{f", config {config}" if config else ""}; there: {_few(there)}')
  return Copy(home, form, tuple(home / p for p in wanted), tuple(configs),
              _notes(of, there, wanted, configs, config))


def _notes(of: Benchmark, there: Sequence[pathlib.Path],
           wanted: Sequence[pathlib.Path], configs: Sequence[str],
           config: str) -> tuple[str, ...]:
  notes = []
  left = [p for p in there if p not in set(wanted)]
  if left and not config:
    notes.append(f'{len(left)} files left out: {_few(left)}')
  missing = [c for c in of.configs if c not in configs]
  if missing and not config:
    notes.append(f'no file of the config {_few(missing)}')
  count = len(set(configs))
  if of.free and count != of.free:
    notes.append(f'{count} of {of.free} configs are there')
  return tuple(notes)


class Rows:
  """The rows of a copy, as readers.Reader; a row holds ADDED columns too.

  A row with several questions counts as several rows.
  """

  def __init__(self, of: Benchmark, copy: Copy, leave_out: Sequence[str] = (),
               most: int = readers.MOST_BYTES,
               variants: Sequence[str] = ()):
    self._rows = readers.open_reader(copy.form, copy.files, leave_out, most)
    self._counting = (self._rows if not of.lower and isinstance(
        self._rows, readers.Counting) else None)
    self._of, self._variants = of, tuple(variants) or ('',)
    self._home = str(copy.home)
    self._added = tuple(c for c in of.optional if c not in leave_out)
    self._configs = dict(zip(map(str, copy.files), copy.configs, strict=True))
    self._first: dict[str, int] = {}
    for i in range(len(self._rows)):
      self._first.setdefault(self._rows.file(i), i)
    self.folder = copy.home
    names = [c.lower() if of.lower else c for c in self._rows.columns]
    self.columns = tuple(dict.fromkeys((*names, *of.optional, *ADDED)))

  def __len__(self) -> int:
    return len(self._rows) * len(self._variants)

  def file(self, index: int) -> str:
    return self._rows.file(index // len(self._variants))

  def where(self, index: int) -> str:
    at, variant = divmod(index, len(self._variants))
    name = self._variants[variant]
    return self._rows.where(at) + (f', {name}' if name else '')

  def held(self, index: int, columns: Sequence[str]) -> int:
    """How many values some columns hold in a row, as values.held counts."""
    at = index // len(self._variants)
    if self._counting is not None:
      return self._counting.held(at, columns)
    row = self[index]
    return sum(values.held(row[c]) for c in columns)

  def __getitem__(self, index: int) -> dict[str, Any]:
    at, variant = divmod(index, len(self._variants))
    row = self._rows[at]
    if self._of.lower:
      row = {name.lower(): value for name, value in row.items()}
    file = self._rows.file(at)
    return {**dict.fromkeys(self._added), **row, CONFIG: self._configs[file],
            ROW: at - self._first[file], VARIANT: self._variants[variant],
            HOME: self._home}
