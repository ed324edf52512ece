"""What a loss reads of the policy: log-probs, states and head fit together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.learner.test_second_model import LAYOUT, recorded
from zppo_jax.learner import forward, layouts
from zppo_jax.objectives import token_logps

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.mark.parametrize('kind', layouts.LAYOUTS)
def test_a_hidden_state_lies_with_the_token_that_it_predicts(tiny, kind):
  """In every layout a whole softmax of hidden_BTD and head_DV at t gives the
  log-prob and the entropy at t, for the first token of a response too."""
  model, params = tiny
  (batch,) = layouts.micro_batches(*recorded(), LAYOUT._replace(kind=kind))
  assert kind != 'packed' or batch.segment_BT.max() > 1
  output = jax.jit(functools.partial(
      forward.policy_output, model=model, temperature=0.9, chunk=3))(
          params, batch)
  logp_BTV = jax.nn.log_softmax(
      output.hidden_BTD @ output.head_DV / 0.9, axis=-1)
  picked_BT = jnp.take_along_axis(
      logp_BTV, batch.tokens_BT[..., None], axis=-1)[..., 0]
  entropy_BT = -jnp.sum(jnp.exp(logp_BTV) * logp_BTV, axis=-1)
  on = batch.mask_BT > 0
  assert on.sum() == (1 + 4) + (3 + 2)
  for got, want in ((output.logp_BT, picked_BT),
                    (output.entropy_BT, entropy_BT)):
    np.testing.assert_allclose(got[on], want[on], rtol=1e-5, atol=1e-6)
    assert not np.any(got[~on])


def test_what_a_loss_does_not_read_costs_nothing(tiny):
  """The compiled gradient of a loss of log-probs has the FLOPs and temporaries
  of log-probs computed by hand; one that reads the states too has more."""
  model, params = tiny
  (batch,) = layouts.micro_batches(*recorded(), LAYOUT)
  output = functools.partial(forward.policy_output, batch=batch, model=model,
                             temperature=0.9, chunk=3)

  def cost(loss):
    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    counted = compiled.cost_analysis()
    counted = counted[0] if isinstance(counted, list) else counted
    return counted['flops'], compiled.memory_analysis().temp_size_in_bytes

  def by_hand(params):
    hidden_BTD, _ = model.apply(params, batch.tokens_BT, batch.positions_BTA,
                                batch.segment_BT, media=None)
    segment_BT = jnp.asarray(batch.segment_BT)
    follows_BT = jnp.pad(segment_BT[:, 1:] == segment_BT[:, :-1],
                         ((0, 0), (1, 0)))
    return token_logps.token_logps(
        hidden_BTD, model.head(params), batch.tokens_BT,
        follows_BT & (batch.mask_BT > 0), temperature=0.9, chunk=3)[0].sum()

  alone = cost(lambda p: output(p).logp_BT.sum())
  more = cost(lambda p: output(p).logp_BT.sum() + (
      output(p).hidden_BTD**2).sum())
  assert alone == cost(by_hand)
  assert alone[0] < more[0]
