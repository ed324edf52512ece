"""Which words behind a value are its unit."""

import time
from fractions import Fraction

import pytest

from zppo_jax.verdicts.kinds import units


@pytest.mark.parametrize('text, body, factor, powers', [
    (r'45 \mathrm{~kg}', '45', 1, {'kg': 1}),
    (r'6\text{ dm}^3', '6', '1/1000', {'m': 3}),
    (r'2\sqrt{3}\text{ cm}^2', r'2\sqrt{3}', '1/10000', {'m': 2}),
    (r'80\text{ km/h}', '80', '5/18', {'m': 1, 's': -1}),
    (r'3 \times 10^{8} \mathrm{~m} / \mathrm{s}', r'3 \times 10^{8}', 1,
     {'m': 1, 's': -1}),
    (r'8 \mathrm{~J} /(\mathrm{mol} \cdot \mathrm{K})', '8', 1,
     {'kg': 1, 'm': 2, 's': -2, 'mol': -1, 'K': -1}),
    (r'5\;\mathrm{m\,s^{-1}}', '5', 1, {'m': 1, 's': -1}),
    (r'9\frac{\text{m}}{\text{s}^2}', '9', 1, {'m': 1, 's': -2}),
    (r'\$12', '12', 1, {'dollar': 1}), ('€5', '5', 1, {'euro': 1}),
    (r'25^\circ\text{C}', '25', 1, {'celsius': 1}),
    (r'5 \mu\mathrm{m}', '5', '1/1000000', {'m': 1}),
    (r'\SI{45}{kg}', '45', 1, {'kg': 1}), ('5 cm', '5', '1/100', {'m': 1}),
    (r'12\text{ square cm}', '12', '1/10000', {'m': 2}),
    (r'3\text{ cm squared}', '3', '1/10000', {'m': 2})])
def test_value_and_unit(text, body, factor, powers):
  """fault B1: the value is left as it was written; the unit is a factor and
  powers of base units, by hand."""
  found = units.split(units.undress(text))
  assert found.body == body
  assert found.unit.factor == Fraction(factor)
  assert dict(found.unit.powers) == powers


@pytest.mark.parametrize('text', [
    '5 or 7', r'-5 \text{ or } 5', r'3\mathrm{e}', r'A^\mathrm{T}',
    r'x_\text{max}', r'x \text{ if } x>0', '5 squared', '3 pi', '6 choose 2',
    r'\text{east}', 'east', '5m', '5 x', r'\int x \mathrm{d}x', r'60^\circ',
    r'50\%', r'2\mathrm{~m} \times'])
def test_what_is_no_unit_stays(text):
  """Hedges, functions, variables; degrees and percent are `retried`."""
  found = units.split(units.undress(text))
  assert found.unit is None and found.scale == 1
  assert found.body == units.undress(text)


def test_words_of_no_table_and_words_that_scale():
  """People are a unit of which nothing is known; a million is a number."""
  assert units.split('7 people').unit.name == 'people'
  assert units.split('3 million dollars').scale == 10**6
  assert units.split(r'2\text{ dozen}').scale == 12
  people, dollars, cents, kg = (
      units.split(f'7 {n}').unit for n in ('people', 'dollars', 'cents', 'kg'))
  assert units.ratio(people, dollars) == units.ratio(None, kg) == 1
  assert units.ratio(dollars, cents) == 100
  assert units.ratio(dollars, kg) is None


@pytest.mark.parametrize('piece', [
    '5 ', r'5\text{ m}', r'\text{m}/', '(', '{', 'cm ', '^', '^ ', r'\$',
    r'\frac{\text{m}}', '1,', '__ ', '. ', r'\\', '~', '√('])
def test_time_grows_as_the_text_does(piece):
  """Four times the text takes no more than about four times as long."""

  def seconds(count):
    text = '1' + piece * count
    start = time.process_time()
    units.measured(text)
    return time.process_time() - start

  short = max(min(seconds(4_000) for _ in range(3)), 0.01)
  assert min(seconds(16_000) for _ in range(3)) < 10 * short
