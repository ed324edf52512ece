"""Qwen3 (dense, text) as the decoder: RMSNorm on queries and keys."""

from zppo_jax.models.decoder import DecoderConfig
from zppo_jax.weights import hub_text

hub_leaves = hub_text.hub_leaves


def from_hub(hub: dict) -> DecoderConfig:
  """The config of a Qwen3 config.json; errors as `hub_text.from_hub`, and
  ValueError where a layer has a sliding window."""
  hub_text.only(hub, 'use_sliding_window', False, None)
  for kind in hub.get('layer_types') or ():
    if kind != 'full_attention':
      raise ValueError(f"config.json: layer_types holds {kind!r}; allowed: "
                       "'full_attention'")
  return hub_text.from_hub(hub, head_dim=128, qk_norm=True)


def to_hub(config: DecoderConfig) -> dict:
  """config.json; ValueError for a decoder without q/k-norm."""
  if not config.qk_norm:
    raise ValueError('qk_norm is False; the qwen3 family has it')
  return {**hub_text.to_hub(config, 'qwen3', 'Qwen3ForCausalLM'),
          'use_sliding_window': False}
