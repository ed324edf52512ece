"""Writes the folder that all tools read: weights, tokenizer.

  python -m benchmarks.side_by_side.make_work DIR
"""

import json
import pathlib
import sys

from benchmarks import random_models
from benchmarks.side_by_side import work
from zppo_jax import models
from zppo_jax.weights import hub_checkpoint

MODEL, TOKENIZER = 'model', 'tokenizer'  # folders: ours reads only the first


def write_tokenizer(to: pathlib.Path) -> None:
  """A tokenizer of one word an id, its end outside the embedding."""
  to.mkdir(parents=True)
  vocab = {work.word(i): i for i in range(work.END_ID)}
  vocab['<end>'] = work.END_ID
  (to / 'tokenizer.json').write_text(json.dumps({
      'version': '1.0', 'truncation': None, 'padding': None,
      'added_tokens': [{
          'id': work.END_ID, 'content': '<end>', 'single_word': False,
          'lstrip': False, 'rstrip': False, 'normalized': False,
          'special': True}],
      'normalizer': None, 'pre_tokenizer': {'type': 'WhitespaceSplit'},
      'post_processor': None, 'decoder': None,
      'model': {'type': 'WordLevel', 'vocab': vocab, 'unk_token': '<end>'}}))
  (to / 'tokenizer_config.json').write_text(json.dumps({
      'tokenizer_class': 'PreTrainedTokenizerFast', 'eos_token': '<end>',
      'pad_token': '<end>', 'padding_side': 'left', 'model_max_length': 4096}))


def main(to) -> None:
  to = pathlib.Path(to)
  to.mkdir(parents=True, exist_ok=True)
  if not (to / MODEL).exists():
    model = models.build('qwen3', **work.SHAPE)
    hub_checkpoint.save(to / MODEL, random_models.draw(model, 0), model)
  if not (to / TOKENIZER).exists():
    write_tokenizer(to / TOKENIZER)


if __name__ == '__main__':
  main(sys.argv[1])
