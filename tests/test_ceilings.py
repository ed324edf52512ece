"""Files and functions that a person can hold in mind, and their types."""

import ast
import collections
import pathlib
import re
import tomllib

import pytest

import zppo_jax
from tests.long import LONG

ROOT = pathlib.Path(zppo_jax.__file__).parent
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 600, 100
FILES_OF_A_FOLDER, FILES_OF_THE_ROOT = 13, 8
# A range, or names of a table, in the words of an error.
BY_HAND = re.compile(
    r'must be (?:a whole number )?(?:>=|>|<=|<|in [\[({])|\bknown: ')
# The checks by hand that these folders still hold.



def test_no_file_is_too_long():
  long = {str(path.relative_to(ROOT)): lines for path in ROOT.rglob('*.py')
          if (lines := len(path.read_text().splitlines())) > LINES_OF_A_FILE}
  assert not long


@LONG
def test_no_function_is_too_long():
  long, found = {}, 0
  for path in ROOT.rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        found += 1
        name = f'{path.relative_to(ROOT)}: {node.name}'
        lines = node.end_lineno - node.lineno + 1
        if lines > LINES_OF_A_FUNCTION:
          long[name] = lines
  assert found > 100 and not long


def test_no_folder_holds_too_many_files():
  files = collections.Counter(path.parent for path in ROOT.rglob('*.py'))
  full = {str(folder.relative_to(ROOT)): count
          for folder, count in files.items()
          if count > (FILES_OF_THE_ROOT if folder == ROOT
                      else FILES_OF_A_FOLDER)}
  assert len(files) > 20 and not full


def said(node):
  """The words of all texts in a node, with {} where they have a value."""
  texts = [part for part in ast.walk(node) if isinstance(part, ast.JoinedStr)]
  inside = {part for text in texts for part in ast.walk(text)} - {*texts}
  texts += [part for part in ast.walk(node) if isinstance(part, ast.Constant)
            and isinstance(part.value, str) and part not in inside]
  return '\n'.join(
      ''.join(part.value if isinstance(part, ast.Constant) else '{}'
              for part in text.values)
      if isinstance(text, ast.JoinedStr) else text.value for text in texts)


def by_hand(source):
  """Lines of errors that allowed.py would have raised."""
  return [node.lineno for node in ast.walk(ast.parse(source))
          if isinstance(node, ast.Raise) and BY_HAND.search(said(node))]


def test_ranges_and_known_names_are_checked_in_one_place():
  """allowed.py words these errors, so that all fields read alike."""
  lines = {}
  for path in ROOT.rglob('*.py'):
    folder = path.relative_to(ROOT).parts[0]
    if folder != 'allowed.py':
      for line in by_hand(path.read_text()):
        lines.setdefault(str(path.relative_to(ROOT)), []).append(line)
  assert not lines


@pytest.mark.parametrize('source, lines', [
    ("raise ValueError(f'{n} is {x}; it must be >= 1')", [1]),
    ("raise ValueError(f'{n} is {x}; they '\n  'must be > 0 and even')", [1]),
    ("raise ValueError(f'{n} is {x}; it must be in [0, {y}]')", [1]),
    ("raise KeyError('unknown x; known: ' + ', '.join(names))", [1]),
    ("raise KeyError(f'unknown {x}; '\n  f'known: {names}')", [1]),
    ("raise ValueError(f'{n} is {x}; it must be even')", []),
    ("raise ValueError(f'{x} is unknown: {y}')", []),
    ("if x:\n  allowed.number('x', x, '>= 1')", [])])
def test_what_counts_as_a_check_by_hand(source, lines):
  assert by_hand(source) == lines


def checked_files() -> list[pathlib.Path]:
  """The files that mypy checks (pyproject.toml)."""
  settings = tomllib.loads((ROOT.parent / 'pyproject.toml').read_text())
  paths = [ROOT.parent / name for name in settings['tool']['mypy']['files']]
  return [file for path in paths
          for file in (path.rglob('*.py') if path.is_dir() else [path])]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list:
  of = function.args
  return [*of.posonlyargs, *of.args, *of.kwonlyargs,
          *(x for x in (of.vararg, of.kwarg) if x is not None)]


def unannotated(tree: ast.AST) -> list[tuple[str, str]]:
  """(function, parameter without a type); self, cls and lambdas need none."""
  return [(node.name, parameter.arg) for node in ast.walk(tree)
          if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
          for parameter in parameters(node)
          if parameter.annotation is None
          and parameter.arg not in ('self', 'cls')]


def test_a_parameter_without_a_type_is_found():
  tree = ast.parse('class A:\n'
                   '  def f(self, x, /, y: int, *z, k, **rest: int):\n'
                   '    async def g(a): return lambda b: b\n')
  assert unannotated(tree) == [('f', 'x'), ('f', 'k'), ('f', 'z'), ('g', 'a')]


def test_every_parameter_of_a_checked_file_has_a_type():
  files = checked_files()
  missing = {str(file.relative_to(ROOT)): names for file in files
             if (names := unannotated(ast.parse(file.read_text())))}
  assert len(files) > 40 and not missing
