#!/usr/bin/env bash
# One would guess: a label of -100, with which data collators of transformers
#   mark the tokens that carry no loss, is left out by a loss on integer
#   labels, or is refused.
# What happens: optax's loss reads it as an index from the end. With 100 ids or
#   more, the marked positions train the token V - 100; with fewer, their loss
#   is NaN. There is no warning, and the value looks like a loss.
# Versions: optax 0.2.8, jax 0.10.2, transformers 5.14.0.
# Why it matters: the prompt or the padding is often the larger part of a
#   batch, and all of it then teaches one arbitrary token. `where=labels >= 0`
#   or a mask of one's own is needed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'optax==0.2.8' 'jax==0.10.2' \
  'jaxlib==0.10.2' 'transformers==5.14.0' 'tokenizers'
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers
from transformers import DataCollatorForTokenClassification
from transformers import PreTrainedTokenizerFast
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

print("optax", optax.__version__, "jax", jax.__version__, "transformers",
      transformers.__version__)
words = Tokenizer(WordLevel({"[PAD]": 0, "a": 1, "b": 2}, unk_token="[PAD]"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")
rows = [{"input_ids": [1, 2, 1], "labels": [1, 2, 1]},
        {"input_ids": [2], "labels": [2]}]
collate = DataCollatorForTokenClassification(tokenizer, return_tensors="np")
labels = jnp.asarray(collate(rows)["labels"])
print("labels of the collator:", labels.tolist())
seen = {}
for size in (50, 100, 1000, 151936):
  def loss(logits):
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, labels).sum()
  value, grad = jax.value_and_grad(loss)(jnp.zeros((*labels.shape, size)))
  pushed_up = np.argmin(np.asarray(grad[1, 2]))
  print(f"{size} ids: loss {value:.2f}, a marked position trains token "
        f"{pushed_up}")
  seen[size] = None if np.isnan(value) else int(pushed_up)
assert labels.tolist() == [[1, 2, 1], [2, -100, -100]], labels
assert seen == {50: None, 100: 0, 1000: 900, 151936: 151836}, seen
PY
