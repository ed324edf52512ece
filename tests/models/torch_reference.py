"""A family against its class in transformers: weights, logits, gradients.

The torch model is drawn first; ours reads its state dict by the family's
`hub_leaves`, so that these are tested too.
"""

import copy
import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import prompt_batch
from zppo_jax.records import Decoding
from zppo_jax.rollout import decode, weight_sync
from zppo_jax.weights import families, hub_checkpoint
from zppo_jax.weights.hub_leaf import HubSource, HubTensor

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
torch.set_num_threads(1)

LENGTH = 648  # tokens: a partial-rotary bug of others showed at about 500


def draw(config, seed: int, spread: bool):
  """A float32 torch model; `spread` draws it so that logits have deviation
  about 1 and no norm is the identity."""
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(
      config, attn_implementation='eager').float().eval()
  if spread:
    with torch.no_grad():
      for name, p in model.named_parameters():
        noise = torch.randn_like(p)
        if 'A_log' in name:  # memories of 1 to 100 tokens, not of one
          p.copy_(noise - 3)
        elif p.dim() == 1:
          p.add_(0.2 * noise)
        else:
          p.copy_(noise * p.shape[-1]**-0.5)
  return model


def source_of(model) -> HubSource:
  """The checkpoint that the torch model would be saved as."""
  state = {n: x.detach().numpy() for n, x in model.state_dict().items()}
  if model.config.tie_word_embeddings:
    del state['lm_head.weight']
  return HubSource(
      pathlib.Path('torch'), model.config.to_dict(),
      {n: HubTensor(x.shape, 'F32') for n, x in state.items()},
      lambda name, start, stop: state[name][start:stop])


def ours(reference):
  """(Model, params) of a torch model."""
  source = source_of(reference)
  family = hub_checkpoint.family_of(source.config)
  row = families.FAMILIES[family]
  model = row.build(row.from_hub(source.config))._replace(family=family)
  params, skipped = hub_checkpoint.load(source, model)
  assert not skipped
  return model, params


def changed(model, **fields):
  """The same family with other config fields."""
  row = families.FAMILIES[model.family]
  return row.build(dataclasses.replace(model.config, **fields))._replace(
      family=model.family)


def tokens_of(model, rows: int, seed: int) -> np.ndarray:
  return np.random.default_rng(seed).integers(
      0, model.config.vocab_size, (rows, LENGTH), dtype=np.int32)


@functools.cache
def _logits_fn(model):
  def run(params, tokens_BT, segment_BT):
    T = tokens_BT.shape[1]
    positions = jnp.broadcast_to(
        jnp.arange(T)[:, None], (*tokens_BT.shape, model.num_axes))
    x = model.apply(params, tokens_BT, positions, segment_BT)[0]
    return x @ model.head(params)
  return jax.jit(run)


def our_logits(model, params, tokens_BT, segment_BT=None) -> np.ndarray:
  if segment_BT is None:
    segment_BT = np.ones_like(tokens_BT)
  return np.asarray(_logits_fn(model)(params, tokens_BT, segment_BT))


def torch_logits(reference, tokens_BT) -> np.ndarray:
  with torch.no_grad():
    return reference(torch.as_tensor(tokens_BT).long()).logits.numpy()


def tolerance(reference, tokens_BT) -> float:
  """10 times what float32 costs torch itself, at least 1e-5."""
  single = torch_logits(reference, tokens_BT)
  double = torch_logits(reference.double(), tokens_BT)
  reference.float()
  return max(1e-5, 10 * float(np.abs(single - double).max()))


def check_logits(reference, model, params, *, spread: bool) -> None:
  """648 tokens a row; the second row padded, the reference never."""
  tokens = tokens_of(model, 2, seed=1)
  short = LENGTH - 101
  segment = np.ones_like(tokens)
  segment[1, short:] = 0
  got = our_logits(model, params, tokens, segment)
  whole = torch_logits(reference, tokens[:1])
  cut = torch_logits(reference, tokens[1:, :short])
  if spread:
    assert 0.7 < whole.std() < 1.5
  limit = tolerance(reference, tokens[:1])
  assert np.abs(got[:1] - whole).max() <= limit
  assert np.abs(got[1:, :short] - cut).max() <= limit


def check_mutation(reference, model, params) -> None:
  """A changed model moves logits by more than 100 tolerances."""
  tokens = tokens_of(model, 1, seed=1)
  moved = np.abs(our_logits(model, params, tokens)
                 - torch_logits(reference, tokens)).max()
  assert moved > 100 * tolerance(reference, tokens)


def check_gradients(reference, model, params) -> None:
  """Of a random linear function of the log-probs, tensor by tensor."""
  tokens = tokens_of(model, 1, seed=2)
  weights = np.random.default_rng(3).standard_normal(
      (1, LENGTH, model.config.vocab_size)).astype(np.float32)
  logp = torch.log_softmax(
      reference(torch.as_tensor(tokens).long()).logits, -1)
  reference.zero_grad()
  (logp * torch.as_tensor(weights)).sum().backward()
  theirs = {n: p.grad.numpy() for n, p in reference.named_parameters()}

  def loss(params):
    logits = _logits_fn(model)(params, tokens, np.ones_like(tokens))
    return (jax.nn.log_softmax(logits) * weights).sum()

  grads = jax.jit(jax.grad(loss))(params)
  seen = set()
  for leaf in families.FAMILIES[model.family].hub_leaves(model.config):
    found = grads
    for key in leaf.path:
      found = found[key]
    for i, name in enumerate(leaf.names):
      mine = leaf.to_hub(np.asarray(found[i] if leaf.stacked else found))
      norm = np.linalg.norm(theirs[name])
      assert norm > 0, name
      assert np.linalg.norm(mine - theirs[name]) <= 1e-4 * norm, name
      seen.add(name)
  assert seen == set(theirs)


def check_greedy(reference, model, params, prompt: int = 500,
                 count: int = 64) -> None:
  """Both continue a prompt by the same tokens; ours from its cache."""
  tokens = tokens_of(model, 1, seed=4)[:, :prompt]
  ids = torch.as_tensor(tokens).long()
  # Without a mask, generate takes the prompt's pad tokens for padding.
  want = reference.generate(
      ids, attention_mask=torch.ones_like(ids), do_sample=False,
      max_new_tokens=count, min_new_tokens=count, eos_token_id=None,
      pad_token_id=0).numpy()
  keys = jax.random.key(0)[None, None]
  rows = model.config.vocab_size
  sample = jax.jit(functools.partial(
      decode.sample, model=model, end_id=-1,
      decoding=Decoding(count, temperature=0.0),
      allowed_V=jnp.ones(rows, bool)))
  padded = np.pad(tokens, ((0, 0), (0, 12)), constant_values=3)
  got = sample(params, prompt_batch(
      padded, [prompt], num_axes=model.num_axes), keys)
  np.testing.assert_array_equal(got.tokens_PGR[0, 0], want[0, prompt:])


def check_bf16(reference, model, params) -> None:
  """bf16 moves our token log-probs no further from float32 than 1.5 times what
  it does to torch's, in the mean."""
  tokens = tokens_of(model, 1, seed=5)
  rounded = copy.deepcopy(reference).bfloat16()
  with torch.no_grad():
    theirs = [torch_logits(reference, tokens),
              rounded(torch.as_tensor(tokens).long()).logits.float().numpy()]
  mine = [our_logits(model, params, tokens),
          our_logits(changed(model, dtype='bfloat16'),
                     weight_sync.cast(params, jnp.bfloat16), tokens)]

  def gap(single, half):
    a, b = (np.take_along_axis(
        np.asarray(jax.nn.log_softmax(x[0, :-1].astype(np.float32))),
        tokens[0, 1:, None], 1) for x in (single, half))
    return float(np.abs(a - b).mean())

  assert 0 < gap(*mine) <= 1.5 * gap(*theirs)
