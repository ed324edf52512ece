"""The file of `distil.material`: texts for contexts, by question.

A line of the file is a JSON object with 'id', the id of a question or '*' for
every question without a line of its own, and some of FIELDS:

  {"id": "*", "notes": "Check the units first."}
  {"id": "q1", "document": "...", "peers": ["4 + 5 = 9 \\boxed{9}"]}
"""

import json
import pathlib
from collections.abc import Mapping

from zppo_jax import allowed

# Fields of a line beside 'id': texts, and a list of them for 'peers'.
FIELDS = ('hint', 'notes', 'document', 'slice', 'caption', 'peers')


def _row(line: str, where: str) -> tuple[str, dict[str, object]]:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{where}: no JSON ({e})') from e
  if not isinstance(row, dict) or not isinstance(row.get('id'), str):
    raise ValueError(f"{where}: it must be an object with a text 'id'")
  name, out = row.pop('id'), {}
  for field, value in row.items():
    allowed.one_of(f'{where}: field', field, FIELDS)
    texts = value if field == 'peers' else [value]
    if not isinstance(texts, list) or not all(
        isinstance(text, str) for text in texts):
      kind = 'a list of texts' if field == 'peers' else 'a text'
      raise ValueError(f'{where}: {field} is {value!r:.60}; it must be {kind}')
    for text in texts:
      allowed.text(f'{where}: {field}', text)
    out[field] = tuple(texts) if field == 'peers' else value
  return name, out


def read(path: str, name_of: str = 'distil.material'
         ) -> Mapping[str, Mapping[str, object]]:
  """Texts by question id and field; {} for the path ''.

  Args:
    path: the file.
    name_of: the config field that names it, for errors.

  Raises:
    FileNotFoundError: naming the field of the config and the path.
    KeyError, ValueError: for a line of another form, or a second one of an id,
      with its number.
  """
  if not path:
    return {}
  file = pathlib.Path(path)
  if not file.is_file():
    raise FileNotFoundError(f'{name_of} is {path!r}; no such file'
                            f'{allowed.looked_from(path)}')
  texts: dict[str, dict[str, object]] = {}
  for number, line in enumerate(
      file.read_text(encoding='utf-8').splitlines(), 1):
    if not line.strip():
      continue
    where = f'{path}, line {number}'
    name, row = _row(line, where)
    if name in texts:
      raise ValueError(f'{where}: a second line of the id {name!r}')
    texts[name] = row
  return texts
