r"""MATH (Hendrycks et al.): the answer is the last box of its solution.

  {'problem': 'What is $1+1$?', 'level': 'Level 1', 'type': 'Prealgebra',
   'solution': 'Adding gives $\\boxed{2}$.'}
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row
from zppo_jax.verdicts.kinds import boxed


def read(row: Row) -> Mapped:
  answer = boxed.last(row['solution'])
  return Mapped(row['problem'], answer, 'math', subset=row['type'],
                responses=(row['solution'],),
                skip='' if answer else 'no box in the solution')


MATH = Mapping('EleutherAI/hendrycks_math',
               ('problem', 'type', 'solution'), read)
