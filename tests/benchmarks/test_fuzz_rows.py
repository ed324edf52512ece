"""benchmarks/fuzz_rows.py: no row makes a reader raise what names no row."""

import json

import pytest

from benchmarks import fuzz_rows
from zppo_jax.data import pool


def test_every_row_is_a_question_or_an_error_that_names_it():
  """fault C5: and fault C2, in 500 mutated rows of both formats."""
  counts = fuzz_rows.main(500, 0)['outcomes']
  assert sum(counts.values()) == 500
  assert counts['question'] > 50 and counts['error: ValueError'] > 100
  assert set(counts) <= {'question', 'skipped', 'error: ValueError',
                         'error: KeyError', 'error: FileNotFoundError'}


def test_a_case_depends_on_seed_and_number_alone():
  assert fuzz_rows.main(30, 1) == fuzz_rows.main(30, 1)


@pytest.mark.parametrize('error', [ValueError('bad'), RecursionError('deep')])
def test_it_fails_where_an_error_names_no_row(monkeypatch, error):
  def raises(*args, **fields):
    raise error

  monkeypatch.setattr(pool, 'open_pool', raises)
  with pytest.raises(AssertionError, match='case 0 of seed 0'):
    fuzz_rows.main(1, 0)


def test_the_good_row_of_a_case_is_asked(tmp_path):
  import random
  for held in fuzz_rows.FORMATS:
    (tmp_path / 'a.png').write_bytes(fuzz_rows.png(random.Random(0)))
    rows = [fuzz_rows.row(random.Random(5), name, held) for name in 'xy']
    for row in rows:
      row['prompt'] = 'How many?'
    path = tmp_path / f'case.{held}'
    assert fuzz_rows.write(random.Random(1), path, rows, held)
    if held == 'jsonl':
      path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
    assert fuzz_rows.outcome(path, held) == 'question'
