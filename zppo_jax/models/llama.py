"""Llama 2 and 3 (and SmolLM2) as the decoder: no q/k-norm."""

from zppo_jax.models.decoder import DecoderConfig
from zppo_jax.weights import hub_text

hub_leaves = hub_text.hub_leaves


def from_hub(hub: dict) -> DecoderConfig:
  """The config of a Llama config.json; errors as `hub_text.from_hub`."""
  width, heads = (hub_text.field(hub, name)
                  for name in ('hidden_size', 'num_attention_heads'))
  return hub_text.from_hub(hub, head_dim=width // heads, qk_norm=False)


def to_hub(config: DecoderConfig) -> dict:
  """config.json; ValueError for q/k-norm, which Llama has no tensors for."""
  if config.qk_norm:
    raise ValueError('qk_norm is True; the llama family has none')
  return {**hub_text.to_hub(config, 'llama', 'LlamaForCausalLM'),
          'mlp_bias': False}
