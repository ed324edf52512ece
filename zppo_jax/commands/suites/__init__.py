"""zppo eval --suites: the paper's benchmarks in a folder, as its table.

  evaluation.json     the settings; a resume with others is refused
  config.json         config, versions, revision, date in prompts
  suites/NAME/        samples.jsonl, a line per rollout, and summary.json, which
                      is written last: such a suite is not asked again
  summary.json        of all suites; table.txt, report.html
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from zppo_jax import allowed, models, tasks
from zppo_jax.chat import dates
from zppo_jax.commands import evaluate
from zppo_jax.commands.suites import copies
from zppo_jax.commands.suites.copies import Suite
from zppo_jax.data import suites
from zppo_jax.data.sources import ascii_name
from zppo_jax.devices import disk, sharding
from zppo_jax.endpoints import judge
from zppo_jax.records import Group
from zppo_jax.report.suites import page, scores, table
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.runs import lock, metrics, same_config, workdir
from zppo_jax.train import evaluate as evaluation
from zppo_jax.train.models import worded
from zppo_jax.train.shapes import auto
from zppo_jax.verdicts import kinds, verifier

DECODINGS = ('config', 'paper')
# Sections and fields of a config that decide the numbers of an evaluation.
DECIDES = ('student.', 'prompts.', 'judge.', 'algorithm.max_tokens',
           'algorithm.top_p', 'algorithm.top_k', 'seed', 'data.task',
           'data.fit')
# Questions that are asked together. Pictures become patches when their prompt
# is made, so that fewer with pictures are in memory at a time.
TOGETHER, WITH_MEDIA = 1024, 128
_SHOWN = 5  # answers of each suite on the page


class Wanted(NamedTuple):
  """What a user asks of an evaluation.

  Attributes:
    checkpoint: the policy.
    folder: holds a folder per benchmark.
    splits: benchmarks, with or without suites.PREFIX; () takes all that the
      folder holds.
    limit: the most questions of each; 0: all.
    num_rollouts: per question.
    ks: each k of pass@k; 1 is the score itself where points are whole.
    temperature: 0 takes the argmax.
    decoding: in DECODINGS; 'paper' takes suites.DECODING.
  """
  checkpoint: str
  folder: str
  splits: Sequence[str] = ()
  limit: int = 0
  num_rollouts: int = 1
  ks: Sequence[int] = ()
  temperature: float = 0.0
  decoding: str = 'config'


class Policy(NamedTuple):
  """What answers.

  Attributes:
    sampler: with its chat, decoding and grader.
    params: in the rollout sharding.
    verifier: of the grader.
    seed: of the draws.
  """
  sampler: collect.Sampler
  params: Any
  verifier: verifier.Verifier
  seed: int


def decoded(config, wanted: Wanted) -> tuple[Any, float]:
  """(config, temperature) with the decoding that is wanted, and with the
  shapes of the run if they are its own to choose.

  Raises:
    KeyError: for an unknown decoding.
    ValueError: for a temperature beside the paper's.
  """
  config = auto.of_checkpoint(config, wanted.checkpoint)
  allowed.one_of('decoding', wanted.decoding, DECODINGS)
  if wanted.decoding == 'config':
    return config, wanted.temperature
  if wanted.temperature:
    raise ValueError(f'temperature is {wanted.temperature} and decoding is '
                     "'paper', which has its own; leave one of them out")
  of = suites.DECODING
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.algorithm.max_tokens = of.max_tokens
    config.algorithm.top_p, config.algorithm.top_k = of.top_p, of.top_k
  return config, of.temperature


def weights_digest(params: Any) -> str:
  """A digest of the contents of all parameters."""
  out = hashlib.blake2b(digest_size=16)
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    array = np.asarray(leaf)
    out.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
               .encode())
    out.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return out.hexdigest()


def settings_of(config, wanted: Wanted, temperature: float) -> dict[str, Any]:
  """What decides the numbers, by dotted name."""
  values = same_config.flat(same_config.config_values(config))
  kept = {name: value for name, value in values.items()
          if name.startswith(DECIDES) and name not in same_config.MAY_CHANGE}
  return {**kept, 'a judge': bool(config.judge.url),
          'checkpoint': str(wanted.checkpoint),
          'rollouts': wanted.num_rollouts, 'temperature': temperature,
          'k': list(wanted.ks), 'limit': wanted.limit}


def check_same(path: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Refuses to go on with an evaluation of other settings.

  Raises:
    FileExistsError: for a directory with other files.
    ValueError: naming each setting that differs, with both values.
  """
  file = path / 'evaluation.json'
  if not file.is_file():
    workdir.check_unused(path)
    return
  try:
    stored = json.loads(file.read_text())
  except ValueError as e:
    raise ValueError(f'{file} cannot be read: {e}') from None
  differ = [n for n in sorted({**stored, **settings})
            if n in settings and stored.get(n) != settings[n]]
  if differ:
    shown = '; '.join(f'{n} is {stored.get(n)!r} there and {settings[n]!r} here'
                      for n in differ)
    raise ValueError(f'{path} holds an evaluation of other settings: {shown}. '
                     'Go on with its own, or take a new --to')


def _finished(home: pathlib.Path, suite: Suite) -> dict[str, Any] | None:
  """The summary of a suite that was evaluated; None if it was not.

  Raises:
    ValueError: if its questions are others now.
  """
  file = home / 'summary.json'
  if not file.is_file():
    return None
  try:
    summary = json.loads(file.read_text())
  except ValueError as e:
    raise ValueError(f'{file} cannot be read: {e}') from None
  if summary['digest'] != suite.digest:
    raise ValueError(
        f'{home} was evaluated on {summary["questions"]} questions, and the '
        f'files of {suite.split} hold others now; take a new --to, or remove '
        f'{home} to ask it again')
  return summary


def _rows(groups: Iterable[Group]) -> list[dict[str, Any]]:
  """Lines of samples.jsonl."""
  groups = list(groups)
  rollouts = [(g.prompt.question, r) for g in groups for r in g.rollouts]
  return [{**row, 'points': rollout.points, 'subset': question.subset,
           'kind': question.kind}
          for row, (question, rollout) in zip(
              evaluation.sample_rows(groups), rollouts, strict=True)]


def _asked(suite: Suite, policy: Policy, home: pathlib.Path,
           ks: Sequence[int]) -> dict[str, Any]:
  """Asks a suite, and writes its samples and its summary, which it returns."""
  begun = time.perf_counter()
  home.mkdir(parents=True, exist_ok=True)
  partial = home / 'samples.partial'
  partial.unlink(missing_ok=True)  # of an attempt that was killed
  at, left_out = suite.fitting()
  size = WITH_MEDIA if suite.shows else TOGETHER
  rows, prompt_tokens, shares = [], 0, []
  for start in range(0, len(at), size):
    questions = [suite.pool[i] for i in at[start:start + size]]
    groups = evaluation.answer(
        policy.sampler, policy.params, {suite.name: questions}, policy.seed
        )[suite.name]
    new = _rows(groups)
    disk.append(partial, ''.join(json.dumps(row) + '\n' for row in new))
    rows += new
    prompt_tokens += sum(len(g.prompt.tokens) for g in groups)
    shares.append((len(groups), metrics.of_verdicts(groups)))
  summary = {
      'name': suite.name, 'questions': len(at), 'digest': suite.digest,
      'skipped': suite.skipped, 'left_out': left_out,
      'notes': list(suite.notes),
      'score': dataclasses.asdict(scores.score_of(suite.base, rows, ks)),
      'verdicts': _joined(shares), 'reasons': policy.verifier.reasons(),
      'tokens': {'prompt': prompt_tokens,
                 'response': sum(row['length'] for row in rows)},
      'seconds': round(time.perf_counter() - begun, 1)}
  os.replace(partial, home / 'samples.jsonl')
  workdir.write_json(home / 'summary.json', summary)
  return summary


def _joined(shares: Sequence[tuple[int, Mapping[str, float]]]
            ) -> dict[str, float]:
  """Shares of verdicts of several parts as those of the whole."""
  whole = sum(n for n, _ in shares)
  names = sorted({name for _, of in shares for name in of})
  return {name: sum(n * of.get(name, 0.0) for n, of in shares) / whole
          for name in names}


def _task(config, needed: str) -> tuple[tasks.Task, verifier.Verifier]:
  """The task whose grader has the judge of the config, if one is needed."""
  checks = judge.verifier_of(config.judge, needed)
  return tasks.graded_by(_boxed(config), checks), checks


def _boxed(config) -> tasks.Task:
  """The task of a config with the grader and the words of benchmarks, which ask
  for a box whatever a run of this config trains on."""
  return tasks.get(config.data.task)._replace(grader=verifier.BOXED,
                                              prompts=None)


def _judged(found: Sequence[Suite]) -> str:
  """The id of the first question that cannot be graded without a judge."""
  return next((q.id for suite in found for q in suite.pool.words()
               if kinds.judged(q.kind)), '')


def _policy(config, wanted: Wanted, found: Sequence[Suite],
            temperature: float, day) -> tuple[Any, Policy, str]:
  """(the config with shapes, what answers, the digest of its weights)."""
  task, checks = _task(config, _judged(found))
  mesh = sharding.make_mesh(sharding.MeshConfig(**config.mesh))
  loaded = evaluate.load_policy(config, wanted.checkpoint, mesh, day)
  model = models.on_mesh(loaded.model, mesh)
  params, chat = (weight_sync.place_copy(loaded.params, model, mesh),
                  worded(config, task, loaded))
  asked = [] if not config.shapes.auto else [
      q for q in (suite.pool[i] for suite in found
                  for i in range(len(suite.pool)))
      if not q.media or chat.vision is not None]
  sampler_of = lambda c: evaluate.make_sampler(
      c, model, chat, mesh, grader=task.grader,
      num_rollouts=wanted.num_rollouts, temperature=temperature,
      num_questions=TOGETHER)
  config = evaluate.with_shapes(config, asked, chat, model, wanted.num_rollouts,
                                sampler_of, params, loaded.params)
  return (config, Policy(sampler_of(config), params, checks, config.seed),
          weights_digest(loaded.params))


class Outline(NamedTuple):
  """What an evaluation would ask.

  Attributes:
    text: its lines.
    refused: suite -> why its copy cannot be asked.
  """
  text: str
  refused: dict[str, str]


def dry_run(config, wanted: Wanted) -> Outline:
  """What an evaluation would ask, suite by suite; it writes nothing.

  Raises:
    As `main`, but for copies that cannot be read, which are named.
  """
  config, temperature = decoded(config, wanted)
  evaluate.check(wanted.num_rollouts, wanted.ks, temperature)
  refused: dict[str, str] = {}
  found = copies.find(config, wanted.folder, wanted.splits, wanted.limit,
                      refused)
  day = dates.choose(config, wanted.checkpoint)
  mesh = sharding.make_mesh(sharding.MeshConfig(**config.mesh))
  loaded = evaluate.load_policy(config, wanted.checkpoint, mesh, day)
  chat = worded(config, _boxed(config), loaded)
  lines: list[str] = []
  bound: list[str] = []
  late: list[str] = []  # suites whose pictures cannot be read
  total = 0
  for suite in found:
    suite.chat = chat
    try:
      lines += suite.outline(bool(config.judge.url))
    except copies.REFUSALS as e:  # of pictures, which are read here
      refused[suite.name] = ascii_name(e)
      late.append(suite.name)
      continue
    total += len(suite.pool)
    if suites.get(suite.base).scoring.endswith('+judge'):
      bound.append(suite.name)
  lines += [f'{name}: refused: {why}' for name, why in refused.items()]
  if bound and not config.judge.url:
    lines.append('judge.url is empty; where comparing fails the paper asks a '
                 f'judge, so that scores of {len(bound)} suites are lower '
                 'bounds of its own')
  lines.append(f'in all {total:,} questions, '
               f'{total * wanted.num_rollouts:,} rollouts; nothing was asked'
               + (f'; {len(refused)} suites refused: {", ".join(refused)}'
                  if refused else ''))
  return Outline('\n'.join([_heading(
      config, wanted, temperature, len(found) - len(late)), *lines]), refused)


def _heading(config, wanted: Wanted, temperature: float,
             count: int) -> str:
  algo = config.algorithm
  return (f'{count} suites in {wanted.folder}, {wanted.num_rollouts} '
          f'rollouts a question of at most {algo.max_tokens} tokens, '
          f'temperature {temperature}'
          + (f', top_p {algo.top_p}, top_k {algo.top_k}' if temperature
             else ''))


def _page(path: pathlib.Path, wanted: Wanted, settings: Mapping[str, Any],
          summaries: Sequence[Mapping[str, Any]]) -> None:
  samples = {}
  for summary in summaries:
    with open(path / 'suites' / summary['name'] / 'samples.jsonl') as f:
      samples[summary['name']] = [json.loads(line) for line, _ in zip(
          f, range(_SHOWN), strict=False)]
  (path / 'report.html').write_text(page.render(
      str(wanted.checkpoint), settings, summaries, samples), encoding='utf-8')


def main(config, wanted: Wanted, to,
         say: Callable[[str], None] = print) -> list[dict[str, Any]]:
  """Evaluates the benchmarks of a folder; it goes on where it was killed.

  Args:
    config: of a training run: task, student, limits, shapes, seed, judge.
    wanted: what to evaluate, and how.
    to: a new directory, or that of an evaluation of the same settings.
    say: takes a line per suite.

  Returns:
    The summary of each suite.

  Raises:
    FileExistsError: for a directory with other files.
    FileNotFoundError: for a checkpoint or a suite that is not there.
    KeyError, ValueError: naming what does not fit, or what changed since the
      directory was begun.
    EndpointError: for a judge that cannot be reached.
    lock.Locked: if another process works on the directory.
  """
  config, temperature = decoded(config, wanted)
  evaluate.check(wanted.num_rollouts, wanted.ks, temperature)
  allowed.number('limit', wanted.limit, '>= 0', whole=True)
  path = pathlib.Path(to)
  settings = settings_of(config, wanted, temperature)
  check_same(path, settings)
  found = copies.find(config, wanted.folder, wanted.splits, wanted.limit)
  day = dates.choose(config, path, wanted.checkpoint)
  config, policy, weights = _policy(config, wanted, found, temperature, day)
  settings['weights'] = weights
  check_same(path, settings)
  path.mkdir(parents=True, exist_ok=True)
  with lock.hold(path):
    workdir.write_json(path / 'config.json', workdir.describe(
        config, date=day.date.isoformat()))
    workdir.write_json(path / 'evaluation.json', settings)
    summaries = []
    for i, suite in enumerate(found, 1):
      home = path / 'suites' / suite.name
      summary = _finished(home, suite)
      known = ' (done before)' if summary else ''
      if summary is None:
        suite.chat = policy.sampler.chat
        suite.check = (max(config.shapes.prompt_buckets),
                       config.shapes.patch_buckets, config.data.fit)
        summary = _asked(suite, policy, home, wanted.ks)
      score = table.percent(table.estimate_of(summary['score']['score']))
      say(f'{i} of {len(found)} {suite.name}: {score}, '
          f'{summary["questions"]:,} questions, {summary["seconds"]} s{known}')
      summaries.append(summary)
    workdir.write_json(path / 'summary.json', {'settings': settings,
                                               'suites': summaries})
    (path / 'table.txt').write_text(table.text(summaries) + '\n')
    _page(path, wanted, settings, summaries)
  return summaries
