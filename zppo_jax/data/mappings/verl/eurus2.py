r"""Eurus-2-RL-Data (PRIME-RL): mathematics and code in verl's form.

  {'data_source': 'numina_olympiads', 'ability': 'math',
   'prompt': [{'role': 'system', 'content': 'Think first.'},
              {'role': 'user', 'content': 'What is $3+4$?\n\nPresent the '
               'answer in LaTex format: \\boxed{Your answer}'}],
   'reward_model': {'ground_truth': '7', 'style': 'rule'},
   'extra_info': {'split': 'train', 'index': 0}}

The gold answers of code are the inputs and outputs of tests. No kind executes
code, so these rows are skipped and counted.
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row
from zppo_jax.data.mappings.verl import rows


def read(row: Row) -> Mapped:
  ability = row['ability']
  skip = {'math': '', 'code': 'code: no kind executes it'}.get(
      ability, f'ability {ability!r}')
  return rows.read(row, 'math', skip, subset=row['data_source'])


EURUS2 = Mapping('PRIME-RL/Eurus-2-RL-Data',
                 ('data_source', 'prompt', 'ability', 'reward_model'), read)
