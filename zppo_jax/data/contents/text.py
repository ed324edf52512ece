"""What `zppo data` prints, and the lines of a config that use the files."""

import pathlib
from collections.abc import Mapping, Sequence

from zppo_jax.data import suites
from zppo_jax.data.contents import Contents, Counted, Described
from zppo_jax.data.contents.columns import Column
from zppo_jax.data.contents.examples import Example
from zppo_jax.data.contents.files import Part, name_of
from zppo_jax.data.contents.fits import Fit, home_of

_MOST = 8  # entries of a list, others are counted
_WIDTH = 92  # characters of a line of a prompt


def _few(entries: Sequence[str], most: int = _MOST) -> str:
  """Entries with commas; those beyond `most` are counted."""
  left = len(entries) - most
  return ', '.join(entries[:most]) + (f' and {left} more' if left > 0 else '')


def _reasons(of: Mapping[str, int]) -> str:
  return '; '.join(f'{n:,} {why}' for why, n in of.items())


def _of_files(part: Part, name: str) -> list[tuple[str, str]]:
  """(name of a source, its path) for the files of a part."""
  if part.path:
    return [(name, part.path)]
  return [(f'{name}_{i}', path) for i, path in enumerate(part.files)]


def _names(parts: Sequence[Part]) -> list[str]:
  """A name for the source of each part; no two sources have one."""
  out: list[str] = []
  used: set[str] = set()
  for part in parts:
    name = base = name_of(part)
    count = 2
    while used & {source for source, _ in _of_files(part, name)}:
      name, count = f'{base}_{count}', count + 1
    out.append(name)
    used |= {source for source, _ in _of_files(part, name)}
  return out


def config_lines(part: Part, fit: Fit, first: bool = True, name: str = '',
                 evaluated: int = 0) -> list[str]:
  """The lines of a config, or the words of a command, that use the files.

  Args:
    part: the files.
    fit: how they are read.
    first: whether the lines begin a pool, without the sources and filters of
      the config that they are written below; else they add to one.
    name: of the source; '' takes name_of.
    evaluated: 0 for a source to train on; for an evaluation split its number,
      where the first takes the place of the splits of the config.
  """
  if fit.kind == 'suite':
    of = suites.get(fit.name)
    home = home_of(pathlib.Path(part.files[0]), fit.name, of)
    if home.name not in (fit.name, of.shares):
      return [f'# put {home} at BENCHMARKS/{fit.name}, then',
              'zppo eval --suites=BENCHMARKS '
              f'--splits={suites.PREFIX}{fit.name} ...']
    return [f'zppo eval --suites={home.parent} '
            f'--splits={suites.PREFIX}{fit.name} ...']
  taught = fit.kind == 'conversations'
  section = 'eval.sources' if evaluated else (
      'data.sources' if taught else 'data.pool.sources')
  lines = [] if taught or evaluated or not first else [
      "c.data.task = 'files'",
      'c.data.pool = dict(sources={})  # no sources or filters of before']
  splits = _of_files(part, name or name_of(part))
  for source, path in splits:
    fields = [f'format={part.form!r}', f'path={path!r}']
    if fit.kind == 'mapping':
      fields.append(f'mapping={fit.name!r}')
    else:
      columns = ', '.join(f'{k}={v!r}' for k, v in fit.columns.items())
      fields.append(f'columns=dict({columns})')
    if fit.answers:
      fields.append(f'kind={fit.answers!r}')
    if fit.images:
      fields.append(f'images={fit.images!r}')
    lines.append(f'c.{section}.{source} = dict(\n    '
                 + ',\n    '.join(fields) + ')')
  if evaluated and not taught:
    names = ', '.join(repr(source) for source, _ in splits)
    lines.append(f'c.eval.splits {"=" if evaluated == 1 else "+="} ({names},)')
  return lines


def _columns(columns: Sequence[Column]) -> list[str]:
  width = min(28, max((len(c.name) for c in columns), default=0))
  rows = []
  for column in columns:
    total = sum(column.types.values())
    kinds = _few([kind if len(column.types) == 1 else
                  f'{kind} ({n} of {total})'
                  for kind, n in column.types.items()], 3)
    example = f'   {column.example}' if column.example else ''
    rows.append(f'    {column.name:{width}}  {kinds}{example}')
  return rows


def _counts(fit: Fit, of: Counted, rows: int) -> list[str]:
  read = 'columns' if fit.kind == 'columns' else f'{fit.kind} {fit.name}'
  first = ('' if of.looked == of.all else
           f' (the first; {of.all:,} in all, --rows)')
  unit = 'rows' if of.all == rows else f'questions of {rows:,} rows'
  lines = [f'  read as {read}: {of.looked:,} {unit}{first}, '
           f'{of.asked:,} asked, {sum(of.skipped.values()):,} skipped, '
           f'{sum(of.refused.values()):,} refused']
  if of.skipped:
    lines.append(f'    skipped: {_reasons(of.skipped)}')
  if of.refused:
    lines += [f'    refused: {_reasons(of.refused)}',
              f'    the first: {of.first_refused}']
  if of.unreadable:
    lines.append(f'    {of.unreadable:,} gold answers are not of their kind')
  if of.twice:
    lines.append(f'    two rows are called {of.twice!r}, which a run refuses')
  if of.unshown:
    lines.append(f'    pictures cannot be read: {of.unshown}')
  if of.kinds:
    lines.append('    kinds of answers: ' + _few(
        [f'{kind or "none"} {n:,}' for kind, n in of.kinds.items()]))
  if of.subsets:
    lines.append('    subsets: ' + _few(
        [f'{name} {n:,}' for name, n in of.subsets.items()]))
  return lines


def _sized(size: Sequence[int]) -> str:
  pixels = ' x '.join(map(str, size[-2:]))
  return pixels if len(size) == 2 else f'{size[0]} frames of {pixels}'


def _example(of: Example) -> list[str]:
  tokens = (f'about {max(1, of.characters // 4):,} tokens (a guess by '
            'characters; --model=FOLDER counts them)' if of.tokens is None
            else f'{of.tokens:,} tokens' + (f', {of.patches:,} patches'
                                            if of.patches else ''))
  subset = f', subset {of.subset!r}' if of.subset else ''
  lines = [f'  question {of.id!r} ({of.where})',
           f'    kind {of.kind or "none"}, gold {of.gold[:200]!r}{subset}',
           f'    prompt: {of.characters:,} characters, {tokens}']
  if of.sizes:
    lines.append('    pictures: ' + _few([_sized(s) for s in of.sizes]))
  if of.saved:
    lines.append('    saved: ' + _few(list(of.saved), 4))
  for line in of.prompt.split('\n'):
    cut = line if len(line) <= _WIDTH else f'{line[:_WIDTH - 3]}...'
    lines.append(f'    | {cut}'.rstrip())
  return lines


def _of_pool(of: Described) -> bool:
  """Whether the files are used as a source of data.pool."""
  return bool(of.fits) and of.fits[0].kind in ('mapping', 'columns')


def _of_source(of: Described) -> bool:
  """Whether the files are a source, of questions or of conversations."""
  return _of_pool(of) or bool(of.fits) and of.fits[0].kind == 'conversations'


def _part(of: Described, first: bool, name: str, evaluated: int) -> list[str]:
  """The lines of a part; `first`, `name`, `evaluated` as those of
  config_lines."""
  number = len(of.part.files)
  files = f'{number} file{"s" * (number > 1)}'
  head = f'{of.part.label} ({of.part.form}, {files})'
  if of.error:
    return [f'{head}: cannot be read: {of.error}']
  lines = [f'{head}: {of.rows:,} row{"s" * (of.rows != 1)}']
  if of.columns:
    lines += ['  columns', *_columns(of.columns)]
  if not of.fits:
    return [*lines, '  no mapping or suite fits these columns; '
            'docs/data.md says how `columns` maps files of your own']
  shown = [f'{fit.kind} {fit.name}' if fit.kind in ('mapping', 'suite')
           else fit.kind for fit in of.fits]
  lines.append(f'  fits: {_few(shown)}')
  if of.counted is not None:
    lines += _counts(of.fits[0], of.counted, of.rows)
  lines.append('  to use it' + (
      ' as an evaluation split' if evaluated else
      ' beside the others' if _of_pool(of) and not first else ''))
  lines += [f'    {row}' for line in config_lines(
      of.part, of.fits[0], first, name, evaluated)
            for row in line.split('\n')]
  for example in of.examples:
    lines += _example(example)
  return lines


def text(contents: Contents) -> str:
  """The contents in words."""
  survey = contents.survey
  number = sum(len(p.part.files) for p in contents.parts)
  head = f'{survey.root}: {number} file{"s" * (number > 1)} with rows'
  if survey.others:
    head += '; beside them ' + _few(
        [f'{n} {suffix}' for suffix, n in survey.others.items()])
  lines = [head]
  for path, what in list(survey.unread.items())[:_MOST]:
    lines.append(f'  not read: {path} ({what})')
  if len(survey.unread) > _MOST:
    lines.append(f'  not read: {len(survey.unread) - _MOST} more')
  first, evaluated = True, 0
  to_train = any(_of_source(p) and not p.part.evaluated for p in contents.parts)
  for part, name in zip(contents.parts, _names(
      [p.part for p in contents.parts]), strict=True):
    asked = to_train and _of_source(part) and part.part.evaluated
    evaluated += asked and _of_pool(part)
    lines += ['', *_part(part, first, name,
                         max(1, evaluated) if asked else 0)]
    first = first and (asked or not _of_pool(part))
  return '\n'.join(lines)
