"""What published sets call right: equal answers 1, their neighbours 0."""

import json

import pytest

from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds import edits, published
from zppo_jax.verdicts.kinds.plain import Unreadable

OPTIONS = json.dumps({'options': ['B', 'A', 'AB', 'O'], 'letter': 'B'})
TEXTS = json.dumps({'options': ['12 cm', '\\frac{1}{2}', '7'], 'letter': 'B'})
CHOICES = json.dumps({'options': ['145°', '148°', '150 degrees', 'none'],
                      'answer': '148°'})
BLIND = '5,6'


@pytest.mark.parametrize('kind, gold, right, wrong', [
    ('any_text', '["New York", "NYC"]', ['nyc', 'new york.'],
     ['York', 'New York, NYC', "['New York', 'NYC']", '']),
    ('any_text', "['4', 'four']", ['4.0', 'Four'], ['5', '-4', '44']),
    ('any_text', 'a cat', ['A cat'], ['a dog']),
    ('any_text', '[1, 2]', ['1', '2'], ['3', '1, 2']),
    ('number_list', '[3, 1, 2]', ['3, 1, 2', '[3,1,2]', '3; 1; 2', '(3, 1, 2)'],
     ['1, 2, 3', '3, 1', '3, 1, 2, 2', 'three, 1, 2', '']),
    ('number_list', '0, 2, 0', ['[0, 2, 0]'], ['0, 2', '2, 0, 0']),
    ('option', OPTIONS, ['B', '(b)', 'B. A'], ['A', 'AB', 'O', 'C', '']),
    ('option', TEXTS, ['B', r'\frac{1}{2}', '0.5'], ['7', '12 cm', 'A', '2']),
    ('nearest', CHOICES, ['148°', '148', 'B', '148 °', '(B)'],
     ['145', 'A', '150 degrees', 'none', 'C']),
    # The first option was nearest to no answer at all.
    ('nearest', json.dumps({'options': ['7', '12'], 'answer': '7'}),
     ['7', '8', 'A'], ['', ' ', '{}', '12', '13', 'B']),
    ('within', 'an increasing function', ['increasing', 'Increasing function',
                                          'an increasing function.'],
     ['decreasing', 'creasing', 'function increasing', 'n', '']),
    ('values', BLIND, ['5, 6', '(5, 6)', 'rows={5} columns={6}', '{5},{6}',
                       'columns = 6, rows = 5', '5 rows and 6 columns',
                       r'5 \times 6', '5x6'],
     ['6,5', '5', '56', '5, 6, 7', '5, 7', 'rows={6} columns={5}', '-5, 6']),
    ('values', 'Yes', ['yes', '{Yes}', 'Yes.'], ['No', 'yes and no', '']),
    ('values', BLIND, ['5.0, 6.0', '5, 6'], ['5.5, 6', '5, 6 paths']),
    ('values', '3', ['3', '{3}', '03', '+3', '3.0', '3 paths', '{3} lines.'],
     ['33', '-3', '3, 3', 'three', '3' * 5_000, '3.5', '3 or 4', '4 paths',
      'not 3 paths', '-3 paths']),
    ('values', '0', ['0', '00'], ['', 'o', '10']),
    ('values', 'o', ['O', '{o}', "'o'"], ['p', '0', 'oo']),
    ('mmmu', '["1.68e5", "168000 N"]', ['168000', r'1.68\times 10^5'],
     ['1.68', '168', '1.69e5']),
    ('mmmu', 'Le Chatelier', ["Le Chatelier's principle"], ['Chat', 'Lewis']),
    ('mmmu', '0.333', ['0.33', '0.3333'], ['0.34', '0.3']),
])
def test_equal_answers_and_their_neighbours(kind, gold, right, wrong):
  mark = kinds.get(kind).mark
  assert [a for a in right if mark(a, gold) != 1] == []
  assert [a for a in wrong if mark(a, gold) != 0] == []


@pytest.mark.parametrize('kind, gold', [
    ('any_text', '[]'), ('any_text', '[{"a": 1}]'), ('any_text', '[[1], [2]]'),
    ('any_text', ' '), ('number_list', '[1, "b"]'), ('number_list', ''),
    ('option', '{"options": ["a"], "letter": "C"}'), ('option', 'B'),
    ('option', '{"options": [], "letter": "A"}'), ('nearest', CHOICES[:-9]),
    ('nearest', '{"options": ["a"], "answer": "b"}'), ('values', ','),
    ('within', ''), ('anls', '[]'), ('mmmu', '[null]')])
def test_a_gold_answer_of_another_form_is_unreadable(kind, gold):
  with pytest.raises(Unreadable):
    kinds.get(kind).mark('a', gold)


def test_anls_is_graded_and_has_a_bound_of_one_half():
  """1 - distance / length beside the nearest of all answers; 2 of 4 is .5."""
  gold = json.dumps(['ABCD', 'Longer Words'])
  for answer, score in (('abcd', 1), (' longer   words', 1), ('abcx', .75),
                        ('abxy', .5), ('axyz', 0), ('longer word', 11 / 12),
                        ('', 0)):
    assert published.anls(answer, gold) == pytest.approx(score)
  assert kinds.graded('anls') and not kinds.graded('values')


def test_distances_are_those_of_the_table():
  """Beside Levenshtein's own table, on texts of many shapes."""
  def table(one, other):
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
      above, row = row, [i]
      for j, b in enumerate(other, 1):
        row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]

  words = ['', 'a', 'kitten', 'sitting', 'saturday', 'sunday', 'aaaa' * 20,
           'abab' * 20, 'ba' * 33]
  assert all(edits.distance(a, b) == table(a, b) for a in words for b in words)
  assert edits.similarity('', '') == 1 and edits.similarity('a', 'b') == 0


def test_a_judge_is_shown_a_plain_reference():
  for kind, gold, words in (
      ('option', TEXTS, r'B. \frac{1}{2}'), ('nearest', CHOICES, '148°'),
      ('any_text', '["a", "b"]', 'a or b'), ('number', '5', '5')):
    assert published.spoken(kind, gold) == words


def test_every_kind_of_the_file_has_cases():
  cases, = (mark for mark in
            test_equal_answers_and_their_neighbours.pytestmark)
  names = {case[0] for case in cases.args[1]} | {'anls'}
  assert names == {name for name, row in kinds.KINDS.items()
                   if row.mark.__module__ == published.__name__}
