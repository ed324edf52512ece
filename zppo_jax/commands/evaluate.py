"""zppo eval: a checkpoint's answers, accuracy and pass@k on held-out splits.

  samples.jsonl  a line per rollout
  summary.json   written last; both in docs/metrics.md
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from zppo_jax import allowed, models, tasks
from zppo_jax.chat import dates
from zppo_jax.chat.rendering import Day
from zppo_jax.chat.wording import Chat
from zppo_jax.devices import disk, sharding
from zppo_jax.endpoints import judge
from zppo_jax.records import Decoding, Grader, Group, Question
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.runs import checkpoints, metrics, workdir
from zppo_jax.train import build, evaluate
from zppo_jax.train.builders import rewards
from zppo_jax.train.models import Loaded, load_model, with_adapters, worded
from zppo_jax.train.shapes import auto, room
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.rewards import Scoring
from zppo_jax.weights import pretrained


def load_policy(config, checkpoint: str, mesh,
                day: Day | None = None) -> Loaded:
  """The policy of a checkpoint, computed as config.student says.

  Args:
    config: of the training run.
    checkpoint: weights as pretrained.load takes them; or the directory of an
      unfinished run, its newest checkpoint; or one checkpoint in a run.
    mesh: where a checkpoint is restored.
    day: the date in its prompts; None: today.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: naming what does not fit.
  """
  spec, path = config.student.copy_and_resolve_references(), pathlib.Path(
      checkpoint)
  finished = (path / pretrained.FINAL).is_file()
  if finished or not (path.name.isdigit() or (path / 'checkpoints').is_dir()):
    spec.weights = str(checkpoint)
    return load_model(spec, thinking=spec.thinking, day=day)
  loaded = load_model(spec, thinking=spec.thinking, day=day)
  loaded, adapted = with_adapters(config, loaded, mesh)
  model = loaded.model
  if adapted is not None:
    model = model._replace(init=adapted.init)
  state = checkpoints.restore_any(
      path, build.abstract_state(config, model, mesh),
      loaded.description['model'], None if adapted is None else
      checkpoints.adapters_of(adapted, spec.weights))
  return loaded._replace(params=state.params if adapted is None else
                         adapted.join(state.params))


def _at_once(config, num_rollouts: int) -> int:
  """The most questions of a call."""
  algo = config.algorithm
  return max(1, algo.num_new * algo.rollouts // num_rollouts)


def with_shapes(config, questions: Sequence[Question], chat: Chat,
                model: models.Model, num_rollouts: int,
                sampler_of: Callable[[Any], collect.Sampler], params: Any,
                held: Any) -> Any:
  """The config with shapes; if shapes.auto is still True, they come from the
  questions (auto.of_questions).

  Args:
    config: the config.
    questions: what is asked.
    chat: of the policy.
    model: the network on its mesh.
    num_rollouts: per question.
    sampler_of: a config with shapes -> its sampler.
    params: of the sampler, in its sharding.
    held: further arrays in memory.
  """
  if not config.shapes.auto:
    return config
  limit = room.limit()
  return auto.of_questions(
      config, questions, chat, model.config.max_positions,
      num_rollouts * min(_at_once(config, num_rollouts), len(questions)),
      num_rollouts * sharding.batch_shards(model.mesh),
      lambda c: room.answers_fit(sampler_of(c), params, held, limit))


def make_sampler(config, model, chat, mesh, *, grader: Grader,
                 num_questions: int, num_rollouts: int,
                 temperature: float) -> collect.Sampler:
  """A sampler for plain questions.

  One call samples no more rollouts than a step of training does, because that
  many are known to fit into memory.
  """
  algo, shapes = config.algorithm, config.shapes
  truncation = ({'top_p': algo.top_p, 'top_k': algo.top_k} if temperature
                else {})
  return collect.make_sampler(
      model=model, mesh=mesh, chat=chat, grader=grader,
      decoding=Decoding(algo.max_tokens, temperature, **truncation),
      num_rollouts=num_rollouts, prompt_buckets=shapes.prompt_buckets,
      patch_buckets=shapes.patch_buckets,
      group_buckets=(min(_at_once(config, num_rollouts), num_questions),),
      prefill_tokens=shapes.prefill_tokens, slots=shapes.slots)


def check(num_rollouts: int, ks: Sequence[int], temperature: float) -> None:
  """ValueError for numbers that make no sense, before anything compiles."""
  allowed.number('rollouts', num_rollouts, '>= 1', whole=True)
  if num_rollouts > 1 and not temperature:
    raise ValueError(f'temperature 0 takes the argmax: {num_rollouts} rollouts '
                     'of a question would be the same; set a temperature or '
                     'rollouts=1')
  evaluate.check_ks(ks, num_rollouts)


def _rewards(groups: Sequence[Group], scoring: Scoring | None) -> dict:
  """{'rewards': component -> mean}; {} for a config without weights."""
  found = metrics.of_rewards(
      groups, scoring if scoring and scoring.names else None)
  return {'rewards': found} if found else {}


def main(config, checkpoint: str, path, *, splits: Sequence[str] = (),
         num_rollouts: int = 1, ks: Sequence[int] = (1,),
         temperature: float = 0.0) -> dict:
  """Evaluates a checkpoint into a new directory and returns the summary.

  Args:
    config: the config of a training run. It gives task, decoding limits,
      shapes and seed, and the date in prompts if it names one. Without one it
      is the date of the run to which the checkpoint belongs, or today's.
    checkpoint: the policy instead of the config's student; see `load_policy`.
    path: a new directory.
    splits: evaluation splits; none means the config's eval.splits.
    num_rollouts: n, the rollouts per question.
    ks: each k of pass@k.
    temperature: 0 takes the argmax; at others the config's top_p and top_k
      hold too.

  Raises:
    FileExistsError: if the directory was used.
    FileNotFoundError: for a checkpoint that is not there.
    KeyError, ValueError: naming what does not fit.
    EndpointError: for a judge that cannot be reached.
  """
  check(num_rollouts, ks, temperature)
  if config.get('method') == 'sft':
    raise ValueError('a config of `zppo sft` asks no questions; name one of '
                     '`zppo train` with your task by --config')
  workdir.check_unused(path)
  config = auto.of_checkpoint(config, checkpoint)
  task = tasks.get(config.data.task)
  names = tuple(splits) or tuple(config.eval.splits)
  questions = tasks.splits(task, config.eval, names, config.data.pool,
                           judged=bool(config.judge.url),
                           task_name=config.data.task)
  verifier = judge.verifier_of(config.judge, next(
      (q.id for split in questions.values() for q in split
       if kinds.judged(q.kind)), ''))
  task = rewards.with_rewards(config, tasks.graded_by(task, verifier))
  mesh = sharding.make_mesh(sharding.MeshConfig(**config.mesh))
  day = dates.choose(config, checkpoint)
  loaded = load_policy(config, checkpoint, mesh, day)
  model = models.on_mesh(loaded.model, mesh)
  params, chat = (weight_sync.place_copy(loaded.params, model, mesh),
                  worded(config, task, loaded))
  asked = [q for split in questions.values() for q in split]
  sampler_of = lambda c: make_sampler(
      c, model, chat, mesh, grader=task.grader, num_rollouts=num_rollouts,
      temperature=temperature, num_questions=len(asked))
  config = with_shapes(config, asked, chat, model, num_rollouts, sampler_of,
                       params, loaded.params)
  sampler = sampler_of(config)
  answered = evaluate.answer(sampler, params, questions, config.seed)
  summary = {
      'checkpoint': str(checkpoint), 'rollouts': num_rollouts,
      'temperature': temperature, 'seed': config.seed,
      'reasons': verifier.reasons(),
      'splits': {split: {
          'questions': len(groups),
          'verdicts': metrics.of_verdicts(groups),
          **_rewards(groups, task.grader.scoring),
          **{name: dataclasses.asdict(e)
             for name, e in evaluate.estimates(groups, ks).items()}}
          for split, groups in answered.items()}}
  path = pathlib.Path(path)
  workdir.check_unused(path)  # another one may have been as fast
  path.mkdir(parents=True, exist_ok=True)
  workdir.write_json(path / 'config.json', workdir.describe(
      config, date=day.date.isoformat()))
  disk.append(path / 'samples.jsonl', ''.join(
      json.dumps(row) + '\n' for groups in answered.values()
      for row in evaluate.sample_rows(groups, task.grader.scoring)))
  workdir.write_json(path / 'summary.json', summary)
  return summary


# Shares that a table shows where there are any: who reads an accuracy must see
# what failed in its making.
_FAULTS = ('judge_malformed', 'ungraded')


def table(summary: dict) -> str:
  """The summary as aligned text: mean [95 % Wilson interval] by split, and the
  mean of the graded reward and its components where there are some."""
  splits = summary['splits']
  faults = [name for name in _FAULTS
            if any(of['verdicts'].get(name) for of in splits.values())]
  rows = []
  for split, result in splits.items():
    estimates = {n: e for n, e in result.items()
                 if n not in ('questions', 'verdicts', 'rewards')}
    rewards = result.get('rewards', {})
    if not rows:
      rows.append(['split', 'questions', *estimates,
                   *(f'reward/{name}' for name in rewards), *faults])
    numbers = [*rewards.values(),
               *(result['verdicts'].get(name, 0.0) for name in faults)]
    rows.append([split, str(result['questions']), *(
        f'{e["mean"]:.3f} [{e["low"]:.3f}, {e["high"]:.3f}]'
        for e in estimates.values()), *(f'{n:.3f}' for n in numbers)])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join('  '.join(c.ljust(w) for c, w in zip(row, widths,
                                                        strict=True)).rstrip()
                   for row in rows)
