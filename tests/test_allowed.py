import math

import numpy as np
import pytest

from zppo_jax import allowed


@pytest.mark.parametrize('value, bounds', [
    (1, '>= 1'), (1.5, '> 1'), (0, '[0, 1)'), (1, '(0, 1]'), (-3, '<= -3'),
    (4, '< 5'), (np.float32(0.5), '(0, 1)'), (np.int64(3), '>= 3')])
def test_within(value, bounds):
  assert allowed.number('f', value, bounds) is value


@pytest.mark.parametrize('value, bounds, text', [
    (0, '>= 1', 'f.g is 0; it must be >= 1'),
    (1, '> 1', 'f.g is 1; it must be > 1'),
    (1, '[0, 1)', r'f.g is 1; it must be in \[0, 1\)'),
    (0.0, '(0, 1]', r'f.g is 0.0; it must be in \(0, 1\]'),
    (math.nan, '>= 0', 'f.g is nan; it must be >= 0'),
    (math.inf, '>= 0', 'f.g is inf; it must be >= 0'),
    (True, '>= 0', 'f.g is True; it must be >= 0'),
    ('3', '>= 0', "f.g is '3'; it must be >= 0"),
    (None, '>= 0', 'f.g is None; it must be >= 0'),
    (10**400, '(0, 1]', 'f.g is 10+; it must be in')])
def test_outside(value, bounds, text):
  with pytest.raises(ValueError, match=text):
    allowed.number('f.g', value, bounds)


def test_whole_numbers_and_infinity():
  assert allowed.number('f', 3, '>= 1', whole=True) == 3
  with pytest.raises(ValueError, match='f is 3.0; it must be a whole number '
                                       '>= 1'):
    allowed.number('f', 3.0, '>= 1', whole=True)
  assert allowed.number('f', math.inf, '> 1', finite=False) == math.inf
  with pytest.raises(ValueError, match='f is nan'):
    allowed.number('f', math.nan, '> 1', finite=False)
  with pytest.raises(ValueError, match=r'it must be >= 0 \(0: off\)'):
    allowed.number('f', -1, '>= 0', note=' (0: off)')


def test_bounds_that_cannot_be_read_are_a_mistake_of_the_caller():
  with pytest.raises(AssertionError, match='bounds are'):
    allowed.number('f', 1, '1 or more')


def test_names():
  assert allowed.known('f', 'a', {'a': 1}) == 1
  assert allowed.one_of('f', 'b', ('a', 'b')) == 'b'
  for look in (allowed.known, allowed.one_of):
    with pytest.raises(KeyError, match="unknown f.g 'c'; known: a, b"):
      look('f.g', 'c', {'a': 1, 'b': 2})


def test_what_else_is_allowed_stands_behind_the_names():
  assert allowed.known('f', 'a', {'a': 1}, note=', or a path') == 1
  with pytest.raises(KeyError, match='known: a, or a path'):
    allowed.one_of('f', 'c', ('a',), note=', or a path')


def test_texts():
  for text in ('', 'abc', 'é 雪 🙂'):
    assert allowed.text('f', text) is text
  with pytest.raises(ValueError, match=r"f.g holds half a surrogate pair, "
                                       r"'\\udc80' at character 2; it must"):
    allowed.text('f.g', 'é \udc80')


def test_a_wrong_name_among_many_gets_a_guess():
  many = [f'name_{i:02d}' for i in range(20)]
  with pytest.raises(KeyError) as error:
    allowed.one_of('method', 'nam_07', many)
  assert "unknown method 'nam_07' (did you mean 'name_07'" in str(error.value)
  with pytest.raises(KeyError) as error:
    allowed.one_of('method', 'xyz', many)
  assert "unknown method 'xyz'; known: name_00" in str(error.value)


def test_several_names_in_one_text_say_how_they_are_written():
  """`--config.eval.splits=hard,easy` is one text for ml_collections."""
  with pytest.raises(KeyError) as e:
    allowed.one_of('split', 'b, a', ['a', 'b'])
  assert e.value.args[0] == (
      "unknown split 'b, a'; known: a, b; several are written \"('b', 'a')\"")
  with pytest.raises(KeyError) as e:
    allowed.one_of('split', 'b,c', ['a', 'b'])
  assert e.value.args[0] == "unknown split 'b,c'; known: a, b"
