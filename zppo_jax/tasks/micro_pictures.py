"""The embedded world with handwritten digits.

The questions of tasks/micro.py have their digits in pictures here, or in a clip
that shows one digit per second.

The digits are scikit-learn's 1,797 scans of real handwriting, of 8 x 8 pixels
(UCI's optical recognition of handwritten digits). The last NUM_UNSEEN scans
occur only in evaluation, the others in pre-training and in the pool.

A question says what is done to the digits that it shows; the response starts
by reading them:

  [picture of a 4] 'C h i j'   ->   '4 h 1 1 i 5 5 j 9 A 1 5 9'

The splits are those of tasks/micro.py, and `hard_clip` and `easy_clip`, which
show the list family as a clip. Pre-training showed clips, RL never does.
`hard_text` and `easy_text` are the questions of `hard` and `easy` in text, for
a student that was pre-trained with the form 'pictures_and_text'.
"""

import dataclasses
import functools

import numpy as np
from PIL import Image

from zppo_jax import allowed
from zppo_jax.chat import images, micro_chat
from zppo_jax.models.vision import VisionConfig
from zppo_jax.records import Clip, Picture, Question
from zppo_jax.tasks import micro

NUM_UNSEEN = 500
CLIPS = {'hard_clip': 'hard_list', 'easy_clip': 'easy_list'}
TEXTS = {'hard_text': 'hard', 'easy_text': 'easy'}
EVAL_SPLITS = (*micro.EVAL_SPLITS, *CLIPS, *TEXTS)
FPS = 2.0  # a digit has two frames, which are one temporal patch

_ids = micro_chat.seeing(None).codec.ids
TOWER = VisionConfig(
    depth=2, width=32, num_heads=2, mlp_width=64, out_width=64, patch_size=4,
    temporal_patch=2, channels=3, merge=2, num_positions=4,
    start_id=_ids['<|vision_start|>'], end_id=_ids['<|vision_end|>'],
    image_id=_ids['<|image_pad|>'], video_id=_ids['<|video_pad|>'])
_GREY = dict(mean=(0.5,) * 3, std=(0.5,) * 3)
CHAT = micro_chat.seeing(images.Processor(
    TOWER, images.Pixels(64, 64, **_GREY), images.Pixels(64, 6 * 64, **_GREY),
    fps=FPS, min_frames=2,
    # The packaged weights were trained on clips with nothing around them.
    around_clip=('', '')))


@functools.cache
def _scans():
  """(pictures, their digits), in scikit-learn's order.

  Raises:
    ImportError: without scikit-learn, naming the extra.
  """
  try:
    from sklearn.datasets import load_digits
  except ImportError as e:
    raise ImportError('the handwritten digits come with scikit-learn: '
                      "pip install 'zppo_jax[digits]'") from e
  digits = load_digits()
  grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
  return [images.picture(Image.fromarray(x)) for x in grey], digits.target


@functools.cache
def scans(digit: int, unseen: bool) -> tuple[Picture, ...]:
  """All scans of a digit that are for evaluation (`unseen`), or the others."""
  pictures, digits = _scans()
  at = np.flatnonzero(digits == digit)
  first = len(digits) - NUM_UNSEEN
  return tuple(pictures[i] for i in at if (i >= first) == unseen)


def show(rng, family: str, ops: str, digits: str, *, clip: bool,
         unseen: bool) -> tuple[str, tuple[Picture | Clip, ...]]:
  """(text, media) of a question, its scans drawn by `rng`."""
  drawn = []
  for digit in digits:
    pictures = scans(int(digit), unseen)
    drawn.append(pictures[rng.integers(len(pictures))])
  text = ' '.join([family, *(reversed(ops) if family == 'V' else ops)])
  if clip:
    return text, (Clip(tuple(p for p in drawn for _ in range(2)), FPS),)
  return text, tuple(drawn)


def _shown(question: Question, clip: bool, unseen: bool) -> Question:
  """A question of tasks/micro.py with its digits drawn from the scans."""
  _, family, ops, digits = question.id.split('/')
  rng = np.random.default_rng(
      [micro.WORLD_SEED, 21, clip, unseen, *question.id.encode()])
  text, media = show(rng, family, ops, digits, clip=clip, unseen=unseen)
  return dataclasses.replace(
      question, text=text, media=media,
      id=f'{"clip" if clip else "pictures"}/{family}/{ops}/{digits}')


def pool(size: int, hard_share: float, num_steps: int = 3,
         hints: bool = False, worked: bool = False) -> list[Question]:
  """The questions of micro.pool with their digits in pictures. A hint then
  says what the first picture shows."""
  return [_shown(q, clip=False, unseen=False)
          for q in micro.pool(size, hard_share, num_steps, hints, worked)]


def clip_pool(size: int, hard_share: float, num_steps: int = 3,
              hints: bool = False, worked: bool = False) -> list[Question]:
  """The same with the digits of a question in one clip: the pool of the task
  `micro_clips`."""
  return [_shown(q, clip=True, unseen=False)
          for q in micro.pool(size, hard_share, num_steps, hints, worked)]


def evaluation(split: str, size: int, num_steps: int = 3) -> list[Question]:
  """The questions of micro.evaluation in scans that no training has shown; for
  a split of TEXTS in text, as they are there.

  Raises:
    KeyError: for an unknown split, naming the known ones.
  """
  allowed.one_of('split', split, EVAL_SPLITS)
  if split in TEXTS:
    return [dataclasses.replace(q, split=split)
            for q in micro.evaluation(TEXTS[split], size, num_steps)]
  questions = micro.evaluation(CLIPS.get(split, split), size, num_steps)
  return [dataclasses.replace(_shown(q, split in CLIPS, True), split=split)
          for q in questions]
