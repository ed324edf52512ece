"""OCRBench v2's metrics, on rows of ours with values worked out by hand."""

import json

import pytest

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds import edits, ocrbench
from zppo_jax.verdicts.kinds.edits import Tree
from zppo_jax.verdicts.kinds.plain import Unreadable

LONG = 'the quick brown fox jumps'  # 25 characters
SPOT = {'answers': [''], 'content': ['STOP', '"Go!"', '###'],
        'bbox_list': [[0, 0, 100, 100], [200, 0, 300, 0, 300, 100, 200, 100],
                      [500, 500, 600, 600]]}


def score(of, answer, **row):
  return kinds.get(f'ocrbench({of})').mark(answer, json.dumps(row))


@pytest.mark.parametrize('of, row, scores', [
    ('text recognition en', {'answers': ['', 'EXIT', None]},
     {'exit': 1, 'exi': 0}),
    ('text recognition en', {'answers': ['EXIT']},
     {'exit': 1, 'the exit sign': 1, 'exi': 0}),
    ('text recognition en', {'answers': ['EXIT'], 'eval': 'case sensitive'},
     {'EXIT': 1, 'exit': 0}),
    ('science QA en', {'answers': ['B'], 'eval': 'multiple choice'},
     {'B': 1, '(B)': 1, 'B.': 1, 'A': 0, 'AB': 0, 'b': 0}),
    # Five words and more are compared by distance: 5 of 25, 12 of 25, 13 of 25.
    ('cognition VQA en', {'answers': [LONG]},
     {LONG.upper(): 1, LONG[5:]: .8, LONG[12:]: 13 / 25, LONG[13:]: 0}),
    ('cognition VQA cn', {'answers': ['北京 大学']},
     {'在北京大学': 1, '北京': 0}),
    ('cognition VQA cn', {'answers': ['a,b,c,d']},
     {'a, b, c, d': 1, 'a,b,c,x': 6 / 7, 'a': 0}),
    ('handwritten answer extraction cn',
     {'answers': ['AC'], 'question': '选择'},
     {'A、C': 1, 'A, C': 1, 'AC': 1, 'CA': 0, 'A': 0}),
    ('formula recognition en', {'answers': ['x ^ 2']}, {'$x^2$': 1, 'x^3': 0}),
    ('formula recognition cn', {'answers': [r'\text{若} x']},
     {'若x': 1, r'\text{若}x': 1, 'x': 0}),
    ('text counting en', {'answers': ['10'], 'eval': 'regression'},
     {'10': 1, 'about 8': .8, '14': .6, '5': 0, '15': 0, '20': 0, 'ten': 0}),
    ('text counting en', {'answers': ['3'], 'eval': 'exact match'},
     {'3': 1, '4': 0}),
    ('key information extraction en',
     {'answers': ['{"date": ["1/2", "Jan 2"], "total": "5"}']},
     {'{"date": ["1/2", "Jan 2"], "total": "5"}': 1,  # verbatim; 0.5 before
      '{"date": ["1/2", "Jan 3"], "total": ["5"]}': .5,
      '{"date": [], "total": "5"}': .5,
      '{"date": "JAN 2", "total": "5"}': 1, 'date: 1/2\ntotal: 6': .5,
      '```json\n{"total": 5}\n```': .5, 'no': 0,
      '{"date": "1/2", "total": "5", "tax": "1"}': 2 / 3}),
    ('key information extraction cn', {'answers': ["{'总额': '5'}"]},
     {'{"总额": "5"}': 1, '{"总额": "6"}': 0}),
    ('VQA with position en', {'answers': ['Ann'], 'bbox': [0, 0, 10, 10]},
     {'{"answer": "Ann", "bbox": [0, 0, 10, 10]}': 1,
      '{"answer": "Bob", "bbox": [0, 0, 10, 5]}': .25,
      '{"answer": "Ann"}': .5, 'Ann': 0}),
    ('text grounding en', {'answers': [0, 0, 10, 10]},
     {'(0, 0, 10, 10)': 1, '[5, 0, 15, 10]': 1 / 3, '(20, 20, 30, 30)': 0,
      '(20, 20, 30, 30) or (0, 0, 10, 10)': 1, 'left': 0,
      '(0, 0, 10, 1001)': 0}),
    ('text spotting en', SPOT, {
        '[[0, 0, 100, 100, "stop"], [200, 0, 300, 100, "Go!"]]': 1,
        '(0, 0, 100, 100, STOP)': 2 / 3, '[[0, 0, 100, 100, "STEP"]]': 0,
        '[[0, 0, 100, 51, "STOP"]]': 2 / 3, '[[0, 0, 100, 50, "STOP"]]': 0,
        # What stands inside of an ignored text counts for nothing.
        '[[0,0,100,100,"STOP"],[510,510,590,590,"x"]]': 2 / 3,
        '[[0,0,100,100,"STOP"],[710,510,790,590,"x"]]': .5, '': 0}),
    # Two rows of two cells: 6 nodes; the characters of a value are spaced.
    ('chart parsing en', {'answers': ["{'a': 10, 'b': 20}"]},
     {"data = {'a': 10, 'b': 20}": 1, '{"a": 10, "b": 20} # so': 1,
      "{'a': 10}": 1 / 2, "{'a': 10, 'b': 25}": 1 - 1 / 3 / 6,
      "```python\n{'a': 10, 'c': 20}\n```": 5 / 6, 'no': 0, '{}': 0}),
    ('table parsing en', {'answers': ['| a | b |\n|---|---|\n| 1 | |'],
                          'question': 'As Markdown.'},
     {'| a | b |\n|--|--|\n|1|  |': 1, '| a | b |\n|--|--|\n| 1 | 2 |': 5 / 6,
      '```markdown\n| a | b |\n|--|--|\n| 1 | |\n```': 1,
      '| a | b |\n|--|--|': .5, 'no': 1 - 5 / 6}),
    # The gold has 5 nodes: ROOT, TITLE, two headings and a line.
    ('document parsing en', {'answers': ['# A\ntext\n# B']},
     {'# C\nother\n# D': 1, '# A\ntext': 4 / 5, '# A\n\n# B': 4 / 5,
      '# A\ntext\n# B\nx\ny': 5 / 7}),
])
def test_scores_by_hand(of, row, scores):
  found = {answer: score(of, answer, **row) for answer in scores}
  assert found == pytest.approx(scores)


@pytest.mark.parametrize('of, row', [
    ('text recognition en', {'answers': []}), ('text recognition en', {}),
    ('text recognition en', {'answers': ['a'], 'image': 'x'}),
    ('text recognition en', {'answers': ['A', 'B'], 'eval': 'multiple choice'}),
    ('text counting en', {'answers': ['x'], 'eval': 'regression'}),
    ('text counting en', {'answers': ['0'], 'eval': 'regression'}),
    ('text counting en', {'answers': ['3']}),
    *(('text recognition en', {'answers': blank})
      for blank in ([''], [' ', None], [None], '', None)),
    ('text grounding en', {'answers': ['a']}),
    ('VQA with position en', {'answers': ['a']}),
    ('text spotting en', {'answers': ['a'], 'bbox_list': [], 'content': []}),
    ('table parsing en', {'answers': ['|a|'], 'question': 'As HTML.'}),
    ('table parsing en', {'answers': ['|a|'], 'question': 'As text.'}),
    ('chart parsing en', {'answers': ['no']}),
    ('key information extraction en', {'answers': ['no']})])
def test_rows_that_cannot_be_scored_are_unreadable(of, row):
  with pytest.raises(Unreadable):
    score(of, '1', **row)


def test_every_type_is_scored_or_named_as_unscored():
  """Of 30 types, 5 have no metric here, and parts of two more."""
  assert not ocrbench.METRICS.keys() & ocrbench.UNSCORED.keys()
  assert ocrbench.METRICS.keys() | ocrbench.UNSCORED.keys() == (
      ocrbench.ABILITIES.keys())
  assert len(ocrbench.ABILITIES) == 30 and len(ocrbench.UNSCORED) == 5
  assert len(set(ocrbench.ABILITIES.values())) == 8 + 5
  assert 'TEDS' in ocrbench.unscored('table parsing cn')
  assert 'TEDS' in ocrbench.unscored('table parsing en', 'As HTML, please.')
  assert not ocrbench.unscored('table parsing en', 'As Markdown, please.')
  handwritten = 'handwritten answer extraction cn'
  assert not ocrbench.unscored(handwritten, '选择题')
  assert 'METEOR' in ocrbench.unscored(handwritten, '简答题')
  with pytest.raises(KeyError, match='unknown type of OCRBench v2'):
    ocrbench.unscored('reading en')


def test_a_tree_distance_by_hand():
  """Zhang and Shasha's own example: two operations."""
  leaf = lambda label: Tree(label, [])
  one = Tree('f', [Tree('d', [leaf('a'), Tree('c', [leaf('b')])]), leaf('e')])
  other = Tree('f', [Tree('c', [Tree('d', [leaf('a'), leaf('b')])]),
                     leaf('e')])
  differ = lambda a, b: float(a != b)
  assert edits.tree_distance(one, other, differ) == 2
  assert edits.tree_distance(one, one, differ) == 0
