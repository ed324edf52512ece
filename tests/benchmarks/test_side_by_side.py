"""The side-by-side benchmark: what counts, what is refused, what is printed."""

import json

import pytest

from benchmarks import tables, zppo_cost
from benchmarks.side_by_side import summary, work


def record(name, launch, step, **changes):
  seconds = {'sampling': step / 4, 'update': 3 * step / 4, 'step': step}
  return {'name': name, 'launch': launch, 'threads': 1, 'median_s': seconds,
          'first_s': seconds, 'peak_rss': 2**30, 'versions': {},
          'tokens': [work.ROWS * work.RESPONSE],
          'check': {'loss': -0.05, 'grad_norm': 1.0},
          'roofline': {'flops': 1e11}, **changes}


RECORDS = [record(n, i, s * (1 + i)) for i in range(3)
           for n, s in (('ours', 5.0), ('trl', 10.0), ('tunix', 6.0))]


def test_ratios_are_paired_by_launch_and_small_ones_unresolved():
  found = summary.summarise(RECORDS)['by_threads']['1']['ratios']
  assert found['step, trl / ours']['median'] == pytest.approx(2.0)
  assert found['step, trl / ours']['resolved']
  assert not found['step, tunix / ours']['resolved']
  assert '(unresolved)' in summary.table(summary.summarise(RECORDS))


@pytest.mark.parametrize('changes', [
    {'tokens': [1]}, {'check': {'loss': -0.05, 'grad_norm': 1.01}},
    {'check': {'loss': 0.0, 'grad_norm': 1.0}}])
def test_other_work_does_not_count(changes):
  with pytest.raises(ValueError):
    summary.summarise([*RECORDS, record('trl', 9, 1.0, **changes)])


def test_the_peak_is_that_of_the_steps(capsys):
  """It is taken before the fixed batch, which is checked in one piece."""
  work.report('ours', {'step': [9.0, 2.0, 4.0]}, 3 * 2**20, check={})
  found = json.loads(capsys.readouterr().out.removeprefix(work.MARK))
  assert found['peak_rss'] == 3 * 2**20 < work.peak_rss()
  assert found['first_s']['step'] == 9.0 and found['median_s']['step'] == 3.0


def test_costs_are_medians_behind_the_warm_up():
  row = lambda step, seconds: {
      'step': step, 'time/rollouts': seconds, 'time/scoring': 0.0,
      'time/update': 0.0, 'time/teacher': 1.0, 'time/log': 0.0,
      'tokens/student_prompt': 10, 'tokens/student_generated': 90}
  found = zppo_cost.costs([row(0, 50.0), row(1, 2.0), row(2, 4.0)], 1)
  assert found['student'] == pytest.approx(0.03)
  assert found['step'] == pytest.approx(4.0) and found['teacher'] == 1.0


@pytest.mark.parametrize('page', tables.PAGES, ids=lambda page: page.name)
def test_the_page_is_current(page):
  text = page.read_text()
  assert '<!-- ' in text
  assert tables.filled(text, tables.RESULTS) == text
