"""Second table: a terse teacher and values-only candidates.

Every candidate is compressed by the teacher to its values, so no style can
leak. Rates are those that the headline study chose on its development seeds.

  zppo study --config=studies/terse.py --to=runs/terse --cores=0,1
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_HEADLINE = pathlib.Path(__file__).with_name('headline.py')


def get_config():
  c = runpy.run_path(str(_HEADLINE))['get_config']()
  c.title = 'Second table: terse teacher, values-only candidates'
  c.common = (('teacher.weights', 'micro/terse_teacher'),
              ('compression.identity_below', 0))
  c.rates = ()
  c.fixed_rates = ConfigDict(dict(
      zppo=2e-4, grpo_replay=2e-4, grpo=2e-4, placebo=4e-4))
  return c
