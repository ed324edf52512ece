"""Control: a student without deep misconceptions.

Every hard fact is right in 30 % of pre-training, so one lucky group shows it.
Rates are those that the headline study chose on its development seeds.

  zppo study --config=studies/no_separation.py --to=runs/no_separation \
    --cores=0,1
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_HEADLINE = pathlib.Path(__file__).with_name('headline.py')


def get_config():
  c = runpy.run_path(str(_HEADLINE))['get_config']()
  c.title = 'Control: no deep misconceptions'
  c.common = (('student.weights', 'micro/shallow_student'),)
  c.rates = ()
  c.fixed_rates = ConfigDict(dict(
      zppo=2e-4, grpo_replay=2e-4, grpo=2e-4, placebo=4e-4))
  return c
