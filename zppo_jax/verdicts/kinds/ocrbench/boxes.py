"""Boxes of OCRBench v2: overlap with a gold box, and text spotting.

Coordinates are whole numbers from 0 to 1000.
"""

import re
from typing import Any, NamedTuple

from zppo_jax.verdicts.kinds.numerals import Unreadable
from zppo_jax.verdicts.kinds.ocrbench import pairs, words
from zppo_jax.verdicts.kinds.published import literal

Row = dict[str, Any]
_MOST = 1000
_SAME = .5  # the overlap above which two boxes are one
_BOX = re.compile(r'[(\[]\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,'
                  r'\s*(\d{1,9})\s*[)\]]')
_ITEM = re.compile(r'[\[(]([^\[\]()]*)[\])]')
_OUTER = '!?.:,*"()·[]/\''  # marks that a transcription may lack at an end


def _whole(values: Any) -> list[int] | None:
  """The first four numbers of a box; None if there are none."""
  try:
    box = [int(value) for value in values][:4]
  except (TypeError, ValueError, OverflowError):
    return None
  return box if len(box) == 4 else None


def overlap(one: list[int], other: list[int]) -> float:
  """Intersection over union of two boxes (left, top, right, bottom)."""
  width = min(one[2], other[2]) - max(one[0], other[0])
  height = min(one[3], other[3]) - max(one[1], other[1])
  shared = max(0, width) * max(0, height)
  area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
  union = area(one) + area(other) - shared
  return min(max(shared / union, 0.0), 1.0) if union else 0.0


def _gold(values: Any, what: str) -> list[int]:
  box = _whole(values)
  if box is None:
    raise Unreadable(f'{what} is {str(values)[:60]!r}, not a box')
  return box


def grounding(answer: str, row: Row) -> float:
  """The overlap of the answer's last box with the gold box."""
  gold = _gold(row['answers'], 'answers')
  boxes = [[int(n) for n in match.groups()] for match in _BOX.finditer(answer)]
  boxes = [box for box in boxes if max(box) <= _MOST]
  return overlap(boxes[-1], gold) if boxes else 0.0


def answer_and_box(answer: str, row: Row) -> float:
  """Half a point for the answer and half of the overlap of the box."""
  gold = _gold(row.get('bbox'), 'bbox')
  fields = pairs.read(answer)
  score = 0.0
  if 'answer' in fields:
    score += words.contained(str(fields['answer']), row) / 2
  box = _whole(literal(str(fields.get('bbox', ''))))
  return score + (overlap(box, gold) / 2 if box else 0.0)


class _Spotted(NamedTuple):
  """A text and where it stands."""
  box: list[int]
  text: str


def _items(answer: str) -> list[list[Any]]:
  value = literal(answer)
  if isinstance(value, list | tuple):
    return [list(one) for one in value if isinstance(one, list | tuple)]
  return [one.strip().split(',', 4) for one in _ITEM.findall(answer)]


def _spotted(answer: str) -> list[_Spotted]:
  """What an answer says it reads: [[left, top, right, bottom, text], ...]."""
  out: list[_Spotted] = []
  for item in _items(answer):
    if len(item) < 5:
      continue
    try:
      box = [int(str(value).strip()) for value in item[:4]]
    except ValueError:
      continue
    text = str(item[4]).replace('\n', '').strip().strip('"').strip("'")
    if not all(0 <= n <= _MOST for n in box):
      continue
    one = _Spotted(box=box, text=text)
    if one not in out:
      out.append(one)
  return [one for one in out
          if one.box[0] < one.box[2] and one.box[1] < one.box[3]]


def _same_text(gold: str, given: str) -> bool:
  """Whether two transcriptions agree, but for a mark at an end of the gold."""
  gold, given = gold.upper(), given.upper()
  ends = {gold}
  if gold and gold[0] in _OUTER:
    ends.add(gold[1:])
  if gold and gold[-1] in _OUTER:
    ends.add(gold[:-1])
    if gold[0] in _OUTER:
      ends.add(gold[1:-1])
  return given in ends


def _covered(box: list[int], by: list[int]) -> float:
  """The share of a box that another one covers."""
  width = min(box[2], by[2]) - max(box[0], by[0])
  height = min(box[3], by[3]) - max(box[1], by[1])
  area = (box[2] - box[0]) * (box[3] - box[1])
  return max(0, width) * max(0, height) / area if area else 0.0


def spotting(answer: str, row: Row) -> float:
  """The harmonic mean of precision and recall of spotted texts (ICDAR 2015).

  Gold and answer are paired in their order, where boxes overlap by more than
  one half; a pair counts if the texts agree. A gold text `###` is ignored, with
  whatever the answer reads inside it.
  """
  boxes, texts = row.get('bbox_list'), row.get('content')
  if not isinstance(boxes, list) or not isinstance(texts, list) or (
      len(boxes) != len(texts)) or not boxes:
    raise Unreadable('bbox_list and content must be lists of one length')
  gold = []
  for values, text in zip(boxes, texts, strict=True):
    if not isinstance(values, list) or len(values) < 4:
      raise Unreadable(f'bbox_list holds {str(values)[:60]!r}, not a box')
    across, down = values[0::2], values[1::2]
    gold.append(_Spotted(box=_gold(
        (min(across), min(down), max(across), max(down)), 'bbox_list'),
        text=str(text)))
  ignored = [one.box for one in gold if one.text == '###']
  gold = [one for one in gold if one.text != '###']
  given = [one for one in _spotted(answer) if not any(
      _covered(one.box, box) > _SAME for box in ignored)]
  if not gold or not given:
    return 0.0
  taken: set[int] = set()
  right = 0
  for one in gold:
    for i, other in enumerate(given):
      if i not in taken and overlap(one.box, other.box) > _SAME:
        taken.add(i)
        right += _same_text(one.text, other.text)
        break
  return 2 * right / (len(gold) + len(given))
