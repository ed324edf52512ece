"""The headline table from workdirs, and what it refuses to mix."""

import json

import pytest

from tests import workdirs
from zppo_jax.report import compare, curves, page
from zppo_jax.report.reading import read_all
from zppo_jax.statistics import t_interval


def set_config(path, **fields):
  """Changes fields of config.json; '__' stands for the dot."""
  head = json.loads((path / 'config.json').read_text())
  for name, value in fields.items():
    at = head['config']
    *parents, last = name.split('__')
    for parent in parents:
      at = at[parent]
    at[last] = value
  (path / 'config.json').write_text(json.dumps(head))


@pytest.fixture
def four(tmp_path):
  """Two methods, two seeds each."""
  return [workdirs.make(tmp_path / f'{m}{s}', method=m, seed=s, steps=10,
                        final=f)
          for m, f in (('zppo', 0.9), ('grpo', 0.5)) for s in (0, 1)]


def test_arms_are_methods_in_the_order_given(four):
  lines = compare.main(four).splitlines()
  assert lines[0].startswith('| arm | seeds | hard base | hard final | easy')
  assert lines[2].startswith('| zppo | 2 | 0.000 [0.000, 0.000] | ')
  assert lines[3].startswith('| grpo | 2 | ')
  finals = [r.summary['eval']['hard']['final'] for r in read_all(four[:2])]
  mean, low, high = t_interval(finals)
  assert f'{mean:.3f} [{low:.3f}, {high:.3f}]' in lines[2]
  assert '| 40 / 80 | 3200 | 14100 | 20 |' in lines[2]
  assert '| 0 / 0 | 3200 |' in lines[3]


def test_pairs_by_seed_are_compared(four):
  text = compare.main(four)
  a, b, c, d = [r.summary['eval']['hard']['final'] for r in read_all(four)]
  assert f'| zppo - grpo | hard | 2 | {(a - c + b - d) / 2:+.3f}' in text
  assert 'paired by seed' not in compare.main([four[0], four[2]])


def test_a_rate_becomes_a_column_only_where_it_differs(four, tmp_path):
  assert 'learning_rate' not in compare.main(four)
  other = workdirs.make(tmp_path / 'fast', seed=0, steps=10, rate=1e-3)
  lines = compare.main([*four, other]).splitlines()
  assert lines[0].startswith('| arm | optimizer.learning_rate | seeds |')
  assert [x.split(' | ')[:3] for x in lines[2:5]] == [
      ['| zppo', '0.0002', '2'], ['| grpo', '0.0002', '2'],
      ['| zppo', '0.001', '1']]


def test_another_difference_is_refused_with_its_values(four):
  set_config(four[1], eval__size=128)
  with pytest.raises(ValueError, match=(
      r"eval.size: '64', '128'\).*--vary=optimizer.learning_rate,eval.size ")):
    compare.main(four)
  assert '| eval.size |' in compare.main(four, vary=['eval.size'])


def test_ten_differences_are_named_and_the_others_counted(four):
  head = json.loads((four[1] / 'config.json').read_text())
  head['config']['own'] = {f'field_{i}': i for i in range(13)}
  (four[1] / 'config.json').write_text(json.dumps(head))
  with pytest.raises(ValueError, match=r'and 3 more\); --vary=A,B ') as e:
    compare.main(four)
  assert str(e.value).count('own.field_') == 10


def test_sft_and_train_are_not_compared(four):
  """It listed the 150 fields that the two configs do not share."""
  set_config(four[3], method='sft')
  with pytest.raises(ValueError) as e:
    compare.main(four)
  assert str(e.value).startswith(
      f'{four[3]} is a run of `zppo sft` and {four[0]} one of `zppo train`')
  assert 'zppo report' in str(e.value) and len(str(e.value)) < 500


def test_what_auto_proposed_is_no_difference(four):
  """Unless it was proposed in some of the runs alone."""
  for path, slots in zip(four, (32, 128, 32, 128), strict=True):
    set_config(path, shapes={'slots': slots, 'micro_tokens': slots})
  with pytest.raises(ValueError, match=r"shapes.slots: '32', '128'"):
    compare.main(four)

  def propose(paths, names):
    for path in paths:
      head = json.loads((path / 'config.json').read_text())
      (path / 'config.json').write_text(json.dumps(
          {**head, 'proposed': names}))

  propose(four[:2], ['slots', 'micro_tokens'])
  with pytest.raises(ValueError, match='shapes.micro_tokens'):
    compare.main(four)
  propose(four[2:], ['slots'])
  with pytest.raises(ValueError, match='shapes.micro_tokens') as e:
    compare.main(four)
  assert 'shapes.slots' not in str(e.value)
  propose(four[2:], ['slots', 'micro_tokens'])
  assert compare.main(four).startswith('| arm | seeds |')
  assert '| zppo - grpo |' in compare.main(four)
  assert 'shapes.slots' not in page._header(read_all(four))
  assert [g.label for g in curves.group_runs(read_all(four))] == [
      'zppo', 'grpo']


def test_a_section_names_its_fields_and_a_comma_parts_names(four):
  for path in four[2:]:
    set_config(path, eval__size=128, optimizer__learning_rate=1e-3)
  head = compare.main(four, vary=['eval', 'optimizer.learning_rate'])
  assert head.startswith('| arm | eval.size | optimizer.learning_rate |')


def test_an_unknown_field_lists_the_known(four):
  with pytest.raises(KeyError, match='eval.sise.*eval.size'):
    compare.main(four, vary=['eval.sise'])


def test_unfinished_runs_and_repeats_are_refused(four, tmp_path):
  torn = workdirs.make(tmp_path / 'torn', seed=7, steps=10, unfinished=True)
  with pytest.raises(ValueError, match='unfinished.*torn'):
    compare.main([*four, torn])
  again = workdirs.make(tmp_path / 'again', seed=1, steps=10)
  with pytest.raises(ValueError, match=r'zppo1 and .*again.*seed 1'):
    compare.main([*four, again])


def test_different_code_is_said(four):
  head = json.loads((four[0] / 'config.json').read_text())
  (four[0] / 'config.json').write_text(
      json.dumps({**head, 'git_revision': 'another'}))
  assert 'differ in code revision: another, a1b2' in compare.main(four)


def test_the_document_is_written_on_request(four, tmp_path):
  text = compare.main(four, to=tmp_path / 't.md')
  assert (tmp_path / 't.md').read_text() == text
