"""What decides a run's numbers: whether two configs are of the same run.

A run goes on with the config that it began with. Some fields may change, and
fields of later versions have a value at which a run is what it was.
"""

import json
from importlib import metadata

from zppo_jax.algorithms import methods
from zppo_jax.chat import prompts
from zppo_jax.devices import disk

PACKAGES = ('zppo_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint',
            'numpy')


def versions() -> dict[str, str]:
  """Installed versions of the packages on which the numbers depend."""
  out = {}
  for name in PACKAGES:
    try:
      out[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      out[name] = 'not installed'
  return out


def config_values(config) -> dict:
  """A ConfigDict as the JSON values under which it is stored."""
  return json.loads(config.to_json_best_effort())


def flat(values: dict, prefix: str = '') -> dict:
  """Nested JSON values by dotted name."""
  out = {}
  for key, value in values.items():
    name = f'{prefix}{key}'
    out.update(flat(value, f'{name}.') if isinstance(value, dict) and value
               else {name: value})
  return out


# Servers may move, a user may become more or less patient with them or with the
# run, and a bound on what is read refuses or does nothing.
MAY_CHANGE = frozenset({
    'steps', 'checkpoint.journal', 'data.pool.max_bytes', 'overlap',
    'compile_ahead',
    'watch.words', 'watch.phrases', 'watch.drift', 'watch.lift.every',
    'watch.lift.questions', 'distil.max_missing', 'guard.alarms',
    'guard.max_idle', 'run.callbacks', 'best.metric', 'best.mode',
    'best.patience', 'best.least',
    'teacher.max_failures',
    'teacher.min_answered', 'teacher.window',
    'teacher.endpoint.max_logprobs',
    'teacher.endpoint.score_entries', *(
    f'{of}.{name}' for of in ('teacher.endpoint', 'judge') for name in (
        'url', 'key_env', 'budget_s', 'deadline_s', 'concurrency', 'retries',
        'backoff_s', 'max_reply_mb'))})
# Fields that earlier versions did not store, and the value with which a run is
# what it was without the field.
ADDED = {'algorithm.reference.kind': 'none',
         'algorithm.reference.coefficient': 0.0,
         'algorithm.reference.route': 'all',
         'algorithm.ewc.coefficient': 0.0, 'algorithm.ewc.fisher': '',
         'algorithm.sequence_clip.low': 3e-4,
         'algorithm.sequence_clip.high': 4e-4,
         'algorithm.surrogate': '',
         'algorithm.ties': 'list', 'algorithm.rest_saturated': 0,
         'algorithm.prefix_share': 0.4,
         'algorithm.prefix_share_schedule': '',
         'algorithm.weight_clip.low': 1.0, 'algorithm.weight_clip.high': 4.0,
         **{f'credit.{name}': '' for name in (
             'signal', 'combine', 'coefficient', 'discount', 'margin',
             'margin_kind', 'margin_verdicts', 'balance', 'base',
             'policy_route', 'policy_weights', 'policy_rollout_weights',
             'route', 'weights', 'rollout_weights', 'gold')},
         'shapes.auto': False, 'shapes.responses': '', 'eval.cadence': {},
         'reward.weights': {}, 'reward.decides': 'score',
         'reward.threshold': 0.0, 'reward.overlong': 0.2,
         'data.pool.media_roots': [],
         'data.balance.samples': '', 'data.balance.factors': [],
         'data.pool.hints': False, 'data.pool.worked': False,
         'shapes.prefill_tokens': None, 'shapes.cache_buckets': [],
         'shapes.share_from': 0,
         'distil.divergence': '', 'distil.beta': 0.5, 'distil.support': '',
         'distil.beta_schedule': '', 'distil.student_share_schedule': '',
         'distil.mix_schedule': '',
         'distil.top': 100, 'distil.rest': 'bucket',
         'distil.temperature': 1.0, 'distil.temperature_schedule': '',
         'distil.coefficient': 1.0,
         'distil.coefficient_schedule': 'constant',
         'distil.coefficient_end': 0.0, 'distil.coefficient_updates': 0,
         'distil.coefficient_steps': [], 'distil.reducer': '',
         'distil.student_share': 0.5, 'distil.other_states': 'teacher',
         'distil.keep': 'correct', 'distil.context': '',
         'distil.target': '', 'distil.anchor': 0.5,
         'distil.context_of': 'own', 'distil.context_level': 0,
         'distil.material': '',
         'distil.student_temperature': 0.0, 'distil.guides': 1,
         'distil.asked_of': '', 'distil.trained_under': '',
         'distil.drawn_by': 'policy', 'distil.mix': 0.5,
         'watch.overlap': 0, 'watch.drift': 0, 'watch.lift.every': 0,
         'watch.lift.questions': 8,
         **{f'prompts.{name}': None for name in prompts.FIELDS},
         'hint.source': 'teacher', 'hint.cap': 512, 'hint.temperature': 0.0,
         'hint.max_characters': 2048, 'hint.material': '', 'hint.level': 0,
         'lora.rank': 0, 'lora.alpha': 32.0, 'lora.matrices': [],
         'lora.start': '',
         'optimizer.warmup_steps': 0, 'optimizer.schedule_steps': 0,
         'optimizer.decay_steps': 0, 'optimizer.end_share': 0.0,
         'optimizer.state_rounding': 'nearest',
         'optimizer.second_moment_dtype': '', 'optimizer.frozen': [],
         'data.prompt_tokens': 0,
         'student.date': '', 'student.end_tokens': [],
         'student.chat_template': '',
         'teacher.endpoint.scores': 'echo',
         'mesh.slices': 1, 'teacher.mesh.data': 0, 'teacher.mesh.fsdp': 0,
         'teacher.mesh.tensor': 0, 'teacher.rollout_weights': 'same',
         'teacher.panel.members': {}, 'teacher.panel.routes': {},
         'teacher.own.weights': 'frozen', 'teacher.own.lag': 10,
         'teacher.own.rate': 0.05, 'teacher.own.folder': '',
         'teacher.end_tokens': []}  # fields of MAY_CHANGE may be missing, too


def _comparable(values: dict) -> dict:
  """A stored config by dotted name, reduced to what decides a run's numbers."""
  out = {**ADDED, **flat(values)}
  # These were values of their own before they were open.
  row = methods.METHODS.get(out.get('method', ''))
  usual = row.usual if row else {}
  for name, is_open, value in (
      ('distil.top', 0, 100), ('distil.rest', '', 'bucket'),
      ('distil.coefficient', None, usual.get('distil.coefficient', 1.0)),
      ('teacher.own.weights', '', usual.get('teacher.own.weights', 'frozen'))):
    if out.get(name) == is_open:
      out[name] = value
  if out.get('optimizer.schedule', 'constant') != 'constant':
    # The length is a number of steps, whichever field gave it.
    out['optimizer.schedule_steps'] = (
        out['optimizer.schedule_steps'] or out['steps'])
  return out


def identity(config) -> str:
  """A digest of the config fields and packages that decide a run's numbers."""
  values = _comparable(config_values(config))
  return disk.digest({'versions': versions(), **{
      name: value for name, value in values.items()
      if name not in MAY_CHANGE}})


def differences(stored: dict, config) -> list[str]:
  """The fields that decide a run's numbers in which a config is not the stored
  one, each with both values.

  Args:
    stored: the config of a config.json.
    config: the config of now.
  """
  there, here = (_comparable(values) for values in (
      stored, config_values(config)))
  return [f'{n} is {there.get(n)!r} there and {here.get(n)!r} here'
          for n in sorted({**there, **here})
          if n not in MAY_CHANGE and there.get(n) != here.get(n)]


def check_same_config(path, stored: dict, config) -> None:
  """Refuses to resume a run with another config.

  MAY_CHANGE lists the fields that may differ; `steps` may only grow.

  Raises:
    ValueError: naming the fields that differ, with both values.
  """
  if not isinstance(stored['config'], dict) or 'steps' not in stored['config']:
    raise ValueError(f'{path}/config.json is not readable: its config is no '
                     'config of a run')
  if differ := differences(stored['config'], config):
    raise ValueError(f'{path} holds a run of another config: '
                     f'{"; ".join(differ)}. Resume with its own config, or '
                     'take a new --workdir')
  steps = stored['config']['steps']
  if config.steps < steps:
    raise ValueError(f'steps is {config.steps}; {path} holds a run of '
                     f'{steps} steps, which may only grow')
