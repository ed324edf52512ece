"""Tolerances at both sides of their bound, and kinds with an argument."""

import pytest

from zppo_jax.records import Question
from zppo_jax.verdicts import journal, kinds, verifier


@pytest.mark.parametrize('kind, gold, right, wrong', [
    ('relative(0.05)', '100', ['105', '95', '1.05e2'], ['105.01', '94.99', '']),
    ('relative(0.05)', '-2', ['-2.1', '-1.9'], ['-2.11', '2']),
    ('relative(0.01)', '0', ['0.01', '-0.01'], ['0.011']),
    ('relative(0)', '3', ['3', '3.0'], ['3.0000001']),
    ('absolute(0.001)', '0.5', ['0.501', '0.499', '1/2'], ['0.5011', '0.4989']),
    ('absolute(0.001)', '0.333', ['1/3'], ['0.3']),
    ('absolute(0.001)', '6.283', [r'2\pi', '2π', '6.2832'], [r'\pi', '2']),
    ('rounded(1)', '1.4', ['1.36', '1.4', '1.44'], ['1.34', '1.46', '-1.4']),
    ('rounded(0)', '3', ['3.2', '2.6'], ['3.6', '2.4']),
    ('rounded_unit(1)', '1.4 m', ['1.36', '1.44 m', '140 cm', '1.4 metres'],
     ['1.34', '1.46 m', '1.4 km', '1.4 kg', '1.4 people', '1.4%']),
    ('rounded_unit(0)', '3 people', ['3.2', '2.6 people'],
     ['3.6 people', '3 dogs', '3 m']),
    ('rounded(2)', '1000', ['1' + '0' * 3], ['1' + '0' * 400]),
])
def test_both_sides_of_the_bound(kind, gold, right, wrong):
  mark = kinds.get(kind).mark
  assert [a for a in right if mark(a, gold) != 1] == []
  assert [a for a in wrong if mark(a, gold) != 0] == []


@pytest.mark.parametrize('kind', [
    'relative(-1)', 'relative(x)', 'absolute()', 'rounded(1.5)', 'rounded(99)',
    'rounded_unit(-1)',
       'ocrbench(reading en)', 'ocrbench(table parsing cn)', 'close(1)',
    'relative', 'judge+judge', 'os:system', 'os:system+judge', ''])
def test_what_is_no_kind_is_not_known(kind):
  assert not kinds.known(kind)


def test_an_argument_that_is_none_is_named():
  with pytest.raises(ValueError, match=r"absolute\(x\): 'x' is not a number"):
    kinds.get('absolute(x)')
  with pytest.raises(ValueError, match='ocrbench.table parsing cn. is not sco'):
    kinds.get('ocrbench(table parsing cn)')
  with pytest.raises(KeyError, match="'q'.*argument of relative is -1"):
    verifier.check_golds([Question('q', 'x', '1', '', kind='relative(-1)')])


def test_a_tolerance_is_a_part_of_a_verdicts_key():
  assert journal.key('relative(0.1)', '1', '2') != journal.key(
      'relative(0.2)', '1', '2')
  assert kinds.known('relative(0.1)') and kinds.known('relative(0.1)+judge')
  assert kinds.with_judge('relative(0.1)') == 'relative(0.1)+judge'
  assert kinds.with_judge('hle') == 'hle' and kinds.with_judge('') == ''
  assert kinds.judged('choice+judge') and not kinds.judged('choice')
