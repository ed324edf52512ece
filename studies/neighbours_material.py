"""Documents and slices of the embedded world for studies/neighbours.py.

  python -m studies.neighbours_material

It writes neighbours_material.jsonl beside itself: a line for each question of a
pool of POOL. The document of a question holds its operators as tables, as steps
'h 4 1' (h makes 1 of 4); its slice is the question with the first operator
alone.
"""

import json
import pathlib

from zppo_jax.tasks import micro

TO = pathlib.Path(__file__).with_suffix('.jsonl')
POOL = {'size': 160, 'hard_share': 0.5}


def line(question) -> dict[str, str]:
  """The texts of a question by field of `distil.material`."""
  _, family, ops, digits = question.id.split('/')
  document = ' '.join(f'{op} {x} {micro.apply_operator(op, x)}'
                      for op in dict.fromkeys(ops) for x in range(10))
  return {'id': question.id, 'document': document,
          'slice': micro.question_text(family, ops[0], digits)}


def text() -> str:
  """The file."""
  return ''.join(json.dumps(line(q)) + '\n' for q in micro.pool(**POOL))


if __name__ == '__main__':
  TO.write_text(text())
