"""Modules of the package that code in texts, docs and notebooks name exist.

Linters do not look into a string that another process runs.
"""

import importlib
import re

import pytest

from tests.builders import ROOT

FOLDERS = ('benchmarks', 'configs', 'docs', 'launchers', 'notebooks', 'studies',
           'tests', 'zppo_jax')
KINDS = ('.py', '.md', '.sh', '.ipynb')
IMPORT = re.compile(
    r'from (zppo_jax[\w.]*) import (\([^)]*\)|\w[\w, ]*(?=\\n|["\n]|$))')
DOTTED = re.compile(r'\bzppo_jax(?:\.\w+)+')
FILE = re.compile(r'\bzppo_jax/[\w/]+\.(?:py|html|css|js)\b')


def files():
  named = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*')
           if path.suffix in KINDS]
  return named + [ROOT / f'{name}.md' for name in (
      'README', 'ARCHITECTURE', 'CONTRIBUTING')]


def names_in(text):
  """Dotted names that a text imports or tells."""
  for module, names in IMPORT.findall(text):
    names = re.sub(r'#.*|\bas \w+|\\n', '', names)
    yield from (f'{module}.{name}' for name in re.findall(r'\w+', names))
  yield from (name for name in DOTTED.findall(text)
              if not name.endswith(('.py', '.md')))


def there(name):
  parts = name.split('.')
  for count in range(len(parts), 0, -1):
    try:
      found = importlib.import_module('.'.join(parts[:count]))
    except ModuleNotFoundError:
      continue
    for part in parts[count:]:
      if not hasattr(found, part):
        return False
      found = getattr(found, part)
    return True
  return False


def test_every_name_leads_somewhere():
  """A folder was moved, and a test's child, a benchmark and a notebook went on
  with the old place."""
  importlib.import_module('zppo_jax.models')
  lost = {}
  for path in files():
    text = path.read_text()
    for name in {*names_in(text)} | {*FILE.findall(text)}:
      exists = ((ROOT / name).is_file() if '/' in name else there(name))
      if not exists and path != ROOT / 'tests' / 'test_names.py':
        lost.setdefault(name, []).append(str(path.relative_to(ROOT)))
  assert not lost


@pytest.mark.parametrize('text, names', [
    ('from zppo_jax.data import (\n  pool as p,\n  media,  # a\n)',
     ['zppo_jax.data.pool', 'zppo_jax.data.media', 'zppo_jax.data']),
    ('    "from zppo_jax.runs import lock, watch\\n",', [
        'zppo_jax.runs.lock', 'zppo_jax.runs.watch', 'zppo_jax.runs']),
    ('    "from zppo_jax.runs import lock"\n', [
        'zppo_jax.runs.lock', 'zppo_jax.runs'])])
def test_what_counts_as_a_name(text, names):
  assert sorted(names_in(text)) == sorted(names)
