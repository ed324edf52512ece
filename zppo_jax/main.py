"""The command line: `zppo COMMAND --flags`.

  zppo init DIR [--pictures | --files]
  zppo train --config=micro --workdir=DIR [--config.seed=1 ...]
             [--fork-from=WORKDIR] [--dry-run]
  zppo prompts --config=micro
  zppo sft --config=sft --workdir=DIR [--config.steps=500 ...]
           [--fork-from=WORKDIR] [--dry-run]
  zppo hints --config=NAME --to=FILE.jsonl [--limit=1000]
  zppo fisher --config=NAME --to=FILE.safetensors [--questions=128]
  zppo pretrain --config=micro_pretrain:student --to=FILE
  zppo study --config=studies/headline.py --to=DIR [--cores=0,1]
  zppo models
  zppo import --from=FOLDER_OR_GGUF --to=FILE.safetensors
  zppo export --checkpoint=FILE_OR_WORKDIR --to=DIR [--dtype=bfloat16]
  zppo sample --model=FOLDER_OR_FILE --prompt="..." [--image=FILE --num=4 ...]
  zppo serve --model=FOLDER_OR_FILE [--port=8000 --token-env=NAME ...]
  zppo eval --config=micro --checkpoint=FILE --to=DIR [--k=1,4 ...]
  zppo eval --config=FILE --checkpoint=FILE --suites=FOLDER --to=DIR [--dry-run]
  zppo data FILE_OR_FOLDER... [--model=FOLDER --to=DIR --json]
  zppo bench --config=micro [--measure=sample,update --to=FILE.json]
  zppo plan --config=pod_9b --topology=v5p:4x4x4 [--fast --json=FILE]
  zppo cache [--clear]
  zppo report WORKDIR... [--to=report.html]
  zppo compare WORKDIR... [--to=FILE.md]
  zppo doctor
  zppo completion bash|zsh|fish

--config=NAME takes a packaged config (the names of configs/), a file, or
`package.module`; `pod_9b:v5p:4x4x4` gives it an argument.
Every command takes --help, and --traceback, which shows where in the code an
error came from. `zppo --version` prints the version.
"""

import difflib
import gc
import itertools
import os
import pathlib
import select
import signal
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

import zppo_jax
from zppo_jax import configs
from zppo_jax.commands import failures
from zppo_jax.commands.table import COMMANDS, Command
from zppo_jax.devices import disk, notice
from zppo_jax.names import trl

NAMED = 'a packaged config, a file, or package.module'
_MISSPELT = 0.93  # likeness of names of which one is a slip of the other
_SHOWN = 24  # names that a message lists
_PATHS = ('workdir', 'fork_from', 'from', 'to', 'checkpoint')
# Imports, tracing and questions leave 300,000 objects that stay. At Python's
# own 700 the collector looks through them again and again, for a tenth of the
# main job's processor time with everything cached.
_COLLECT = 20_000
_DEFINE = {int: flags.DEFINE_integer, float: flags.DEFINE_float,
           bool: flags.DEFINE_bool, str: flags.DEFINE_string,
           type(None): flags.DEFINE_string}


def _flag_values(row: Command, config, argv: list[str]) -> flags.FlagValues:
  values = flags.FlagValues()
  if config is not None:
    config_flags.DEFINE_config_dict(
        'config', config, 'the config', flag_values=values,
        sys_argv=['zppo', *argv])
  elif row.config:
    flags.DEFINE_string('config', None, 'no config', flag_values=values)
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


def _sections(config, prefix='config') -> list[str]:
  """The dotted names of a config's sections, also of those without a field."""
  out = []
  for key in config:
    if hasattr(config[key], 'keys'):
      name = f'{prefix}.{key}'
      out += [name, *_sections(config[key], name)]
  return out


def _take_config(argv: list[str], why: str = '') -> tuple[str, list[str]]:
  """(the text of --config, the other arguments).

  Args:
    argv: the arguments.
    why: a sentence for the error, on why it is needed here.

  Raises:
    SystemExit: unless there is one --config.
  """
  texts, others, rest = [], [], iter(argv)
  for argument in rest:
    if argument == '--config':
      texts += [next(rest, '')]
    elif argument.startswith('--config='):
      texts += [argument.split('=', 1)[1]]
    else:
      others += [argument]
  if len(texts) != 1 or not texts[0]:
    close = difflib.get_close_matches(
        '--config', [a.partition('=')[0] for a in others], 1, 0.8)
    hint = f' Did you mean --config by {close[0]}?' if close else ''
    raise SystemExit('zppo: one --config=NAME is needed, e.g. --config=micro; '
                     f'NAME is {NAMED}.{hint}{why}')
  return texts[0], others


def _config_of_run(row: Command, argv: list[str]):
  """The config of the run that the flag Command.of_run names, or None."""
  from zppo_jax.chat import dates
  for argument, following in itertools.pairwise([*argv, '']):
    flag, equals, value = argument.partition('=')
    if row.of_run and flag == f'--{row.of_run}':
      found = dates.run_of(
          pathlib.Path(value if equals else following).resolve())
      return None if found is None else configs.of_values(found[1]['config'])
  return None


def _near(name: str, known: Sequence[str], most: int = 3) -> str:
  """The names near a wrong one, else some of those that it could have been."""
  last = lambda of: of.rpartition('.')[2]
  # Names of one section are near by its name alone.
  if close := [near for near in difflib.get_close_matches(name, known, most)
               if difflib.SequenceMatcher(
                   None, last(near), last(name)).ratio() >= 0.5]:
    return f'Did you mean {" or ".join(close)}?'
  # Those of the innermost section that exists; of the whole config, the first
  # parts of all names.
  section = name
  while section and not any(k.startswith(f'{section}.') for k in known):
    section = section.rpartition('.')[0]
  depth = section.count('.') + 2 if section else 1
  inside = [k for k in known if k.startswith(f'{section}.' if section else '')]
  parts = list(dict.fromkeys('.'.join(k.split('.')[:depth]) for k in inside))
  left = len(parts) - _SHOWN
  return f'Known: {", ".join(parts[:_SHOWN])}' + (
      f' and {left} more' if left > 0 else '')


def _check_overrides(config, argv: list[str]) -> None:
  """Refuses unknown keys and names near ones, before absl reads them."""
  known = _leaves(config)
  for argument in argv:
    if argument.startswith('--config.'):
      name = argument[2:].split('=', 1)[0]
      if name not in known:
        raise SystemExit(f'zppo: unknown config key {name!r}. '
                         f'{_meant(name, known, _sections(config))}')


def _meant(name: str, known: Sequence[str], sections: Sequence[str]) -> str:
  """What an unknown key is likely to mean: a misspelt field, else a name of
  TRL's, else a field of that name in another section, else a near one."""
  last = name.rpartition('.')[2]
  if name in sections:
    inside = [f for f in known if f.startswith(f'{name}.')]
    return ('It is a section, which a config file sets whole' + (
        f'; a flag sets one of its fields, such as {inside[0]}' if inside
        else ''))
  fields = [f.removeprefix('config.') for f in (*known, *sections)]
  of_whole = name == f'config.{last}' and bool(trl.here(last, fields))
  if not of_whole and difflib.get_close_matches(name, known, 1, _MISSPELT):
    return _near(name, known)
  if said := trl.said(last, fields, 'config.'):
    return f'{said} (docs/from_trl.md)'
  same = [f for f in known if f.endswith(f'.{last}')]
  if 0 < len(same) <= 3:
    return f'Did you mean {" or ".join(same)}?'
  return _near(name, known)


def _of_flag(name: str, row: Command, config) -> str:
  """What an unknown flag is likely to mean: a field of the config, whose flag
  begins with --config, or another flag."""
  name = name.replace('-', '_')
  flags_of = [f'--{flag.replace("_", "-")}'
              for flag in (*row.wanted, *row.optional)]
  if row.config:
    flags_of += ['--config']
  fields = [] if config is None else [
      f.removeprefix('config.')
      for f in (*_leaves(config), *_sections(config))]
  if config is not None and name in trl.OTHERWISE:
    return f'{trl.said(name)} (docs/from_trl.md)'
  found = trl.here(name, fields) if fields else ()
  same = found or [f for f in fields if f.rpartition('.')[2] == name]
  if 0 < len(same) <= 3:
    theirs = (f'{trl.said(name, fields, "config.")}: fields'
              if found and not all(f.endswith(name) for f in found)
              else 'Fields')
    return f'{theirs} of the config are written ' + (
        ' or ' if not found else ' and ').join(
            f'--config.{f}=...' for f in same)
  return _near(f'--{name.replace("_", "-")}', flags_of, 1)


def _underscored(argument: str, row: Command) -> str:
  """--fork-from as --fork_from, because flags may be spelt with either sign."""
  flag, equals, value = argument.partition('=')
  name = flag.removeprefix('--').replace('-', '_')
  known = flag.startswith('--') and (
      name in row.wanted or name in row.optional)
  return f'--{name}{equals}{value}' if known else argument


def _help(command: str, row: Command) -> str:
  """Every flag of a command, as it is written on the command line."""
  lines = [f'zppo {command}: {row.text}']
  if row.config:
    lines.append('  --config=NAME [--config.KEY=VALUE ...]'
                 + (f', or --{row.instead}' if row.instead else '')
                 + (f'; without it, that of the run that --{row.of_run} names'
                    if row.of_run else '')
                 + f'; NAME is {NAMED}')
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
  config = None
  if row.config and not (row.instead in given and 'config' not in given):
    config = None if 'config' in given else _config_of_run(row, argv)
    if config is None:
      why = (f' A run that --{row.of_run} names brings its own config; a '
             'folder or a file of weights has none.'
             if row.of_run in given else '')
      name, argv = _take_config(argv, why)
      config = configs.load(name)
    _check_overrides(config, argv)
  values = _flag_values(row, config, argv)
  try:
    positional = values(['zppo', *argv])[1:]
  except flags.UnrecognizedFlagError as e:
    raise SystemExit(f'zppo {command}: unknown flag {e.flagname!r}. '
                     f'{_of_flag(e.flagname, row, config)}') from e
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


def _unread() -> bool:
  """Whether whoever read what is printed has gone, as `head` does."""
  try:
    output = sys.stdout.fileno()
  except (AttributeError, OSError, ValueError):  # it is no file
    return False
  poll = select.poll()
  poll.register(output, select.POLLOUT)
  return any(event & select.POLLERR for _, event in poll.poll(0))


def main(argv: list[str] | None = None) -> None:
  """The entry point of `zppo` and `python -m zppo_jax.main`.

  Args:
    argv: the command and its arguments; None: those of the process.

  Raises:
    SystemExit: with what is wrong, in one line. Its code is 128 + SIGPIPE if
      nobody reads on what the command prints, which is how a shell shows the
      end of `yes | head`, and 128 + the signal's number after Ctrl-C.
  """
  try:
    with notice.interrupts():
      _command(list(sys.argv[1:] if argv is None else argv))
    sys.stdout.flush()
  except BrokenPipeError:
    if not _unread():
      raise
    # What is still to be written at the exit goes nowhere, without an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(128 + signal.SIGPIPE) from None


def _command(argv: list[str]) -> None:
  """Runs a command; see main."""
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
    raise SystemExit(f'zppo: unknown command {command!r}. '
                     f'{_near(command, [*COMMANDS], 1)}')
  row = COMMANDS[command]
  gc.set_threshold(_COLLECT, *gc.get_threshold()[1:])
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
  except KeyboardInterrupt as e:
    if whole:
      raise
    print(f'zppo {command}: {failures.said(e)}', file=sys.stderr)
    raise SystemExit(128 + (*e.args, signal.SIGINT)[0]) from None
  except Exception as e:
    if isinstance(e, BrokenPipeError) and _unread():
      raise
    line = failures.one_line(e)
    if whole or line is None:
      raise
    raise SystemExit(f'zppo {command}: {line}') from e


if __name__ == '__main__':
  main()
