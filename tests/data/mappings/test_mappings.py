"""The example row of each mapping's docstring, read by its mapping."""

import ast
import importlib
import pkgutil

import pytest

from zppo_jax.data import mappings
from zppo_jax.data.mappings import mapping
from zppo_jax.verdicts import kinds, verifier

# Files without a data set of their own.
TOOLS = ('mapping', 'directives', 'verl', 'verl.rows')
PREFIX = f'{mappings.__name__}.'
FILES = [name for m in pkgutil.walk_packages(mappings.__path__, PREFIX)
         if (name := m.name.removeprefix(PREFIX)) not in TOOLS]


def example(file: str) -> tuple[dict, mapping.Mapping]:
  module = importlib.import_module(f'zppo_jax.data.mappings.{file}')
  block = next(part for part in module.__doc__.split('\n\n')
               if part.strip().startswith('{'))
  found = [m for m in mappings.MAPPINGS.values()
           if m.read.__module__ == module.__name__]
  return ast.literal_eval(block.strip()), found[-1]


def test_every_file_is_in_the_table():
  assert {m.read.__module__.removeprefix(PREFIX)
          for m in mappings.MAPPINGS.values()} == set(FILES)


@pytest.mark.parametrize('file', FILES)
def test_the_example_holds_the_columns_and_can_be_asked(file):
  row, found = example(file)
  assert set(found.columns) <= set(row)
  assert set(found.unconfirmed) <= set(row)
  for column in (*mapping.image_columns(found.images, row), found.video):
    assert not column or column in row
  made = found.read(row)
  assert made.text and made.answer and not made.skip
  assert '<image>' not in made.text
  assert made.kind in kinds.KINDS
  for response in made.responses:
    assert verifier.BOXED.parse(response) == made.answer


@pytest.mark.parametrize(('file', 'field', 'value'), [
    ('gsm8k', 'answer', '7'), ('gsm8k', 'kind', 'number'),
    ('gsm8k', 'responses', ('She has 3 + 4 = 7 apples.\n\\boxed{7}',)),
    ('math_competition', 'answer', '2'),
    ('deepmath', 'responses', ('The limit is \\boxed{0}.',
                               'It is \\boxed{0}.')),
    ('geometry3k', 'text', 'Find x.'), ('virl39k', 'answer', '4'),
    ('virl39k', 'hint', 'Count row by row.'), ('virl39k', 'pass_rate', 0.25),
    ('mmfinereason', 'kind', 'choice'),
    ('mmfinereason', 'id', 'FineVision-geometry3k(mathv360k)/12'),
    ('mmfinereason', 'responses', (
        '<think>Sides are ...</think> So it is 4.\n\\boxed{B}',)),
    ('mmfinereason', 'pass_rate', 0.25), ('vero', 'kind', 'number'),
    ('vero', 'text', 'How many bars?'), ('vero', 'answer', '4'),
    ('deepmath', 'difficulty', 4.5), ('mmk12', 'subset', 'MMK12'),
    ('verl.plain', 'text', 'What is 3 + 4?'), ('verl.plain', 'kind', 'number'),
    ('verl.dapo_math', 'text', 'What is $3+4$?'),
    ('verl.dapo_math', 'kind', 'number'),
    ('verl.eurus2', 'text', 'What is $3+4$?'),
    ('verl.openmmreasoner', 'text', 'Find x.'),
])
def test_what_the_examples_say(file, field, value):
  row, found = example(file)
  assert getattr(found.read(row), field) == value


@pytest.mark.parametrize(('file', 'right', 'wrong'), [
    ('gsm8k', ['7', '7.0'], ['8', '77']),
    ('math_competition', ['2', r'\frac{4}{2}'], ['3', '-2']),
    ('deepmath', ['0', '0.0'], ['1', 'x']),
    ('geometry3k', [r'3\sqrt{2}', r'\sqrt{18}'], [r'2\sqrt{3}', '3']),
    ('virl39k', ['4', '4.0'], ['5', '-4']),
    ('mmfinereason', ['B', '(b)'], ['A', 'C', '4']),
    ('vero', ['4', '4.0'], ['5', '3']), ('mmk12', ['3', r'\frac62'], ['4']),
    ('verl.plain', ['7'], ['8']), ('verl.dapo_math', ['7'], ['8', '-7']),
    ('verl.eurus2', ['7', '7.0'], ['8']),
    ('verl.openmmreasoner', ['7'], ['8', '17'])])
def test_the_gold_of_an_example_is_right_and_its_neighbour_wrong(
    file, right, wrong):
  row, found = example(file)
  words = mapping.checked(found.read(row))
  mark = kinds.get(words.kind).mark
  assert [a for a in (words.answer, *right) if mark(a, words.answer) != 1] == []
  assert [a for a in wrong if mark(a, words.answer) != 0] == []


def test_columns_that_nobody_described_in_public_are_marked():
  assert {name: m.unconfirmed for name, m in mappings.MAPPINGS.items()
          if m.unconfirmed} == {'virl39k_hinted': ('hint',)}


def test_rows_that_cannot_be_asked_say_why():
  row, found = example('vero')
  row['extra_info']['reward_type'] = 'grounding'
  assert found.read(row).skip == "reward 'grounding'"
  assert mappings.get('gsm8k').read(
      {'question': 'q', 'answer': '7'}).skip == 'no #### in the answer'
  assert mappings.get('math').read(
      {'problem': 'q', 'solution': '2', 'type': 't'}).skip


def test_columns_of_ones_own():
  own = mappings.of_columns({'text': 'q', 'answer': 'a', 'hint': 'h',
                             'responses': 'r'}, 'number')
  made = own.read({'q': 'how many?', 'a': 3, 'h': None, 'r': ['x', 'y']})
  assert made == mapping.Mapped('how many?', '3', 'number',
                                responses=('x', 'y'))
  with pytest.raises(KeyError, match="'question'; known: text, answer"):
    mappings.of_columns({'question': 'q'}, '')
  with pytest.raises(KeyError, match="lacks 'answer'"):
    mappings.of_columns({'text': 'q'}, '')


def test_unknown_mappings_list_the_known():
  with pytest.raises(KeyError, match="'gsm'; known: gsm8k, math"):
    mappings.get('gsm')
