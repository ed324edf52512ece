"""A checkpoint folder of the hub: config.json and safetensors, read by rows.

Rows are read with plain reads and no memory map, so that the host never holds
more of a file than the caller needs.
"""

import json
import math
import os
import pathlib

import ml_dtypes
import numpy as np

from zppo_jax.weights.hub_leaf import HubSource, HubTensor

_DTYPES = {'F32': np.float32, 'F16': np.float16, 'BF16': ml_dtypes.bfloat16,
           'F8_E4M3': ml_dtypes.float8_e4m3fn}
_SCALE = '_scale_inv'  # W_scale_inv holds a factor per block of an FP8 W
_PICKLES = ('*.bin', '*.pt', '*.pth', '*.ckpt', '*.pkl', '*.pickle')
# Fields of config.json that are objects.
_OBJECTS = ('text_config', 'vision_config', 'rope_parameters', 'rope_scaling',
            'quantization_config')
_HEADER_LIMIT = 100 << 20  # bytes; the format's own limit


def read_json(path: pathlib.Path) -> dict:
  """The JSON object of a file; ValueError names a file without one."""
  try:
    content = json.loads(path.read_text('utf-8'))
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{path} is not JSON: {e}') from e
  if not isinstance(content, dict):
    raise ValueError(f'{path} holds no JSON object')
  return content


def read_config(folder) -> dict:
  """config.json of a folder.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it names code of its own, which never runs.
  """
  path = pathlib.Path(folder) / 'config.json'
  if not path.is_file():
    raise FileNotFoundError(f'{folder} holds no config.json; a checkpoint '
                            'folder of the hub has one')
  config = read_json(path)
  if 'auto_map' in config:
    raise ValueError(f'{path}: auto_map asks for remote code '
                     f'({config["auto_map"]}); it is never run')
  for name in _OBJECTS:
    if not isinstance(config.get(name), dict | None):
      raise ValueError(f'{path}: {name} is {config[name]!r}; allowed: an '
                       'object')
  return config


def _fp8_block(config: dict, path) -> tuple[int, int] | None:
  """The block size of FP8 weights; ValueError for another quantisation."""
  quantisation = config.get('quantization_config')
  if quantisation is None:
    return None
  block = tuple(quantisation.get('weight_block_size') or ())
  kind = (quantisation.get('quant_method'), quantisation.get('fmt', 'e4m3'))
  if kind != ('fp8', 'e4m3') or len(block) != 2 or min(block) < 1:
    raise ValueError(
        f'{path}/config.json: quantization_config has quant_method, fmt '
        f'{kind} and weight_block_size {block}; allowed: fp8, e4m3 in blocks, '
        'e.g. (128, 128), or no quantisation')
  return block


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The safetensors files of a folder; pickles are refused by name."""
  index = folder / 'model.safetensors.index.json'
  if index.is_file():
    listed = read_json(index).get('weight_map')
    if not isinstance(listed, dict) or not listed:
      raise ValueError(f'{index} has no weight_map')
    names = sorted(set(listed.values()))
    outside = [n for n in names if pathlib.Path(n).name != n]
    if outside:
      raise ValueError(f'{index} names files outside the folder: {outside}')
    absent = [n for n in names if not (folder / n).is_file()]
    if absent:
      raise FileNotFoundError(f'{folder} lacks {", ".join(absent)}, which its '
                              'index names')
    return [folder / n for n in names]
  if (folder / 'model.safetensors').is_file():
    return [folder / 'model.safetensors']
  pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
  raise FileNotFoundError(
      f'{folder} holds neither model.safetensors nor an index of shards'
      + (f'; {", ".join(pickles)} are pickles, which are never read'
         if pickles else ''))


def _header(path: pathlib.Path) -> dict[str, tuple[HubTensor, int]]:
  """name -> (tensor, offset in the file) of a safetensors file.

  Raises:
    ValueError: for a damaged file, or for a type that cannot be read.
  """
  size = path.stat().st_size
  with open(path, 'rb') as f:
    length = int.from_bytes(f.read(8), 'little')
    if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
      raise ValueError(f'{path} is not a readable safetensors file: header of '
                       f'{length} bytes in a file of {size}')
    try:
      entries = json.loads(f.read(length))
    except ValueError as e:
      raise ValueError(f'{path} is not a readable safetensors file: {e}') from e
  out = {}
  for name, entry in entries.items():
    if name == '__metadata__':
      continue
    dtype, shape = entry['dtype'], tuple(entry['shape'])
    start, stop = entry['data_offsets']
    if dtype in _DTYPES:
      wanted = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
      if stop - start != wanted or not 0 <= start <= stop <= size - 8 - length:
        raise ValueError(f'{path} is not a readable safetensors file: {name} '
                         f'lies at {start} to {stop} of {size - 8 - length}')
    out[name] = HubTensor(shape, dtype), 8 + length + start
  return out


def read(folder) -> HubSource:
  """Opens a checkpoint folder: checks all headers and reads no weights.

  FP8 weights are dequantised when they are read, so their `weight_scale_inv`
  tensors are not listed.

  Raises:
    FileNotFoundError: if config.json, the safetensors files or a shard are
      absent; .bin, .pt and similar files are refused by name.
    ValueError: for remote code, another quantisation than block FP8, a damaged
      file, a tensor in two files, or FP8 weights without scales.
  """
  folder = pathlib.Path(folder)
  config = read_config(folder)
  block = _fp8_block(config, folder)
  place = {}
  for path in _files(folder):
    for name, (tensor, offset) in _header(path).items():
      if name in place:
        raise ValueError(f'{folder}: tensor {name} is in {path.name} and in '
                         f'{place[name][0].name}')
      place[name] = path, offset, tensor

  def rows(name, start, stop):
    path, offset, tensor = place[name]
    if tensor.dtype not in _DTYPES:
      raise ValueError(f'{path}: {name} has type {tensor.dtype}; allowed: '
                       f'{", ".join(_DTYPES)}')
    dtype, inner = np.dtype(_DTYPES[tensor.dtype]), math.prod(tensor.shape[1:])
    values = np.fromfile(path, dtype, (stop - start) * inner,
                        offset=offset + start * inner * dtype.itemsize)
    return values.reshape(stop - start, *tensor.shape[1:])

  scaled = {n for n, (_, _, t) in place.items() if t.dtype == 'F8_E4M3'}
  for name in scaled:
    shape = place[name][2].shape
    if block is None or name + _SCALE not in place or len(shape) != 2:
      raise ValueError(f'{folder}: {name} is FP8 without {name + _SCALE} and '
                       'quantization_config.weight_block_size')
    blocks = tuple(-(-n // b) for n, b in zip(shape, block, strict=True))
    scale_shape = place[name + _SCALE][2].shape
    if scale_shape != blocks:
      raise ValueError(f'{folder}: {name + _SCALE} has shape {scale_shape}; '
                       f'blocks of {block} in {shape} need {blocks}')

  def read_rows(name, start, stop):
    weights = rows(name, start, stop)
    if name not in scaled:
      return weights
    scale = rows(name + _SCALE, 0, place[name + _SCALE][2].shape[0])
    scale = np.repeat(scale.astype(np.float32), block[1], axis=1)
    scale = scale[:, :weights.shape[1]]
    return weights * scale[np.arange(start, stop) // block[0]]

  tensors = {n: t for n, (_, _, t) in place.items()
             if n.removesuffix(_SCALE) not in scaled or n in scaled}
  return HubSource(folder, config, tensors, read_rows)


def tokenizer(folder):
  """The tokenizer of a folder, without remote code and without a network.

  Raises:
    ValueError: for files that are no tokenizer; it names the folder.
  """
  # The import of transformers takes seconds, and only tokenizers need it.
  from transformers import AutoTokenizer
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  try:
    return AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False)
  except ImportError:  # this kind of tokenizer needs another package
    raise
  except Exception as e:  # a damaged file makes it raise almost any error
    raise ValueError(f'{folder}: its tokenizer cannot be read: '
                     f'{type(e).__name__}: {e}') from e


# The places in which a folder may declare end tokens.
END_PLACES = (('generation_config.json', ()), ('config.json', ()),
              ('config.json', ('text_config',)))


def declared_ends(folder) -> dict[str, tuple[int, ...]]:
  """The end tokens by place, for the places of END_PLACES that declare some.

  Raises:
    ValueError: for a value that is no token id; it names file and field.
  """
  out = {}
  for name, keys in END_PLACES:
    path = pathlib.Path(folder) / name
    at = read_json(path) if path.is_file() else {}
    for key in keys:
      at = at.get(key) or {}
    value = at.get('eos_token_id')
    field = '.'.join((*keys, 'eos_token_id'))
    ids = value if isinstance(value, list) else [] if value is None else [value]
    wrong = [i for i in ids if type(i) is not int or i < 0]
    if wrong:
      raise ValueError(f'{path}: {field} is {value!r}; allowed: a token id '
                       '>= 0, a list of them, or null')
    if ids:
      out[f'{name} {field}'] = tuple(ids)
  return out


def end_ids(folder) -> tuple[int, ...]:
  """All end tokens that the config files of a folder declare; may be ()."""
  return tuple(dict.fromkeys(
      i for ids in declared_ends(folder).values() for i in ids))


def template_file(folder) -> str:
  """The name of the file with the chat template; '' if it is unknown."""
  folder = pathlib.Path(folder)
  for name in ('chat_template.jinja', 'chat_template.json'):
    if (folder / name).is_file():
      return name
  path = folder / 'tokenizer_config.json'
  held = path.is_file() and read_json(path).get('chat_template')
  return path.name if held else ''


def locate(path) -> pathlib.Path:
  """The folder of the checkpoint for a path.

  A root of the hub's cache (`models--ORG--NAME`) stands for its only
  snapshot, or for the one that refs/main names.

  Raises:
    FileNotFoundError: for a root of several or no snapshots, a folder of such
      roots, or an adapter without its base model; it says what to do.
  """
  path = pathlib.Path(path)
  if (path / 'config.json').is_file() and not (
      path / 'adapter_config.json').is_file():
    return path
  root = path.parent if path.name == 'snapshots' else path
  snapshots = sorted(p for p in (root / 'snapshots').glob('*') if p.is_dir())
  main = root / 'refs' / 'main'
  if snapshots and main.is_file():
    named = root / 'snapshots' / main.read_text().strip()
    snapshots = [named] if named in snapshots else snapshots
  if len(snapshots) == 1:
    return snapshots[0]
  if (root / 'snapshots').is_dir() or snapshots:
    raise FileNotFoundError(
        f'{path} is a root of the hub\'s cache with {len(snapshots)} '
        'snapshots; name one of them: '
        f'{", ".join(map(str, snapshots)) or "there is none"}')
  roots = sorted(p.name for p in path.glob('models--*') if p.is_dir())
  if roots:
    raise FileNotFoundError(f'{path} is a cache of the hub with several '
                            f'models; name one of: {", ".join(roots)}')
  adapter = path / 'adapter_config.json'
  whole = any((path / name).is_file() for name in (
      'model.safetensors', 'model.safetensors.index.json'))
  if adapter.is_file() and not whole:
    base = read_json(adapter).get('base_model_name_or_path')
    raise FileNotFoundError(
        f'{path} holds an adapter ({adapter.name}) of the base model {base!r} '
        'and no whole model; merge it into its base first: `zppo import '
        f'--from={path} --base=BASE_FOLDER --to=FILE.safetensors`, and name '
        'FILE.safetensors; or train on it: lora.start')
  return path
