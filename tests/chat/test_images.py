"""Pictures and clips: patches, placeholders and positions, as the hub's."""

import base64
import dataclasses
import functools
import io
import json
import types

import numpy as np
import pytest
from PIL import Image

from zppo_jax.chat import images
from zppo_jax.chat.images import Pixels, Processor
from zppo_jax.models.vision import VisionConfig
from zppo_jax.records import Clip, Picture

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
from transformers import vision_utils  # noqa: E402
from transformers.models.qwen2_vl import (  # noqa: E402
  image_processing_pil_qwen2_vl as hub_images,
)
from transformers.models.qwen3_vl import (  # noqa: E402
  modeling_qwen3_vl as hub_model,
  processing_qwen3_vl as hub_processing,
)
from transformers.models.qwen3_vl.video_processing_qwen3_vl import (  # noqa: E402
  smart_resize as hub_clip_size,
)

IMAGE, VIDEO = 60, 61
TOWER = VisionConfig(
    depth=1, width=8, num_heads=1, mlp_width=8, out_width=8, patch_size=4,
    temporal_patch=2, channels=3, merge=2, num_positions=48**2,
    image_id=IMAGE, video_id=VIDEO, start_id=62, end_id=63)
PIXELS = dict(mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
PROCESSOR = Processor(
    TOWER, Pixels(256, 4096, **PIXELS), Pixels(256, 9000, **PIXELS))


def noise(width, height, seed=0, mode='RGB') -> Image.Image:
  size = (height, width, len(mode)) if len(mode) > 1 else (height, width)
  values = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
  return Image.fromarray(values, mode)


@functools.cache
def theirs():
  return hub_images.Qwen2VLImageProcessorPil(
      patch_size=4, merge_size=2, temporal_patch_size=2,
      size={'shortest_edge': 256, 'longest_edge': 4096},
      image_mean=list(PIXELS['mean']), image_std=list(PIXELS['std']))


@pytest.mark.parametrize('size, mode', [
    ((40, 24), 'RGB'),  # as it is
    ((37, 61), 'RGB'),  # to the nearest multiples
    ((9, 5), 'RGB'),  # grows to min_pixels
    ((300, 90), 'RGB'),  # shrinks to max_pixels
    ((3, 150), 'RGB'), ((33, 40), 'L'), ((33, 40), 'RGBA')])
def test_a_picture_is_the_hubs(size, mode):
  """Patches and grid of transformers' PIL processor."""
  image = noise(*size, mode=mode)
  seen = PROCESSOR.see((images.picture(image),))
  want = theirs()(images=[image], return_tensors='np')
  (grid,) = seen.frames
  assert [1, *grid] == want['image_grid_thw'][0].tolist()
  np.testing.assert_allclose(seen.patches_IC, want['pixel_values'], atol=1e-5)
  count = grid[0] * grid[1] // 4
  assert seen.text == ('<|vision_start|>' + '<|image_pad|>' * count
                       + '<|vision_end|>')


def test_a_real_picture():
  """A digit of scikit-learn's, as PNG and as JPEG from a file."""
  datasets = pytest.importorskip('sklearn.datasets')
  digit = datasets.load_digits().images[0]
  image = Image.fromarray(np.uint8(digit * 15.9)).resize((32, 32))
  seen = PROCESSOR.see((images.picture(image),))
  assert seen.frames == ((8, 8),)
  want = theirs()(images=[image.convert('RGB')], return_tensors='np')
  np.testing.assert_allclose(seen.patches_IC, want['pixel_values'], atol=1e-5)


def test_paths_and_jpeg(tmp_path):
  image = noise(24, 16)
  image.save(tmp_path / 'a.jpg', quality=95)
  from_path = PROCESSOR.see((Picture(path=str(tmp_path / 'a.jpg')),))
  text = base64.b64encode((tmp_path / 'a.jpg').read_bytes()).decode()
  held = PROCESSOR.see((Picture(base64=text),))
  np.testing.assert_array_equal(from_path.patches_IC, held.patches_IC)


def test_a_turned_photograph_is_shown_upright():
  image = noise(24, 16)
  exif = image.getexif()
  exif[0x0112] = 6  # rotated by 90 degrees
  out = io.BytesIO()
  image.save(out, 'PNG', exif=exif)
  picture = Picture(base64=base64.b64encode(out.getvalue()).decode())
  assert images.decode(picture).size == (16, 24)


def clip(count, fps, size=(24, 16)) -> Clip:
  return Clip(tuple(images.picture(noise(*size, seed=i))
                    for i in range(count)), fps)


@pytest.mark.parametrize('count, fps, kept', [
    (4, 2.0, [0, 1, 2, 3]), (9, 4.0, [0, 3, 5, 8]), (3, 1.0, [0, 1, 2]),
    (20, 8.0, [0, 5, 10, 14, 19])])
def test_a_clip_by_its_frames(count, fps, kept):
  """Frames are sampled at 2 a second, at least 4 where there are as many;
  patches hold two frames each, the last one twice where it is alone."""
  indices = images.sampled_frames(count, fps, PROCESSOR).tolist()
  assert indices == kept
  seen = PROCESSOR.see((clip(count, fps),))
  assert seen.frames == ((4, 6),) * -(-len(indices) // 2)
  # Even and odd frames as pictures: patch values are (channel, frame, y, x).
  padded = indices + indices[-1:] * (len(indices) % 2)
  for k in (0, 1):
    pictures = theirs()(images=[noise(24, 16, seed=i) for i in padded[k::2]],
                        return_tensors='np')['pixel_values']
    got = seen.patches_IC.reshape(-1, 3, 2, 16)[:, :, k]
    np.testing.assert_allclose(
        got, pictures.reshape(-1, 3, 2, 16)[:, :, 0], atol=1e-5)


def test_timestamps_are_the_hubs():
  """The placeholder text that Qwen3VLProcessor writes for the same frames,
  between the two marks of the template, which it keeps."""
  stub = types.SimpleNamespace(
      video_processor=types.SimpleNamespace(merge_size=2,
                                            temporal_patch_size=2),
      vision_start_token=images.START, vision_end_token=images.END,
      video_token=images.VIDEO)
  stub._calculate_timestamps = functools.partial(
      hub_processing.Qwen3VLProcessor._calculate_timestamps, stub)
  for count, fps in ((4, 2.0), (7, 3.0), (9, 4.0), (5, 1.0)):
    indices = images.sampled_frames(count, fps, PROCESSOR)
    seen = PROCESSOR.see((clip(count, fps),))
    inputs = {
        'video_grid_thw': np.int64([[len(seen.frames), 4, 6]]),
        'video_metadata': [types.SimpleNamespace(
            fps=fps, frames_indices=indices)]}
    frames = hub_processing.Qwen3VLProcessor.replace_video_token(
        stub, inputs, 0)
    assert seen.text == images.START + frames + images.END


@pytest.mark.parametrize('frames, height, width, temporal, want', [
    (1, 40, 24, 1, (40, 24)), (4, 16, 24, 2, (16, 24)),
    (8, 64, 64, 2, (32, 32)),  # 8 * 64 * 64 > 9000: sides * 0.524
    (2, 6, 4, 2, (24, 16)),  # first to 12 x 8, then up: sides * 1.633
])
def test_target_sizes_by_hand(frames, height, width, temporal, want):
  assert images.target_size(
      frames, height, width, temporal=temporal, factor=8,
      pixels=Pixels(512, 9000, **PIXELS)) == want


def test_target_sizes_are_the_hubs():
  """Random sizes, of pictures and of clips."""
  rng = np.random.default_rng(0)
  pixels = Pixels(512, 9000, **PIXELS)
  bounds = dict(factor=8, min_pixels=512, max_pixels=9000)
  for _ in range(300):
    frames, height, width = rng.integers((2, 4, 4), (20, 99, 99)).tolist()
    assert images.target_size(
        1, height, width, temporal=1, factor=8, pixels=pixels) == (
            hub_images.smart_resize(height, width, **bounds))
    assert images.target_size(
        frames, height, width, temporal=2, factor=8, pixels=pixels) == (
            hub_clip_size(frames, height, width, **bounds))


@pytest.mark.parametrize('h, w', [(2, 2), (4, 6), (8, 4), (48, 48), (62, 26)])
def test_positions_of_a_frame_are_the_hubs(h, w):
  grid = torch.as_tensor([[1, h, w]])
  rotary, corners, weights = images.frame_positions(h, w, TOWER)
  np.testing.assert_array_equal(
      rotary, vision_utils.get_vision_position_ids(grid, 2))
  want_corners, want_weights = (
      vision_utils.get_vision_interpolation_indices_and_weights(
          grid, num_grid_per_side=48, align_corners=True,
          spatial_merge_size=2))
  np.testing.assert_array_equal(corners, want_corners)
  np.testing.assert_allclose(weights, want_weights, atol=1e-6)


PAD = {'image': IMAGE, 'video': VIDEO}
PROMPTS = {
    'one image': ['text', ('image', 1, 6, 4), 'text'],
    'three images': [('image', 1, 4, 6), 'text', ('image', 1, 2, 2),
                     ('image', 1, 8, 4), 'text'],
    'two videos': ['text', ('video', 2, 4, 6), ('video', 3, 2, 4), 'text'],
    'image, video, text': [('image', 1, 2, 8), 'text', ('video', 2, 6, 2),
                           'text'],
    'ends with a wide image': ['text', ('image', 1, 2, 12)]}


@pytest.mark.parametrize('name', PROMPTS)
def test_rope_positions_are_the_hubs(name):
  tokens, frames, grids = [], [], {'image': [], 'video': []}
  for part in PROMPTS[name]:
    if part == 'text':
      tokens += [1, 2, 3, 4]
      continue
    kind, t, h, w = part
    grids[kind].append((t, h, w))
    frames += [(h, w)] * t
    for _ in range(t):
      tokens += [5, 62, *[PAD[kind]] * (h * w // 4), 63]
  if name.startswith('ends'):
    tokens.pop()
  kinds = np.select([np.equal(tokens, IMAGE), np.equal(tokens, VIDEO)], [1, 2])
  stub = types.SimpleNamespace(config=types.SimpleNamespace(
      vision_config=types.SimpleNamespace(spatial_merge_size=2)))
  stub.get_vision_position_ids = functools.partial(
      hub_model.Qwen3VLModel.get_vision_position_ids, stub)
  grid = lambda kind: torch.as_tensor(grids[kind]) if grids[kind] else None
  want, delta = hub_model.Qwen3VLModel.get_rope_index(
      stub, torch.as_tensor([tokens]), torch.as_tensor(kinds)[None],
      image_grid_thw=grid('image'), video_grid_thw=grid('video'))
  positions, after = images.rope_positions(tokens, frames, TOWER)
  np.testing.assert_array_equal(positions, want[:, 0].T)
  assert after == len(tokens) + int(delta[0, 0])


def test_media_of_a_prompt():
  """Frames count from 1; patches, corners and weights line up."""
  seen = PROCESSOR.see((images.picture(noise(24, 16)), clip(4, 2.0)))
  tokens = [1, 62, *[IMAGE] * 6, 63, 2, *([62, *[VIDEO] * 6, 63] * 2), 3]
  media = PROCESSOR.media(seen, tokens)
  np.testing.assert_array_equal(
      media.segment_I, np.repeat([1, 2, 3], 24))
  for array in (media.patches_IC, media.rotary_I2, media.corners_I4,
                media.weights_I4):
    assert len(array) == 72
  np.testing.assert_allclose(media.weights_I4.sum(-1), 1, atol=1e-6)
  assert media.positions_TA.shape == (len(tokens), 3)
  with pytest.raises(ValueError, match='holds 17 placeholders.*18 merged'):
    PROCESSOR.media(seen, tokens[:-3] + [3])


def test_refused_media(tmp_path):
  with pytest.raises(ValueError, match='nowhere.png is no image'):
    PROCESSOR.see((Picture(path=str(tmp_path / 'nowhere.png')),))
  with pytest.raises(ValueError, match='a picture in base64 is no image'):
    PROCESSOR.see((Picture(base64='AAAA'),))
  with pytest.raises(ValueError, match='at most 200 times'):
    PROCESSOR.see((images.picture(noise(402, 2)),))
  frames = tuple(images.picture(noise(w, 16)) for w in (16, 24))
  with pytest.raises(ValueError, match='several sizes'):
    PROCESSOR.see((Clip(frames, 2.0),))
  with pytest.raises(ValueError, match='no frames'):
    Clip((), 2.0)
  with pytest.raises(ValueError, match='fps is 0'):
    Clip(frames, 0)
  with pytest.raises(ValueError, match='either a path or base64'):
    Picture()


FILES = {
    'preprocessor_config.json': {
        'size': {'shortest_edge': 256, 'longest_edge': 4096}, 'patch_size': 4,
        'merge_size': 2, 'temporal_patch_size': 2,
        'image_mean': PIXELS['mean'], 'image_std': PIXELS['std']},
    'video_preprocessor_config.json': {
        'min_pixels': 256, 'max_pixels': 9000, 'patch_size': 4, 'fps': 2,
        'image_mean': PIXELS['mean'], 'image_std': PIXELS['std'],
        'max_frames': 768}}


def write(folder, files):
  for name, fields in files.items():
    (folder / name).write_text(json.dumps(fields))


def test_a_folder_describes_its_processor(tmp_path):
  """In two files, or in one."""
  for name in ('two', 'one'):
    (tmp_path / name).mkdir()
  write(tmp_path / 'two', FILES)
  image, video = FILES.values()
  write(tmp_path / 'one', {'processor_config.json': {
      'image_processor': image, 'video_processor': video}})
  for name in ('two', 'one'):
    assert images.from_folder(tmp_path / name, TOWER) == PROCESSOR
  with pytest.raises(FileNotFoundError, match='preprocessor_config.json'):
    images.from_folder(tmp_path, TOWER)


@pytest.mark.parametrize('fields, message', [
    (dict(patch_size=14), 'patch_size is 14; the tower has 4'),
    (dict(do_resize=False), 'do_resize is False'),
    (dict(size={}), 'size is missing'),
    (dict(image_mean=None), 'image_mean is missing')])
def test_refused_folder(tmp_path, fields, message):
  image = {**FILES['preprocessor_config.json'], **fields}
  write(tmp_path, {**FILES, 'preprocessor_config.json': image})
  with pytest.raises(ValueError, match=message):
    images.from_folder(tmp_path, TOWER)


def test_questions_go_through_json():
  """A picture and a clip are plain values."""
  for media in (images.picture(noise(8, 8)), clip(2, 2.0)):
    fields = json.loads(json.dumps(dataclasses.asdict(media)))
    if isinstance(media, Clip):
      fields['frames'] = tuple(Picture(**f) for f in fields['frames'])
    assert type(media)(**fields) == media


@pytest.mark.parametrize('bounds, said', [
    ((0, 5), 'min_pixels is 0; it must be > 0'),
    ((9, 5), 'max_pixels is 5; it must be >= 9, which is min_pixels')])
def test_bounds_on_pixels(bounds, said):
  with pytest.raises(ValueError, match=said):
    images.Pixels(*bounds, mean=(0.5,) * 3, std=(0.5,) * 3)
