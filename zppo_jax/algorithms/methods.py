"""The table of methods: each method is a row, not a branch in the code.

| name | paper | buffer | reformulations |
|---|---|---|---|
| grpo | GRPO | no | - |
| grpo_replay | GRPO + replay (dagger) | yes | - |
| grpo_both | GRPO + Both | no | BCQ, NCQ |
| grpo_replay_bcq | GRPO + replay + BCQ | yes | BCQ |
| grpo_replay_ncq | GRPO + replay + NCQ | yes | NCQ |
| zppo | ZPPO | yes | BCQ, NCQ |
| placebo | our control | yes | BCQ of two wrong candidates, NCQ |
| prefix | GRPO + replay + Prefix | yes | Prefix |
"""

import dataclasses

from zppo_jax import allowed
from zppo_jax.algorithms.targets import MakeTargets, group_advantages
from zppo_jax.objectives import losses


@dataclasses.dataclass(frozen=True)
class Method:
  """What a method adds to the loop.

  Attributes:
    replay: whether a buffer holds hard questions, which later steps ask again.
    reformulations: keys of reformulate.REFORMULATIONS, in the order of slots.
    loss: makes the loss from a config's section `algorithm`, so that a row
      brings its own constants.
    targets: what the loss reads of each token of a mini-batch.
    old_logps: whether the loss reads the target 'old_logp'. The trainer then
      scores a step's rollouts before the first of several updates; with one
      update it takes the update's own log-probs.
    teacher_scores: whether `targets` asks the teacher for log-probs of given
      tokens.
  """
  replay: bool
  reformulations: tuple[str, ...]
  loss: losses.MakeLoss = losses.make_clipped_surrogate
  targets: MakeTargets = group_advantages
  old_logps: bool = True
  teacher_scores: bool = False

  @property
  def teacher(self) -> bool:
    """Whether a teacher is asked for anything."""
    return bool(self.reformulations) or self.teacher_scores


METHODS = {
    'grpo': Method(replay=False, reformulations=()),
    'grpo_replay': Method(replay=True, reformulations=()),
    'grpo_both': Method(replay=False, reformulations=('bcq', 'ncq')),
    'grpo_replay_bcq': Method(replay=True, reformulations=('bcq',)),
    'grpo_replay_ncq': Method(replay=True, reformulations=('ncq',)),
    'zppo': Method(replay=True, reformulations=('bcq', 'ncq')),
    'placebo': Method(replay=True, reformulations=('placebo_bcq', 'ncq')),
    'prefix': Method(replay=True, reformulations=('prefix',)),
}


def get(name: str) -> Method:
  """A row of the table; the KeyError for another name lists the known ones."""
  return allowed.known('method', name, METHODS)
