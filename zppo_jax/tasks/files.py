r"""Questions from files of your own; answers in \boxed{} (docs/data.md).

  c.data.task = 'files'
  c.data.pool.sources.mine = dict(format='parquet', path='data/mine',
                                  columns=dict(text='question',
                                               answer='answer'), kind='math')
  c.data.pool.filters = dict(answer_characters=512, image_side=100)
  c.eval.sources.mine_test = dict(...)   # an evaluation split
"""

from collections.abc import Mapping, Sequence
from typing import Any

from zppo_jax.data import pool as pools, readers
from zppo_jax.data.sources import Bounds, roots
from zppo_jax.records import Question


def pool(sources, filters: Mapping[str, Any] | None = None,
         store: str = '', media_roots: Sequence[str] = (),
         max_bytes: int = readers.MOST_BYTES) -> pools.Pool:
  """The pool of data.pool; it prints a line per source.

  Args:
    sources: name -> fields of data.sources.Spec.
    filters: name -> value, for all sources.
    store: a folder for images that come as bytes; '' keeps them in memory.
    media_roots: folders besides the data's own in which images may lie.
    max_bytes: the most bytes that a line, a row group or a record may unpack
      to.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  questions = pools.open_pool(
      sources, dict(filters or {}), store,
      Bounds(roots(media_roots, 'data.pool'), max_bytes))
  questions.tracks = True  # rows that `fit` reads are read once
  print(questions.account(), flush=True)
  return questions


def evaluation(split: str, size: int) -> Sequence[Question]:
  """KeyError, because config.eval.sources names the splits of files."""
  del size
  raise KeyError(f'unknown split {split!r}; splits of files are the keys of '
                 'eval.sources')


def split(name: str, fields, size: int,
          bounds: Bounds | None = None) -> Sequence[Question]:
  """The first `size` questions of a source, as an evaluation split.

  Args:
    name: the name of the split.
    fields: the fields of data.sources.Spec.
    size: the most questions.
    bounds: as in data.sources; None takes the defaults.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  questions = pools.open_pool(
      {name: {**fields, 'split': name}}, {}, bounds=bounds,
      section='eval.sources')
  return questions[:size]
