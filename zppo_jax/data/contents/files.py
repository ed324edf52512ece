"""The files of a folder by form, data set and split, before any row is read."""

import collections
import dataclasses
import json
import keyword
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

from zppo_jax import allowed
from zppo_jax.data import readers
from zppo_jax.data.readers import saved, tfds_reader

# Forms whose rows lie in files of one suffix.
SUFFIXES = {f'.{form}': form for form in readers.READERS
            if form not in ('hf', 'tfds')}
# Files that hold rows in a form that no reader takes, and what to do.
UNREAD = {
    '.zip': 'unpack it', '.tar': 'unpack it', '.gz': 'unpack it',
    '.zst': 'unpack it', '.bz2': 'unpack it', '.xz': 'unpack it',
    '.tsv': 'write it as CSV', '.xlsx': 'write it as CSV',
    '.pkl': 'a pickle may run code and is never read',
    '.mp4': 'a video: write its frames into a folder of its name',
    '.webm': 'a video: write its frames into a folder of its name',
    '.mkv': 'a video: write its frames into a folder of its name',
    '.avi': 'a video: write its frames into a folder of its name'}
SPLITS = ('train', 'training', 'test', 'testmini', 'validation', 'valid',
          'val', 'dev', 'rl', 'sft')
_SHARD = re.compile(r'(?:[-_.]\d{1,6}(?:-of-\d{1,6})?)+$|^\d{1,6}$')
_SPLIT = re.compile(rf'(?:^|[-_.])({"|".join(SPLITS)}|sample_variant\d+)'
                    r'(?=$|[-_.])')
# Splits that are evaluated on, where there is another one to train on.
_EVALUATED = re.compile(r'(?:test|testmini|validation|valid|val|dev)(?![a-z])')
_START = 64  # bytes that tell an array of rows from other JSON
# Files that describe what save_to_disk wrote.
_DESCRIBE = ('dataset_dict.json', 'state.json')


@dataclasses.dataclass(frozen=True)
class Part:
  """Files that belong together: one form, one folder, one split.

  Attributes:
    form: in readers.READERS.
    files: in the order of their names, of a data set of save_to_disk in its
      own; of TFDS the path with its split.
    folder: under the root, in which they lie; '.' for the root itself.
    split: by the names of the files or of the folder; '' if they name none.
    path: a path that the reader takes for exactly these files; '' if no file,
      folder or glob is one.
  """
  form: str
  files: tuple[str, ...]
  folder: str
  split: str
  path: str

  @property
  def evaluated(self) -> bool:
    """Whether the split's name is that of questions to evaluate on."""
    return bool(_EVALUATED.match(self.split))

  @property
  def label(self) -> str:
    """Folder and split, as the command prints them."""
    return ', '.join(x for x in (
        '' if self.folder == '.' else self.folder, self.split) if x) or '.'


@dataclasses.dataclass(frozen=True)
class Survey:
  """What lies in a folder.

  Attributes:
    root: the folder, or that of the only file.
    parts: the files that hold rows.
    others: suffix -> number of files that hold none.
    unread: path -> what to do, for files whose form no reader takes.
  """
  root: pathlib.Path
  parts: tuple[Part, ...]
  others: dict[str, int]
  unread: dict[str, str]


def some(part: Part, members: Sequence[int]) -> Part:
  """A part of some of the files of a part."""
  if len(members) == len(part.files):
    return part
  chosen = [pathlib.Path(part.files[i]) for i in members]
  return dataclasses.replace(part, files=tuple(map(str, chosen)), path=path_of(
      chosen, chosen[0].suffix, chosen[0].parent, part.split))


def name_of(part: Part) -> str:
  """A name for the source of a part, which a config takes as a key."""
  first = pathlib.Path(part.files[0].rpartition(':')[0] if part.form == 'tfds'
                       else part.files[0]).absolute()
  stem = _SHARD.sub('', first.stem)
  if part.form == 'hf':
    # The folder of a split is that of its files; of the data set, that above.
    folder = first.parent
    if folder.name == part.split:
      folder = folder.parent
    named = split_of(folder / 'x', folder.parent) == part.split
    stem = folder.name if named else '_'.join(
        x for x in (folder.name, part.split) if x)
  elif part.form == 'tfds' or not stem or _SPLIT.search(stem.lower()):
    folder = first.parent
    if part.split and split_of(folder / 'x', folder.parent) == part.split:
      folder = folder.parent
    stem = '_'.join(x for x in (folder.name, part.split) if x)
  words = ''.join(c if c.isascii() and c.isalnum() else '_' for c in stem)
  name = re.sub('_+', '_', words).strip('_').lower() or 'mine'
  return f'of_{name}' if name[0].isdigit() or keyword.iskeyword(name) else name


def split_of(file: pathlib.Path, root: pathlib.Path) -> str:
  """The split that a file's name, or a folder above it, names; else ''."""
  stem = _SHARD.sub('', file.stem)
  for name in (stem, *(p.name for p in file.relative_to(root).parents)):
    match = _SPLIT.search(name.lower())
    if match:
      return match[1]
  return ''


def path_of(files: Sequence[pathlib.Path], suffix: str, folder: pathlib.Path,
            split: str) -> str:
  """A file, folder or glob that stands for exactly these files; '' if none."""
  if len(files) == 1:
    return str(files[0])
  names = {_SHARD.sub('', f.stem) for f in files}
  globs = [f'{folder}/{name}*{suffix}' for name in sorted(names)]
  if split:
    globs += [f'{folder}/{split}*{suffix}', f'{folder}/**/{split}*{suffix}',
              f'{folder}/{split}/**/*{suffix}', f'{folder}/*{split}*{suffix}']
  wanted = sorted(files)
  if sorted(folder.rglob(f'*{suffix}')) == wanted:
    return str(folder)
  for pattern in globs:
    relative = str(pathlib.Path(pattern).relative_to(folder))
    if sorted(folder.glob(relative)) == wanted:
      return pattern
  return ''


def _tfds(folder: pathlib.Path) -> list[Part]:
  """A part for each split of a prepared builder; one whose splits cannot be
  read is a part without a split, and its reader says why."""
  try:
    names = tfds_reader.splits_of(folder)
  except ValueError:
    return [Part('tfds', (str(folder),), folder.name, '', str(folder))]
  return [Part('tfds', (f'{folder}:{name}',), folder.name, name,
               f'{folder}:{name}') for name in names]


def _saved(folder: pathlib.Path, root: pathlib.Path) -> list[Part]:
  """A part for each split of a DatasetDict, or the part of a Dataset; a part
  that cannot be read holds what describes it alone, and its reader says why."""
  out = []
  for split in _splits(folder) or ('',):
    home = folder / split
    try:
      rows = saved.shards(home)
    except (ValueError, FileNotFoundError):
      rows = [home / name for name in _DESCRIBE if (home / name).is_file()]
    out.append(Part(
        'hf', tuple(map(str, rows)), str(folder.relative_to(root)),
        split or split_of(folder / 'x', folder.parent),
        f'{folder}:{split}' if split else str(folder)))
  return out


def _splits(folder: pathlib.Path) -> tuple[str, ...] | None:
  """As saved.splits_of; ('',) where the list of splits cannot be read."""
  try:
    return saved.splits_of(folder)
  except ValueError:
    return ('',)


def _saved_folders(root: pathlib.Path) -> list[pathlib.Path]:
  """The folders below one that save_to_disk wrote, without those of splits."""
  found = {p.parent for name in _DESCRIBE for p in root.rglob(name)
           if not any(x.startswith('.') for x in p.relative_to(root).parts)}
  whole = {folder for folder in found if _splits(folder)}
  return sorted(folder for folder in found
                if not any(above in whole for above in folder.parents)
                and _splits(folder) is not None
                and (folder in whole or _is_state(folder / 'state.json')))


def _is_state(file: pathlib.Path) -> bool:
  """Whether a state.json is one of `datasets`, and not of another program."""
  try:
    return '_data_files' in json.loads(file.read_text())
  except (ValueError, TypeError, RecursionError):
    return False


def _visible(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the files under a folder, without hidden files and folders."""
  for path in sorted(root.rglob('*')):
    hidden = any(p.startswith('.') for p in path.relative_to(root).parts)
    if not hidden and path.is_file():
      yield path


def _has_rows(file: pathlib.Path) -> bool:
  """Whether a file of a form with rows may hold some: JSON is an array, which
  tells it from the files that describe a data set."""
  if file.suffix.lower() != '.json':
    return True
  with open(file, 'rb') as f:
    return f.read(_START).lstrip(b'\xef\xbb\xbf \t\r\n').startswith(b'[')


def _grouped(files: Iterable[pathlib.Path],
             root: pathlib.Path) -> tuple[Part, ...]:
  groups: dict[tuple[str, pathlib.Path, str], list[pathlib.Path]] = (
      collections.defaultdict(list))
  for file in files:
    split = split_of(file, root)
    folder = file.parent
    # A folder that is the split's own belongs to the data set above it.
    if folder != root and split and split_of(
        folder / 'x', folder.parent) == split:
      folder = folder.parent
    groups[SUFFIXES[file.suffix.lower()], folder, split].append(file)
  return tuple(
      Part(form, tuple(map(str, several)), str(folder.relative_to(root)),
           split, path_of(several, several[0].suffix, folder, split))
      for (form, folder, split), several in sorted(groups.items()))


def survey(path: str) -> Survey:
  """The files of a folder, or one file, grouped.

  Args:
    path: a folder, a file, or `FOLDER:SPLIT` of a prepared TFDS builder or of
      a DatasetDict that `datasets` saved.

  Raises:
    FileNotFoundError: if nothing is there.
    KeyError: for a split that a DatasetDict does not have.
    ValueError: for a folder without rows; it says what is there instead.
  """
  root = pathlib.Path(path).expanduser()
  head, colon, split = str(path).rpartition(':')
  if colon and not root.exists() and pathlib.Path(
      head).expanduser().is_dir():
    folder = pathlib.Path(head).expanduser()
    if saved.splits_of(folder) is not None:
      home = saved.folder_of(str(path))
      (part,) = (of for of in _saved(folder, folder)
                 if of.path == f'{folder}:{split}')
      return Survey(home, (part,), {}, {})
    return Survey(folder, (Part('tfds', (path,), folder.name, split, path),),
                  {}, {})
  if root.is_file():
    if root.suffix.lower() not in SUFFIXES:
      raise ValueError(f'{root}: {UNREAD.get(root.suffix.lower(), "no rows")};'
                       f' read are {", ".join(SUFFIXES)}')
    return Survey(root.parent, _grouped([root], root.parent), {}, {})
  if not root.is_dir():
    raise FileNotFoundError(f'no file or folder {path!r}'
                            f'{allowed.looked_from(path)}')
  builders = [p.parent for p in sorted(root.rglob('dataset_info.json'))
              if (p.parent / 'features.json').is_file()]
  parts = [part for folder in builders for part in _tfds(folder)]
  kept = _saved_folders(root)
  parts += [part for folder in kept for part in _saved(folder, root)]
  others: collections.Counter[str] = collections.Counter()
  rows, unread = [], {}
  for file in _visible(root):
    suffix = file.suffix.lower()
    if any(file.is_relative_to(folder) for folder in (*builders, *kept)):
      continue
    if suffix in SUFFIXES and _has_rows(file):
      rows.append(file)
    elif suffix in UNREAD:
      unread[str(file)] = UNREAD[suffix]
    else:
      others[suffix or file.name] += 1
  parts += _grouped(rows, root)
  if not parts:
    there = ', '.join(f'{n} {s}' for s, n in others.most_common(6))
    raise ValueError(
        f'{root} holds no rows: read are {", ".join(SUFFIXES)} and folders of '
        f'TFDS; there are {there or "no files"}'
        + (f', and {len(unread)} that no reader takes (the first: '
           f'{next(iter(unread))}: {next(iter(unread.values()))})'
           if unread else ''))
  return Survey(root, tuple(parts), dict(others), unread)
