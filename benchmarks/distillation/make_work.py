"""Writes the folders that all tools read: student, teachers, tokenizer.

  python -m benchmarks.distillation.make_work DIR
"""

import pathlib
import sys

from benchmarks import random_models
from benchmarks.distillation import work
from benchmarks.side_by_side import make_work, work as shared
from zppo_jax import models
from zppo_jax.weights import hub_checkpoint

WIDE_VOCABULARY = {**shared.SHAPE, 'vocab_size': work.UPDATE_VOCAB,
                   'max_positions': 1024}
# folder -> (shape, seed)
FOLDERS = {
    work.TEACHER: (shared.SHAPE, 1),
    work.WIDE: (work.WIDE_SHAPE, 2),
    work.UPDATE_FOLDERS[0]: (WIDE_VOCABULARY, 3),
    work.UPDATE_FOLDERS[1]: (WIDE_VOCABULARY, 4),
}


def main(to) -> None:
  to = pathlib.Path(to)
  make_work.main(to)
  for name, (shape, seed) in FOLDERS.items():
    if not (to / name).exists():
      model = models.build('qwen3', **shape)
      hub_checkpoint.save(to / name, random_models.draw(model, seed), model)


if __name__ == '__main__':
  main(sys.argv[1])
