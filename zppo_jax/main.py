"""The command line: `zppo COMMAND --flags`.

  zppo train --config=configs/micro.py --workdir=DIR [--config.seed=1 ...]
             [--fork-from=WORKDIR] [--dry-run]
  zppo pretrain --config=configs/micro_pretrain.py:student --to=FILE
  zppo study --config=studies/headline.py --to=DIR [--cores=0,1]
  zppo models
  zppo import --from=FOLDER_OR_GGUF --to=FILE.safetensors
  zppo export --checkpoint=FILE_OR_WORKDIR --to=DIR [--dtype=bfloat16]
  zppo sample --model=FOLDER_OR_FILE --prompt="..." [--image=FILE --num=4 ...]
  zppo serve --model=FOLDER_OR_FILE [--port=8000 --token-env=NAME ...]
  zppo eval --config=configs/micro.py --checkpoint=FILE --to=DIR [--k=1,4 ...]
  zppo bench --config=configs/micro.py [--measure=sample,update --to=FILE.json]
  zppo report WORKDIR... [--to=report.html]
  zppo compare WORKDIR... [--to=FILE.md]
"""

import difflib
import importlib.util
import itertools
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from zppo_jax.commands import COMMANDS, Command

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
  """The config of a file `path[:argument]`, to name its keys in errors."""
  file, _, argument = path.partition(':')
  if not pathlib.Path(file).is_file():
    folder = pathlib.Path(file).parent
    known = sorted(str(p) for p in folder.glob('*.py')) if (
        folder.is_dir()) else []
    raise SystemExit(f'zppo: no config file {file!r}; known in '
                     f'{str(folder)!r}: {", ".join(known) or "none"}')
  spec = importlib.util.spec_from_file_location('zppo_config', file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*([argument] if argument else []))


def _check_overrides(argv: list[str]) -> None:
  """Names the known keys before absl meets an unknown one."""
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
  """--fork-from as --fork_from, and so for every flag of a command."""
  flag, equals, value = argument.partition('=')
  name = flag.removeprefix('--').replace('-', '_')
  known = name in row.wanted or name in row.optional
  return f'--{name}{equals}{value}' if known else argument


def main(argv: list[str] | None = None) -> None:
  """Entry point of `zppo` and `python -m zppo_jax.main`."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if not argv or argv[0] in ('-h', '--help', 'help'):
    print(__doc__)
    return
  command, *rest = argv
  if command not in COMMANDS:
    raise SystemExit(f'zppo: unknown command {command!r}; known: '
                     f'{", ".join(COMMANDS)}')
  row = COMMANDS[command]
  rest = [_underscored(argument, row) for argument in rest]
  if '-h' in rest or '--help' in rest:
    print(f'zppo {command}:')
    if row.config:
      print('  --config=FILE [--config.KEY=VALUE ...]'
            + (f', or --{row.instead}' if row.instead else ''))
    if row.arguments:
      print(f'  {row.arguments}')
    for flag, text in row.wanted.items():
      print(f'  --{flag}: {text}')
    for flag, (default, text) in row.optional.items():
      print(f'  [--{flag}: {text}; default {default}]')
    return
  try:
    given = {a.removeprefix('--').split('=', 1)[0] for a in rest}
    if row.config and not (row.instead in given and 'config' not in given):
      _check_overrides(rest)
  except ValueError as e:
    raise SystemExit(f'zppo {command}: {e}') from e
  values = _flag_values(command, rest)
  try:
    positional = values(['zppo', *rest])[1:]
  except flags.Error as e:
    raise SystemExit(f'zppo {command}: {e}') from e
  if positional and not row.arguments:
    raise SystemExit(f'zppo {command}: unexpected {positional}')
  if row.arguments and not positional and row.arguments[0] != '[':
    raise SystemExit(f'zppo {command}: {row.arguments} is needed')
  for flag, text in row.wanted.items():
    if values[flag].value is None:
      raise SystemExit(f'zppo {command}: --{flag} is needed ({text})')
  try:
    row.run(values, *([positional] if row.arguments else []))
  except KeyboardInterrupt:
    raise SystemExit(f'zppo {command}: stopped at once') from None
  except (KeyError, ValueError, OSError, RuntimeError) as e:
    if os.environ.get('ZPPO_TRACEBACK'):
      raise
    text = e.args[0] if isinstance(e, KeyError) and e.args else e
    raise SystemExit(f'zppo {command}: {text}') from e


if __name__ == '__main__':
  main()
