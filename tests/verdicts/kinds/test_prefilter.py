"""What is not looked at, by each of its reasons."""

import pytest

from zppo_jax.verdicts.kinds import prefilter


@pytest.mark.parametrize('text, reason', [
    ('x' * 2001, '2001 characters'), ('(' * 17, 'open brackets'),
    ('{' * 3000, 'open brackets|characters'), ('9' * 101, 'a number'),
    ('2^{00001}', 'an exponent'), ('1e00001', 'an exponent'),
    ('2^{2^{2}}', 'tower'), ('2**2**2', 'tower'),
    ('((2^{9})^{9})^{9}', 'powers'),
    (r'\binom{100000}{1}', 'binomial'), ('0001!', 'factorial'),
    ('(5+5)!', 'factorial'), ('(a+b+c+d)^{10}', 'high power'),
    ('+'.join('x^2' for _ in range(31)), 'exponents'),
    ('+'.join('x' * 1 for _ in range(202)), 'operators')])
def test_what_is_refused(text, reason):
  assert prefilter.too_steep(text)
  assert any(word in prefilter.too_steep(text) for word in reason.split('|'))


@pytest.mark.parametrize('text', [
    '', '5', '2^{9999}', '999!', r'\frac{1}{2}', '10^{-3}', '1,234,567',
    r'\sqrt[3]{2}+x^{2}', '(a+b)^{10}', '9' * 100])
def test_what_is_looked_at(text):
  assert prefilter.too_steep(text) == ''


def test_length_goes_by_the_gold_answer():
  """Twice as long as a long one is looked at."""
  assert prefilter.too_long('x' * 2000) == '' != prefilter.too_long('x' * 2001)
  assert prefilter.too_long('x' * 3000, 'x' * 1500) == ''
  assert 'more than 3000' in prefilter.too_long('x' * 3001, 'x' * 1500)


@pytest.mark.parametrize('text, want', [
    (r'\int_0^1 x', True), (r'\sum x', True), (r'\lim_{x}', True),
    (r'\limits', False), ('sum', False), ('5', False)])
def test_work_that_is_left_undone(text, want):
  assert prefilter.undone(text) == want


@pytest.mark.parametrize('less, more', [
    ('5', '55'), ('x+1', '(x+1)^{11}'), ('(x+1)^{9}', '(x+1)^{11}'),
    ('123456789', r'\binom{9}{2}'), (r'\{1,2,3\}', '9!')])
def test_what_looks_like_less_work(less, more):
  assert prefilter.effort(less) < prefilter.effort(more)


@pytest.mark.parametrize('text', [
    r'\frac{bc\sin\gamma}{3}', r'\gamma=60^\circ', r'\zeta(3)', r'\Gamma(5)',
    r'\beta^2\gamma^2', '(k+2)!', r'\frac{(2n)!}{n!}', '(n-1)!', '{n}!',
    '(10-3)!', '(5)!', 'n! != 3', r'\Gamma\left(\frac{1}{2}\right)',
    'i^{15}=(i^4)^3 i^3', '(2^3)^2=64', '(x^{10})^{10}',
    r'((x+1)^2)^3', '2^{10}=(2^5)^2'])
def test_letters_factorials_and_chains_are_looked_at(text):
  """fault B4: Greek letters are no functions, and small powers of powers and
  factorials of letters are no towers."""
  assert prefilter.too_steep(text) == ''


@pytest.mark.parametrize('text, reason', [
    ('(k^{99})!', 'factorial of an expression'), ('(10^9 k)!', 'factorial'),
    ('(99999)!', 'factorial'), ('(9999-1)!', 'factorial'), ('n!!', 'factorial'),
    ('(n!)!', 'factorial'), (r'(5\cdot 5)!', 'factorial'),
    (r'\Gamma(9999)', 'function of a large'), (r'\Gamma(9^9)', 'function'),
    ('factorial(9999)', 'function'), ('((2^{9})^{9})^{9}', 'powers'),
    ('(x^{99})^{99}', 'powers'), ('((a+b+c+d)^9)^9', 'high power'),
    ('((a+b+c+d))^{99}', 'high power'), ('{9^{9}}^{9}', 'powers')])
def test_what_grows_is_refused_in_other_spellings(text, reason):
  """fault B4: what a letter or a bracket does not make small."""
  assert reason in prefilter.too_steep(text)
