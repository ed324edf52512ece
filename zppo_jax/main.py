"""The command line: `zppo COMMAND --flags`.

  zppo train --config=configs/micro.py --workdir=DIR [--config.seed=1 ...]
             [--fork-from=WORKDIR] [--dry-run]
  zppo sft --config=configs/sft.py --workdir=DIR [--config.steps=500 ...]
           [--fork-from=WORKDIR] [--dry-run]
  zppo hints --config=FILE --to=FILE.jsonl [--limit=1000]
  zppo fisher --config=FILE --to=FILE.safetensors [--questions=128]
  zppo pretrain --config=configs/micro_pretrain.py:student --to=FILE
  zppo study --config=studies/headline.py --to=DIR [--cores=0,1]
  zppo models
  zppo import --from=FOLDER_OR_GGUF --to=FILE.safetensors
  zppo export --checkpoint=FILE_OR_WORKDIR --to=DIR [--dtype=bfloat16]
  zppo sample --model=FOLDER_OR_FILE --prompt="..." [--image=FILE --num=4 ...]
  zppo serve --model=FOLDER_OR_FILE [--port=8000 --token-env=NAME ...]
  zppo eval --config=configs/micro.py --checkpoint=FILE --to=DIR [--k=1,4 ...]
  zppo data FILE_OR_FOLDER... [--model=FOLDER --to=DIR --json]
  zppo bench --config=configs/micro.py [--measure=sample,update --to=FILE.json]
  zppo plan --config=configs/pod_9b.py --topology=v5p:4x4x4 [--fast --json=FILE]
  zppo report WORKDIR... [--to=report.html]
  zppo compare WORKDIR... [--to=FILE.md]

Every command takes --help, and --traceback, which shows where in the code an
error came from. `zppo --version` prints the version.
"""

import difflib
import importlib.util
import itertools
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

import zppo_jax
from zppo_jax import import_paths
from zppo_jax.commands import failures
from zppo_jax.commands.table import COMMANDS, Command
from zppo_jax.devices import disk

_PATHS = ('workdir', 'fork_from', 'from', 'to', 'checkpoint')
_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float,
           bool: flags.DEFINE_bool, str: flags.DEFINE_string,
           type(None): flags.DEFINE_string}


def _flag_values(command: str, argv: list[str]) -> flags.FlagValues:
  values = flags.FlagValues()
  row = COMMANDS[command]
  if row.config:
    config_flags.DEFINE_config_file(
        'config', None, 'config file', lock_config=True, flag_values=values,
        sys_argv=['zppo', *argv])
  for flag, text in row.wanted.items():
    flags.DEFINE_string(flag, None, text, flag_values=values)
  for flag, (default, text) in row.optional.items():
    _DEFINE[type(default)](flag, default, text, flag_values=values)
  return values


def _leaves(config, prefix='config') -> list[str]:
  out = []
  for key in config:
    name = f'{prefix}.{key}'
    value = config[key]
    out += _leaves(value, name) if hasattr(value, 'keys') else [name]
  return out


def _load_config(path: str):
  """The config of a file `path[:argument]`; errors name its keys.

  Objects that it names by import path may lie in its folder or in the folder in
  which the command was called.
  """
  file, _, argument = path.partition(':')
  if not pathlib.Path(file).is_file():
    folder = pathlib.Path(file).parent
    known = sorted(str(p) for p in folder.glob('*.py')) if (
        folder.is_dir()) else []
    raise SystemExit(f'zppo: no config file {file!r}; known in '
                     f'{str(folder)!r}: {", ".join(known) or "none"}')
  import_paths.search(pathlib.Path(file).parent, os.curdir)
  spec = importlib.util.spec_from_file_location('zppo_config', file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'get_config'):
    raise SystemExit(f'zppo: {file} defines no get_config()')
  return module.get_config(*([argument] if argument else []))


def _check_overrides(argv: list[str]) -> None:
  """Refuses unknown keys and names the known ones, before absl reads them."""
  paths = [a.split('=', 1)[1] for a in argv if a.startswith('--config=')]
  paths += [b for a, b in itertools.pairwise(argv) if a == '--config']
  if len(paths) != 1:
    raise SystemExit('zppo: one --config=FILE is needed, e.g. '
                     '--config=configs/micro.py')
  known = _leaves(_load_config(paths[0]))
  for argument in argv:
    if argument.startswith('--config.'):
      name = argument[2:].split('=', 1)[0]
      if name not in known:
        close = difflib.get_close_matches(name, known, 3)
        hint = f' Did you mean {" or ".join(close)}?' if close else ''
        raise SystemExit(f'zppo: unknown config key {name!r}.{hint} '
                         f'Known: {", ".join(known)}')


def _underscored(argument: str, row: Command) -> str:
  """--fork-from as --fork_from, because flags may be spelt with either sign."""
  flag, equals, value = argument.partition('=')
  name = flag.removeprefix('--').replace('-', '_')
  known = name in row.wanted or name in row.optional
  return f'--{name}{equals}{value}' if known else argument


def _help(command: str, row: Command) -> str:
  """Every flag of a command, as it is written on the command line."""
  lines = [f'zppo {command}: {row.text}']
  if row.config:
    lines.append('  --config=FILE [--config.KEY=VALUE ...]'
                 + (f', or --{row.instead}' if row.instead else ''))
  if row.arguments:
    lines.append(f'  {row.arguments}')
  spelt = lambda flag: flag.replace('_', '-')
  lines += [f'  --{spelt(flag)}: {text}' for flag, text in row.wanted.items()]
  lines += [f'  [--{spelt(flag)}: {text}; default {default}]'
            for flag, (default, text) in row.optional.items()]
  return '\n'.join(lines)


def _parse(command: str, row: Command, argv: list[str]):
  """(flags, arguments without a flag) of a command; the SystemExit for others
  names what is missing or unknown."""
  given = {a.removeprefix('--').split('=', 1)[0] for a in argv}
  if row.config and not (row.instead in given and 'config' not in given):
    _check_overrides(argv)
  values = _flag_values(command, argv)
  try:
    positional = values(['zppo', *argv])[1:]
  except flags.Error as e:
    raise SystemExit(f'zppo {command}: {e}') from e
  if positional and not row.arguments:
    raise SystemExit(f'zppo {command}: unexpected {positional}')
  if row.arguments and not positional and row.arguments[0] != '[':
    raise SystemExit(f'zppo {command}: {row.arguments} is needed')
  for flag, text in row.wanted.items():
    if values[flag].value is None:
      raise SystemExit(f'zppo {command}: --{flag} is needed ({text})')
  for flag in (*row.wanted, *row.optional):
    if flag in _PATHS and values[flag].value:
      disk.local(f'--{flag.replace("_", "-")}', values[flag].value)
  for path in positional:
    disk.local(row.arguments, path)
  return values, positional


def main(argv: list[str] | None = None) -> None:
  """The entry point of `zppo` and `python -m zppo_jax.main`."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if not argv or argv[0] in ('-h', '--help', 'help'):
    width = max(map(len, COMMANDS))
    print(__doc__ + '\nCommands:\n' + '\n'.join(
        f'  {name:{width}}  {row.text}' for name, row in COMMANDS.items()))
    return
  if argv[0] == '--version':
    print(f'zppo_jax {zppo_jax.__version__}')
    return
  command, *rest = argv
  if command not in COMMANDS:
    close = difflib.get_close_matches(command, COMMANDS, 1)
    hint = f' Did you mean {close[0]}?' if close else ''
    raise SystemExit(f'zppo: unknown command {command!r}.{hint} Known: '
                     f'{", ".join(COMMANDS)}')
  row = COMMANDS[command]
  # transformers advises users to install torch, which nothing here needs.
  os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
  whole = '--traceback' in rest or bool(os.environ.get('ZPPO_TRACEBACK'))
  rest = [_underscored(argument, row) for argument in rest
          if argument != '--traceback']
  if '-h' in rest or '--help' in rest:
    print(_help(command, row))
    return
  try:
    values, positional = _parse(command, row, rest)
    row.run(values, *([positional] if row.arguments else []))
  except KeyboardInterrupt:
    raise SystemExit(f'zppo {command}: stopped at once') from None
  except Exception as e:
    line = failures.one_line(e)
    if whole or line is None:
      raise
    raise SystemExit(f'zppo {command}: {line}') from e


if __name__ == '__main__':
  main()
