"""Groups of seeds, means and bands by hand, smoothing, thinning."""

import math

import numpy as np
import pytest

from tests import builders, workdirs
from zppo_jax.report import curves, figures, panels, reading


def runs_of(tmp_path, *fields):
  return [reading.read(workdirs.make(tmp_path / str(i), **f))
          for i, f in enumerate(fields)]


def test_seeds_are_one_group_and_other_rates_another(tmp_path):
  runs = runs_of(tmp_path, dict(seed=0), dict(seed=1), dict(seed=0, rate=1e-3),
                 dict(seed=0, method='grpo'))
  groups = curves.group_runs(runs)
  assert [(g.label, len(g.runs)) for g in groups] == [
      ('zppo learning_rate=0.0002', 2), ('zppo learning_rate=0.001', 1),
      ('grpo', 1)]


class Fake:
  """A run that has nothing but metrics."""

  def __init__(self, *rows):
    self.metrics = rows


def test_mean_and_band_over_seeds_by_hand():
  """1, 2, 3 at step 0 as in test_statistics; step 2 has two runs, step 3 one
  and so no interval: it is left out of the mean."""
  group = curves.RunGroup('g', (
      Fake({'step': 0, 'a': 1}, {'step': 2, 'a': 5}),
      Fake({'step': 0, 'a': 2}, {'step': 2, 'a': 7}, {'step': 3, 'a': 9}),
      Fake({'step': 0, 'a': 3}, {'step': 1})))
  line = curves.curve('g', group, 'a')
  assert line.xs == (0, 2) and line.ys == (2, 6) and line.bold
  assert line.high[0] - 2 == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
  assert len(line.faint) == 3
  assert curves.curve('g', group, 'b') is None


def test_values_that_are_not_finite_are_left_out():
  group = curves.RunGroup('g', (
      Fake({'step': 0, 'a': math.nan}, {'step': 1, 'a': 4}),))
  assert curves.curve('g', group, 'a').ys == (4.0,)


def test_smoothing_is_a_centred_mean():
  assert curves.smooth((0, 3, 6, 0), 3) == (1.5, 3, 3, 3)
  assert curves.window(39) == 1 and curves.window(200) % 2 == 1


def test_long_curves_are_means_over_spans():
  xs, ys = curves.thin_out(range(3000), range(3000))
  assert len(xs) == curves.MOST_POINTS and xs == ys
  assert ys[0] == np.mean(range(10))


@pytest.mark.parametrize('steps, seeds', [(20, 1), (60, 1), (20, 2)])
def test_one_thing_has_one_colour_in_all_charts(tmp_path, steps, seeds):
  """zppo is the second group also where the first has no such curve; for
  plain, smoothed and averaged curves."""
  groups = curves.group_runs(runs_of(tmp_path, *(
      dict(method=m, seed=s, steps=steps) for m in ('grpo', 'zppo')
      for s in range(seeds))))
  drawn, _ = figures.draw_all(panels.LEARNING, groups)
  assert drawn
  for figure in drawn:
    for one in figure.views[0].series:
      assert one['style'] == ['grpo', 'zppo'].index(one['label'])


def test_what_is_not_recorded_is_named(tmp_path):
  groups = curves.group_runs(runs_of(tmp_path, dict(method='grpo')))
  drawn, missing = figures.draw_all(panels.LEARNING, groups)
  assert {'probe/bcq', 'probe/follows_wrong'} <= set(missing)
  assert all(f.unit and f.what and f.names for f in drawn)


def test_panels_draw_names_that_a_run_writes():
  """Every name without a pattern has its row in docs/metrics.md."""
  documented = builders.documented_metrics()
  drawn = [name for table in (panels.LEARNING, panels.HEALTH, panels.TEACHER,
                              panels.BUFFER, panels.SUPERVISED)
           for p in table for name in p.names]
  assert len(drawn) > 20
  for name in drawn:
    if '*' not in name:
      assert any(d.fullmatch(name) for d in documented), name
