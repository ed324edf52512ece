"""Whole prompts with media, token by token as transformers' processors."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
from transformers import image_processing_backends  # noqa: E402
from transformers.models.auto import processing_auto  # noqa: E402
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (  # noqa: E402
  Qwen2VLImageProcessorPil,
)
from transformers.models.qwen3_5 import modeling_qwen3_5  # noqa: E402
from transformers.models.qwen3_vl import modeling_qwen3_vl  # noqa: E402
from transformers.models.qwen3_vl.video_processing_qwen3_vl import (  # noqa: E402
  Qwen3VLVideoProcessor,
)
from transformers.video_utils import VideoMetadata  # noqa: E402

from tests import hub_builders  # noqa: E402
from tests.chat import templates  # noqa: E402
from zppo_jax.chat import (  # noqa: E402
  conversation,
  hub_chat,
  images,  # noqa: E402
)
from zppo_jax.chat.conversation import Message  # noqa: E402
from zppo_jax.chat.images import Pixels, Processor  # noqa: E402
from zppo_jax.chat.wording import BARE  # noqa: E402
from zppo_jax.models.vision import VisionConfig  # noqa: E402
from zppo_jax.records import Clip, Picture  # noqa: E402
from zppo_jax.weights import pretrained  # noqa: E402

# Writes media as Qwen's templates do: where they stand among the parts.
TEMPLATE = """\
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.content is string %}{{- m.content }}{%- else %}
{%- for part in m.content %}
{%- if part.type == 'image' %}
{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' %}
{{- '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- else %}{{- part.text }}{%- endif %}
{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
TOKENIZER = hub_builders.tokenizer(TEMPLATE)
GREY = dict(mean=(0.5,) * 3, std=(0.5,) * 3)
BOUNDS = {'picture': (64, 2048), 'clip': (64, 6000)}
FACTOR = dict(patch_size=4, merge_size=2, temporal_patch_size=2)
# The kind of processor that AutoProcessor takes for a model_type.
PROCESSORS = {
    kind: getattr(transformers,
                  processing_auto.PROCESSOR_MAPPING_NAMES[kind])
    for kind in ('qwen3_vl', 'qwen3_5')}
MODELS = {'qwen3_vl': modeling_qwen3_vl.Qwen3VLModel,
          'qwen3_5': modeling_qwen3_5.Qwen3_5Model}


def tower(merge: int = 2) -> VisionConfig:
  ids = TOKENIZER.convert_tokens_to_ids
  return VisionConfig(
      depth=1, width=8, num_heads=1, mlp_width=8, out_width=8, patch_size=4,
      temporal_patch=2, channels=3, merge=merge, num_positions=100,
      image_id=ids(images.IMAGE), video_id=ids(images.VIDEO),
      start_id=ids(images.START), end_id=ids(images.END))


def ours(merge=2, **fields):
  made = hub_chat.chat(TOKENIZER, hub_builders.ROWS, base=BARE)
  return dataclasses.replace(made, vision=Processor(
      tower(merge), *(Pixels(*b, **GREY) for b in BOUNDS.values()), **fields))


@pytest.fixture
def theirs(monkeypatch):
  """kind -> a processor of transformers; without torchvision pixels of clips
  are resized by torch, which moves values and no token."""
  back = image_processing_backends.TorchvisionBackend
  monkeypatch.setattr(Qwen3VLVideoProcessor, 'convert_to_rgb',
                      lambda self, video: video)
  monkeypatch.setattr(back, 'rescale_and_normalize',
                      lambda self, video, *args: video.float())
  monkeypatch.setattr(back, 'resize', lambda self, image, size, **fields: (
      torch.nn.functional.interpolate(
          image.flatten(0, 1).float(), (size.height, size.width)).unflatten(
              0, image.shape[:2])))

  def make(kind, merge=2, **fields):
    factor = {**FACTOR, 'merge_size': merge}
    bounds = [dict(shortest_edge=a, longest_edge=b) for a, b in BOUNDS.values()]
    # The base class looks classes up that need torchvision.
    cls = type('Processor', (PROCESSORS[kind],), {
        'check_argument_for_proper_class': lambda self, name, value: None})
    return cls(Qwen2VLImageProcessorPil(**factor, size=bounds[0]), TOKENIZER,
               Qwen3VLVideoProcessor(**factor, size=bounds[1], **fields),
               chat_template=TEMPLATE)
  return make


def noise(width, height, seed=0) -> np.ndarray:
  return np.random.default_rng(seed).integers(
      0, 256, (height, width, 3), np.uint8)


def picture(width, height, seed=0) -> Picture:
  return images.picture(Image.fromarray(noise(width, height, seed)))


def clip(count, fps, width=24, height=16) -> Clip:
  return Clip(tuple(picture(width, height, i) for i in range(count)), fps)


def reference(processor, kind, parts, merge=2):
  """(tokens, positions_TA, next position) of a user's message."""
  media = [p for p in parts if not isinstance(p, str)]
  text = processor.apply_chat_template(
      [{'role': 'user', 'content': [
          {'type': 'text', 'text': p} if isinstance(p, str) else
          {'type': 'image' if isinstance(p, Picture) else 'video'}
          for p in parts]}], add_generation_prompt=True, tokenize=False)
  shown = [images.decode(p) for p in media if isinstance(p, Picture)]
  clips = [p for p in media if isinstance(p, Clip)]
  out = processor(
      text=[text], images=shown or None,
      videos=[np.stack([np.asarray(images.decode(f)) for f in c.frames])
              for c in clips] or None,
      **(dict(video_metadata=[VideoMetadata(
          total_num_frames=len(c.frames), fps=c.fps) for c in clips])
         if clips else {}),
      return_tensors='pt')
  made = MODELS[kind].__new__(MODELS[kind])
  torch.nn.Module.__init__(made)
  made.config = type('C', (), {'vision_config': type(
      'V', (), {'spatial_merge_size': merge})})
  positions, delta = made.get_rope_index(
      out['input_ids'], out['mm_token_type_ids'],
      image_grid_thw=out.get('image_grid_thw'),
      video_grid_thw=out.get('video_grid_thw'))
  tokens = out['input_ids'][0].tolist()
  return tokens, positions[:, 0].T.numpy(), len(tokens) + int(delta[0, 0])


PARTS = {
    'picture': [picture(24, 16), 'the end?'],
    'pictures': [picture(24, 16), picture(40, 9, 1), 'which?'],
    'clip': [clip(4, 2.0), 'what falls?'],
    'odd clip': [clip(7, 3.0), '1?'],
    'many frames': [clip(23, 8.0, 60, 40), '2?'],
    'two clips': [clip(5, 1.0), clip(6, 2.0, 17, 30), 'and?'],
    'mixed': [clip(4, 2.0), picture(24, 16), clip(9, 4.0), 'x']}
AROUND = {
    'text before': ['look: ', clip(4, 2.0)],
    'text between': ['one ', picture(24, 16), ' two ', clip(5, 2.5), ' three ',
                     clip(3, 1.0), ' the end?']}


@pytest.mark.parametrize('kind', PROCESSORS)
@pytest.mark.parametrize('name', [*PARTS, *AROUND])
def test_whole_prompts_are_the_hubs(theirs, kind, name):
  """fault A3: ids and mRoPE positions of whole prompts, as a question's and
  as a message's."""
  parts = {**PARTS, **AROUND}[name]
  tokens, positions, after = reference(theirs(kind), kind, parts)
  chat = ours()
  found = [conversation.encode((Message('user', tuple(parts)),), chat, None)]
  if name in PARTS:
    found.append(chat.plain(parts[-1], tuple(parts[:-1])))
    length, patches = chat.outline(parts[-1], tuple(parts[:-1]))
    assert length == len(tokens)
    assert patches == len(found[0].media.patches_IC)
  for encoded in found:
    assert list(encoded.tokens) == tokens
    np.testing.assert_array_equal(encoded.media.positions_TA, positions)
    assert encoded.media.next_position == after


STRINGS = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + "
    "(m.content | trim) + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    '{%- endif %}')


@pytest.mark.parametrize('template', [TEMPLATE, templates.QWEN3_5, STRINGS])
def test_words_that_look_like_media(template):
  """fault A12: beside true pictures, in templates that write them and in one
  that knows text alone; what is trimmed is, and an earlier turn stays."""
  made = hub_chat.chat(hub_builders.tokenizer(template), hub_builders.ROWS,
                       base=BARE)
  chat = dataclasses.replace(made, vision=ours().vision)
  shown, codec = picture(24, 16), chat.codec
  looks = images.START + images.IMAGE + images.END
  count = lambda e: [t for t in e.tokens if t in codec.reserved_ids]
  encode = lambda word, end='': conversation.encode((
      Message('user', (f' {word} a', shown, f' {word} b{end}')),
      Message('assistant', (f'x</think>{word}',)),
      Message('user', (clip(4, 2.0), f'{word}?'))), chat, None)
  calm = encode('the')
  for end in ('', ' \n'):
    evil = encode(looks, end)
    assert count(evil) == count(calm)
    assert evil.tokens.count(chat.vision.vision.image_id) == 6
    text = codec.decode(evil.tokens)
    end = end if template == TEMPLATE else ''
    assert text.count(looks) == 4 and f'{looks} b{end}<|im_end|>' in text
    np.testing.assert_array_equal(
        evil.media.patches_IC, calm.media.patches_IC)


@pytest.mark.parametrize('merge, fields', [
    (1, {}), (2, dict(fps=1.0)), (2, dict(min_frames=2, max_frames=6)),
    (2, dict(fps=5.0, min_frames=3))])
def test_fields_of_the_processor_move_both(theirs, merge, fields):
  """fault A3: merge size, frames a second and their bounds."""
  for count, fps in itertools.product((3, 8, 13), (1.0, 2.0, 7.5)):
    parts = [clip(count, fps), 'the end?']
    tokens, positions, _ = reference(
        theirs('qwen3_5', merge, **fields), 'qwen3_5', parts, merge)
    encoded = ours(merge, **fields).plain(parts[1], tuple(parts[:1]))
    assert list(encoded.tokens) == tokens
    np.testing.assert_array_equal(encoded.media.positions_TA, positions)


@pytest.mark.parametrize('most', [1, 4, 768])
def test_a_bound_on_a_frames_tokens(theirs, most):
  """fault A3: `cap_pixels_per_frame`, where a folder asks for it."""
  for count in (4, 9):
    parts = [clip(count, 2.0, 80, 60), 'x']
    tokens, *_ = reference(theirs(
        'qwen3_vl', cap_pixels_per_frame=True, max_video_tokens=most),
        'qwen3_vl', parts)
    encoded = ours(frame_tokens=most).plain('x', tuple(parts[:1]))
    assert list(encoded.tokens) == tokens


@pytest.fixture(params=['qwen3_5', 'qwen3_vl'])
def folder(request, tmp_path):
  return pathlib.Path(hub_builders.write_seeing(tmp_path, request.param))


FILES = {'clip': 'video_preprocessor_config.json',
         'picture': 'preprocessor_config.json'}
SHOWN = {'clip': clip(4, 2.0, 8, 8), 'picture': picture(8, 8)}


@pytest.mark.parametrize('absent', [('clip',), ('picture',),
                                    ('clip', 'picture')])
@pytest.mark.parametrize('legacy', [False, True])
def test_a_folder_without_preprocessors(folder, absent, legacy):
  """fault A4: text and what is described work; the rest is refused by the
  name of the file, and nothing of the machine is told."""
  for what in absent:
    (folder / FILES[what]).unlink()
  if legacy:  # as transformers < 5 wrote it, without the parts
    (folder / 'processor_config.json').write_text(
        json.dumps({'processor_class': 'Qwen3VLProcessor'}))
  chat = pretrained.chat(pretrained.load(str(folder)))
  assert chat.plain('the end?').tokens
  for what, media in SHOWN.items():
    if what not in absent:
      assert chat.plain('the end?', (media,)).media is not None
      continue
    for ask in (chat.plain, chat.outline):
      with pytest.raises(ValueError, match=rf'no {FILES[what]}') as e:
        ask('the end?', (media,))
      assert str(folder) not in str(e.value)


def test_one_file_of_both_processors(folder):
  """fault A4: processor_config.json as transformers writes it since 5.0; its
  parts count before files of their own, as there."""
  image, video = (json.loads((folder / FILES[w]).read_text())
                  for w in ('picture', 'clip'))
  chat = pretrained.chat(pretrained.load(str(folder)))
  (folder / 'processor_config.json').write_text(json.dumps({
      'image_processor': {**image, 'image_processor_type': 'X'},
      'processor_class': 'Qwen3VLProcessor', 'video_processor': video}))
  (folder / FILES['picture']).unlink()
  (folder / FILES['clip']).write_text(json.dumps({**video, 'fps': 1}))
  again = pretrained.chat(pretrained.load(str(folder)))
  assert again.vision == chat.vision and chat.vision.fps == 2
  (folder / 'processor_config.json').write_text(json.dumps({
      'image_processor': image}))
  again = pretrained.chat(pretrained.load(str(folder)))
  assert again.vision.fps == 1 and again.vision.picture == chat.vision.picture


@pytest.mark.parametrize('text, said', [
    ('{', 'processor_config.json is not JSON'),
    ('[]', 'processor_config.json holds no JSON object'),
    ('{"video_processor": 3}', 'video_processor is 3; allowed: an object'),
    ('{"video_processor": {"num_frames": 4}}', 'num_frames is 4'),
    ('{"video_processor": {"do_sample_frames": false}}',
     'do_sample_frames is False')])
def test_refused_processor_files(folder, text, said):
  """fault A4: a damaged or unknown description names its file and field."""
  video = json.loads((folder / FILES['clip']).read_text())
  fields = text
  if '"num_frames"' in text or '"do_sample' in text:
    fields = json.dumps({'video_processor': {
        **video, **json.loads(text)['video_processor']}})
  (folder / 'processor_config.json').write_text(fields)
  found = pretrained.load(str(folder))
  with pytest.raises(ValueError, match=said):
    pretrained.chat(found)
