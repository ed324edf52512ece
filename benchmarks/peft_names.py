"""What the package `peft` writes for small models, and whether it reads ours.

The first command runs here, the second where peft, torch and transformers are,
the third here again:

  python -m benchmarks.peft_names --write=FOLDER
  python -m benchmarks.peft_names --read=FOLDER \\
    --to=benchmarks/results/peft_names.json
  python -m benchmarks.peft_names --load=FOLDER \\
    --to=benchmarks/results/peft_names.json

The file holds, by family, the names and shapes of the tensors and the fields of
adapter_config.json that peft writes, which tests/weights/test_peft.py compares
ours with; and the largest difference of logits between peft with our adapters
on the base and our own export of the merged weights ('peft'), and between the
base and that export ('base'). 'logits_of_ours' compares our network with
torch's: 'ours_in_peft' our adapters here and in peft, 'peft_in_ours' adapters
that peft made and wrote, 'base' the base alone in both, whose difference is
that of the two programs; 'largest' is the largest logit.
"""

import argparse
import json
import pathlib
import tempfile

RANK, ALPHA = 3, 6.0
_USUAL = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj',
          'down_proj')
# The hub's names of all modules that may have adapters.
MODULES = {'llama': _USUAL, 'qwen3': _USUAL, 'qwen3_vl': _USUAL,
           'qwen3_5': (*_USUAL, 'in_proj_qkv', 'in_proj_z', 'in_proj_a',
                       'in_proj_b', 'out_proj')}
_TOKENS = 12


def write(root: pathlib.Path) -> None:
  """Writes FAMILY_base, FAMILY_merged and FAMILY_peft of random models."""
  import jax
  import numpy as np

  from benchmarks import random_models
  from zppo_jax import models
  from zppo_jax.models import lora
  from zppo_jax.weights import hub_checkpoint, peft, safetensors_file

  root.mkdir(parents=True, exist_ok=True)
  for family in MODULES:
    model, base = random_models.build(family)
    names = tuple(n for n in lora.MATRICES if n in lora.present(base))
    section = lora.LoraConfig(rank=RANK, alpha=ALPHA, matrices=names)
    rng = np.random.default_rng(0)
    adapters = jax.tree.map(  # B off zero
        lambda x, rng=rng: np.asarray(x) if np.any(x) else (
            0.1 * rng.standard_normal(x.shape)).astype(np.float32),
        lora.init(section, base, jax.random.key(0)))
    hub_checkpoint.save(root / f'{family}_base', base, model)
    hub_checkpoint.save(root / f'{family}_merged', lora.merge_stacked(
        lora.join(base, adapters, section.scale)), model)
    file = root / f'{family}.safetensors'
    safetensors_file.save(file, adapters, {
        'model': models.describe(model), 'lora': {
            'rank': RANK, 'alpha': ALPHA, 'matrices': list(names),
            'base': {'weights': f'{family}_base', 'digest': ''}}})
    peft.save(str(root / f'{family}_peft'), str(file))


def _model(folder: pathlib.Path):
  """The hub's class of a folder."""
  import torch
  import transformers
  name = json.loads((folder / 'config.json').read_text())['architectures'][0]
  return getattr(transformers, name).from_pretrained(
      folder, dtype=torch.float32)


def _written(model, family: str) -> dict:
  """{tensor: shape} and the fields of the config that peft writes."""
  import peft
  from safetensors import safe_open
  model = peft.get_peft_model(model, peft.LoraConfig(
      r=RANK, lora_alpha=ALPHA, target_modules=list(MODULES[family]),
      task_type='CAUSAL_LM'))
  with tempfile.TemporaryDirectory() as to:
    model.save_pretrained(to)
    with safe_open(f'{to}/adapter_model.safetensors', 'numpy') as f:
      shapes = {n: list(f.get_slice(n).get_shape()) for n in f.keys()}
    config = json.loads(pathlib.Path(to, 'adapter_config.json').read_text())
  return {'tensors': shapes, 'config': sorted(config)}


def _random(model, family: str):
  """The model under adapters of peft's own, B off zero."""
  import peft
  import torch
  torch.manual_seed(1)
  model = peft.get_peft_model(model, peft.LoraConfig(
      r=RANK, lora_alpha=ALPHA, target_modules=list(MODULES[family]),
      task_type='CAUSAL_LM'))
  for name, x in model.named_parameters():
    if 'lora_B' in name:
      torch.nn.init.normal_(x, std=0.1)
  return model


def _made(root: pathlib.Path, family: str) -> None:
  """Writes FAMILY_made, adapters of peft's own, and the logits of torch."""
  import numpy as np
  import peft
  import torch
  tokens = torch.arange(3, 3 + _TOKENS)[None]
  base = lambda: _model(root / f'{family}_base')
  made = _random(base(), family)
  made.save_pretrained(root / f'{family}_made')
  ours = peft.PeftModel.from_pretrained(base(), root / f'{family}_peft')
  with torch.no_grad():
    np.savez(root / f'{family}_logits.npz', **{
        name: of(tokens).logits.numpy() for name, of in (
            ('base', base()), ('ours', ours), ('made', made))})


def load(root: pathlib.Path, family: str) -> dict[str, float]:
  """The largest differences of our logits from torch's."""
  import jax
  import numpy as np

  from zppo_jax.models import lora
  from zppo_jax.weights import peft, pretrained
  from zppo_jax.weights.peft import reading
  loaded = pretrained.load(str(root / f'{family}_base'))
  model, base = loaded.model, loaded.params
  tokens_BT = np.arange(3, 3 + _TOKENS, dtype=np.int32)[None]
  positions_BTA = np.broadcast_to(
      np.arange(_TOKENS, dtype=np.int32)[None, :, None],
      (1, _TOKENS, model.num_axes))

  def logits(params):
    hidden_BTD = jax.jit(model.apply)(
        params, tokens_BT, positions_BTA, np.ones_like(tokens_BT))[0]
    return np.asarray(hidden_BTD @ model.head(params), np.float32)

  want = np.load(root / f'{family}_logits.npz')
  section, made = reading.load(str(root / f'{family}_made'), model)
  _, ours, of, _ = peft.read(str(root / f'{family}.safetensors'))
  differs = lambda params, name: float(
      np.abs(logits(params) - want[name]).max())
  return {
      'base': differs(base, 'base'),
      'ours_in_peft': differs(lora.join(base, ours, of.scale), 'ours'),
      'peft_in_ours': differs(lora.join(base, made, section.scale), 'made'),
      'largest': float(max(np.abs(x).max() for x in want.values()))}


def _logits(root: pathlib.Path, family: str) -> dict[str, float]:
  import peft
  import torch
  tokens = torch.arange(3, 3 + _TOKENS)[None]
  of = lambda part: _model(root / f'{family}_{part}')
  with torch.no_grad():
    want, alone = (of(part)(tokens).logits for part in ('merged', 'base'))
    got = peft.PeftModel.from_pretrained(of('base'), root / f'{family}_peft')(
        tokens).logits
  return {'peft': float((got - want).abs().max()),
          'base': float((alone - want).abs().max())}


def read(root: pathlib.Path) -> dict:
  """What the file holds."""
  import peft
  import torch
  import transformers
  for family in MODULES:
    _made(root, family)
  return {
      'versions': {m.__name__: m.__version__ for m in (
          peft, torch, transformers)},
      'rank': RANK, 'families': {
          family: {**_written(_model(root / f'{family}_base'), family),
                   'logits': _logits(root, family)} for family in MODULES}}


def main() -> None:
  """Writes the folders, or reads them."""
  parser = argparse.ArgumentParser()
  for name in ('write', 'read', 'load', 'to'):
    parser.add_argument(f'--{name}', default='')
  args = parser.parse_args()
  if args.write:
    write(pathlib.Path(args.write))
  if args.read:
    pathlib.Path(args.to).write_text(
        json.dumps(read(pathlib.Path(args.read)), indent=1) + '\n')
  if args.load:
    to = pathlib.Path(args.to)
    content = json.loads(to.read_text())
    for family, of in content['families'].items():
      of['logits_of_ours'] = load(pathlib.Path(args.load), family)
    to.write_text(json.dumps(content, indent=1) + '\n')


if __name__ == '__main__':
  main()
