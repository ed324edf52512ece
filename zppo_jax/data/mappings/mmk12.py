r"""MMK12 (FanqingM): school questions with a figure.

  {'id': 'train-7', 'question': '<image>Find x.', 'answer': '3',
   'subject': 'mathematics', 'image': {'bytes': b'', 'path': 'a.png'}}

The test rows have their options in the question and a letter as the answer. The
whole set is one subset, because MMFineReason and others hold it as one.
"""

from zppo_jax.data.mappings.mapping import (
  Mapped,
  Mapping,
  Row,
  asked,
  lettered,
  unboxed,
)


def read(row: Row) -> Mapped:
  answer = unboxed(row['answer'])
  return asked(row['question'], answer,
               'choice' if lettered(answer) else 'math', id=row['id'],
               subset='MMK12')


MMK12 = Mapping('FanqingM/MMK12', ('id', 'question', 'answer'), read,
                images='image')
