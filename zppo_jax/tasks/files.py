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
from zppo_jax.records import Question


def pool(sources, filters: Mapping[str, Any] | None = None,
         store: str = '', media_roots: Sequence[str] = (),
         max_bytes: int = readers.MOST_BYTES) -> pools.Pool:
  """The pool of data.pool, with a line a source on the screen.

  Args:
    sources: name -> fields of data.pool.Spec.
    filters: name -> value, over all sources.
    store: a folder for images that come as bytes; '' keeps them in memory.
    media_roots: folders outside of the data's own that images may lie in.
    max_bytes: that a line, a row group or a record may unpack to.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  found = pools.open_pool(
      sources, dict(filters or {}), store,
      pools.Bounds(pools.roots(media_roots, 'data.pool'), max_bytes))
  found.tracks = True  # what is read for `fit` is read once
  print(found.account(), flush=True)
  return found


def evaluation(split: str, size: int) -> Sequence[Question]:
  """Refuses: splits of files are named in config.eval.sources."""
  del size
  raise KeyError(f'unknown split {split!r}; splits of files are the keys of '
                 'eval.sources')


def split(name: str, fields, size: int,
          bounds: pools.Bounds | None = None) -> Sequence[Question]:
  """The first `size` questions of a source, as an evaluation split.

  Args:
    name: of the split.
    fields: of data.pool.Spec.
    size: questions at most.
    bounds: of data.pool; None takes the defaults.

  Raises:
    KeyError, ValueError, FileNotFoundError: naming what does not fit.
  """
  found = pools.open_pool({name: {**fields, 'split': name}}, {}, bounds=bounds)
  return found[:size]
