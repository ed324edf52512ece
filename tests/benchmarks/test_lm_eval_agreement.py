"""The comparison with lm-eval: what is asked and graded; the results."""

import json
import pathlib
import random

import pytest

from benchmarks import lm_eval_agreement as agreement

RESULTS = (pathlib.Path(agreement.__file__).parent / 'results'
           / 'lm_eval.json')


@pytest.mark.parametrize('name', agreement.MADE)
def test_the_scripted_texts_are_right_and_wrong_here(name):
  make, write = agreement.MADE[name]
  for row in make(20, random.Random(0)):
    for spelling in agreement.SPELLINGS:
      answer, score = agreement.ours(name, row, write(row, spelling, True))
      assert bool(answer) == (spelling != 'none') == bool(score)
      assert agreement.ours(name, row, write(row, spelling, False))[1] == 0.0


def test_verdicts_are_compared_where_both_read_an_answer():
  rows = agreement.gsm8k_rows(3, random.Random(0))
  sample = lambda row, text, read, score: {
      'doc': row, 'resps': [[text]], 'filtered_resps': [read],
      'filter': 'f', 'exact_match': score}
  text = lambda row, right: agreement.gsm8k_text(row, 'plain', right)
  found = agreement.compare('gsm8k', rows, [
      sample(rows[0], text(rows[0], True), '1', 1.0),
      sample(rows[1], text(rows[1], True), '2', 0.0),
      sample(rows[2], 'nothing', '[invalid]', 0.0)])['f']
  assert (found['responses'], found['both_read'], found['agree']) == (3, 2, 1)
  assert (found['lm_eval'], found['ours']) == (1.0, 2.0)
  assert [d['lm_eval_read'] for d in found['differences']] == ['2']


def test_the_committed_results_differ_in_the_spelling_of_numbers_alone():
  tasks = json.loads(RESULTS.read_text())['agreement']['tasks']
  assert set(tasks) == set(agreement.TASKS)
  for name, filters in tasks.items():
    for of in filters.values():
      assert of['agree'] + len(of['differences']) == of['both_read'] > 0
      assert 0 < of['lm_eval'] < of['both_read']
      for one in of['differences']:
        assert name == 'gsm8k' and one['ours'] > one['lm_eval']
        assert float(one['lm_eval_read']) == float(
            one['gold'].replace(',', ''))
