"""Files and functions that a person can hold in mind."""

import ast
import pathlib

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
