r"""Vero-600k (zlab-princeton): many visual data sets, verl's columns.

  {'prompt': [{'role': 'user', 'content': '<image>\nHow many bars?'}],
   'images': [{'bytes': b'', 'path': 'a.png'}],
   'data_source': 'chartqa_difficulty', 'ability': 'chart_ocr',
   'reward_model': {'ground_truth': '4', 'style': 'rule'},
   'extra_info': {'answer': '4', 'question': '<image>\nHow many bars?',
                  'reward_type': 'numeric', 'index': 3}}

Public readers of the parquet files agree on data_source, reward_model and
extra_info. One reads the images from the column `image`, another from `images`;
data.pool.sources.NAME.images chooses. Rewards that compare boxes, clicks,
actions or instructions have no kind here, so such rows are skipped and counted.
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, asked

KINDS = {'exact_match': 'text', 'multiple_choice': 'choice',
         'numeric': 'number', 'list_match': 'set', 'ordering': 'text',
         'llm_judge': 'judge', 'rule': 'math'}


def read(row: Row) -> Mapped:
  extra, reward = row['extra_info'], row['reward_model']
  kind = extra.get('reward_type') or reward.get('style') or ''
  return asked(
      extra['question'], reward['ground_truth'],
      KINDS.get(kind, ''), subset=row['data_source'],
      skip='' if kind in KINDS else f'reward {kind!r}')


VERO = Mapping('zlab-princeton/Vero-600k',
               ('data_source', 'reward_model', 'extra_info'), read,
               images='images', unconfirmed=('images',))
