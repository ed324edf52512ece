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


@dataclasses.dataclass(frozen=True)
class Method:
  """What a method adds to the loop.

  Attributes:
    replay: whether hard questions are buffered and asked again.
    reformulations: keys of reformulate.REFORMULATIONS, in the order of slots.
    objective: a key of losses.OBJECTIVES.
  """
  replay: bool
  reformulations: tuple[str, ...]
  objective: str = 'clipped_surrogate'


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
