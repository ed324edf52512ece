"""The vision tower in the hub's config.json and tensors."""

from zppo_jax.models.vision import VisionConfig
from zppo_jax.weights import hub_text
from zppo_jax.weights.hub_leaf import HubLeaf

# Ours -> the hub's, in vision_config.
_SHAPES = {
    'depth': 'depth', 'width': 'hidden_size', 'num_heads': 'num_heads',
    'mlp_width': 'intermediate_size', 'out_width': 'out_hidden_size',
    'patch_size': 'patch_size', 'temporal_patch': 'temporal_patch_size',
    'channels': 'in_channels', 'merge': 'spatial_merge_size',
    'num_positions': 'num_position_embeddings'}
# Ours -> the hub's, beside it.
_IDS = {
    'image_id': 'image_token_id', 'video_id': 'video_token_id',
    'start_id': 'vision_start_token_id', 'end_id': 'vision_end_token_id'}


def from_hub(hub: dict) -> VisionConfig:
  """The tower of a config.json.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  tower = hub_text.field(hub, 'vision_config')
  hub_text.only(tower, 'hidden_act', 'gelu_pytorch_tanh')
  rope = dict(tower.get('rope_parameters') or {})
  hub_text.only(rope, 'rope_type', 'axial')
  return VisionConfig(
      **{ours: hub_text.field(tower, name) for ours, name in _SHAPES.items()},
      **{ours: hub_text.field(hub, name) for ours, name in _IDS.items()},
      taps=tuple(tower.get('deepstack_visual_indexes') or ()),
      rope_theta=float(rope.get('rope_theta', 10000.0)))


def to_hub(c: VisionConfig, model_type: str) -> dict:
  """The `vision_config` and the ids beside it, with a family's type."""
  tower = {'model_type': f'{model_type}_vision',
           **{theirs: getattr(c, ours) for ours, theirs in _SHAPES.items()},
           'hidden_act': 'gelu_pytorch_tanh',
           'rope_parameters': {'rope_type': 'axial',
                               'rope_theta': c.rope_theta}}
  if c.taps:
    tower['deepstack_visual_indexes'] = list(c.taps)
  return {'vision_config': tower,
          **{theirs: getattr(c, ours) for ours, theirs in _IDS.items()}}


def hub_leaves(c: VisionConfig) -> tuple[HubLeaf, ...]:
  """The leaves of the tower, under 'vision' in the parameter tree."""
  D, N, H = c.width, c.num_heads, c.width // c.num_heads
  joined = D * c.merge**2

  def leaf(path, name, shape, split=None, perm=None, count=None):
    split = split or shape
    names = (f'model.visual.{name}',) if count is None else tuple(
        f'model.visual.{name.format(i)}' for i in range(count))
    return HubLeaf(('vision', *path), names, shape, split,
                   perm or tuple(range(len(split))), count is not None)

  def affine(path, ours, name, rows, columns, count=None):
    return [leaf((*path, ours), f'{name}.weight', (rows, columns), None,
                 (1, 0), count),
            leaf((*path, f'{ours}_bias'), f'{name}.bias', (rows,),
                 count=count)]

  def norm(path, name, size, count=None):
    return [leaf((*path, 'scale'), f'{name}.weight', (size,), count=count),
            leaf((*path, 'bias'), f'{name}.bias', (size,), count=count)]

  def merger(path, name, norm_size, count=None):
    return [*norm((*path, 'norm'), f'{name}.norm', norm_size, count),
            *affine((*path, 'mlp'), 'up', f'{name}.linear_fc1', joined,
                    joined, count),
            *affine((*path, 'mlp'), 'down', f'{name}.linear_fc2', c.out_width,
                    joined, count)]

  block, attention = ('blocks', 'block'), ('blocks', 'block', 'attention')
  kernel = (D, c.channels, c.temporal_patch, c.patch_size, c.patch_size)
  leaves = [
      leaf(('patch',), 'patch_embed.proj.weight', kernel,
           (D, c.patch_values), (1, 0)),
      leaf(('patch_bias',), 'patch_embed.proj.bias', (D,)),
      leaf(('positions',), 'pos_embed.weight', (c.num_positions, D)),
      *norm((*block, 'attention_norm'), 'blocks.{}.norm1', D, c.depth),
      *norm((*block, 'mlp_norm'), 'blocks.{}.norm2', D, c.depth),
      leaf((*attention, 'qkv'), 'blocks.{}.attn.qkv.weight', (3 * D, D),
           (3, N, H, D), (3, 0, 1, 2), c.depth),
      leaf((*attention, 'qkv_bias'), 'blocks.{}.attn.qkv.bias', (3 * D,),
           (3, N, H), None, c.depth),
      leaf((*attention, 'o'), 'blocks.{}.attn.proj.weight', (D, D),
           (D, N, H), (1, 2, 0), c.depth),
      leaf((*attention, 'o_bias'), 'blocks.{}.attn.proj.bias', (D,),
           count=c.depth),
      *affine((*block, 'mlp'), 'up', 'blocks.{}.mlp.linear_fc1', c.mlp_width,
              D, c.depth),
      *affine((*block, 'mlp'), 'down', 'blocks.{}.mlp.linear_fc2', D,
              c.mlp_width, c.depth),
      *merger(('merger',), 'merger', D)]
  if c.taps:
    leaves += merger(('taps',), 'deepstack_merger_list.{}', joined,
                     len(c.taps))
  return tuple(leaves)
