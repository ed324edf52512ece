r"""verl's parquet form: `data_source` says how an answer is scored.

  {'data_source': 'openai/gsm8k',
   'prompt': [{'role': 'user', 'content': 'What is 3 + 4? Let\'s think step by '
               'step and output the final answer after "####".'}],
   'ability': 'math', 'reward_model': {'style': 'rule', 'ground_truth': '7'},
   'extra_info': {'split': 'train', 'index': 0, 'answer': '3 + 4 = 7\n#### 7',
                  'question': 'What is 3 + 4?'}, 'images': []}

A question is `extra_info.question` or, without one, the prompt's user message,
of which a known directive is cut (directives.py). The kinds stand for verl's
own scorers (verl/utils/reward_score). Rows of a `data_source` that verl has no
scorer for are skipped, and so is code, because no kind executes it; both are
counted by name. Other sets of this form are read by `columns`.
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row
from zppo_jax.data.mappings.verl import rows

KINDS = {
    'openai/gsm8k': 'number',
    **dict.fromkeys((
        'lighteval/MATH', 'DigitalLearningGmbH/MATH-lighteval',
        'HuggingFaceH4/MATH-500', 'math', 'math_dapo', 'math_dapo_reasoning',
        'numina_aops_forum', 'numina_synthetic_math', 'numina_amc_aime',
        'numina_synthetic_amc', 'numina_cn_k12', 'numina_olympiads',
        'hiyouga/geometry3k'), 'math'),
    **dict.fromkeys((f'searchR1_{name}' for name in (
        'nq', 'triviaqa', 'popqa', 'hotpotqa', '2wikimultihopqa', 'musique',
        'bamboogle')), 'any_text'),
}
CODE = ('codecontests', 'apps', 'codeforces', 'taco')
_AIME = 'aime'  # the start of several names
_SHOWN = 60  # characters of a name in a reason


def kind_of(source: str) -> str:
  """The kind of a `data_source`; '' without one."""
  return 'math' if source.startswith(_AIME) else KINDS.get(source, '')


def read(row: Row) -> Mapped:
  source = row['data_source']
  style = rows.field(row, 'reward_model', 'style')
  kind = kind_of(source)
  if source in CODE:
    skip = f'code ({source}): no kind executes it'
  elif not kind:
    skip = f'no kind for the data_source {source[:_SHOWN]!r}'
  else:
    skip = '' if style == 'rule' else f'reward style {style!r}'
  return rows.read(row, kind, skip, subset=source)


VERL = Mapping('files in verl\'s form',
               ('data_source', 'prompt', 'reward_model'), read,
               images='images|')
