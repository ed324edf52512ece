r"""The last \boxed{}."""

import time

import pytest

from zppo_jax.verdicts import boxed


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


@pytest.mark.parametrize('text, good', [
    ('5', True), (r'\frac{1}{2}', True), (r'\{1\}', True),
    ('1}, \\boxed{2', False), ('{', False), ('}', False), ('5\\', False)])
def test_what_stays_inside_a_box(text, good):
  """Only that may be listed as a wrong answer."""
  assert boxed.balanced(text) == good
