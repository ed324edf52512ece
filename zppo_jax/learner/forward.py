"""From a micro-batch to what a loss reads of the policy and frozen models."""

import functools

import jax
import jax.numpy as jnp

from zppo_jax.arrays import (
  Cache,
  Hidden,
  LessonRows,
  MicroBatch,
  OwnPrompts,
  PolicyOutput,
  PromptBatch,
)
from zppo_jax.devices import sharding
from zppo_jax.models import cache, layers
from zppo_jax.objectives import token_logps as logprobs


def _own_hidden(params, batch: MicroBatch, model):
  """[B, T, D] if rows hold their own prompts: t predicts token t + 1."""
  return model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      media=batch.prompts.media, compact=True)[0]


def _continued_hidden(params, batch: MicroBatch, model):
  """[B, T + 1, D] behind shared prompts: t predicts token t.

  The numbers and their gradient are those of rows with their own prompts
  (Prefix Grouper, arXiv 2506.05433).
  """
  hold = functools.partial(sharding.pin_rows, mesh=model.mesh)
  last_PD, slots, state = cache.prefill(model, params, batch.prompts)
  B = batch.tokens_BT.shape[0]
  rows = B // batch.prompts.tokens_PT.shape[0]
  # A copy of params by block has a recurrent state by block (arrays.NewKV).
  axis = 0 if isinstance(slots.k_LCKHS, tuple) else 1
  state = hold(jax.tree.map(
      lambda s: jnp.repeat(s, rows, axis=axis), hold(state, axis=axis)),
               axis=axis)
  hidden_BTD, _ = model.apply(
      params, batch.tokens_BT, batch.positions_BTA, batch.segment_BT,
      Cache((slots,), state), compact=True)
  # The last hidden state of a prompt predicts the first token of its responses.
  first_BD = hold(jnp.repeat(hold(last_PD), rows, axis=0))
  return jnp.concatenate([first_BD[:, None], hidden_BTD], axis=1)


def _own_prompts(params, batch: MicroBatch, model, of_tokens):
  """`policy_output` if rows hold their own prompts."""
  hidden_BTD = _own_hidden(params, batch, model)
  segment_BT, head_DV = batch.segment_BT, model.head(params)
  follows_BT = jnp.pad(segment_BT[:, 1:] == segment_BT[:, :-1],
                       ((0, 0), (1, 0)))
  logp_BT, entropy_BT = of_tokens(
      hidden_BTD, head_DV, batch.tokens_BT, follows_BT & (batch.mask_BT > 0))
  return PolicyOutput(
      logp_BT=logp_BT, entropy_BT=entropy_BT, head_DV=head_DV,
      hidden_BTD=_of_own(hidden_BTD), mesh=model.mesh)


def _of_own(hidden_BTD):
  """The results of `_own_hidden` at the tokens that they predict."""
  return jnp.pad(hidden_BTD[:, :-1], ((0, 0), (1, 0), (0, 0)))


def _behind_prompts(params, batch: MicroBatch, model, of_tokens):
  """`policy_output` if prompts are run once for the rows that share them."""
  hidden_BTD = _continued_hidden(params, batch, model)
  head_DV = model.head(params)
  more = lambda x_BT: jnp.pad(x_BT, ((0, 0), (1, 0)))
  logp_BT, entropy_BT = of_tokens(
      hidden_BTD, head_DV, more(batch.tokens_BT), more(batch.mask_BT) > 0)
  return PolicyOutput(
      logp_BT=logp_BT[:, 1:], entropy_BT=entropy_BT[:, 1:],
      hidden_BTD=hidden_BTD[:, :-1], head_DV=head_DV, mesh=model.mesh)


_FORWARD = {OwnPrompts: _own_prompts, PromptBatch: _behind_prompts}
_HIDDEN = {
    OwnPrompts: lambda *run: _of_own(_own_hidden(*run)),
    PromptBatch: lambda *run: _continued_hidden(*run)[:, :-1],
}


def policy_output(params, batch: MicroBatch, *, model, temperature,
                  chunk, vocab: int | None = None) -> PolicyOutput:
  """What a loss reads of the policy on a micro-batch.

  Args:
    params: the policy.
    batch: sequences in either layout of prompts.
    model: the policy's `Model`.
    temperature: logits are divided by it before log-probs and entropies.
    chunk: positions whose logits exist at a time.
    vocab: the true vocabulary of log-probs and entropies, in ids; None: all
      columns of the head, as of the sampler's log-probs.

  Returns:
    A PolicyOutput. Its log-probs and entropies are 0 wherever the mask is 0.
    They are also 0 on a token that begins a row's sequence with its own prompt,
    whatever the mask says, because the token before it belongs to another
    sequence.
  """
  return _FORWARD[type(batch.prompts)](
      params, batch, model, functools.partial(
          logprobs.token_logps, temperature=temperature, chunk=chunk,
          vocab=vocab, mesh=model.mesh))


def _lesson_hidden(params, batch: MicroBatch, model):
  """[B, T, D] of the response tokens behind the prompts of their lessons."""
  lessons = batch.lessons
  if isinstance(lessons, LessonRows):
    hidden_BTD, _ = model.apply(
        params, lessons.tokens_BT, lessons.positions_BTA, lessons.segment_BT,
        media=lessons.media)
    return layers.take(_of_own(hidden_BTD), lessons.column_BT, model.mesh)
  B, T = batch.tokens_BT.shape
  first_B = jnp.repeat(lessons.next_P, B // lessons.next_P.shape[0])
  positions_BT = first_B[:, None] + jnp.arange(T)[None]
  behind = batch.replace(prompts=lessons, positions_BTA=jnp.broadcast_to(
      positions_BT[..., None], batch.positions_BTA.shape).astype(jnp.int32))
  return _continued_hidden(params, behind, model)[:, :-1]


def frozen_output(params, batch: MicroBatch, *, model,
                  lessons: bool = False) -> Hidden:
  """The last step of a model that is not trained, on the policy's tokens.

  Args:
    params: its params, stacked or a rollout copy.
    batch: sequences in either layout of prompts.
    model: its `Model`, whose width may be another than the policy's.
    lessons: whether it reads `batch.lessons` where there are some.

  Returns:
    A Hidden without a gradient.
  """
  params = jax.lax.stop_gradient(params)
  hidden = (_lesson_hidden if lessons and batch.lessons is not None
            else _HIDDEN[type(batch.prompts)])
  hidden_BTD = hidden(params, batch, model)
  return jax.lax.stop_gradient(Hidden(
      hidden_BTD=hidden_BTD, mesh=model.mesh,
      head_DV=layers.weight(model.head(params), hidden_BTD)))


def token_logps(params, batch: MicroBatch, *, model, temperature, chunk,
                vocab: int | None = None):
  """(logp_BT, entropy_BT) of `policy_output`, nats."""
  output = policy_output(params, batch, model=model, temperature=temperature,
                         chunk=chunk, vocab=vocab)
  return output.logp_BT, output.entropy_BT
