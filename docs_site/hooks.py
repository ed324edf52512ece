"""Hooks of mkdocs (mkdocs.yml): generated pages, and links between pages.

  docs/NAME.md in a text becomes a link, as it is one for a reader of the
  repository; a page that does not exist stops a strict build.

Notebooks come from the folder that ZPPO_NOTEBOOKS names, where `python
notebooks/run.py --to=FOLDER` put them with their outputs; without it the pages
have the cells alone and say so.
"""

import os
import pathlib
import sys

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs_site import method_pages, navigation, reference  # noqa: E402

FOLDER = 'ZPPO_NOTEBOOKS'


def _notebook(path: pathlib.Path) -> tuple[str, dict[str, bytes]]:
  """Markdown of a notebook, and its pictures by name."""
  notebook = nbformat.read(path, as_version=4)
  executed = any(cell.get('outputs') for cell in notebook.cells)
  body, resources = MarkdownExporter().from_notebook_node(
      notebook, {'output_files_dir': f'{path.stem}_files'})
  note = '' if executed else (
      '\n!!! note\n    The cells were not executed for this build, so there '
      f'are no outputs here. Open `notebooks/{path.name}` to run them.\n')
  head, _, rest = body.partition('\n')
  return f'{head}\n{note}\n{rest}', resources['outputs']


def _executed() -> list[pathlib.Path]:
  """The notebooks, with outputs where FOLDER names the folder of a run."""
  named = os.environ.get(FOLDER, '')
  folder = pathlib.Path(named) if named else ROOT / 'notebooks'
  found = sorted(folder.glob('*.ipynb'))
  if not found:
    raise ValueError(f'{FOLDER} is {named!r}, which has no notebook')
  return found


def on_config(config):
  """Adds the generated pages to the navigation."""
  navigation.complete(config['nav'], pathlib.Path(config['docs_dir']),
                      [p.stem for p in _executed()])
  return config


def on_files(files: Files, config) -> Files:
  """Adds the generated pages."""
  docs = pathlib.Path(config['docs_dir'])
  add = lambda path, content: files.append(
      File.generated(config, path, content=content))
  add('methods/index.md', method_pages.index(docs))
  for path, text in method_pages.pages(docs).items():
    add(path, text)
  for path, text in reference.pages().items():
    add(path, text)
  for path in _executed():
    text, pictures = _notebook(path)
    add(f'notebooks/{path.stem}.md', text)
    for name, content in pictures.items():
      add(f'notebooks/{name}', content)
  return files


def on_page_markdown(markdown: str, page, config, files) -> str:
  """Makes links of the names of pages."""
  return navigation.linked(markdown, page.file.src_uri.count('/'))
