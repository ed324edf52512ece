r"""Geometry3K in the form of hiyouga/geometry3k: a figure per problem.

  {'images': [{'bytes': b'', 'path': 'figure.png'}],
   'problem': '<image>Find x.', 'answer': '3 \\sqrt { 2 }'}

Later revisions have `id`, `choices` and `ground_truth` (the letter of the
answer among the choices) too; the question is asked without its choices.
"""

from zppo_jax.data.mappings.mapping import Mapped, Mapping, Row, asked


def read(row: Row) -> Mapped:
  return asked(row['problem'], row['answer'], 'math')


GEOMETRY3K = Mapping('hiyouga/geometry3k', ('problem', 'answer'), read,
                     images='images')
