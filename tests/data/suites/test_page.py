"""docs/benchmarks.md says of each set what the table says."""

import re

import pytest

from tests.builders import ROOT
from zppo_jax.data import suites

PAGE = (ROOT / 'docs' / 'benchmarks.md').read_text()


def test_the_page_lists_every_set():
  rows = {m[1]: m[0] for m in re.finditer(r'^\| `(\w+)` \|.*$', PAGE,
                                          re.MULTILINE)
          if m[0].count('|') == 7}
  assert list(rows) == list(suites.BENCHMARKS)
  for name, of in suites.BENCHMARKS.items():
    for words in (f' {of.hub}: {of.split} ', f' {of.count:,} ',
                  f' {of.gold} '):
      assert f'|{words}|' in rows[name], (name, words)
    compared = rows[name].split('|')[5]
    assert set(re.findall('`(.*?)`', compared)) == set(of.kinds)


@pytest.mark.parametrize('name', suites.BENCHMARKS)
def test_the_page_says_what_is_unknown(name):
  unknown = PAGE.partition('## What public material')[2]
  line = next((x for x in re.findall(r'^- (.*)$', unknown, re.MULTILINE)
               if f'`{name}`' in x), '')
  assert line.endswith(f': {suites.get(name).unknown}.') if suites.get(
      name).unknown else not line


def test_the_code_of_the_page_runs(capsys):
  (block,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
  exec(compile(block, 'docs/benchmarks.md', 'exec'), {})
  said = capsys.readouterr().out
  assert said.startswith('bench:aime26/1 70 number\n')
  assert said.endswith('1 rows; the published set has 30\n')
