r"""GSM8K (openai/gsm8k): the answer follows the last `####` of its solution.

  {'question': 'Ann has 3 apples and buys 4 more. How many has she?',
   'answer': 'She has 3 + 4 = <<3+4=7>>7 apples.\n#### 7'}
"""

import re

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row

_CALCULATOR = re.compile(r'<<[^<>]*>>')


def read(row: Row) -> Mapped:
  work, mark, answer = row['answer'].rpartition('####')
  if not mark:
    return Mapped(row['question'], '', 'number', skip='no #### in the answer')
  answer = answer.strip().replace(',', '')
  work = f'{_CALCULATOR.sub("", work).strip()}\n\\boxed{{{answer}}}'
  return Mapped(row['question'], answer, 'number', responses=(work,))


GSM8K = Mapping('openai/gsm8k', ('question', 'answer'), read)
