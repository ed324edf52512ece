"""zppo report: runs, or a study, as one HTML page that opens anywhere."""

import pathlib
from collections.abc import Sequence

from zppo_jax import allowed


def main(paths: Sequence[str], to: str | None = None,
         max_samples: int = 300) -> pathlib.Path:
  """Reads workdirs and writes the page.

  Args:
    paths: workdirs of `zppo train`, finished or not; or one folder (or its
      results.json) of `zppo study`.
    to: the HTML file; None: report.html in the folder of a single run or study.
    max_samples: the most recorded questions on the page.

  Returns:
    The path of the page.

  Raises:
    ValueError: for several runs without `to`, or a damaged file.
    FileNotFoundError: for a folder that is no workdir.
  """
  from zppo_jax.report import page, reading, study_page
  allowed.number('samples', max_samples, '>= 0', whole=True)
  if to is None and len(paths) > 1:
    raise ValueError('several runs need --to=FILE.html')
  studies = [p for p in paths if study_page.is_study(p)]
  if studies and len(paths) > 1:
    raise ValueError(f'{studies[0]} is a study, which has a page of its own; '
                     'give it alone')
  text = (study_page.render(study_page.read(paths[0])) if studies else
          page.render(reading.read_all(paths, max_samples)))
  first = pathlib.Path(paths[0])
  folder = first if first.is_dir() else first.parent
  out = pathlib.Path(to) if to else folder / 'report.html'
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(text, encoding='utf-8')
  return out
