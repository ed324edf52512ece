r"""OpenMMReasoner-RL-74K: visual mathematics in verl's form.

  {'data_source': 'mmk12', 'images': [{'bytes': b'', 'path': 'a.png'}],
   'prompt': [{'role': 'user', 'content': '<image>Find x.'}],
   'ability': 'math', 'reward_model': {'style': 'rule', 'ground_truth': '7'},
   'avg_reward': 0.5}

Its seven configs of training rows have `avg_reward`, and the validation rows
`extra_info` instead; only what both have is needed. Whose rewards the average
is was not found, so it is no pass rate here. Questions of other sets come back
in it: put it behind them and set the filter `duplicates`.
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, lettered
from zppo_jax.data.mappings.verl import rows


def read(row: Row) -> Mapped:
  return rows.read(row, 'choice' if lettered(rows.gold(row)) else 'math',
                   subset=row['data_source'])


OPENMMREASONER = Mapping('OpenMMReasoner/OpenMMReasoner-RL-74K',
                         ('data_source', 'prompt', 'reward_model'), read,
                         images='images|')
