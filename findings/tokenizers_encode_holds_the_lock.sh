#!/usr/bin/env bash
# One would guess: Tokenizer.encode(text) and encode_batch([text]) do the same
#   Rust work, so both let other Python threads run meanwhile, or neither
#   does.
# What happens: encode keeps the interpreter lock for its whole call,
#   encode_batch releases it. A second thread that wants to tick each
#   millisecond gets a few turns in more than a second of encode, and hundreds
#   during encode_batch.
# Versions: tokenizers 0.23.3, a CPython with the interpreter lock.
# Why it matters: a server that moves the tokenizing of a long prompt to a
#   thread to keep its event loop free gains nothing with encode: all clients
#   wait.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'tokenizers==0.23.3'
"$work/venv/bin/python" - <<'PY'
import threading
import time
import tokenizers

print("tokenizers", tokenizers.__version__)
words = tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?")
tokenizer = tokenizers.Tokenizer(words)
tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
text = "a b c " * 300000


def ticks_per_second(call):
  ticks, done = [], threading.Event()

  def tick():
    while not done.is_set():
      ticks.append(time.perf_counter())
      time.sleep(0.001)

  thread = threading.Thread(target=tick)
  thread.start()
  time.sleep(0.1)
  start = time.perf_counter()
  call()
  end = time.perf_counter()
  done.set()
  thread.join()
  within = sum(start < at < end for at in ticks)
  print(f"{within} ticks in {end - start:.2f} s")
  return within / (end - start)


one = ticks_per_second(lambda: tokenizer.encode(text))
batch = ticks_per_second(lambda: tokenizer.encode_batch([text]))
same = tokenizer.encode("a b").ids == tokenizer.encode_batch(["a b"])[0].ids
print(f"encode {one:.0f} ticks a second, encode_batch {batch:.0f}")
seen = {"same ids": same, "ten times as many": batch > 10 * one}
expected = {"same ids": True, "ten times as many": True}
assert seen == expected, seen
PY
