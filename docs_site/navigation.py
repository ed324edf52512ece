"""The navigation of the site, and links between its pages."""

import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from docs_site import method_pages, reference

OTHERS = 'More'  # pages of docs/ that mkdocs.yml does not name
_FENCE = re.compile(r'(^```.*?^```[^\n]*$)', re.MULTILINE | re.DOTALL)
_PAGE = re.compile(
    r'(?<![\w/`\[])(?<!\]\()(`?)docs/([a-z0-9_]+\.md)\1(?![\w`\]])')


def listed(nav: Iterable[Any]) -> Iterator[str]:
  """The pages of a navigation, at any depth."""
  for item in nav:
    if isinstance(item, str):
      yield item
    else:
      for value in item.values():
        yield from [value] if isinstance(value, str) else listed(value)


def complete(nav: list, docs: pathlib.Path, notebooks: Iterable[str]) -> None:
  """Adds the generated pages to the navigation of mkdocs.yml, and at its end
  those of docs/ that it does not name.

  Args:
    nav: what mkdocs.yml says; it is changed.
    docs: the folder of the pages.
    notebooks: their names, without the ending.
  """
  by_title = {title: items for item in nav for title, items in item.items()}
  named = set(listed(nav))
  by_title['Methods'][1:1] = [
      {part.title: [f'methods/{name}.md' for name in part.names]}
      for part in method_pages.parts()]
  by_title['Notebooks'] += [f'notebooks/{name}.md' for name in notebooks]
  by_title['Reference'] += list(reference.pages())
  rest = sorted(p.name for p in docs.glob('*.md') if p.name not in named)
  if rest:
    nav.append({OTHERS: rest})


def linked(markdown: str, depth: int) -> str:
  """A page in which docs/NAME.md is a link, outside of code blocks.

  Args:
    markdown: the page.
    depth: how many folders below docs/ it lies.
  """
  up = '../' * depth
  link = lambda m: f'[{m[1]}{m[2].removesuffix(".md")}{m[1]}]({up}{m[2]})'
  return ''.join(part if part.startswith('```') else _PAGE.sub(link, part)
                 for part in _FENCE.split(markdown))
