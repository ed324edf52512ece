r"""ViRL39K (TIGER-Lab), and its form with a hint per question (PTD-PO).

  {'question': '<image>How many circles are there?', 'answer': '\\boxed{4}',
   'PassRate_32BTrained': 0.5, 'PassRate_7BBase': 0.25,
   'category': 'Spatial Reasoning', 'source': 'Processed', 'qid': 'p-0',
   'image': ['images/p-0.png'], 'hint': 'Count row by row.'}

A rate of -1.0 stands for "not measured" in two public readers, and is no rate
here. The published set has no `hint`. PTD-PO did not release its own, and the
columns of reproductions differ: some have the raw text, others have whole chats
in `prompt_with_hint`.
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, asked, unboxed

_COLUMNS = ('question', 'answer', 'PassRate_7BBase', 'category', 'qid')


_UNMEASURED = -1.0


def read(row: Row) -> Mapped:
  rate = row['PassRate_7BBase']
  return asked(row['question'], unboxed(row['answer']), 'math',
               id=row['qid'], subset=row['category'],
               pass_rate=None if rate == _UNMEASURED else rate)


def read_hinted(row: Row) -> Mapped:
  return read(row)._replace(hint=row['hint'])


VIRL39K = Mapping('TIGER-Lab/ViRL39K', _COLUMNS, read, images='image')
HINTED = Mapping('TIGER-Lab/ViRL39K with hints of your own',
                 (*_COLUMNS, 'hint'), read_hinted, images='image',
                 unconfirmed=('hint',))
