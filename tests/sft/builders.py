"""Small supervised runs for tests."""

import json
import runpy

from tests.builders import ROOT


def write_lines(path, rows) -> str:
  """A JSONL file; its path."""
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def micro_rows(count: int) -> list[dict]:
  """Questions of the embedded world with answers of several lengths."""
  letters = 'abcdefghijkl'
  return [{'id': str(i), 'text': f'C {letters[i % 12]} {i % 10}',
           'responses': [' '.join(['4 h 9'] * (1 + i % 3) + ['A', str(i % 10)])]
           } for i in range(count)]


def micro_config(path, **changes):
  """The embedded world's student: two steps of four conversations."""
  c = runpy.run_path(str(ROOT / 'configs' / 'micro_sft.py'))['get_config'](
      str(path))
  c.steps, c.data.batch = 2, 4
  c.shapes.update(row_buckets=(32,), micro_tokens=128)
  c.eval.update(every=0, holdout=2)
  c.checkpoint.every = 0
  return changed(c, **changes)


def changed(c, **changes):
  """A config with other fields; '__' stands for a dot."""
  with c.unlocked():
    for name, value in changes.items():
      *sections, field = name.split('__')
      of = c
      for section in sections:
        of = of[section]
      of[field] = value
  return c
