"""What `zppo models FOLDER` says of a checkpoint; it reads no weights."""

import pathlib

from zppo_jax.weights import hub_checkpoint, presets, pretrained

_FIELDS = ('num_layers', 'width', 'mlp_width', 'num_heads', 'num_kv_heads',
           'head_dim', 'vocab_size', 'max_positions', 'tied')


def text(name: str) -> str:
  """Sizes, end tokens and where each was read, and the chat template.

  Args:
    name: a checkpoint folder of the hub, or a .gguf file.

  Raises:
    FileNotFoundError: for anything else, with a hint.
    ValueError: see pretrained.load and pretrained.chat.
  """
  path = pathlib.Path(name)
  if not hub_checkpoint.is_hub(path) or (path / pretrained.FINAL).is_file():
    raise FileNotFoundError(f'{name!r} is neither a checkpoint folder of the '
                            f'hub nor a .gguf file{pretrained.hint(name)}')
  source, outline = pretrained.outline(path, {})
  n = presets.count(source.config)
  c = outline.model.config
  vision = getattr(c, 'vision', None)
  rows = [
      f'{source.path}: {outline.model.family}, {n / 1e9:.3f} B parameters, '
      f'{2 * n / 2**30:.1f} GiB in bfloat16',
      ', '.join(f'{field} {getattr(c, field)}' for field in _FIELDS),
      'vision tower: ' + (f'{vision.depth} layers, width {vision.width}, '
                          f'{vision.num_heads} heads' if vision else 'none'),
      *outline.notes]
  chat = pretrained.chat(outline)
  return '\n  '.join([*rows, *(chat.notes if chat else (
      'tokenizer: none is there; the task has to bring the words',))])
