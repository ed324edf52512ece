"""MAPPINGS: public data sets' columns as questions, a file each.

A file's docstring shows a made-up row of its schema, which a test reads.
`columns` of a source does the same for files of your own.
"""

from collections.abc import Mapping as Dict

from zppo_jax import allowed
from zppo_jax.data import values
from zppo_jax.data.mappings.deepmath import DEEPMATH
from zppo_jax.data.mappings.geometry3k import GEOMETRY3K
from zppo_jax.data.mappings.gsm8k import GSM8K
from zppo_jax.data.mappings.mapping import Mapped, Mapping
from zppo_jax.data.mappings.math_competition import MATH
from zppo_jax.data.mappings.mmfinereason import MMFINEREASON
from zppo_jax.data.mappings.vero import VERO
from zppo_jax.data.mappings.virl39k import HINTED, VIRL39K

MAPPINGS: dict[str, Mapping] = {
    'gsm8k': GSM8K, 'math': MATH, 'deepmath': DEEPMATH,
    'geometry3k': GEOMETRY3K, 'virl39k': VIRL39K, 'virl39k_hinted': HINTED,
    'mmfinereason': MMFINEREASON, 'vero': VERO,
}
# Fields of `of_columns`, and those without which nothing can be asked.
FIELDS = ('text', 'answer', 'kind', 'id', 'hint', 'responses', 'subset',
          'pass_rate')
NEEDED = ('text', 'answer')


def get(name: str) -> Mapping:
  """A row of MAPPINGS; KeyError names the known ones."""
  return allowed.known('mapping', name, MAPPINGS, note='; or set columns')


def of_columns(columns: Dict[str, str], kind: str) -> Mapping:
  """A mapping that reads fields of Mapped from columns as they are.

  Args:
    columns: field -> column, or a path into one (values.at); at least text
      and answer.
    kind: of all rows, where no column says it.

  Raises:
    KeyError: for an unknown field, or one that is missing.
  """
  for field in columns:
    allowed.one_of('field of columns:', field, FIELDS)
  for field in NEEDED:
    if field not in columns:
      raise KeyError(f'columns lacks {field!r}; needed: {", ".join(NEEDED)}')
  columns = dict(columns)

  def read(row) -> Mapped:
    found = {field: values.at(row, column)
             for field, column in columns.items()}
    for field in ('answer', 'kind', 'id', 'hint', 'subset'):
      if field in found:
        found[field] = values.text(found[field], field)
    asked = values.question(found['text'], 'text')
    return Mapped(**{
        'kind': kind, **found, 'text': asked.text, 'images': asked.images,
        'videos': asked.videos,
        'responses': values.texts(found.get('responses'), 'responses')})

  return Mapping('columns', tuple(columns.values()), read)
