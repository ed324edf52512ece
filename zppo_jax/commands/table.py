"""The commands: what each takes, and the function that it calls.

Everything heavy is imported when a command runs, so that help is immediate.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


class Command(NamedTuple):
  """A row of COMMANDS.

  Attributes:
    run: takes the parsed flags; its docstring is the line of the help.
    wanted: {flag: help} of the string flags without which it does not run.
    optional: {flag: (default, help)}. A flag has the type of its default; a
      default of None is that of a string.
    config: whether it also takes --config=FILE and --config.KEY=VALUE.
    arguments: the name of its arguments without a flag, for the help; '' if
      it takes none. It then needs at least one, unless the name stands in
      brackets, and `run` also takes their list.
    instead: a flag with which it needs no config.
    of_run: a flag that names a run; without --config, the run's is taken.
  """
  run: Callable[..., None]
  wanted: dict[str, str]
  optional: dict[str, tuple[Any, str]]
  config: bool
  arguments: str = ''
  instead: str = ''
  of_run: str = ''

  @property
  def text(self) -> str:
    """What it does, in one line."""
    return (self.run.__doc__ or '').strip()


def _start(config) -> None:
  """Sets a CPU up before JAX starts; config: None without a mesh."""
  from zppo_jax.commands.calls import running
  running.start(config)


def _start_together(values) -> None:
  """`_start` for a command that several processes may run as one."""
  from zppo_jax.commands.calls import running
  from zppo_jax.devices import launched
  whole = lambda value: None if value < 0 else value
  running.start_together(values.config, launched.settings(
      values.coordinator, whole(values.processes), whole(values.process)))


def _to_its_end(name: str, values, main, dry_run, **shown) -> None:
  """Runs `main` of a config in a directory and shows what came out.

  Args:
    name: the command's.
    values: its values.
    main: (config, workdir, fork_from) -> summary.
    dry_run: (config, workdir, details) -> None, for --dry-run.
    **shown: arguments of console.show_summary.
  """
  from zppo_jax.commands.calls import running
  from zppo_jax.train import guards
  if values.details and not values.dry_run:
    raise ValueError('--details is for --dry-run')
  try:
    if values.dry_run:
      running.together(name, lambda: dry_run(
          values.config, values.workdir, values.details))
    else:
      running.completed(name, values.config, values.workdir, values.fork_from,
                        main, **shown)
  except guards.Interrupted as e:
    print(f'zppo {name}: {e}', file=sys.stderr)
    raise SystemExit(128 + e.number) from e


def _train(values) -> None:
  """Trains by a config; the same command resumes a run."""
  _start_together(values)
  from zppo_jax.train import loop

  def dry_run(*of) -> None:
    from zppo_jax.commands import dry_run as command
    command.main(*of, measure=values.measure)
  if values.config.get('method') == 'sft':
    raise ValueError("method is 'sft'; `zppo sft` takes such a config")
  if values.measure and not values.dry_run:
    raise ValueError('--measure is for --dry-run')
  _to_its_end('train', values, loop.main, dry_run)


def _init(values, folders) -> None:
  """Writes a task, a config and a README of your own that train at once."""
  from zppo_jax.commands import starting
  if len(folders) > 1:
    raise ValueError(f'one DIR is needed, not {", ".join(folders)}')
  if values.pictures and values.files:
    raise ValueError('--pictures and --files are two kinds; the questions of '
                     '--files show pictures, too')
  kind = ('files' if values.files else 'pictures' if values.pictures
          else 'text')
  starting.main(folders[0], kind)
  print(f'{folders[0]}: '
        + ('data, model' if values.files else 'my_task.py')
        + ', my_config.py and README.md, which says how to go on:\n'
        f'  cd {folders[0]} && zppo train --config=my_config '
        '--workdir=runs/first')


def _prompts(values) -> None:
  """Shows what the model will see, for one question of each kind."""
  _start(values.config)
  from zppo_jax.commands.prompting import show
  show.main(values.config)


def _sft(values) -> None:
  """Fine-tunes on conversations of files; the same command resumes a run."""
  _start_together(values)
  from zppo_jax.sft import command
  _to_its_end('sft', values, command.main, command.dry_run, what='validation')


def _hints(values) -> None:
  """Writes a hint of the teacher for each question of a config."""
  _start(values.config)
  from zppo_jax.commands import hints
  from zppo_jax.devices import compile_cache
  compile_cache.enable()
  hints.main(values.config, values.to, values.limit)


def _fisher(values) -> None:
  """Writes what algorithm.ewc holds weights by: their Fisher information."""
  _start(values.config)
  from zppo_jax.commands import fisher
  from zppo_jax.devices import compile_cache
  compile_cache.enable()
  fisher.main(values.config, values.to, values.questions, values.split)


def _pretrain(values) -> None:
  """Makes the models of an embedded world again."""
  _start(values.config)
  from zppo_jax.commands import pretrain
  from zppo_jax.devices import compile_cache
  compile_cache.enable()
  pretrain.main(values.config, values.to)


def _study(values) -> None:
  """Runs many paired runs and tabulates them."""
  from zppo_jax.study import launch
  launch.main(values.config, values.to, values.cores, values.smoke)


def _models(values, paths) -> None:
  """Lists the known model shapes, or says what is in a folder."""
  del values
  if paths:
    from zppo_jax.commands import describe
    print('\n\n'.join(map(describe.text, paths)))
    return
  from zppo_jax.weights import presets
  print(presets.table())


def _import(values) -> None:
  """Writes a hub checkpoint as a weights file of ours."""
  from zppo_jax.commands import convert
  convert.to_ours(values['from'].value, values.to, values.base)


def _export(values) -> None:
  """Writes a checkpoint as a folder that transformers loads."""
  from zppo_jax.commands import convert
  if values.private and not values.push:
    raise ValueError('--private is set without --push=OWNER/NAME')
  push = convert.Push(values.push, values.private) if values.push else None
  if values.adapters:
    if values.tokenizer:
      raise ValueError(f'--tokenizer is {values.tokenizer!r} with --adapters; '
                       'a folder of adapters has none, leave it out')
    convert.to_peft(values.checkpoint, values.to, values.dtype)
  else:
    convert.to_hub(values.checkpoint, values.to, values.tokenizer,
                   values.dtype)
  if push is not None:
    print(f'pushed to {push.folder(values.to)}')


def _sample(values) -> None:
  """Prints responses of a model to one prompt."""
  from zppo_jax.commands import sample
  from zppo_jax.devices import compile_cache
  compile_cache.enable()
  sample.main(**{name: values[name].value for name in (
      'model', 'prompt', 'image', 'video', 'fps', 'temperature', 'max_tokens',
      'num', 'seed', 'thinking', 'date', 'end_tokens', 'chat_template',
      'config', 'bare')})


def _serve(values) -> None:
  """Serves a checkpoint to OpenAI-compatible clients."""
  from zppo_jax import serve
  from zppo_jax.commands.prompting import asked
  whose = asked.of(values.model, values['config'].value, values.bare)
  if whose.note:
    print(whose.note, flush=True)
  serve.main(**{name: values[name].value for name in (
      'model', 'name', 'host', 'port', 'dtype', 'context', 'slots',
      'token_env',
      'max_mb', 'date', 'end_tokens', 'chat_template')},
             words=whose.texts, thinking=whose.thinking, day=whose.day,
             of_task=whose.chat)


def _eval(values) -> None:
  """Evaluates a checkpoint: accuracy by split, or the paper's benchmarks."""
  _start(values.config)
  if values.suites:
    _eval_suites(values)
    return
  for flag in ('dry_run', 'limit'):
    if values[flag].value:
      raise ValueError(f'--{flag.replace("_", "-")} is for --suites=FOLDER')
  from zppo_jax.commands import evaluate
  from zppo_jax.devices import compile_cache
  compile_cache.enable()
  summary = evaluate.main(
      values.config, values.checkpoint, values.to,
      splits=_listed(values.splits), num_rollouts=values.rollouts,
      ks=_whole_numbers('k', values.k), temperature=values.temperature)
  print(evaluate.table(summary))
  for reason in summary['reasons']:
    print(reason)
  print('mean over questions [95 % Wilson interval]; samples in '
        f'{values.to}')


def _eval_suites(values) -> None:
  """`zppo eval --suites=FOLDER`: the table of the benchmarks in a folder."""
  from zppo_jax.commands import suites
  from zppo_jax.devices import compile_cache
  from zppo_jax.report.suites import table
  compile_cache.enable()
  wanted = suites.Wanted(
      checkpoint=values.checkpoint, folder=values.suites,
      splits=_listed(values.splits), limit=values.limit,
      num_rollouts=values.rollouts,
      ks=[k for k in _whole_numbers('k', values.k) if k > 1],
      temperature=values.temperature, decoding=values.decoding)
  if values.dry_run:
    outline = suites.dry_run(values.config, wanted)
    print(outline.text)
    if outline.refused:
      raise SystemExit(1)
    return
  summaries = suites.main(values.config, wanted, values.to)
  print(f'\n{table.text(summaries)}\nreport: {values.to}/report.html')


def _data(values, paths) -> None:
  """Says what files of rows hold, and which mapping or suite fits them."""
  from zppo_jax.commands import data
  print(data.main(paths, as_json=values.json, **{
      name: values[name].value for name in (
          'model', 'mapping', 'suite', 'rows', 'show', 'to')}))


def _bench(values) -> None:
  """Measures a config or named shapes beside the limit of the machine."""
  _start(values.config)
  from zppo_jax.bench import command
  command.main(values.config, values.measure, values.repeats, values.to,
               values.model, values.load, values.dtype)


def _plan(values) -> None:
  """Says whether a config fits accelerators that are not here, and its cost."""
  from zppo_jax.plan import command
  fits = command.main(
      values.config, values.topology, values.fast, values.json, values.price,
      {name: values[name].value for name in (
          'median_response', 'spread', 'mfu', 'bandwidth', 'link')})
  if not fits:
    raise SystemExit(1)


def _report(values, paths) -> None:
  """Writes runs as one HTML page that opens offline."""
  from zppo_jax import report
  print(report.main(paths, values.to, values.samples))


def _compare(values, paths) -> None:
  """Prints the table that compares runs."""
  from zppo_jax.report import compare
  print(compare.main(paths, values.to, _listed(values.vary)))


def _doctor(values) -> None:
  """Says what this machine can do: devices, kernels, extras, cache."""
  del values
  from zppo_jax.commands import doctor
  if not doctor.main():
    raise SystemExit(1)


def _completion(values, shells) -> None:
  """Prints the script by which a shell completes commands and flags."""
  del values
  from zppo_jax.commands import completion
  if len(shells) > 1:
    raise ValueError(f'one SHELL is needed, not {", ".join(shells)}')
  print(completion.script(shells[0], COMMANDS), end='')
def _cache(values) -> None:
  """Shows where compiled programs are kept, or removes them."""
  from zppo_jax.devices import compile_cache
  print(compile_cache.text(values.clear))


def _listed(text: str) -> list[str]:
  return [word for word in text.split(',') if word]


def _whole_numbers(flag: str, text: str) -> list[int]:
  try:
    return [int(word) for word in _listed(text)]
  except ValueError:
    raise ValueError(f'--{flag} is {text!r}; whole numbers with commas are '
                     'allowed, e.g. 1,4') from None


_PROCESSES = {
    'coordinator': (None, 'HOST:PORT of process 0; only where no launcher that '
                    'JAX knows starts several processes'),
    'processes': (-1, 'their number; -1: that of the launcher, else 1'),
    'process': (-1, 'which of them this is, from 0; -1: as the launcher says')}
_WORDS = {
    'config': (None, 'a config whose words stand around the question; default: '
               'those of the run that --model names'),
    'bare': (False, 'the message alone in the chat template'),
    'date': (None, 'YYYY-MM-DD in prompts, where the chat template tells a '
             'date; default: today'),
    'end_tokens': (None, 'tokens, as text or ids with commas, that end a '
                   'response besides those the checkpoint declares'),
    'chat_template': (None, 'a Jinja file instead of the checkpoint\'s own '
                      'chat template')}
COMMANDS = {
    'init': Command(
        _init, {}, {
            'pictures': (False, 'a task with pictures (extra "digits")'),
            'files': (False, 'JSONL or Parquet of your own, with pictures, and '
                      'a small random model that reads them')},
        False, 'DIR'),
    'train': Command(
        _train, {'workdir': 'directory of the run; the same config resumes'},
        {'fork_from': (None, 'workdir or checkpoint whose state a new run '
                       'starts from'),
         'dry_run': (False, 'say what it would do and need; write nothing'),
         'details': (False, 'with --dry-run: all fields, shapes and programs'),
         'measure': (False, 'with --dry-run: compile the largest programs and '
                     'run some steps, instead of an estimate by counts'),
         **_PROCESSES},
        True),
    'sft': Command(
        _sft, {'workdir': 'directory of the run; the same config resumes'},
        {'fork_from': (None, 'workdir or checkpoint whose state a new run '
                       'starts from'),
         'dry_run': (False, 'say what it would do and need; write nothing'),
         'details': (False, 'with --dry-run: all fields, shapes and programs'),
         **_PROCESSES},
        True),
    'prompts': Command(_prompts, {}, {}, True),
    'hints': Command(
        _hints, {'to': 'JSONL file of hint.material; it goes on where it ends'},
        {'limit': (0, 'the most questions of this call; 0: all')}, True),
    'fisher': Command(
        _fisher, {'to': 'safetensors file of algorithm.ewc.fisher'},
        {'questions': (128, 'how many are answered, algorithm.rollouts times '
                       'each'),
         'split': ('', 'one of eval.splits; empty: the training questions')},
        True),
    'pretrain': Command(
        _pretrain, {'to': 'safetensors file to write'}, {}, True),
    'study': Command(
        _study, {'to': 'directory of the study; it resumes there'},
        {'cores': (None, 'e.g. 0,1: one run at a time pinned to each'),
         'smoke': (0, 'steps > 0: each arm runs so long, to say what the whole '
                   'study takes')}, True),
    'models': Command(_models, {}, {}, False, '[FOLDER...]'),
    'import': Command(
        _import, {'from': 'a checkpoint folder of the hub, a .gguf file, or '
                  'a folder of peft\'s, which is merged',
                  'to': 'safetensors file to write'},
        {'base': (None, 'weights below adapters; default: those that their '
                  'folder names')}, False),
    'export': Command(
        _export, {'checkpoint': 'weights of ours, or a run\'s directory',
                  'to': 'a new folder'},
        {'tokenizer': (None, 'folder or .gguf; default: where the weights had '
                             'theirs from'),
         'dtype': ('float32', 'or bfloat16'),
         'adapters': (False, 'of a run with lora.rank > 0: its adapters alone, '
                      'for peft'),
         'push': (None, 'OWNER/NAME of a repository of models on the hub, to '
                  'which the folder is uploaded, too'),
         'private': (False, 'with --push: a new repository is private')},
        False),
    'sample': Command(
        _sample, {'model': 'a folder, a file or a packaged name',
                  'prompt': 'the user\'s message'},
        {'image': (None, 'an image file, or several with commas'),
         'video': (None, 'a folder of frames, in the order of their names'),
         'fps': (2.0, 'frames per second of --video'),
         'temperature': (1.0, '0 takes the most likely token'),
         'max_tokens': (0, 'longest response; 0: as in the run that --model '
                        'names, else 256'),
         'num': (1, 'number of responses'),
         'seed': (0, 'the seed of the draws'),
         'thinking': (None, 'on or off; default: the chat template\'s'),
         **_WORDS},
        False),
    'serve': Command(
        _serve, {'model': 'a folder, a file, a run or a packaged name'},
        {'name': (None, 'under which it is served; default: the folder\'s'),
         'host': ('127.0.0.1', 'others need --token-env'),
         'port': (8000, '0 takes a free one and prints it'),
         'dtype': ('float32', 'or bfloat16'),
         'context': (0, 'most tokens of prompt and response; 0: 4096 at most'),
         'slots': (32, 'choices that are drawn at a time (max_num_seqs)'),
         'token_env': (None, 'environment variable with the bearer token'),
         'max_mb': (32.0, 'longest body of a request, MiB'), **_WORDS}, False),
    'eval': Command(
        _eval, {'checkpoint': 'a run, one checkpoint of it, or weights',
                'to': 'a new directory for samples and summary'},
        {'splits': ('', 'e.g. hard,easy; empty: the config\'s eval.splits'),
         'rollouts': (1, 'n, the rollouts per question'),
         'k': ('1', 'each k of pass@k, e.g. 1,4'),
         'temperature': (0.0, '0 takes the argmax'),
         'suites': ('', 'a folder of benchmarks (docs/evaluation.md); it goes '
                    'on in --to where it was killed'),
         'limit': (0, 'of --suites: the most questions of each; 0: all'),
         'decoding': ('config', 'of --suites; paper: that of the paper'),
         'dry_run': (False, 'of --suites: say what would be asked; write '
                     'nothing')}, True,
        of_run='checkpoint'),
    'data': Command(
        _data, {},
        {'mapping': ('', 'the mapping to read rows by; empty: what fits best'),
         'suite': ('', 'the benchmark to read rows as'),
         'model': (None, 'a checkpoint folder whose chat counts tokens'),
         'rows': (10_000, 'the most rows that are counted by reason; 0: all'),
         'show': (1, 'questions that are shown, of each part'),
         'to': (None, 'folder for their pictures'),
         'json': (False, 'print JSON')}, False, 'FILE_OR_FOLDER...'),
    'bench': Command(
        _bench, {},
        {'model': ('', 'named shapes with random weights instead of a config, '
                   'e.g. tiny,qwen3.5-0.8b'),
         'load': ('', 'prompts x tokens x rollouts x tokens of --model, e.g. '
                  '8x512x8x256'),
         'dtype': ('', 'of --model; empty: float32 on CPUs, else bfloat16'),
         'measure': ('', 'e.g. sample,update; empty: all of them'),
         'repeats': (5, 'measured calls after the first'),
         'to': (None, 'JSON file')}, True, instead='model'),
    'plan': Command(
        _plan,
        {'topology': 'e.g. v5p:4x4x4 (v4, v5e, v5p, v6e, tpu7x), gpu:h100:8, '
                     'cpu:8'},
        {'fast': (False, 'fit alone: memory is planned, and no code generated'),
         'json': (None, 'JSON file'),
         'price': (None, 'of a chip-hour, in any currency'),
         'median_response': (0.25, 'of responses, as a share of the longest'),
         'spread': (0.8, 'standard deviation of the logarithm of lengths'),
         'mfu': (0.4, 'share of the peak rate in prefill, scoring, update'),
         'bandwidth': (0.6, 'share of the memory bandwidth in decoding'),
         'link': (0.7, 'share of the bandwidth of links in collectives')},
        True),
    'cache': Command(
        _cache, {}, {'clear': (False, 'remove them')}, False),
    'report': Command(
        _report, {},
        {'to': (None, 'HTML file; for one run WORKDIR/report.html'),
         'samples': (300, 'recorded questions to embed at most')}, False,
        'WORKDIR...'),
    'compare': Command(
        _compare, {},
        {'to': (None, 'Markdown file; the table is printed in any case'),
         'vary': ('optimizer.learning_rate',
                  'A,B: config fields, or sections of them, in which the runs '
                  'may differ, besides method and seed')}, False, 'WORKDIR...'),
    'doctor': Command(_doctor, {}, {}, False),
    'completion': Command(_completion, {}, {}, False, 'SHELL'),
}
