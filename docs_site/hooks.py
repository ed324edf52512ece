"""Hooks of mkdocs (mkdocs.yml): generated pages, and links between pages.

  docs/NAME.md in a text becomes a link, as it is one for a reader of the
  repository; a page that does not exist stops a strict build.

Notebooks come from the folder that ZPPO_NOTEBOOKS names, where `python
notebooks/run.py --to=FOLDER` put them with their outputs; without it the pages
have the cells alone and say so.
"""

import os
import pathlib
import re
import sys

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs_site import method_pages, reference  # noqa: E402

FOLDER = 'ZPPO_NOTEBOOKS'
_FENCE = re.compile(r'(^```.*?^```[^\n]*$)', re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r'(?<![\w/`\[(])(`?)docs/([a-z0-9_]+\.md)\1(?![\w`\])])')


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
  by_title = {title: items for item in config['nav']
              for title, items in item.items()}
  by_title['Methods'][1:1] = [
      {part.title: [f'methods/{name}.md' for name in part.names]}
      for part in method_pages.parts()]
  by_title['Notebooks'] += [f'notebooks/{p.stem}.md' for p in _executed()]
  by_title['Reference'] += list(reference.pages())
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
  """Makes links of the names of pages, outside of code blocks."""
  depth = page.file.src_uri.count('/')
  up = '../' * depth
  parts = _FENCE.split(markdown)
  link = lambda m: f'[{m[1]}{m[2].removesuffix(".md")}{m[1]}]({up}{m[2]})'
  return ''.join(part if part.startswith('```') else _PAGE.sub(link, part)
                 for part in parts)
