"""The families of the hub: how their config.json and tensors become ours.

A row of FAMILIES holds a family of models/ and the description of its hub form.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from zppo_jax import models
from zppo_jax.models.decoder import DecoderConfig
from zppo_jax.models.qwen3_vl import Qwen3VLConfig
from zppo_jax.weights import hub_qwen3_5, hub_rope, hub_text, hub_vision

_VL_THETA = 500000.0  # the default of Qwen3-VL's class


class Family(NamedTuple):
  """A row of FAMILIES.

  Attributes:
    network: the row of models.FAMILIES.
    from_hub: config.json as a dict -> config.
    to_hub: config -> config.json as a dict.
    hub_leaves: config -> tuple of HubLeaf, one per parameter leaf.
    skipped: prefixes of hub tensors that this family leaves out by name.
  """
  network: models.Family
  from_hub: Callable
  to_hub: Callable
  hub_leaves: Callable
  skipped: tuple[str, ...] = ()

  def build(self, config, mesh=None) -> models.Model:
    """The network of a config."""
    return self.network.build(config, mesh)


def _llama_from_hub(hub: dict) -> DecoderConfig:
  """Llama 2 and 3 (and SmolLM2) have no q/k-norm. Errors as
  `hub_text.from_hub`."""
  width, heads = (hub_text.field(hub, name)
                  for name in ('hidden_size', 'num_attention_heads'))
  return hub_text.from_hub(hub, head_dim=width // heads, qk_norm=False)


def _llama_to_hub(config: DecoderConfig) -> dict:
  """config.json; ValueError for q/k-norm, which Llama has no tensors for."""
  if config.qk_norm:
    raise ValueError('qk_norm is True; the llama family has none')
  return {**hub_text.to_hub(config, 'llama', 'LlamaForCausalLM'),
          'mlp_bias': False}


def _qwen3_from_hub(hub: dict) -> DecoderConfig:
  """Qwen3 (dense, text) has RMSNorm on queries and keys. Errors as
  `hub_text.from_hub`, and ValueError where a layer has a sliding window."""
  hub_text.only(hub, 'use_sliding_window', False, None)
  for kind in hub.get('layer_types') or ():
    if kind != 'full_attention':
      raise ValueError(f"config.json: layer_types holds {kind!r}; allowed: "
                       "'full_attention'")
  return hub_text.from_hub(hub, head_dim=128, qk_norm=True)


def _qwen3_to_hub(config: DecoderConfig) -> dict:
  """config.json; ValueError for a decoder without q/k-norm."""
  if not config.qk_norm:
    raise ValueError('qk_norm is False; the qwen3 family has it')
  return {**hub_text.to_hub(config, 'qwen3', 'Qwen3ForCausalLM'),
          'use_sliding_window': False}


def _vl_text(text: dict):
  """(decoder without axes, what is said of them) of a text_config."""
  turned = hub_rope.from_hub(text, default=_VL_THETA,
                             other=hub_rope.MROPE)
  hub_text.only(turned.other, 'mrope_interleaved', True)
  return hub_text.from_hub(
      text, head_dim=128, qk_norm=True, turned=turned), turned.other


def _vl_text_from_hub(hub: dict) -> DecoderConfig:
  """The config of a `qwen3_vl_text` config.json: text alone, whose positions
  are the same on all axes. Errors as those of the whole."""
  return _vl_text(hub)[0]


def _vl_text_to_hub(c: DecoderConfig) -> dict:
  """config.json of the text model alone; ValueError without q/k-norm."""
  if not c.qk_norm:
    raise ValueError('qk_norm is False; the qwen3_vl_text family has it')
  if c.rope_llama3:
    raise ValueError(f'rope_llama3 is {c.rope_llama3}; allowed: ()')
  return hub_text.to_hub(c, 'qwen3_vl_text', 'Qwen3VLTextModel')


def _vl_from_hub(hub: dict) -> Qwen3VLConfig:
  """The config of a Qwen3-VL config.json.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  text = {**hub_text.field(hub, 'text_config'),
          'tie_word_embeddings': hub.get('tie_word_embeddings', False)}
  plain, axes = _vl_text(text)
  return Qwen3VLConfig(
      **dataclasses.asdict(plain),
      rope_sections=tuple(axes.get('mrope_section', (24, 20, 20))),
      vision=hub_vision.from_hub(hub))


def _vl_to_hub(c: Qwen3VLConfig) -> dict:
  """config.json; ValueError for a decoder without q/k-norm."""
  if not c.qk_norm:
    raise ValueError('qk_norm is False; the qwen3_vl family has it')
  text = hub_text.to_hub(c, 'qwen3_vl_text', 'Qwen3VLForConditionalGeneration')
  architectures = text.pop('architectures')
  text['rope_parameters'] |= {
      'mrope_section': list(c.rope_sections), 'mrope_interleaved': True}
  tower = hub_vision.to_hub(c.vision, 'qwen3_vl')
  # If the list is absent, it has a default of its own.
  tower['vision_config']['deepstack_visual_indexes'] = list(c.vision.taps)
  return {'model_type': 'qwen3_vl', 'architectures': architectures,
          'text_config': text, **tower, 'tie_word_embeddings': c.tied}


def _vl_leaves(c: Qwen3VLConfig):
  """The leaves of all parameters."""
  inner = lambda name: name.replace('model.', 'model.language_model.', 1) if (
      name.startswith('model.')) else name
  text = tuple(
      dataclasses.replace(leaf, names=tuple(map(inner, leaf.names)))
      for leaf in hub_text.hub_leaves(c))
  return (*text, *hub_vision.hub_leaves(c.vision))


# A family is named by the hub's model_type.
FAMILIES = {
    'llama': Family(models.FAMILIES['llama'], _llama_from_hub, _llama_to_hub,
                    hub_text.hub_leaves),
    'qwen3': Family(models.FAMILIES['qwen3'], _qwen3_from_hub, _qwen3_to_hub,
                    hub_text.hub_leaves),
    'qwen3_vl': Family(models.FAMILIES['qwen3_vl'], _vl_from_hub, _vl_to_hub,
                       _vl_leaves),
    'qwen3_vl_text': Family(
        models.FAMILIES['qwen3_vl_text'], _vl_text_from_hub, _vl_text_to_hub,
        hub_text.hub_leaves, ('model.visual.',)),
    'qwen3_5': Family(
        models.FAMILIES['qwen3_5'], hub_qwen3_5.from_hub, hub_qwen3_5.to_hub,
        hub_qwen3_5.hub_leaves, hub_qwen3_5.SKIPPED),
    'qwen3_5_text': Family(
        models.FAMILIES['qwen3_5_text'], hub_qwen3_5.text_from_hub,
        hub_qwen3_5.text_to_hub, hub_qwen3_5.text_leaves,
        hub_qwen3_5.TEXT_SKIPPED),
}
