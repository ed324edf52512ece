"""The site of the documentation, as far as it needs no mkdocs (`.ci/run` builds
it with strict links): navigation, a page per method, links."""

import pathlib

import pytest
import yaml

from docs_site import method_pages, navigation, reference
from tests.builders import ROOT
from zppo_jax.algorithms import methods

DOCS = ROOT / 'docs'


@pytest.fixture(scope='module')
def pages():
  return method_pages.pages(DOCS)




def nav_of_the_file():
  return yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav']


def test_the_navigation_has_each_page_once():
  nav = nav_of_the_file()
  notebooks = [p.stem for p in (ROOT / 'notebooks').glob('*.ipynb')]
  navigation.complete(nav, DOCS, notebooks)
  found = list(navigation.listed(nav))
  assert len(found) == len(set(found))
  generated = {'methods/index.md',
               *(f'methods/{m}.md' for m in methods.METHODS),
               *reference.pages(), *(f'notebooks/{n}.md' for n in notebooks)}
  assert set(found) == generated | {p.name for p in DOCS.glob('*.md')}


def test_a_page_that_no_list_names_comes_last(tmp_path):
  for path in (*DOCS.glob('*.md'), pathlib.Path('brand_new.md')):
    (tmp_path / path.name).touch()
  nav = nav_of_the_file()
  navigation.complete(nav, tmp_path, [])
  assert 'brand_new.md' in nav[-1][navigation.OTHERS]


def test_every_method_has_a_page_with_what_config_and_result(pages):
  assert {pathlib.Path(p).stem for p in pages} == set(methods.METHODS)
  for path, text in pages.items():
    name = pathlib.Path(path).stem
    for head in (f'# {name}\n', '## What and when', '## Config', '## Result',
                 f'--config.method={name} '):
      assert head in text, (name, head)
    said = text.split('## Config')[0]
    assert said.count('**') >= 4, name  # at least two columns of a table
    assert ': Take' not in text and 'Take one ' in said


def test_results_are_those_of_the_committed_tables(pages):
  for method, study in (('zppo', 'headline'), ('gspo', 'distillation'),
                        ('tip', 'neighbours')):
    table = (ROOT / 'studies/results' / study / 'table.md').read_text()
    row = next(line for line in table.split('Reported seeds:')[1].splitlines()
               if line.startswith(f'| {method} |'))
    value = row.split('|')[4].strip()  # the first split
    line = next(x for x in pages[f'methods/{method}.md'].splitlines()
                if x.startswith(f'| `{study}` | {method} |'))
    assert f'| {value} |' in line


def test_equations_come_from_the_tables(pages):
  assert 'min(s A, clip(s, 1 - low, 1 + high) A)' in pages['methods/gspo.md']
  assert 'estimator of the sampled token' in pages['methods/opd_k2.md']
  assert '`distil.divergence`: default of the row | `jensen_shannon`' in pages[
      'methods/ptd_po.md']
  assert 'yes' in pages['methods/zppo.md'].split('replay buffer')[1][:12]


def test_a_method_without_a_table_is_refused():
  with pytest.raises(ValueError, match='names the method zppo'):
    method_pages.page('zppo', [], [])


def test_names_of_pages_become_links():
  text = ('See docs/data.md, (`docs/a_b.md`), [x](docs/no.md), '
          'https://h/docs/no.md.\n```bash\ncat docs/no.md\n```\ndocs/c.md')
  assert navigation.linked(text, 1) == (
      'See [data](../data.md), ([`a_b`](../a_b.md)), [x](docs/no.md), '
      'https://h/docs/no.md.\n```bash\ncat docs/no.md\n```\n[c](../c.md)')
  assert navigation.linked('docs/c.md', 0) == '[c](c.md)'


def test_modules_of_the_reference_exist():
  for _, what, modules in reference.PAGES:
    assert what.endswith('.')
    for name in modules:
      path = ROOT / 'zppo_jax' / pathlib.Path(*name.split('.'))
      assert path.is_dir() or path.with_suffix('.py').is_file() or (
          name == 'configs.base')
