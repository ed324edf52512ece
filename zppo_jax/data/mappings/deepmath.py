r"""DeepMath-103K: three worked solutions of DeepSeek-R1 per question.

  {'question': 'Evaluate $\\lim_{x \\to 0} x$.', 'final_answer': '0',
   'difficulty': 4.5, 'topic': 'Mathematics -> Calculus -> Limits',
   'r1_solution_1': 'The limit is \\boxed{0}.', 'r1_solution_2': '',
   'r1_solution_3': 'It is \\boxed{0}.'}

Texts repeat in it: G-OPD keeps the 57,046 distinct ones of difficulty 6 and
more (filters difficulty=6, duplicates=True).
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row

_SOLUTIONS = tuple(f'r1_solution_{i}' for i in (1, 2, 3))


def read(row: Row) -> Mapped:
  return Mapped(row['question'], row['final_answer'], 'math',
                subset=row['topic'], difficulty=row['difficulty'],
                responses=tuple(row[s] for s in _SOLUTIONS if row[s]))


DEEPMATH = Mapping('zwhe99/DeepMath-103K',
                   ('question', 'final_answer', 'topic', 'difficulty',
                    *_SOLUTIONS), read)
