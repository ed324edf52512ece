#!/usr/bin/env bash
# One would guess: a run that restores an earlier checkpoint (step 5 of 10) and
#   goes on from there saves its new steps in the same directory; or the
#   manager says that it does not.
# What happens: until the step passes the newest one on disk, `save` writes
#   nothing and returns False. It raises nothing and logs no warning. The
#   checkpoint of step 10 stays that of the branch which was given up. With
#   force=True steps 6 and 7 are written, and step 10, which exists, raises.
# Versions: orbax-checkpoint 0.12.8, jax 0.10.2.
# Why it matters: after going back from a run that diverged, a killed process
#   resumes from the weights that one went back from. The value that `save`
#   returns has to be looked at, or the later steps have to be deleted first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'orbax-checkpoint==0.12.8' 'jax==0.10.2' \
  'jaxlib==0.10.2'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - "$work/run" <<'PY'
import sys
from importlib.metadata import version

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

print("orbax-checkpoint", version("orbax-checkpoint"), "jax", jax.__version__)
state = lambda value: ocp.args.StandardSave({"w": jnp.full(2, float(value))})
with ocp.CheckpointManager(sys.argv[1]) as manager:
  first = [manager.save(step, args=state(step)) for step in (0, 5, 10)]
  manager.wait_until_finished()
with ocp.CheckpointManager(sys.argv[1]) as manager:
  manager.restore(5, args=ocp.args.StandardRestore())
  second = [manager.save(step, args=state(100 + step)) for step in (6, 7, 10)]
  manager.wait_until_finished()
  kept = sorted(manager.all_steps())
  newest = manager.latest_step()
  found = manager.restore(newest, args=ocp.args.StandardRestore())["w"].tolist()
  later = manager.save(11, args=state(111))
  manager.wait_until_finished()
  forced = [manager.save(step, args=state(200 + step), force=True)
            for step in (6, 7)]
  manager.wait_until_finished()
  try:
    again = manager.save(10, args=state(210), force=True)
  except Exception as error:
    again = type(error).__name__
  after = sorted(manager.all_steps())
print("saved after 0, 5, 10:", first)
print("back at 5, saved after 6, 7, 10:", second, "on disk:", kept)
print(f"the newest, step {newest}, holds {found}")
print("saved after 11:", later)
print("with force, 6 and 7:", forced, "10:", again, "on disk:", after)
assert first == [True] * 3 and second == [False] * 3, (first, second)
assert kept == [0, 5, 10] and found == [10.0, 10.0], (kept, found)
assert later is True and forced == [True, True], (later, forced)
assert again == "StepAlreadyExistsError", again
assert after == [0, 5, 6, 7, 10, 11], after
PY
