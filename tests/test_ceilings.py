"""Files and functions that a person can hold in mind, and their types."""

import ast
import pathlib
import tomllib

import zppo_jax

ROOT = pathlib.Path(zppo_jax.__file__).parent
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 600, 100


def test_no_file_is_too_long():
  long = {str(path.relative_to(ROOT)): lines for path in ROOT.rglob('*.py')
          if (lines := len(path.read_text().splitlines())) > LINES_OF_A_FILE}
  assert not long


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
