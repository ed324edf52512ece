"""The command line: `zppo COMMAND --flags`.

  zppo train --config=configs/micro.py --workdir=DIR [--config.seed=1 ...]
             [--fork-from=WORKDIR] [--dry-run]
  zppo pretrain --config=configs/micro_pretrain.py:student --to=FILE
  zppo study --config=studies/headline.py --to=DIR [--cores=0,1]
  zppo models
  zppo import --from=FOLDER_OR_GGUF --to=FILE.safetensors
  zppo export --checkpoint=FILE_OR_WORKDIR --to=DIR [--dtype=bfloat16]
  zppo sample --model=FOLDER_OR_FILE --prompt="..." [--num=4 --thinking=off]
  zppo eval --config=configs/micro.py --checkpoint=FILE --to=DIR [--k=1,4 ...]
  zppo report WORKDIR... [--to=report.html]
  zppo compare WORKDIR... [--to=FILE.md]
"""

import difflib
import importlib.util
import itertools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags


class Command(NamedTuple):
  """A row of COMMANDS.

  Attributes:
    run: takes the parsed flags.
    wanted: {flag: help} of the strings without which it does not run.
    optional: {flag: (default, help)}; a flag has the type of its default,
      None is a string's.
    config: whether it also takes --config=FILE and --config.KEY=VALUE.
    arguments: what its arguments without a flag are; '' if it takes none,
      otherwise it needs one and `run` takes their list too.
  """
  run: Callable[..., None]
  wanted: dict[str, str]
  optional: dict[str, tuple[Any, str]]
  config: bool
  arguments: str = ''


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


def _train(values) -> None:
  from zppo_jax import console, dry_run, report, train
  if values.dry_run:
    dry_run.main(values.config, values.workdir)
    return
  try:
    summary = train.main(values.config, values.workdir, values.fork_from)
  except train.Interrupted as e:
    print(f'zppo train: {e}', file=sys.stderr)
    raise SystemExit(128 + e.number) from e
  console.show_summary(summary, values.workdir)
  print(f'report: {report.main([values.workdir])}')


def _pretrain(values) -> None:
  from zppo_jax import pretrain
  pretrain.main(values.config, values.to)


def _study(values) -> None:
  from zppo_jax import study
  study.main(values.config, values.to, values.cores)


def _models(values) -> None:
  del values
  from zppo_jax.models import presets
  print(presets.table())


def _import(values) -> None:
  from zppo_jax import convert
  convert.to_ours(values['from'].value, values.to)


def _export(values) -> None:
  from zppo_jax import convert
  convert.to_hub(values.checkpoint, values.to, values.tokenizer, values.dtype)


def _sample(values) -> None:
  from zppo_jax import sample
  sample.main(**{name: values[name].value for name in (
      'model', 'prompt', 'image', 'temperature', 'max_tokens', 'num', 'seed',
      'thinking')})
def _eval(values) -> None:
  from zppo_jax import measure
  summary = measure.main(
      values.config, values.checkpoint, values.to,
      splits=_listed(values.splits), num_rollouts=values.rollouts,
      ks=_whole_numbers('k', values.k), temperature=values.temperature)
  print(measure.table(summary))
  print('mean over questions [95 % Wilson interval]; samples in '
        f'{values.to}')


def _report(values, paths) -> None:
  from zppo_jax import report
  print(report.main(paths, values.to, values.samples))


def _compare(values, paths) -> None:
  from zppo_jax import compare
  print(compare.main(paths, values.to, _listed(values.vary)))


def _listed(text: str) -> list[str]:
  return [word for word in text.split(',') if word]


def _whole_numbers(flag: str, text: str) -> list[int]:
  try:
    return [int(word) for word in _listed(text)]
  except ValueError:
    raise ValueError(f'--{flag} is {text!r}; whole numbers with commas are '
                     'allowed, e.g. 1,4') from None


COMMANDS = {
    'train': Command(
        _train, {'workdir': 'directory of the run; the same config resumes'},
        {'fork_from': (None, 'workdir or checkpoint whose state a new run '
                       'starts from'),
         'dry_run': (False, 'say what it would do and need; write nothing')},
        True),
    'pretrain': Command(
        _pretrain, {'to': 'safetensors file to write'}, {}, True),
    'study': Command(
        _study, {'to': 'directory of the study; it resumes there'},
        {'cores': (None, 'e.g. 0,1: one run at a time pinned to each')}, True),
    'models': Command(_models, {}, {}, False),
    'import': Command(
        _import, {'from': 'a checkpoint folder of the hub, or a .gguf file',
                  'to': 'safetensors file to write'}, {}, False),
    'export': Command(
        _export, {'checkpoint': 'weights of ours, or a run\'s directory',
                  'to': 'a new folder'},
        {'tokenizer': (None, 'folder or .gguf; default: where the weights had '
                             'theirs from'),
         'dtype': ('float32', 'or bfloat16')}, False),
    'sample': Command(
        _sample, {'model': 'a folder, a file or a packaged name',
                  'prompt': 'the user\'s message'},
        {'image': (None, 'an image file'),
         'temperature': (1.0, '0 takes the most likely token'),
         'max_tokens': (256, 'longest response'), 'num': (1, 'responses'),
         'seed': (0, 'of the draws'),
         'thinking': (None, 'on or off; default: the chat template\'s')},
        False),
    'eval': Command(
        _eval, {'checkpoint': 'a run, one checkpoint of it, or weights',
                'to': 'a new directory for samples and summary'},
        {'splits': ('', 'e.g. hard,easy; empty: the config\'s eval.splits'),
         'rollouts': (1, 'n, a question'),
         'k': ('1', 'of pass@k, e.g. 1,4'),
         'temperature': (0.0, '0 takes the argmax')}, True),
    'report': Command(
        _report, {},
        {'to': (None, 'HTML file; for one run WORKDIR/report.html'),
         'samples': (300, 'recorded questions to embed at most')}, False,
        'WORKDIR...'),
    'compare': Command(
        _compare, {},
        {'to': (None, 'Markdown file; the table is printed in any case'),
         'vary': ('optimizer.learning_rate',
                  'config fields in which the runs may differ, besides method '
                  'and seed')}, False, 'WORKDIR...'),
}


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
      print('  --config=FILE [--config.KEY=VALUE ...]')
    if row.arguments:
      print(f'  {row.arguments}')
    for flag, text in row.wanted.items():
      print(f'  --{flag}: {text}')
    for flag, (default, text) in row.optional.items():
      print(f'  [--{flag}: {text}; default {default}]')
    return
  try:
    if row.config:
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
  if row.arguments and not positional:
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
