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
"""

import dataclasses


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
    'grpo': Method(False, ()),
    'grpo_replay': Method(True, ()),
    'grpo_both': Method(False, ('bcq', 'ncq')),
    'grpo_replay_bcq': Method(True, ('bcq',)),
    'grpo_replay_ncq': Method(True, ('ncq',)),
    'zppo': Method(True, ('bcq', 'ncq')),
    'placebo': Method(True, ('placebo_bcq', 'ncq')),
}


def get(name: str) -> Method:
  """A row of the table; the KeyError for another name lists the known ones."""
  if name not in METHODS:
    raise KeyError(f'unknown method {name!r}; known: {", ".join(METHODS)}')
  return METHODS[name]
