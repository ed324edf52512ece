r"""DAPO-Math-17k (BytedTsinghua-SIA), and open-r1's cleaned copy of it.

  {'data_source': 'math_dapo', 'prompt': [{'role': 'user', 'content':
    'Solve the following math problem step by step. The last line of your '
    'response should be of the form Answer: $Answer (without quotes) where '
    '$Answer is the answer to the problem.\n\nWhat is $3+4$?\n\nRemember to '
    'put your answer on its own line after "Answer:".'}],
   'ability': 'MATH', 'reward_model': {'ground_truth': '7', 'style': 'rule'},
   'extra_info': {'index': '9a9b6eb4'}}

The published file holds each question about a hundred times: 1,791,700 rows,
17,398 or 17,917 distinct ones by how one counts. The first row of each text is
asked, and the others are skipped and counted. The cleaned copy has the columns
`prompt`, a text, and `solution`.
"""

import re

from zppo_jax.data import values
from zppo_jax.data.mappings import directives
from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, asked
from zppo_jax.data.mappings.verl import rows

_INTEGER = re.compile(r'-?[0-9]+')


def _kind(answer: str) -> str:
  return 'number' if _INTEGER.fullmatch(answer) else 'math'


def read(row: Row) -> Mapped:
  return rows.read(row, _kind(rows.gold(row)), subset=row['data_source'])


def read_processed(row: Row) -> Mapped:
  answer = values.text(row['solution'], 'solution').strip()
  return asked(row['prompt'], answer, _kind(answer), cut=directives.without)


DAPO_MATH = Mapping('BytedTsinghua-SIA/DAPO-Math-17k',
                    ('data_source', 'prompt', 'reward_model'), read,
                    distinct=True)
PROCESSED = Mapping('open-r1/DAPO-Math-17k-Processed', ('prompt', 'solution'),
                    read_processed, distinct=True)
