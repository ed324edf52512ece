"""The embedded world as a TFDS builder; TensorFlow is not needed.

  from zppo_jax.tasks import micro_tfds
  micro_tfds.prepare('/tmp/data')
  questions = micro_tfds.read('/tmp/data', 'train')

or, with any TFDS tooling once this module is imported,

  tfds.data_source('zppo_micro', split='hard', data_dir='/tmp/data')

The files are array_record, in the order of tasks/micro.py: split `train` is
the pool that RL draws from, the others are the evaluation splits. Every knob
of the world is part of the configuration's name, so that data made with other
knobs lies in another folder.
"""

import dataclasses

import tensorflow_datasets as tfds

from zppo_jax import allowed
from zppo_jax.records import Question
from zppo_jax.tasks import micro

TRAIN = 'train'
SPLITS = (TRAIN, *micro.EVAL_SPLITS)
FILE_FORMAT = 'array_record'
_FIELDS = ('id', 'text', 'answer', 'split')  # this world has no media


@dataclasses.dataclass(eq=False)
class MicroConfig(tfds.core.BuilderConfig):
  """Knobs of the embedded world; the name follows from them.

  Attributes:
    pool_size: the number of questions of `train`.
    hard_share: the fraction of hard ones among them, in [0, 1].
    num_steps: the operators per question (K).
    eval_size: the number of questions of each evaluation split.
  """
  name: str = dataclasses.field(default='', init=False)
  pool_size: int = dataclasses.field(default=800, kw_only=True)
  hard_share: float = dataclasses.field(default=0.5, kw_only=True)
  num_steps: int = dataclasses.field(default=3, kw_only=True)
  eval_size: int = dataclasses.field(default=192, kw_only=True)

  def __post_init__(self):
    self.hard_share = float(self.hard_share)
    self.name = (f'pool{self.pool_size}_hard{self.hard_share!r}'
                 f'_steps{self.num_steps}_eval{self.eval_size}')

  def questions(self, split: str) -> list[Question]:
    """The questions of a split, made anew (not read)."""
    if split == TRAIN:
      return micro.pool(self.pool_size, self.hard_share, self.num_steps)
    return micro.evaluation(split, self.eval_size, self.num_steps)


class ZppoMicro(tfds.core.GeneratorBasedBuilder):
  """Chains of digit operators, easy and hard; see tasks/micro.py."""
  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [MicroConfig()]

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict(
            {name: tfds.features.Text() for name in _FIELDS}),
        disable_shuffling=True)  # the pool's order is part of a run

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(self, split):
    for i, question in enumerate(self.builder_config.questions(split)):
      yield i, {name: getattr(question, name) for name in _FIELDS}


def _builder(data_dir, config: MicroConfig | None) -> ZppoMicro:
  # TFDS takes a listed configuration by identity only, so by its name here.
  listed = {c.name: c for c in ZppoMicro.BUILDER_CONFIGS}
  config = MicroConfig() if config is None else config
  return ZppoMicro(data_dir=str(data_dir), file_format=FILE_FORMAT,
                   config=listed.get(config.name, config))


def prepare(data_dir, config: MicroConfig | None = None) -> None:
  """Writes all splits below `data_dir`, unless they are there already.

  Args:
    data_dir: the root of TFDS data sets.
    config: the knobs; None takes the defaults.

  Raises:
    ValueError: if the world has fewer questions than the knobs ask for.
  """
  _builder(data_dir, config).download_and_prepare()


def read(data_dir, split: str,
         config: MicroConfig | None = None) -> list[Question]:
  """The questions of a prepared split, in the builder's order.

  Args:
    data_dir: the root that `prepare` was given.
    split: 'train' or an evaluation split.
    config: the knobs that `prepare` was given.

  Raises:
    KeyError: for an unknown split, naming the known ones.
    FileNotFoundError: if nothing was prepared with these knobs.
  """
  allowed.one_of('split', split, SPLITS)
  builder = _builder(data_dir, config)
  if not builder.is_prepared():
    raise FileNotFoundError(
        f'no {builder.info.full_name} below {data_dir}'
        f'{allowed.looked_from(data_dir)}; micro_tfds.prepare writes it')
  return [Question(**{name: text.decode() for name, text in row.items()})
          for row in builder.as_data_source(split)]
