r"""The last \boxed{}."""

import time

import pytest

from zppo_jax.verdicts.kinds import boxed


@pytest.mark.parametrize('text, answer', [
    (r'so \boxed{5}', '5'),
    (r'\boxed{1} then \boxed{2}', '2'),
    (r'\boxed{\frac{1}{2}}', r'\frac{1}{2}'),
    (r'\boxed{\boxed{7}}', '7'),
    (r'\boxed 5 .', '5'),
    (r'\boxed\frac{1}{2}$', r'\frac{1}{2}'),
    (r'\fbox{B}', 'B'),
    (r'\boxed{5} and \boxed{6', '5'),
    (r'\boxed{\{1,2\}}', r'\{1,2\}'),
    (r'} } \boxed{3}', '3'),
    (r'\boxedsomething{4}', ''),
    (r'\boxed{}', ''),
    ('no box', ''),
])
def test_the_last_closed_box(text, answer):
  """Nested, bare, escaped, unclosed: by hand."""
  assert boxed.last(text) == answer


def test_three_thousand_braces_and_a_megabyte_are_read_in_a_moment():
  """Linear time; a quadratic reader takes minutes here."""
  since = time.perf_counter()
  assert boxed.last('\\boxed{' * 3000 + '5' + '}' * 3000) == '5'
  assert boxed.last('{' * 10**6) == ''
  assert time.perf_counter() - since < 5


@pytest.mark.parametrize('text, answer', [
    (r'\boxed{5} of 6', '5'), ('4 - 1 = 3', '3'), ('3 - 7 = -4.', '-4'),
    ('it is -4', '-4'), ('it is \u22124', '-4'), ('5-3', '3'), ('x2-3', '3'),
    ('(5)-3', '3'), ('1,234.5 km', '1,234.5'), ('1, 2', '2'), ('.5', '.5'),
    (r'\boxed{} 7', '7'), ('no number', '')])
def test_the_last_number_where_there_is_no_box(text, answer):
  """A minus is a sign unless it stands right behind what it could follow."""
  assert boxed.last_or_number(text) == answer


@pytest.mark.parametrize('text', ['1,' * 500_000, '1' * 10**6, '-' * 10**6])
def test_the_last_number_of_a_megabyte_is_read_in_a_moment(text):
  since = time.perf_counter()
  boxed.last_or_number(text)
  assert time.perf_counter() - since < 5


@pytest.mark.parametrize('text, good', [
    ('5', True), (r'\frac{1}{2}', True), (r'\{1\}', True),
    ('1}, \\boxed{2', False), ('{', False), ('}', False), ('5\\', False)])
def test_what_stays_inside_a_box(text, good):
  """Only that may be listed as a wrong answer."""
  assert boxed.balanced(text) == good


@pytest.mark.parametrize('text,found', [
    (r'\\boxed{5}', '5'), (r'so \\boxed{\\frac{1}{2}}.', r'\\frac{1}{2}'),
    (r'a \\ \boxed{5}', '5'), (r'a \\\boxed{5}', '5'), (r'\\unboxed{5}', '')])
def test_a_box_that_was_escaped_twice(text, found):
  """A model that writes as in JSON means a box; a new row before one is none
  of its backslashes."""
  assert boxed.last(text) == found
