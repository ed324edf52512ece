r"""MMFineReason (OpenDataArena): teacher traces, pass rates of a 4B model.

  {'source': 'Geo3K', 'id': 'geo3k-12', 'original_question': 'Find x.',
   'original_answer': 'C', 'image': {'bytes': b'', 'path': 'a.png'},
   'question': '<image>Find x. (A) 3 (B) 4', 'answer': 'B',
   'qwen3vl_235b_instruct_caption': 'A triangle.',
   'qwen3vl_235b_thinking_response': 'Sides are ... \\boxed{B}',
   'qwen3vl_4b_pass_rate': 0.25, 'is_consistent': True,
   'consistency_analysis': ''}

The columns are those that the card of the data set lists. The paper drops rows
whose pass rate is above 0.5 (filter pass_rate).
"""

import re

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, asked, unboxed

_LETTER = re.compile(r'\(?[A-J]\)?')


def read(row: Row) -> Mapped:
  answer = unboxed(row['answer'])
  trace = row['qwen3vl_235b_thinking_response']
  return asked(
      row['question'], answer,
      'choice' if _LETTER.fullmatch(answer) else 'math', id=row['id'],
      responses=(trace,) if trace else (), subset=row['source'],
      pass_rate=row['qwen3vl_4b_pass_rate'])


MMFINEREASON = Mapping(
    'OpenDataArena/MMFineReason-SFT-586K-Qwen3-VL-235B-Thinking',
    ('source', 'id', 'question', 'answer', 'qwen3vl_235b_thinking_response',
     'qwen3vl_4b_pass_rate'), read, images='image')
