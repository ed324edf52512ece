"""The fields of config.json and the tensors that Llama-like models share.

A field that would change the maths and is not implemented is an error. An
absent field has the default of the hub's own class.
"""

from zppo_jax.models.decoder import DecoderConfig
from zppo_jax.weights import hub_rope
from zppo_jax.weights.hub_leaf import HubLeaf

# Ours -> the hub's.
_SHAPES = {
    'vocab_size': 'vocab_size', 'width': 'hidden_size',
    'num_layers': 'num_hidden_layers', 'num_heads': 'num_attention_heads',
    'mlp_width': 'intermediate_size', 'norm_eps': 'rms_norm_eps',
    'max_positions': 'max_position_embeddings'}


def field(hub: dict, name: str):
  """The value of a field that must be there; ValueError names it if not."""
  if hub.get(name) is None:
    raise ValueError(f'config.json: {name} is missing')
  return hub[name]


def only(hub: dict, name: str, *allowed) -> None:
  """ValueError unless a field is absent or has one of the allowed values."""
  if name in hub and hub[name] not in allowed:
    raise ValueError(f'config.json: {name} is {hub[name]!r}; allowed: '
                     f'{", ".join(map(repr, allowed))}')


def from_hub(hub: dict, *, head_dim: int, qk_norm: bool,
             turned: hub_rope.Rope | None = None) -> DecoderConfig:
  """The config of a Llama-like model.

  Args:
    hub: config.json.
    head_dim: H if the file does not give it.
    qk_norm: whether the family has it.
    turned: the rotary fields of the file, which the family has read.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  shapes = {ours: field(hub, theirs) for ours, theirs in _SHAPES.items()}
  only(hub, 'hidden_act', 'silu')
  only(hub, 'attention_bias', False, None)
  only(hub, 'mlp_bias', False, None)
  only(hub, 'attention_dropout', 0, None)
  turned = turned or hub_rope.from_hub(hub)
  if turned.share != 1:
    raise ValueError(f'config.json: partial_rotary_factor is {turned.share}; '
                     'allowed: 1.0')
  shapes['max_positions'] = turned.positions(hub, shapes['max_positions'])
  return DecoderConfig(
      **shapes,
      num_kv_heads=hub.get('num_key_value_heads') or shapes['num_heads'],
      head_dim=hub.get('head_dim') or head_dim, **turned.fields,
      rope_llama3=turned.llama3, qk_norm=qk_norm,
      tied=bool(hub.get('tie_word_embeddings', False)))


def to_hub(c: DecoderConfig, model_type: str, architecture: str) -> dict:
  """The config.json of a Llama-like model, with the base in both spellings."""
  return {
      'model_type': model_type, 'architectures': [architecture],
      **{theirs: getattr(c, ours) for ours, theirs in _SHAPES.items()},
      'num_key_value_heads': c.num_kv_heads, 'head_dim': c.head_dim,
      'hidden_act': 'silu', 'attention_bias': False,
      'attention_dropout': 0.0, 'tie_word_embeddings': c.tied,
      'rope_theta': c.rope_theta, 'rope_parameters': hub_rope.to_hub(c)}


def hub_leaves(c: DecoderConfig) -> tuple[HubLeaf, ...]:
  """The leaves of all parameters of a decoder.

  Matrices of the hub are [out, in]; ours are [in, out] with an axis of heads.
  """
  D, F, V, H = c.width, c.mlp_width, c.vocab_size, c.head_dim
  N, K = c.num_heads, c.num_kv_heads

  def one(path, name, shape, perm):
    return HubLeaf(path, (name,), shape, shape, perm, False)

  def stacked(path, name, shape, split, perm):
    names = tuple(f'model.layers.{i}.{name}.weight'
                  for i in range(c.num_layers))
    return HubLeaf(('blocks', *path), names, shape, split, perm, True)

  def norm(path, name, size):
    return stacked((*path, 'scale'), name, (size,), (size,), (0,))

  def heads(ours, theirs, count):
    return stacked(('attention', ours), f'self_attn.{theirs}_proj',
                   (count * H, D), (count, H, D), (2, 0, 1))

  def matrix(name, rows, columns):
    return stacked(('mlp', name), f'mlp.{name}_proj', (rows, columns),
                   (rows, columns), (1, 0))

  leaves = [
      one(('embed',), 'model.embed_tokens.weight', (V, D), (0, 1)),
      one(('norm', 'scale'), 'model.norm.weight', (D,), (0,)),
      norm(('attention_norm',), 'input_layernorm', D),
      norm(('mlp_norm',), 'post_attention_layernorm', D),
      heads('q', 'q', N), heads('k', 'k', K), heads('v', 'v', K),
      stacked(('attention', 'o'), 'self_attn.o_proj', (D, N * H), (D, N, H),
              (1, 2, 0)),
      matrix('gate', F, D), matrix('up', F, D), matrix('down', D, F)]
  if c.qk_norm:
    leaves += [norm(('attention', 'q_norm'), 'self_attn.q_norm', H),
               norm(('attention', 'k_norm'), 'self_attn.k_norm', H)]
  if not c.tied:
    leaves.append(one(('head',), 'lm_head.weight', (V, D), (1, 0)))
  return tuple(leaves)
