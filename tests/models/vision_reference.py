"""Prompts with images and videos for ours and for transformers' VL classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import builders
from tests.models import torch_reference
from zppo_jax.chat import images
from zppo_jax.learner import packing
from zppo_jax.records import (
  Decoding,
  ProcessedMedia,
  Prompt,
  PromptKind,
  Question,
)
from zppo_jax.rollout import decode
from zppo_jax.weights import families, hub_checkpoint

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
torch.set_num_threads(1)

# Ids of the tiny models; text is drawn from below them.
IMAGE, VIDEO, START, END, TEXT = 60, 61, 62, 63, 60
IDS = dict(image_token_id=IMAGE, video_token_id=VIDEO,
           vision_start_token_id=START, vision_end_token_id=END)
LENGTH, PATCHES = 192, 192  # padding of our rows

# Grids (time, rows, columns in patches) of each prompt's media, in order.
CASES = {
    'one image': [('image', (1, 6, 4))],
    'three images': [('image', (1, 4, 6)), ('image', (1, 2, 2)),
                     ('image', (1, 8, 4))],
    'two videos': [('video', (2, 4, 6)), ('video', (3, 2, 4))],
    'image and video': [('image', (1, 4, 4)), ('video', (2, 6, 2))],
}


def tower(**fields) -> dict:
  return {**dict(
      depth=3, hidden_size=16, num_heads=2, intermediate_size=20,
      hidden_act='gelu_pytorch_tanh', in_channels=3, patch_size=2,
      temporal_patch_size=2, spatial_merge_size=2,
      num_position_embeddings=25), **fields}


def draw(config, kind, seed: int, spread: bool):
  """A float32 torch model; `spread` draws it so that logits have deviation
  about 1 and no norm is the identity."""
  torch.manual_seed(seed)
  model = kind._from_config(config, attn_implementation='eager').float().eval()
  if spread:
    with torch.no_grad():
      for name, p in model.named_parameters():
        noise = torch.randn_like(p)
        if 'A_log' in name:  # memories of 1 to 100 tokens, not of one
          p.copy_(noise - 3)
        elif p.ndim == 1:
          p.add_(0.2 * noise)
        else:
          p.copy_(noise * p[0].numel()**-0.5)
  return model


def ours(reference):
  """(Model, params) of a torch model, through the family's hub functions."""
  source = torch_reference.source_of(reference)
  family = hub_checkpoint.family_of(source.config)
  row = families.FAMILIES[family]
  model = row.build(row.from_hub(source.config))._replace(family=family)
  params, skipped = hub_checkpoint.load(source, model)
  assert not skipped
  return model, params


@functools.cache
def prompt(name: str, tower_config, seed: int = 0):
  """(Prompt of ours, keyword arguments of the reference)."""
  rng = np.random.default_rng([seed, len(name)])
  text = lambda size: rng.integers(1, TEXT, size).tolist()
  tokens, frames, patches, grids = text(5), [], [], {'image': [], 'video': []}
  pixels = {'image': [], 'video': []}
  for kind, (t, h, w) in CASES[name]:
    values = rng.standard_normal(
        (t * h * w, tower_config.patch_values)).astype(np.float32)
    for _ in range(t):
      pad = [IMAGE if kind == 'image' else VIDEO] * (h * w // 4)
      tokens += [*text(2 * (kind == 'video')), START, *pad, END]
    frames += [(h, w)] * t
    patches.append(values)
    grids[kind].append((t, h, w))
    pixels[kind].append(values)
    tokens += text(3)
  tokens += text(40)
  # Pixels come from the draw; all else is chat/images.py's.
  processor = images.Processor(tower_config, None, None)
  media = processor.media(
      ProcessedMedia('', np.concatenate(patches), tuple(frames)), tokens)
  kinds = np.select([np.equal(tokens, IMAGE), np.equal(tokens, VIDEO)], [1, 2])
  theirs = dict(input_ids=torch.as_tensor([tokens]),
                mm_token_type_ids=torch.as_tensor(kinds)[None])
  for kind, field in (('image', 'pixel_values'),
                      ('video', 'pixel_values_videos')):
    if grids[kind]:
      theirs[field] = torch.as_tensor(np.concatenate(pixels[kind]))
      theirs[f'{kind}_grid_thw'] = torch.as_tensor(grids[kind])
  question = Question(name, '', '', '')
  return Prompt(question, PromptKind.PLAIN, tuple(tokens), media), theirs


def batch(prompts, patches: int = PATCHES):
  """Our rows, padded on the right."""
  return packing.pad_prompts(prompts, len(prompts), LENGTH, patches, 3)


def logits_fn(model):
  def run(params, b):
    segment = jnp.arange(LENGTH)[None] < b.length_P[:, None]
    x = model.apply(params, b.tokens_PT, b.positions_PTA,
                    segment.astype(jnp.int32), media=b.media)[0]
    return x @ model.head(params)
  return run


def their_logits(reference, theirs):
  reference.model.rope_deltas = None
  cast = {k: v.to(reference.dtype) if v.is_floating_point() else v
          for k, v in theirs.items()}
  return reference(**cast).logits[0]


def tolerance(reference, theirs) -> float:
  """10 times what float32 costs torch itself, at least 1e-5."""
  with torch.no_grad():
    single = their_logits(reference, theirs).numpy()
    double = their_logits(reference.double(), theirs).numpy()
  reference.float()
  return max(1e-5, 10 * float(np.abs(single - double).max()))


def check_logits(reference, model, params, *, spread: bool) -> None:
  """All cases as rows of one padded batch; the reference is never padded."""
  cases = [prompt(name, model.config.vision) for name in CASES]
  got = np.asarray(jax.jit(logits_fn(model))(
      params, batch([p for p, _ in cases])))
  for row, (p, theirs) in zip(got, cases, strict=True):
    with torch.no_grad():
      want = their_logits(reference, theirs).numpy()
    if spread:
      assert 0.5 < want.std() < 2
    gap = np.abs(row[:len(p.tokens)] - want).max()
    assert gap <= tolerance(reference, theirs), (p.question.id, gap)


def moved(model, params, batch, torch_model, case, theirs):
  """Largest change of logits, in tolerances."""
  got = np.asarray(jax.jit(logits_fn(model))(params, batch))
  with torch.no_grad():
    want = their_logits(torch_model, theirs).numpy()
  gap = np.abs(got[0, :len(case.tokens)] - want).max()
  return gap / tolerance(torch_model, theirs)


def check_gradients(reference, model, params) -> None:
  """Of a random linear function of the log-probs, tensor by tensor, against
  torch in float64: its float32 is off by up to 8e-5 in the tower."""
  cases = [prompt(name, model.config.vision, 1) for name in CASES]
  b = batch([p for p, _ in cases])
  weights = np.random.default_rng(3).standard_normal(
      (len(cases), LENGTH, model.config.vocab_size)).astype(np.float32)
  weights *= (np.arange(LENGTH) < b.length_P[:, None])[..., None]
  reference.double().zero_grad()
  for row, (p, theirs) in zip(weights, cases, strict=True):
    logp = torch.log_softmax(their_logits(reference, theirs), -1)
    (logp * torch.as_tensor(row[:len(p.tokens)])).sum().backward()
  theirs = {n: p.grad.numpy().copy() for n, p in reference.named_parameters()}
  reference.zero_grad()
  reference.float()

  def loss(params):
    logits = logits_fn(model)(params, b)
    return (jax.nn.log_softmax(logits) * weights).sum()

  grads = jax.jit(jax.grad(loss))(params)
  seen = set()
  for leaf in families.FAMILIES[model.family].hub_leaves(model.config):
    found = functools.reduce(lambda tree, key: tree[key], leaf.path, grads)
    for i, name in enumerate(leaf.names):
      mine = leaf.to_hub(np.asarray(found[i] if leaf.stacked else found))
      norm = np.linalg.norm(theirs[name])
      assert norm > 0, name
      assert np.linalg.norm(mine - theirs[name]) <= 1e-4 * norm, name
      seen.add(name)
  assert seen == set(theirs)


def sampler(model, count: int):
  """Greedy, text tokens only: (params, prompts) -> Samples."""
  allowed = jnp.arange(model.config.vocab_size) < TEXT
  return jax.jit(lambda params, b: decode.sample(
      params, b, jax.random.split(jax.random.key(0), b.length_P.shape)[:, None],
      model=model, end_id=-1, decoding=Decoding(count, temperature=0.0),
      allowed_V=allowed))


def check_greedy(reference, model, params, count: int = 64) -> None:
  """Both continue all cases by the same tokens; ours from its cache."""
  cases = [prompt(name, model.config.vision) for name in CASES]
  got = sampler(model, count)(params, batch([p for p, _ in cases]))
  for row, (p, theirs) in zip(got.tokens_PGR[:, 0], cases, strict=True):
    reference.model.rope_deltas = None
    want = reference.generate(
        **theirs, attention_mask=torch.ones_like(theirs['input_ids']),
        do_sample=False, max_new_tokens=count, min_new_tokens=count,
        eos_token_id=None, pad_token_id=0,
        suppress_tokens=list(range(TEXT, model.config.vocab_size)))
    np.testing.assert_array_equal(row, want[0, len(p.tokens):].numpy())


def check_cached(model, params) -> None:
  """Log-probs of the sampler are those of prompt and response in one pass."""
  prompts = [prompt(name, model.config.vision)[0] for name in CASES]
  samples = jax.device_get(sampler(model, 20)(params, batch(prompts)))
  rows = [builders.training(p.tokens, tokens.tolist(), logps, media=p.media)
          for p, tokens, logps in zip(
              prompts, samples.tokens_PGR[:, 0], samples.logp_PGR[:, 0],
              strict=True)]
  packed = packing.pad_rows(rows, len(rows), LENGTH, PATCHES, 3)

  def score(params):
    x = model.apply(params, packed.tokens_BT, packed.positions_BTA,
                    packed.segment_BT, media=packed.prompts.media)[0]
    logp = jax.nn.log_softmax(x[:, :-1] @ model.head(params))
    return jnp.take_along_axis(
        logp, packed.tokens_BT[:, 1:, None], -1)[..., 0]

  got = np.asarray(jax.jit(score)(params)) * packed.mask_BT[:, 1:]
  np.testing.assert_allclose(got, packed.targets['sampler_logp'][:, 1:],
                             atol=2e-5)
