"""Runs blocks of the documentation from a wheel, in a folder outside the clone.

  python driver.py BLOCKS.json REAL

REAL names, with commas, the commands of zppo that are executed; of the others
the command line is read as a whole: config, overrides, flags and paths. `train`
is executed once, in the tiny form TINY; other runs are copies of it with their
own config, so that reports and comparisons have what they need. What fails is
printed as JSON, with the block.
"""

import argparse
import ast
import functools
import glob
import importlib
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import traceback
from importlib import metadata

# A step of the embedded world in seconds.
TINY = ('--config.steps=1', '--config.algorithm.num_new=4',
        '--config.algorithm.rollouts=2',
        '--config.algorithm.teacher_rollouts=1',
        '--config.eval.size=2', "--config.eval.splits=('hard',)",
        '--config.data.pool.size=16', '--config.probe.every=0',
        '--config.shapes.group_buckets=(4,)', '--config.samples.questions=2')
# A word that stands for something of the reader's -> what stands for it here.
STANDS_FOR = {'--config=...': '--config=micro', '--config=CONFIG':
              '--config=micro', '--config=NAME': '--config=micro'}
# Programs of others that do nothing here, and shell words.
FAKES = ('docker', 'ssh-add', 'pre-commit', 'ruff', 'mypy', 'lint-imports',
         'mkdocs', 'export', '.', 'source', 'git')
HOME = pathlib.Path.cwd()
REAL = frozenset()


class Parsed(Exception):
  """A command line was read as a whole."""


def extras(words: list[str]) -> None:
  """`pip install`: the extras that it names are those of the wheel."""
  assert words[0] == 'install', words
  spelt = lambda name: name.replace('_', '-')
  known = set(map(spelt, metadata.metadata('zppo_jax').get_all(
      'Provides-Extra')))
  for word in words[1:]:
    if found := re.fullmatch(r'(?:\.|zppo_jax)\[(.+)\]', word):
      assert set(spelt(found[1]).split(',')) <= known, (word, sorted(known))


def made(path: str, words: list[str]) -> None:
  """A workdir at `path`: a copy of the tiny run with the words' config."""
  first = HOME / 'tiny'
  to = pathlib.Path(path)
  if to.exists():
    return
  shutil.copytree(first, to)
  stored = json.loads((to / 'config.json').read_text())
  summary = json.loads((to / 'summary.json').read_text())
  for word in words:
    if found := re.fullmatch(r'--config\.(method|seed)=(\w+)', word):
      value = int(found[2]) if found[1] == 'seed' else found[2]
      stored['config'][found[1]] = summary[found[1]] = value
  (to / 'config.json').write_text(json.dumps(stored))
  (to / 'summary.json').write_text(json.dumps(summary))


# What a command is given besides, so that it takes seconds.
QUICK = {'eval': (*TINY, '--config.eval.size=2'),
         'bench': (*TINY, '--repeats=1', '--measure=score'),
         'sample': ('--max-tokens=2',), 'export': ()}
OF_A_MODEL = ('--model=FOLDER', '--checkpoint=DIR')


def executed(words: list[str]) -> list[str]:
  """The words with which a command is executed; none where it asks for what is
  not here: a model, a pod, files of the reader's own."""
  name, given = words[0], ' '.join(words)
  if name in ('eval', 'bench', 'prompts') and '--config=micro' not in words:
    return []
  if '--splits=' in given:
    return []
  if name == 'plan' and 'cpu:' not in given:
    return []
  if name in ('sample', 'export'):
    if not any(w in words for w in OF_A_MODEL) or re.search(
        '--(image|video)=', given):
      return []
    words = [re.sub('=(FOLDER|DIR)$', '=model', w) for w in words]
  if name == 'models' and 'FOLDER' in given:
    return []
  if name == 'bench':  # the page's own file lies in the clone
    words = [re.sub('^--to=.*', '--to=bench.json', w) for w in words]
  if name == 'eval':
    words = [re.sub('^--(rollouts|k)=.*', r'--\1=1', w) for w in words]
    words = [re.sub('^--to=.*', '--to=evaluated', w) for w in words]
    shutil.rmtree('evaluated', ignore_errors=True)
    made('of_eval', [])
    words = [re.sub('^--checkpoint=.*', '--checkpoint=of_eval', w)
             for w in words]
  return [*words, *QUICK.get(name, ())]


def zppo(words: list[str]) -> None:
  """A command of zppo, executed or read."""
  from zppo_jax import main
  from zppo_jax.commands import table
  name = words[0]
  words = [STANDS_FOR.get(w, w) for w in words if w != '...']
  if name == 'sft':
    words = ['--config=sft' if w == '--config=micro' else w for w in words]
  words = [w for word in words for w in (
      sorted(glob.glob(word)) if '*' in word and name in ('report', 'compare')
      else [word])]
  if name in REAL and (real := executed(words)):
    main.main(real)
    return
  row = table.COMMANDS[name]
  read = []

  def note(values, *positional):
    read.append(values)
  table.COMMANDS[name] = row._replace(run=note)
  try:
    main.main(words)
  finally:
    table.COMMANDS[name] = row
  assert read, words
  if name == 'train' and '--dry-run' not in words:
    made(read[0].workdir, words)


def python(words: list[str]) -> None:
  """`python -m MODULE`: the module is imported and reads its command line;
  `python FILE` likewise."""
  if words[:2] == ['-m', 'pytest'] or words[:2] == ['-m', 'venv']:
    return
  argv, parse = sys.argv, argparse.ArgumentParser.parse_args

  def read(parser, *given, **fields):
    parse(parser, *given, **fields)
    raise Parsed
  argparse.ArgumentParser.parse_args = read
  try:
    if words[0] == '-m':
      package = importlib.util.find_spec(words[1])
      assert package is not None, words[1]
      sys.argv = [package.origin, *words[2:]]
      sys.modules.pop(words[1], None)  # or runpy warns that it was imported
      runpy.run_module(words[1], run_name='__main__', alter_sys=False)
    else:
      sys.argv = words
      runpy.run_path(words[0], run_name='__main__')
    raise AssertionError(f'{words} read no command line')
  except Parsed:
    pass
  finally:
    sys.argv, argparse.ArgumentParser.parse_args = argv, parse


def launcher(words: list[str]) -> None:
  """A launcher with --dry-run: it checks its words and prints its commands."""
  fakes = HOME / 'fakes'  # a machine with two GPUs
  fakes.mkdir(exist_ok=True)
  (fakes / 'nvidia-smi').write_text('#!/bin/sh\necho GPU 0; echo GPU 1\n')
  (fakes / 'nvidia-smi').chmod(0o755)
  clone = (HOME / 'launchers').resolve().parent
  done = subprocess.run(
      ['bash', words[0], '--dry-run', *words[1:]], cwd=clone, text=True,
      capture_output=True, env={**os.environ, 'PATH': f'{fakes}:'
                      f'{os.environ["PATH"]}'})
  assert not done.returncode, done.stderr
  assert 'zppo' in done.stdout, done.stdout


def command(words: list[str]) -> None:
  while re.match(r'[A-Z_]+=', words[0]):  # a variable of one command
    words = words[1:]
  first, rest = words[0], words[1:]
  if first == 'zppo':
    if rest[1:] != ['...']:
      zppo(rest)
  elif first in ('pip', 'pip3'):
    extras(rest)
  elif first in ('python', 'python3'):
    python(rest)
  elif first == 'taskset':
    command(rest[2:])
  elif first.startswith('launchers/'):
    launcher(words)
  elif first == 'sbatch':
    launcher(rest)
  elif first == 'cd':
    os.chdir(rest[0] if pathlib.Path(rest[0]).is_dir() else HOME)
  elif first not in FAKES:
    raise AssertionError(f'{first}: tests/docs/driver.py does not know this '
                         'program; a block that no test can run says why, see '
                         'tests/docs/blocks.py')


def run_python(block: dict, names: dict) -> None:
  """A Python block: a file that the page names, or lines on a config `c`."""
  if block['file']:
    pathlib.Path(block['file']).write_text(block['text'])
    module = importlib.import_module(block['file'].removesuffix('.py'))
    names.update({k: v for k, v in vars(module).items()
                  if k[0] != '_' and k != 'get_config'})
    if hasattr(module, 'get_config'):
      module.get_config()
    return
  known = leaves(names['c'])
  exec(compile(block['text'], block['where'], 'exec'), names)
  if 'get_config' in names:
    names.pop('get_config')()
  free = tuple(f'{k}.' for k, v in known.items() if v == {})
  new = [k for k in leaves(names['c'])
         if k not in known and not k.startswith((*free, 'data.pool.'))]
  assert not new, f'unknown config fields: {new}'


def leaves(config, prefix: str = '') -> dict:
  """The fields of a config by dotted name; an empty section is one, too."""
  out = {}
  for key in config:
    value = config[key]
    if hasattr(value, 'keys') and len(value):
      out.update(leaves(value, f'{prefix}{key}.'))
    else:
      out[prefix + key] = {} if hasattr(value, 'keys') else value
  return out


def trained(config, workdir, train, **options):
  """zppo_jax.train on the tiny form of a config, whose run exists already."""
  values = config.copy_and_resolve_references()
  with values.unlocked():
    for word in TINY:
      name, value = word.removeprefix('--config.').split('=')
      values.update_from_flattened_dict({name: ast.literal_eval(value)})
  made(workdir, [])
  return train(values, workdir, **options)


def names_of(page: str) -> dict:
  """What the Python blocks of a page may use: a config `c` with all fields, and
  two pictures."""
  from zppo_jax import configs
  return {'__name__': page, 'c': configs.load('base'),
          'paths': ['1.png', '2.png']}


def run_all(blocks: list[dict]) -> list[tuple[str, str]]:
  """(block, error) of those that fail."""
  from tests.docs.blocks import commands
  failed = []
  names: dict[str, dict] = {}
  for block in blocks:
    page = block['page']
    os.chdir(HOME)
    try:
      if block['language'] == 'python':
        run_python(block, names.setdefault(page, names_of(page)))
        continue
      for words in commands(block['text']):
        command(words)
    except (Exception, SystemExit):
      failed.append((block['where'], traceback.format_exc()))
  return failed


def main() -> None:
  global REAL
  blocks, REAL = json.loads(pathlib.Path(sys.argv[1]).read_text()), frozenset(
      sys.argv[2].split(','))
  sys.path.insert(0, os.getcwd())
  from zppo_jax import main as zppo_main
  from zppo_jax.commands import calls
  zppo_main.main(['train', '--config=micro', '--workdir=tiny', *TINY])
  calls.train = functools.partial(trained, train=calls.train)
  made('runs/first', [])
  zppo_main.main(['init', 'mine'])  # whose config other pages name, too
  for path in pathlib.Path('mine').glob('*.py'):
    shutil.copy2(path, HOME)
  shutil.rmtree('mine')
  for seed in (0, 1):  # for patterns of names
    made(f'runs/zppo-seed{seed}', [f'--config.seed={seed}'])
  (HOME / 'failed.json').write_text(json.dumps(run_all(blocks)))


if __name__ == '__main__':
  main()
