"""The worlds of the paper's study, and what all its arms share.

A world is a base config, overrides and models that the study pre-trains. The
text worlds differ in nothing but the misconceptions of the student, which is
pre-trained anew by `configs/micro_pretrain.py` with another `deep_share`.
docs/study.md says by which rule DEEP_SHARE is chosen on development seeds.
"""

from typing import NamedTuple

# Shares of the hard facts that are deep misconceptions: the dial.
SHARES = tuple(i / 10 for i in range(10))
TEXT, PICTURES = 'configs/micro.py', 'configs/micro_pictures.py'


def student_of(share: float) -> str:
  """The name of the student that is pre-trained with a deep_share."""
  return f'student_{round(100 * share):02d}'


def student(share: float) -> dict:
  """Its entry in `models` of a study."""
  return {student_of(share): ('student', (('belief.deep_share', share),))}


def taught_by(name: str) -> tuple:
  """The override of a run whose student is a model of the study."""
  return ('student.weights', '{models}/' + name + '.safetensors')


def weak_teacher(share: float) -> tuple:
  """A teacher that believes a misconception in a share of the hard facts, and
  is right elsewhere. It was not taught to summarise, because a corpus of
  summaries holds true traces."""
  return ('teacher', (
      ('belief.kind', 'misconceived'), ('belief.medium_p', 1.0),
      ('belief.hard_p', 1.0), ('belief.deep_share', share),
      ('rows.compression', 0)))


class World(NamedTuple):
  """Where arms are compared.

  Attributes:
    base: the config of all runs.
    common: overrides that fall on all arms.
    models: as in a study.
    splits: the splits of the tables, the endpoint first.
    answers: splits whose answers are kept.
    deep: whether its student has deep misconceptions.
  """
  base: str
  common: tuple
  models: dict
  splits: tuple[str, ...]
  answers: tuple[str, ...]
  deep: bool = True


_SPLITS = ('hard', 'hard_list', 'hard_composed', 'easy', 'easy_list')
_FAMILIES = ('hard', 'hard_list', 'hard_clip', 'hard_text', 'easy',
             'easy_clip', 'easy_text')
_ANSWERS = ('hard', 'hard_list', 'hard_composed')
# The share that has headroom: what the rule of docs/study.md chooses from the
# development runs of studies/depth.py (studies/results/depth/results.json).
DEEP_SHARE = 0.6
_DEEP = student_of(DEEP_SHARE)

WORLDS = {
    # Chosen for headroom: see docs/study.md.
    'text': World(TEXT, (taught_by(_DEEP), ('steps', 300)),
                  student(DEEP_SHARE), _SPLITS, _ANSWERS),
    # The packaged student with 22 deep facts.
    'shipped': World(TEXT, (), {}, _SPLITS, _ANSWERS),
    # No hard fact is deep.
    'none': World(TEXT, (('student.weights', 'micro/shallow_student'),), {},
                  _SPLITS, (), deep=False),
    # Pictures are trained; pictures, clips and text are evaluated.
    'handwriting': World(
        PICTURES, (taught_by('reader'), ('eval.splits', _FAMILIES)),
        {'reader': ('seeing_student', (
            ('mixture.form', 'pictures_and_text'),))},
        _FAMILIES, ('hard', 'hard_list')),
}
