"""One spelling of what looks the same, in time that grows as the text does."""

import time

import pytest

from zppo_jax.verdicts.kinds import forms, maths, plain, prefilter
from zppo_jax.verdicts.kinds.spelling import tidy, undress


@pytest.mark.parametrize('text, want', [
    (r'\begin{pmatrix} 1 \\ 2 \end{pmatrix}',
     r'\begin{pmatrix} 1 \\ 2 \end{pmatrix}'),
    (r'1\\ 2', r'1\\ 2'), (r'1\\\ 2', r'1\\ 2'), (r'1 \\[4pt] 2', r'1 \\ 2'),
    (r'1\, 2', '1 2'), (r'1~2', '1 2'), (r'\left(1\right)', '(1 )'),
    (r'\bigl(1\bigr)', '(1 )'), (r'\[42\]', '42'), (r'1\,000', '1000'),
    ('5²', '5^{2}'), ('x₁', 'x_{1}'), ('½', r'\frac{1}{2}')])
def test_dress_and_rows(text, want):
  """fault B5: the end of a row is no space, with or without one behind it."""
  assert tidy(text) == want


@pytest.mark.parametrize('text, want', [
    (r'45 \mathrm{~kg}', r'45 \mathrm{ kg}'), (r'\$12', r'\$12'),
    ('$12$', '12'), ('$12', r'\$12'), ('**41**', '41'), ('__41__', '41'),
    ('`41`', '41'), ('2**3**4', '2**3**4'), ('41.', '41'),
    (r'\text{5 cm}', '5 cm'), ('α+π', r'\alpha +\pi'), ('√2', r'\sqrt{2}'),
    (r'{\rm kg}', 'kg'), (r'5{\rm kg}', r'5\text{kg}')])
def test_groups_of_words_stay(text, want):
  """fault B8: what holds all of an answer goes, what is in it stays."""
  assert undress(text) == want


@pytest.mark.parametrize('text, want', [
    ('5*cos(pi*t/3)-2', r'5\cdot \cos(\pi \cdot t/3)-2'),
    ('x**2', 'x^{2}'), ('x**(1/2)', 'x^{1/2}'), ('sqrt(x+1)', r'\sqrt{x+1}'),
    ('exp(2*x)', r'e^{2\cdot x}'), ('Rational(1,2)', r'\frac{1}{2}'),
    ('log(x)', r'\ln(x)'), ('cosine', 'cosine'), (r'2\cos x', r'2\cos x'),
    ('spiral', 'spiral'), ('x+1', 'x+1')])
def test_programs_spelling(text, want):
  """fault B8: sympy's spelling as LaTeX, other texts as they are."""
  assert forms.from_program(text) == want


@pytest.mark.parametrize('text, want', [
    ('-1<x<4', ('x', '(-1,4)')), (r'4\ge x>-1', ('x', '(-1,4]')),
    ('x<3', ('x', r'(-\infty,3)')), (r'3 \le y', ('y', r'[3,\infty)')),
    (r'x \ne 2', ('x', r'(-\infty,2)\cup (2,\infty)')),
    (r'x<1\text{ or }x>2', ('x', r'(-\infty,1)\cup (2,\infty)')),
    ('x>1 and x<2', ('x', '(1,2)')), (r'\{x \mid x>2\}', ('x', r'(2,\infty)')),
    ('x>1 and x>2', None), ('1<x>0', None), ('x<y', None), ('x=1', None),
    ('x<1 or y>2', None), ('(1,2)', None), ('<', None)])
def test_inequalities_as_intervals(text, want):
  """fault B8 and fault B8b: open and closed ends, either direction."""
  assert forms.as_interval(text) == want


@pytest.mark.parametrize('text, want', [
    ('1101_3', ('1101', 3)), ('1101_{5}', ('1101', 5)),
    (r'1101_{\text{five}}', ('1101', 5)), ('(1101)_2', ('1101', 2)),
    ('2F_{16}', ('2F', 16)), ('011_2', ('11', 2)), ('x_1', None),
    ('1101', None), ('a_{n}', None), ('5_{99}', None)])
def test_numerals_that_name_their_base(text, want):
  """fault B8: digits and base."""
  assert forms.based(text) == want


MARKS = {'math': maths.maths, 'number': plain.numbers,
         'relaxed_number': plain.relaxed_numbers, 'choice': plain.choices,
         'text': plain.texts, 'set': plain.sets, 'unit': plain.quantities}


@pytest.mark.parametrize('kind', MARKS)
@pytest.mark.parametrize('piece', [
    '5', '5 ', r'\text{', r'\text{m}', r'\\', '(', ')', '{', '}', '^', '^ ',
    '*', '**', '_', '__ ', '$', r'\$', ',', ',5', ' or ', r'\cup', '<', 'x<',
    '=', r'\frac{', r'\begin{', '√(', '⁵', '~', '%', r'\circ', '. ', "x'",
    'sqrt(', 'a.', '5 cm, ', '[,', '1,'])
def test_answers_are_read_in_time_that_grows_as_they_do(kind, piece):
  """Four times the text takes no more than about four times as long, in each
  kind that computes."""
  gold = {'choice': 'B'}.get(kind, '5')

  def seconds(count):
    text = '1 ' + piece * count
    start = time.process_time()
    MARKS[kind](text, gold)
    return time.process_time() - start

  short = max(min(seconds(1_500) for _ in range(2)), 0.01)
  assert min(seconds(6_000) for _ in range(2)) < 10 * short


@pytest.mark.parametrize('piece', ['(', 'x^2', '(x^2)', '(x^2)^2', '!', '(n)!',
                                   '{', '^{', r'\Gamma(', '1!', ')!'])
def test_the_screen_takes_time_that_grows_as_the_text_does(piece):
  """Behind the bound on characters, too."""

  def seconds(count):
    start = time.process_time()
    prefilter._by_brackets(piece * count)
    for _, pattern in prefilter._STEEP:
      pattern.search(piece * count)
    return time.process_time() - start

  short = max(min(seconds(3_000) for _ in range(2)), 0.01)
  assert min(seconds(12_000) for _ in range(2)) < 10 * short
