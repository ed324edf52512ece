r"""Vero-600k (zlab-princeton): many visual data sets, verl's columns.

  {'prompt': [{'role': 'user', 'content': '<image>\nHow many bars?'}],
   'image': {'bytes': b'', 'path': 'a.png'}, 'id': 'chartqa_difficulty_train_3',
   'data_source': 'chartqa_difficulty', 'ability': 'chart_ocr',
   'reward_model': {'ground_truth': '4', 'style': 'rule'},
   'extra_info': {'id': '', 'index': 3, 'question': '<image>\nHow many bars?',
                  'answer': '4', 'reward_type': 'numeric', 'tolerance': None}}

The hub's parquet files have `image`, a struct, and `prompt`, a list or a struct
of two lists; the JSONL that the maker's script exports has `images`, a list of
paths. A question that is missing is the first message of the user, as in that
script. `reward_type` has the names of the maker's trainer, or those of its
docs/DATA.md; both are read. Rewards that compare boxes, clicks, actions or
instructions have no kind here, so such rows are skipped and counted.
"""

import re
from typing import Any

from zppo_jax import allowed
from zppo_jax.data import values
from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, asked
from zppo_jax.data.mappings.verl import rows

KINDS = {
    # the maker's trainer
    'string_match': 'text', 'list_string_match': 'any_text',
    'number_list': 'number_list', 'counting': 'text', 'search': 'text',
    # both
    'multiple_choice': 'choice', 'numeric': 'number', 'llm_judge': 'judge',
    # docs/DATA.md; without a type, verl's style
    'exact_match': 'text', 'list_match': 'set', 'ordering': 'text',
    'rule': 'math',
}
_BETWEEN = r'[\s\[\](){},;+-]'
_NUMBERS = re.compile(rf'{_BETWEEN}*[0-9]+(?:{_BETWEEN}+[0-9]+)*{_BETWEEN}*')


def _kind(reward: str, gold: str, tolerance: Any) -> str:
  """The kind of a type of reward.

  Raises:
    ValueError: for a tolerance that is no number of at least 0.
  """
  if reward == 'numeric' and tolerance is not None and tolerance == tolerance:
    share = float(allowed.number('extra_info.tolerance', values.number(
        tolerance, 'extra_info.tolerance'), '>= 0'))
    return f'relative({share!r})'
  if reward in ('ordering', 'number_list'):
    return 'number_list' if _NUMBERS.fullmatch(gold) else 'text'
  if reward in ('counting', 'search', 'string_match') and (
      re.fullmatch(r'\s*-?[0-9]+(?:\.[0-9]+)?\s*', gold)):
    return 'number'
  return KINDS.get(reward, '')


def read(row: Row) -> Mapped:
  reward = (rows.field(row, 'extra_info', 'reward_type')
            or rows.field(row, 'reward_model', 'style') or '')
  if reward not in KINDS:
    return Mapped('', '', '', skip=f'reward {reward!r}')
  gold, question = rows.gold(row), rows.question(row, first=True)
  if not question or not gold:
    return Mapped('', '', '', skip=rows.NO_GOLD if question
                  else rows.NO_QUESTION)
  return asked(question, gold, _kind(reward, gold, rows.field(
      row, 'extra_info', 'tolerance')), subset=row['data_source'])


VERO = Mapping('zlab-princeton/Vero-600k',
               ('data_source', 'reward_model', 'extra_info'), read,
               images='image|images')
