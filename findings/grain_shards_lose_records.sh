#!/usr/bin/env bash
# One would guess: with drop_remainder=False, an epoch over all shards shows
#   each record once; the docstring of ShardOptions says that the remainder
#   goes to the first shards.
# What happens: each shard of grain's IndexSampler stops after num_records *
#   num_epochs // shard_count records. Of 5 records in 2 shards, one epoch
#   never shows record 2; over two epochs record 2 comes once and record 3
#   three times. Nothing is printed, while drop_remainder=True warns.
# Versions: grain 0.2.18.
# Why it matters: an evaluation that is split over hosts leaves a question
#   out, and its average differs with the number of hosts.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'grain==0.2.18'
"$work/venv/bin/python" - <<'PY'
from collections import Counter
from importlib.metadata import version
import grain.python as grain

print("grain", version("grain"))


def epochs(records, count, shards):
  shown = []
  for shard in range(shards):
    options = grain.ShardOptions(
        shard_index=shard, shard_count=shards, drop_remainder=False)
    sampler = grain.IndexSampler(
        num_records=records, shard_options=options, shuffle=False,
        num_epochs=count, seed=0)
    loader = grain.DataLoader(
        data_source=grain.RangeDataSource(0, records, 1), sampler=sampler,
        worker_count=0)
    shown.append([int(record) for record in loader])
  print(f"{records} records, {count} epochs, {shards} shards: {shown}")
  times = Counter(sum(shown, []))
  return [times[record] for record in range(records)]


seen = {(r, e, s): epochs(r, e, s)
        for r, e, s in [(5, 1, 1), (5, 1, 2), (5, 2, 2), (6, 1, 2)]}
expected = {
    (5, 1, 1): [1, 1, 1, 1, 1],
    (5, 1, 2): [1, 1, 0, 1, 1],
    (5, 2, 2): [2, 2, 1, 3, 2],
    (6, 1, 2): [1, 1, 1, 1, 1, 1],
}
assert seen == expected, seen
PY
