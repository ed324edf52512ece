r"""MMFineReason (OpenDataArena): teacher traces, pass rates of a 4B model.

  {'source': 'FineVision-geometry3k(mathv360k)', 'id': 12,
   'ori_question': 'Find x.', 'original_answer': 'B',
   'image': {'bytes': b'', 'path': 'a.png'},
   'question': '<image>Find x. (A) 3 (B) 4', 'answer': 'B',
   'caption': 'A triangle.',
   'qwen3vl_235b_thinking_response':
       '<think>Sides are ...</think> So it is 4.\n<answer>B</answer>',
   'pass_rate': 0.25, 'is_consistent': True, 'consistency_analysis': ''}

These are the columns of the published files; the maker's card calls the rate
`qwen3vl_4b_pass_rate`, and either name is read. `id` counts inside of a source,
so that the two together name a question. Rows without an answer ask for
descriptions; they are skipped and counted, and so are rows whose image is
null. Traces end in `<answer>`, which
becomes the box of the paper's closer. The paper drops rows whose pass rate is
above 0.5 (filter pass_rate).
"""

import re

from zppo_jax.data import values
from zppo_jax.data.mappings import directives
from zppo_jax.data.mappings.mapping import (
  Mapped,
  Mapping,
  Row,
  asked,
  lettered,
  unboxed,
)
from zppo_jax.verdicts.kinds import boxed

RATES = ('pass_rate', 'qwen3vl_4b_pass_rate')
_THOUGHT = '</think>'
_ANSWER = re.compile(r'<answer>(.*?)</answer>\s*\Z', re.DOTALL)


def worked(trace: str) -> str:
  """A trace whose answer stands in a box; '' for one without an answer.

  A box inside of the thoughts is not the answer.
  """
  if boxed.last(trace.rpartition(_THOUGHT)[2]):
    return trace
  match = _ANSWER.search(trace)
  if not match or not match[1].strip():
    return ''
  return f'{trace[:match.start()].rstrip()}\n\\boxed{{{match[1].strip()}}}'


def _rate(row: Row) -> float | None:
  for name in RATES:
    if name in row:
      return row[name]
  raise ValueError(f'no column {" or ".join(map(repr, RATES))}')


def read(row: Row) -> Mapped:
  source = values.text(row['source'], 'source')
  name = f'{source}/{values.text(row["id"], "id")}'
  answer = unboxed(row['answer'])
  trace = worked(row['qwen3vl_235b_thinking_response'] or '')
  return asked(
      row['question'], answer, 'choice' if lettered(answer) else 'math',
      cut=directives.without, id=name, responses=(trace,) if trace else (),
      subset=source, pass_rate=_rate(row))


MMFINEREASON = Mapping(
    'OpenDataArena/MMFineReason-SFT-586K-Qwen3-VL-235B-Thinking',
    ('source', 'id', 'question', 'answer', 'qwen3vl_235b_thinking_response'),
    read, images='image', pictured=True)
