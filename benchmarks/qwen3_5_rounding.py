"""How far float32 takes qwen3_5 from its exact logits, here and in torch.

  python -m benchmarks.qwen3_5_rounding \\
    --to=benchmarks/results/qwen3_5_rounding.json

The small random model of benchmarks/random_models.py (seed 0) reads 12 tokens.
The exact logits are those of transformers with every tensor, and every cast
that its code makes to float32, in float64. 'ours' and 'torch' are the largest
differences of the float32 programs from them, 'ours_from_torch' that of one
from the other; 'operations' has one operation of transformers in float32 and
all others in float64, so that no single one is the cause unless it says so.
"""

import argparse
import contextlib
import json
import pathlib
import platform
import tempfile

FAMILY, TOKENS = 'qwen3_5', 12
FUNCTIONS = ('torch_chunk_gated_delta_rule', 'l2norm', 'causal_conv1d_fn')
MODULES = ('Qwen3_5RMSNorm', 'Qwen3_5RMSNormGated', 'Qwen3_5MLP')


class _Exact:
  """The module torch, as transformers' code sees it: float32 is float64."""

  def __getattr__(self, name):
    import torch
    return getattr(torch, 'float64' if name in ('float32', 'float') else name)


@contextlib.contextmanager
def _casts_to(code, exact: bool):
  """Casts to float32 in a module of transformers are to float64, or not."""
  import torch
  before = code.torch, torch.Tensor.float
  code.torch = _Exact() if exact else torch
  torch.Tensor.float = (torch.Tensor.double if exact else
                        lambda x: x.to(torch.float32))
  try:
    yield
  finally:
    code.torch, torch.Tensor.float = before


def _cast(values, dtype):
  import torch
  one = lambda x: x.to(dtype) if isinstance(
      x, torch.Tensor) and x.is_floating_point() else x
  if isinstance(values, dict):
    return {name: one(x) for name, x in values.items()}
  return type(values)(map(one, values)) if isinstance(
      values, tuple) else one(values)


def _narrow(code, function):
  """The function computed in float32 amid float64."""
  import torch

  def narrow(*arguments, **options):
    module = arguments[0] if isinstance(arguments[0], torch.nn.Module) else None
    with _casts_to(code, exact=False):
      if module is not None:
        module.float()
      out = function(*_cast(arguments, torch.float32),
                     **_cast(options, torch.float32))
    if module is not None:
      module.double()
    return _cast(out, torch.float64)

  return narrow


def _ours(folder: pathlib.Path):
  """Our logits [1, T, V] of the folder's model, in float32."""
  import jax
  import numpy as np

  from zppo_jax.weights import pretrained
  loaded = pretrained.load(str(folder))
  model = loaded.model
  tokens_BT = np.arange(3, 3 + TOKENS, dtype=np.int32)[None]
  positions_BTA = np.broadcast_to(
      np.arange(TOKENS, dtype=np.int32)[None, :, None],
      (1, TOKENS, model.num_axes))
  hidden_BTD = jax.jit(model.apply)(
      loaded.params, tokens_BT, positions_BTA, np.ones_like(tokens_BT))[0]
  return np.asarray(hidden_BTD @ model.head(loaded.params), np.float32)


def measure(folder: pathlib.Path) -> dict:
  """The numbers of a folder that holds the model."""
  import numpy as np
  import torch
  import transformers
  import transformers.models.qwen3_5.modeling_qwen3_5 as code
  name = json.loads((folder / 'config.json').read_text())['architectures'][0]
  model = getattr(transformers, name).from_pretrained(
      folder, dtype=torch.float32)
  tokens = torch.arange(3, 3 + TOKENS)[None]

  def logits():
    with torch.no_grad():
      return model(tokens).logits.numpy()

  torch_BTV = logits()
  model.double()
  with _casts_to(code, exact=True):
    exact_BTV = logits()
    assert exact_BTV.dtype == np.float64
    off = lambda x: float(np.abs(x - exact_BTV).max())
    operations = {}
    for name in FUNCTIONS:
      before = getattr(code, name)
      setattr(code, name, _narrow(code, before))
      operations[name] = off(logits())
      setattr(code, name, before)
    for of in (*(getattr(code, name) for name in MODULES), torch.nn.Linear):
      before = of.forward
      of.forward = _narrow(code, before)
      operations[of.__name__] = off(logits())
      of.forward = before
  ours_BTV = _ours(folder)
  return {
      'ours': off(ours_BTV), 'torch': off(torch_BTV),
      'ours_from_torch': float(np.abs(ours_BTV - torch_BTV).max()),
      'largest_logit': float(np.abs(exact_BTV).max()),
      'operations': operations, 'versions': {
          m.__name__: m.__version__ for m in (torch, transformers)}}


def main() -> None:
  """Writes the numbers."""
  from benchmarks import random_models
  from zppo_jax.weights import hub_checkpoint
  parser = argparse.ArgumentParser()
  parser.add_argument('--to', required=True)
  to = pathlib.Path(parser.parse_args().to)
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root, 'base')
    model, params = random_models.build(FAMILY)
    hub_checkpoint.save(folder, params, model)
    numbers = measure(folder)
  to.write_text(json.dumps(
      {'machine': f'{platform.machine()}, one core', **numbers}, indent=1)
      + '\n')


if __name__ == '__main__':
  main()
