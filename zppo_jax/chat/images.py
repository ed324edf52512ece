"""Pictures and clips to patches, placeholders and positions; PIL and numpy.

The arithmetic is that of the hub's Qwen2-VL image processor and Qwen3-VL video
processor. A picture is a clip of one frame that is shown twice.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from zppo_jax import allowed
from zppo_jax.chat.pictures import decode, picture as picture, size as size
from zppo_jax.models.vision import VisionConfig
from zppo_jax.records import Clip, Picture, ProcessedMedia, PromptMedia

START, END = '<|vision_start|>', '<|vision_end|>'
IMAGE, VIDEO = '<|image_pad|>', '<|video_pad|>'
_MOST_OBLONG = 200  # longer side / shorter side; the reference refuses more
_BICUBIC = 3  # PIL's number of the filter, which configs hold
_FRAME_TOKENS = 768  # the bound where a config asks for one and names none
_FILES = {'image_processor': 'preprocessor_config.json',
          'video_processor': 'video_preprocessor_config.json'}
_WHOLE = 'processor_config.json'


@dataclasses.dataclass(frozen=True)
class Pixels:
  """How the frames of pictures, or of clips, become numbers.

  Attributes:
    min_pixels, max_pixels: bounds on the pixels after resizing, of all frames
      of a clip together.
    mean, std: mean and standard deviation of each channel after rescaling.
    rescale: the factor on values of 0 to 255.
    resample: PIL's number of the filter.
  """
  min_pixels: int
  max_pixels: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  rescale: float = 1 / 255
  resample: int = _BICUBIC

  def __post_init__(self):
    allowed.number('min_pixels', self.min_pixels, '> 0')
    allowed.number('max_pixels', self.max_pixels, f'>= {self.min_pixels}',
                   note=', which is min_pixels')


@dataclasses.dataclass(frozen=True)
class Undescribed:
  """Takes the place of `Pixels` where a checkpoint folder does not tell them.

  Attributes:
    file: the name of the file that would tell them.
    what: 'pictures' or 'clips'.
  """
  file: str
  what: str


@dataclasses.dataclass(frozen=True)
class Processor:
  """Prepares a question's media for one model (`chat.wording.Chat.vision`).

  Attributes:
    vision: the model's vision tower.
    picture: how pictures become numbers.
    clip: how clips become numbers.
    fps: the frames per second that are read of a clip.
    min_frames, max_frames: bounds on the number of these frames.
    frame_tokens: the most placeholders per frame of a clip; 0 sets no bound. A
      bound also spreads the pixels of a clip evenly over its frames.
    around_clip: the texts before and after all frames of a clip; each frame has
      its own START and END besides. The chat templates of Qwen write a START
      and an END around a clip, and transformers keeps them since 5.10.
  """
  vision: VisionConfig
  picture: Pixels | Undescribed
  clip: Pixels | Undescribed
  fps: float = 2.0
  min_frames: int = 4
  max_frames: int = 768
  frame_tokens: int = 0
  around_clip: tuple[str, str] = (START, END)

  def see(self, media: tuple[Picture | Clip, ...]) -> ProcessedMedia:
    """Patches and placeholders of a question's media, in their order.

    Raises:
      ValueError: for a picture that is no image or is too oblong; for pictures
        or clips that the model's folder does not describe, naming the file
        that it lacks.
    """
    return _see(self, media)

  def outline(self, media: tuple[Picture | Clip, ...]) -> tuple[str, int]:
    """(text, number of patches) of `see`; only headers are read.

    Raises:
      ValueError: as `see`.
    """
    texts, patches = [], 0
    for m in media:
      text, grids = (
          _picture_outline(self, size(m)) if isinstance(m, Picture)
          else _clip_outline(self, m, size(m.frames[0])))
      texts.append(text)
      patches += sum(map(math.prod, grids))
    return ''.join(texts), patches

  def media(self, seen: ProcessedMedia, tokens: Sequence[int]) -> PromptMedia:
    """The media of a prompt whose tokens are given.

    Raises:
      ValueError: if the tokens do not hold a placeholder per merged patch.
    """
    c = self.vision
    count = sum(token in c.ids for token in tokens)
    if count * c.merge**2 != len(seen.patches_IC):
      raise ValueError(
          f'the prompt holds {count} placeholders ({c.ids}) for '
          f'{len(seen.patches_IC) // c.merge**2} merged patches')
    rotary, corners, weights = zip(
        *(frame_positions(h, w, c) for h, w in seen.frames), strict=True)
    positions_TA, next_position = rope_positions(tokens, seen.frames, c)
    segments = np.arange(1, len(seen.frames) + 1, dtype=np.int32)
    return PromptMedia(
        patches_IC=seen.patches_IC, rotary_I2=np.concatenate(rotary),
        segment_I=np.repeat(segments, [h * w for h, w in seen.frames]),
        corners_I4=np.concatenate(corners),
        weights_I4=np.concatenate(weights), positions_TA=positions_TA,
        next_position=next_position)


def _described(pixels: Pixels | Undescribed) -> Pixels:
  if isinstance(pixels, Undescribed):
    raise ValueError(f"the model's folder holds no {pixels.file} (nor does its "
                     f'{_WHOLE} say the same); without it the model takes no '
                     f'{pixels.what}')
  return pixels


def target_size(frames: int, height: int, width: int, *, temporal: int,
                factor: int, pixels: Pixels) -> tuple[int, int]:
  """(height, width) after resizing.

  They are multiples of `factor`, near the aspect ratio of the source, and the
  pixels of all frames lie within the bounds.

  Args:
    frames: the number of frames; 1 for a picture.
    height, width: the sides of the source.
    temporal: the frames of a patch; 1 for a picture.
    factor: patch size * merge.
    pixels: it holds the bounds.
  """
  if temporal > 1 and min(height, width) < factor:
    scale = max(factor / height, factor / width)
    height, width = int(height * scale), int(width * scale)
  if max(height, width) > _MOST_OBLONG * min(height, width):
    raise ValueError(f'an image of {height} x {width}; the longer side may be '
                     f'at most {_MOST_OBLONG} times the shorter')
  nearest = [round(side / factor) * factor for side in (height, width)]
  total = math.prod(nearest) * round(frames / temporal) * temporal
  if total > pixels.max_pixels:
    shrink = math.sqrt(frames * height * width / pixels.max_pixels)
    return tuple(max(factor, math.floor(side / shrink / factor) * factor)
                 for side in (height, width))
  if total < pixels.min_pixels:
    grow = math.sqrt(pixels.min_pixels / (frames * height * width))
    return tuple(math.ceil(side * grow / factor) * factor
                 for side in (height, width))
  return tuple(nearest)


def sampled_frames(count: int, fps: float, processor: Processor) -> np.ndarray:
  """The indices of the frames that are read of a clip.

  Args:
    count: the number of frames of the clip.
    fps: the frames per second of the clip.
    processor: it says how many frames are read.
  """
  number = int(count / fps * processor.fps)
  number = min(max(number, processor.min_frames), processor.max_frames, count)
  return np.linspace(0, count - 1, number).round().astype(int)


def timestamps(indices: Sequence[int], fps: float,
               temporal: int) -> list[float]:
  """The time of each temporal patch, in seconds.

  It lies halfway between the first and the last frame of the patch. The last
  frame is repeated if it is alone in its patch.
  """
  indices = [*indices, *[indices[-1]] * (-len(indices) % temporal)]
  seconds = [i / fps for i in indices]
  return [(seconds[i] + seconds[i + temporal - 1]) / 2
          for i in range(0, len(seconds), temporal)]


def _blocks(values_hw: np.ndarray, merge: int) -> np.ndarray:
  """A frame's patches in the tower's order: merge x merge blocks."""
  h, w = values_hw.shape
  return values_hw.reshape(h // merge, merge, w // merge, merge).transpose(
      0, 2, 1, 3).ravel()


def frame_positions(h: int, w: int, c: VisionConfig):
  """Positions of a frame's patches in the tower's order.

  Args:
    h, w: the patches down and across.
    c: the vision tower.

  Returns:
    (rotary_I2, corners_I4, weights_I4) as in `PromptMedia`.
  """
  row, column = (_blocks(x, c.merge) for x in np.indices((h, w)))
  last = c.side - 1
  floors, parts = [], []
  for at, side in ((row, h), (column, w)):
    # The reference computes in float32, and the floor decides between two rows.
    source = np.float32(at) * np.float32(last) / np.float32(max(side - 1, 1))
    floors.append(np.floor(source).astype(np.int32))
    parts.append(source - np.floor(source))
  corners, weights = [], []
  for down in (0, 1):
    for right in (0, 1):
      y, x = (np.minimum(f + step, last)
              for f, step in zip(floors, (down, right), strict=True))
      corners.append(y * c.side + x)
      weights.append((parts[0] if down else 1 - parts[0])
                     * (parts[1] if right else 1 - parts[1]))
  return (np.stack([row, column], -1).astype(np.int32),
          np.stack(corners, -1).astype(np.int32),
          np.stack(weights, -1).astype(np.float32))


def rope_positions(tokens: Sequence[int], frames, c: VisionConfig):
  """The decoder's positions of a prompt.

  Text counts up on all axes. The patches of a frame share one time and count
  rows and columns from it. The text behind a frame starts behind its longer
  side.

  Args:
    tokens: the ids of the prompt.
    frames: (h, w) patches of each frame, in the order of the placeholders.
    c: the vision tower.

  Returns:
    (positions_TA, next_position) as in `PromptMedia`.
  """
  positions_TA = np.zeros((len(tokens), 3), np.int32)
  left = iter(frames)
  at = position = 0
  while at < len(tokens):
    if tokens[at] not in c.ids:
      positions_TA[at] = position
      at, position = at + 1, position + 1
      continue
    h, w = (size // c.merge for size in next(left))
    row, column = np.indices((h, w)).reshape(2, -1)
    positions_TA[at:at + h * w] = position + np.stack(
        [np.zeros_like(row), row, column], -1)
    at, position = at + h * w, position + max(h, w)
  return positions_TA, position


def _patches(images: Sequence[Image.Image], size, pixels: Pixels,
             c: VisionConfig) -> np.ndarray:
  """Frames (a multiple of temporal_patch) to patches_IC."""
  height, width = size
  frames = np.stack([np.asarray(i.resize((width, height), pixels.resample))
                     for i in images]).astype(np.float32)
  frames = (frames * np.float32(pixels.rescale) - np.float32(pixels.mean)
            ) / np.float32(pixels.std)
  p, m = c.patch_size, c.merge
  frames = frames.reshape(-1, c.temporal_patch, height // (p * m), m, p,
                          width // (p * m), m, p, c.channels)
  # time, block row, block column, row, column | channel, frame, y, x
  return frames.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(
      -1, c.patch_values)


def _picture_outline(processor: Processor, of: tuple[int, int]):
  """The text and the grids of a picture of (width, height)."""
  c = processor.vision
  sides = target_size(1, of[1], of[0], temporal=1,
                      factor=c.patch_size * c.merge,
                      pixels=_described(processor.picture))
  grid = tuple(side // c.patch_size for side in sides)
  return START + IMAGE * (math.prod(grid) // c.merge**2) + END, [grid]


def _see_picture(processor: Processor, of: Picture):
  c, image = processor.vision, decode(of)
  text, (grid,) = _picture_outline(processor, image.size)
  sides = tuple(n * c.patch_size for n in grid)
  return text, _patches([image] * c.temporal_patch, sides, processor.picture,
                        c), [grid]


def _clip_pixels(processor: Processor, frames: int) -> Pixels:
  """The `Pixels` of a clip of `frames` frames, with its bound on them."""
  pixels = _described(processor.clip)
  if not processor.frame_tokens:
    return pixels
  side = processor.vision.patch_size * processor.vision.merge
  # The reference, too, allows somewhat more than min_pixels per frame.
  each = max(min(processor.frame_tokens * side**2,
                 pixels.max_pixels // frames), int(pixels.min_pixels * 1.05))
  return dataclasses.replace(pixels, max_pixels=each * frames)


def _clip_outline(processor: Processor, of: Clip, frame: tuple[int, int]):
  """The text and the grids of a clip whose frames are of (width, height)."""
  c = processor.vision
  indices = sampled_frames(len(of.frames), of.fps, processor).tolist()
  sides = target_size(
      len(indices), frame[1], frame[0], temporal=c.temporal_patch,
      factor=c.patch_size * c.merge,
      pixels=_clip_pixels(processor, len(indices)))
  grid = tuple(side // c.patch_size for side in sides)
  shown = START + VIDEO * (math.prod(grid) // c.merge**2) + END
  seconds = timestamps(indices, of.fps, c.temporal_patch)
  before, after = processor.around_clip
  return (before + ''.join(f'<{time:.1f} seconds>{shown}' for time in seconds)
          + after, [grid] * len(seconds))


def _see_clip(processor: Processor, of: Clip):
  c = processor.vision
  _described(processor.clip)  # before any frame is decoded
  indices = sampled_frames(len(of.frames), of.fps, processor).tolist()
  images = [decode(of.frames[i]) for i in indices]
  if len({image.size for image in images}) > 1:
    raise ValueError('the frames of a clip have several sizes: '
                     f'{sorted({image.size for image in images})}')
  text, grids = _clip_outline(processor, of, images[0].size)
  images += [images[-1]] * (-len(images) % c.temporal_patch)
  sides = tuple(n * c.patch_size for n in grids[0])
  return text, _patches(images, sides, processor.clip, c), grids


# A question is rendered as itself, in reformulations, and again in a replay.
@functools.lru_cache(maxsize=64)
def _see(processor: Processor, media) -> ProcessedMedia:
  processed = [_see_picture(processor, m) if isinstance(m, Picture)
               else _see_clip(processor, m) for m in media]
  texts, patches, frames = zip(*processed, strict=True)
  return ProcessedMedia(
      text=''.join(texts), patches_IC=np.concatenate(patches),
      frames=tuple(frame for several in frames for frame in several))


def _pixels(fields: dict, name: str, c: VisionConfig) -> Pixels:
  """The `Pixels` of a config, whose patches must be those of the tower."""
  for key, value in (('patch_size', c.patch_size), ('merge_size', c.merge),
                     ('temporal_patch_size', c.temporal_patch)):
    if fields.get(key, value) != value:
      raise ValueError(f'{name}: {key} is {fields[key]}; the tower has {value}')
  for key in ('do_resize', 'do_rescale', 'do_normalize', 'do_convert_rgb'):
    if not fields.get(key, True):
      raise ValueError(f'{name}: {key} is {fields[key]}; allowed: True')
  size = fields.get('size') or {}
  bounds = [size.get(edge, fields.get(old)) for edge, old in (
      ('shortest_edge', 'min_pixels'), ('longest_edge', 'max_pixels'))]
  for key, value in (('size', None if None in bounds else bounds),
                     ('image_mean', fields.get('image_mean')),
                     ('image_std', fields.get('image_std'))):
    if value is None:
      raise ValueError(f'{name}: {key} is missing')
  return Pixels(
      min_pixels=bounds[0], max_pixels=bounds[1],
      mean=tuple(fields['image_mean']), std=tuple(fields['image_std']),
      rescale=float(fields.get('rescale_factor', 1 / 255)),
      resample=int(fields.get('resample', _BICUBIC)))


def _json(path: pathlib.Path) -> dict:
  """A file's JSON object; {} where there is no file."""
  if not path.is_file():
    return {}
  try:
    fields = json.loads(path.read_text())
  except ValueError as e:
    raise ValueError(f'{path} is not JSON: {e}') from e
  if not isinstance(fields, dict):
    raise ValueError(f'{path} holds no JSON object')
  return fields


def _fields(folder: pathlib.Path) -> dict[str, tuple[str, dict]]:
  """kind -> (name for errors, fields) of the processors of a folder.

  processor_config.json counts before a file for one kind, as in transformers,
  which writes only processor_config.json since 5.0.
  """
  whole, by_kind = _json(folder / _WHOLE), {}
  for kind, name in _FILES.items():
    nested = whole.get(kind)
    if nested is not None and not isinstance(nested, dict):
      raise ValueError(f'{folder / _WHOLE}: {kind} is {nested!r}; allowed: an '
                       'object')
    if nested is not None:
      by_kind[kind] = f'{folder / _WHOLE}: {kind}', nested
    elif (folder / name).is_file():
      by_kind[kind] = str(folder / name), _json(folder / name)
  return by_kind


def describes(folder) -> bool:
  """Whether a checkpoint folder says how pictures or clips are prepared.

  Raises:
    ValueError: as `from_folder`, for files that are no JSON.
  """
  return bool(_fields(pathlib.Path(folder)))


def undescribed(vision: VisionConfig) -> Processor:
  """A processor that refuses pictures and clips.

  Its errors name the files that the model's folder lacks; text needs none.
  """
  return Processor(
      vision=vision,
      picture=Undescribed(file=_FILES['image_processor'], what='pictures'),
      clip=Undescribed(file=_FILES['video_processor'], what='clips'))


def _clip_fields(name: str, fields: dict) -> dict:
  """The fields of `Processor` that say how the frames of a clip are chosen."""
  for key, values in (('num_frames', (None,)),
                      ('do_sample_frames', (True, None))):
    if fields.get(key) not in values:
      raise ValueError(f'{name}: {key} is {fields[key]}; allowed: {values[0]}')
  chosen = {key: fields[key] for key in ('fps', 'min_frames', 'max_frames')
            if fields.get(key) is not None}
  if fields.get('cap_pixels_per_frame'):
    chosen['frame_tokens'] = int(
        fields.get('max_video_tokens') or _FRAME_TOKENS)
  return chosen


def from_folder(folder, vision: VisionConfig) -> Processor:
  """The processor that a checkpoint folder describes.

  A folder may describe only pictures or only clips. The processor refuses the
  others when a question shows one.

  Raises:
    FileNotFoundError: if the folder describes neither.
    ValueError: naming a file that is no JSON, or a field that is missing or has
      a value that is not supported here.
  """
  folder = pathlib.Path(folder)
  by_kind = _fields(folder)
  if not by_kind:
    raise FileNotFoundError(
        f'{folder} holds neither {" nor ".join(_FILES.values())}, nor a '
        f'{_WHOLE} with {" or ".join(_FILES)}')
  processor = undescribed(vision)
  if (image := by_kind.get('image_processor')) is not None:
    processor = dataclasses.replace(
        processor, picture=_pixels(image[1], image[0], vision))
  if (video := by_kind.get('video_processor')) is not None:
    processor = dataclasses.replace(
        processor, clip=_pixels(video[1], video[0], vision),
        **_clip_fields(*video))
  return processor
