"""The code blocks of README, CONTRIBUTING and docs/.

A block that no machine of a test can run has a comment above it that says why:

  <!-- not run: REASON -->
"""

import pathlib
import re
import shlex
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = ('zppo', 'python', 'python3', 'pip', 'launchers/', 'sbatch',
            'taskset', 'docker', 'lm_eval', 'ssh-add', 'export ', 'git',
            'cd', 'mkdocs', 'ruff')
_FENCE = re.compile(r'^```(\w*)\n(.*?)^```[^\n]*$', re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r'(?:^ {4}[^\n]*\n|^\n(?= {4}))+', re.MULTILINE)
_WHY = re.compile(r'<!-- not run: (.+?) -->\s*\Z', re.DOTALL)
_FILE = re.compile(r'`(\w+\.py)`')


class Block(NamedTuple):
  """A block of code.

  Attributes:
    page: the file.
    line: where it begins.
    language: 'bash', 'python' or '' for text.
    text: its lines.
    why: why no test runs it; '' if one does.
    file: the Python file that the paragraph above names, or ''.
  """
  page: str
  line: int
  language: str
  text: str
  why: str
  file: str

  @property
  def where(self) -> str:
    return f'{self.page}:{self.line}'


def pages() -> list[pathlib.Path]:
  return [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md',
          *sorted((ROOT / 'docs').glob('*.md'))]


def _is_command(line: str) -> bool:
  return line.startswith(PROGRAMS) and not re.match(r'\w+:|\w+\s*=', line)


def of_text(page: str, text: str) -> list[Block]:
  """All blocks of a page, in order: fenced ones, and indented ones that begin
  with a command."""
  out, rest = [], text
  for found in _FENCE.finditer(text):
    before = text[:found.start()].rstrip('\n')
    why = _WHY.search(before)
    above = _WHY.sub('', before).rstrip().split('\n\n')[-1]
    named = _FILE.findall(above)
    out.append(Block(page, text[:found.start()].count('\n') + 1, found[1],
                     found[2], why[1] if why else '',
                     named[-1] if found[1] == 'python' and named else ''))
    rest = rest.replace(found[0], '.' + '\n.' * found[0].count('\n'), 1)
  for found in _INDENTED.finditer(rest):
    lines = [line[4:] for line in found[0].splitlines()]
    code = '\n'.join(lines).strip('\n') + '\n'
    if not _is_command(code):
      continue
    start = found.start() + len(found[0]) - len(found[0].lstrip('\n'))
    why = _WHY.search(rest[:start].rstrip('\n'))
    out.append(Block(page, rest[:start].count('\n') + 1, 'bash', code,
                     why[1] if why else '', ''))
  return sorted(out, key=lambda b: b.line)


def everything() -> list[Block]:
  return [block for path in pages() for block in of_text(
      str(path.relative_to(ROOT)), path.read_text(encoding='utf-8'))]


def _uncommented(text: str) -> str:
  """A bash text without its comments, which may hold quotes."""
  out, quote, skipping = [], '', False
  for before, char in zip(' ' + text, text, strict=False):
    if skipping:
      skipping = char != '\n'
    elif quote:
      quote = '' if char == quote else quote
    elif char in '\'"':
      quote = char
    elif char == '#' and before.isspace():
      skipping = True
    if not skipping:
      out.append(char)
  return ''.join(out)


def commands(text: str) -> list[list[str]]:
  """The commands of a bash block as words: lines joined, comments dropped,
  `a && b` as two."""
  lexer = shlex.shlex(re.sub(r'\\\n', '', _uncommented(text)), posix=True,
                      punctuation_chars=';&|\n')
  lexer.whitespace = ' \t'
  lexer.whitespace_split = True
  lexer.commenters = ''
  out: list[list[str]] = [[]]
  for word in lexer:
    if set(word) <= set(';&|\n'):
      out.append([])
    else:
      out[-1].append(word)
  return [words for words in out if words]
