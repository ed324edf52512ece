"""zppo report: runs as one HTML page that opens anywhere."""

import pathlib
from collections.abc import Sequence

from zppo_jax import allowed


def main(paths: Sequence[str], to: str | None = None,
         max_samples: int = 300) -> pathlib.Path:
  """Reads workdirs and writes the page.

  Args:
    paths: workdirs of `zppo train`, finished or not.
    to: the HTML file; None: WORKDIR/report.html of a single run.
    max_samples: the most recorded questions on the page.

  Returns:
    The path of the page.

  Raises:
    ValueError: for several runs without `to`, or a damaged file.
    FileNotFoundError: for a folder that is no workdir.
  """
  from zppo_jax.report import page, reading
  allowed.number('samples', max_samples, '>= 0', whole=True)
  if to is None and len(paths) > 1:
    raise ValueError('several runs need --to=FILE.html')
  runs = reading.read_all(paths, max_samples)
  out = pathlib.Path(to) if to else pathlib.Path(paths[0]) / 'report.html'
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(page.render(runs), encoding='utf-8')
  return out
