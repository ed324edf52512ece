"""From a micro-batch to what a loss reads of the policy."""

import functools

import jax
import jax.numpy as jnp

from zppo_jax.arrays import (
  Cache,
  MicroBatch,
  OwnPrompts,
  PolicyOutput,
  PromptBatch,
)
from zppo_jax.models import cache
from zppo_jax.objectives import token_logps as logprobs


def _own_prompts(params, batch: MicroBatch, model, of_tokens):
  """`policy_output` if rows hold their own prompts."""
  hidden_BTD, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      media=batch.prompts.media)
  segment_BT, head_DV = batch.segment_BT, model.head(params)
  follows_BT = jnp.pad(segment_BT[:, 1:] == segment_BT[:, :-1],
                       ((0, 0), (1, 0)))
  logp_BT, entropy_BT = of_tokens(
      hidden_BTD, head_DV, batch.tokens_BT, follows_BT & (batch.mask_BT > 0))
  return PolicyOutput(
      logp_BT=logp_BT, entropy_BT=entropy_BT, head_DV=head_DV,
      hidden_BTD=jnp.pad(hidden_BTD[:, :-1], ((0, 0), (1, 0), (0, 0))))


def _behind_prompts(params, batch: MicroBatch, model, of_tokens):
  """`policy_output` if prompts are run once for the rows that share them.

  The numbers and their gradient are the same (Prefix Grouper, arXiv
  2506.05433).
  """
  last_PD, slots, state = cache.prefill(model, params, batch.prompts)
  B = batch.tokens_BT.shape[0]
  rows = B // batch.prompts.tokens_PT.shape[0]
  state = jax.tree.map(lambda s: jnp.repeat(s, rows, axis=1), state)
  hidden_BTD, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      Cache((slots,), state))
  # The last hidden state of a prompt predicts the first token of its responses.
  first_BD = jnp.repeat(last_PD, rows, axis=0)
  hidden_BTD = jnp.concatenate([first_BD[:, None], hidden_BTD], axis=1)
  head_DV = model.head(params)
  more = lambda x_BT: jnp.pad(x_BT, ((0, 0), (1, 0)))
  logp_BT, entropy_BT = of_tokens(
      hidden_BTD, head_DV, more(batch.tokens_BT), more(batch.mask_BT) > 0)
  return PolicyOutput(
      logp_BT=logp_BT[:, 1:], entropy_BT=entropy_BT[:, 1:],
      hidden_BTD=hidden_BTD[:, :-1], head_DV=head_DV)


_FORWARD = {OwnPrompts: _own_prompts, PromptBatch: _behind_prompts}


def policy_output(params, batch: MicroBatch, *, model, temperature,
                  chunk) -> PolicyOutput:
  """What a loss reads of the policy on a micro-batch.

  Args:
    params: the policy.
    batch: sequences in either layout of prompts.
    model: the policy's `Model`.
    temperature: logits are divided by it before log-probs and entropies.
    chunk: positions whose logits exist at a time.

  Returns:
    A PolicyOutput. Its log-probs and entropies are 0 wherever the mask is 0.
    They are also 0 on a token that begins a row's sequence with its own prompt,
    whatever the mask says, because the token before it belongs to another
    sequence.
  """
  return _FORWARD[type(batch.prompts)](
      params, batch, model, functools.partial(
          logprobs.token_logps, temperature=temperature, chunk=chunk))


def token_logps(params, batch: MicroBatch, *, model, temperature, chunk):
  """(logp_BT, entropy_BT) of `policy_output`, nats."""
  output = policy_output(params, batch, model=model, temperature=temperature,
                         chunk=chunk)
  return output.logp_BT, output.entropy_BT
