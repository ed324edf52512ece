"""MAPPINGS: the columns of public data sets as questions, with a file for each.

The docstring of a file shows an invented row of its schema, which a test reads.
The field `columns` of a source maps files of your own.
"""

from collections.abc import Mapping as Dict

from zppo_jax import allowed
from zppo_jax.data import values
from zppo_jax.data.mappings.deepmath import DEEPMATH
from zppo_jax.data.mappings.geometry3k import GEOMETRY3K
from zppo_jax.data.mappings.gsm8k import GSM8K
from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row
from zppo_jax.data.mappings.math_competition import MATH
from zppo_jax.data.mappings.mmfinereason import MMFINEREASON
from zppo_jax.data.mappings.mmk12 import MMK12
from zppo_jax.data.mappings.verl.dapo_math import DAPO_MATH, PROCESSED
from zppo_jax.data.mappings.verl.eurus2 import EURUS2
from zppo_jax.data.mappings.verl.openmmreasoner import OPENMMREASONER
from zppo_jax.data.mappings.verl.plain import VERL
from zppo_jax.data.mappings.vero import VERO
from zppo_jax.data.mappings.virl39k import HINTED, VIRL39K

MAPPINGS: dict[str, Mapping] = {
    'gsm8k': GSM8K, 'math': MATH, 'deepmath': DEEPMATH,
    'geometry3k': GEOMETRY3K, 'virl39k': VIRL39K, 'virl39k_hinted': HINTED,
    'mmfinereason': MMFINEREASON, 'vero': VERO, 'mmk12': MMK12,
    'verl': VERL, 'dapo_math_processed': PROCESSED, 'dapo_math': DAPO_MATH,
    'eurus2': EURUS2, 'openmmreasoner': OPENMMREASONER,
}
# The fields of `of_columns`, and those that each source needs.
FIELDS = ('text', 'answer', 'kind', 'id', 'hint', 'responses', 'subset',
          'pass_rate', 'difficulty')
NEEDED = ('text', 'answer')


def get(name: str) -> Mapping:
  """A row of MAPPINGS; KeyError names the known ones."""
  return allowed.known('mapping', name, MAPPINGS, note='; or set columns')


def of_columns(columns: Dict[str, str], kind: str) -> Mapping:
  """A mapping that reads each field of Mapped from a column.

  Args:
    columns: field -> column or path into one (values.at), with at least text
      and answer.
    kind: of all rows, unless a column gives it.

  Raises:
    KeyError: for an unknown field, or for a missing one.
  """
  for field in columns:
    allowed.one_of('field of columns:', field, FIELDS)
  for field in NEEDED:
    if field not in columns:
      raise KeyError(f'columns lacks {field!r}; needed: {", ".join(NEEDED)}')
  columns = dict(columns)

  def read(row: Row) -> Mapped:
    fields = {field: values.at(row, column)
             for field, column in columns.items()}
    for field in ('answer', 'kind', 'id', 'hint', 'subset'):
      if field in fields:
        fields[field] = values.text(fields[field], field)
    asked = values.question(fields['text'], 'text')
    return Mapped(**{
        'kind': kind, **fields, 'text': asked.text, 'images': asked.images,
        'videos': asked.videos,
        'responses': values.texts(fields.get('responses'), 'responses')})

  return Mapping('columns', tuple(columns.values()), read)
