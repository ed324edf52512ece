"""What a study compares: the numbers of one complete run, from its folder.

| endpoint | unit | meaning |
|---|---|---|
| SPLIT | fraction | greedy plain accuracy after the last step |
| mean_SPLIT | fraction | the mean over all evaluations after the first step |
| deep_mastered | facts | deep misconceptions that are gone (`mastered`) |
| spread | answers | different right answers to a question (tables.spread) |
| graduated_from_0 | fraction | entries of accuracy 0 that left it solved |
| student_rollouts | rollouts | drawn by the student, probes apart |
| tokens | tokens | read and written by student and teacher, probes apart |
| flops | FLOPs | an estimate of student and teacher (`flops`) |
| seconds | s | wall-clock seconds of the steps |
| METRIC | as docs/metrics.md says | the mean over the steps that wrote it |

An endpoint that a run does not have (no buffer, no kept answers) is absent. A
run that a guard stopped has those of its evaluations until then, and their
cost; it has no FLOPs, spread, buffer and answers.
"""

import itertools
import json
import math
import pathlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from safetensors import safe_open

from zppo_jax import assets
from zppo_jax.algorithms import methods
from zppo_jax.runs import workdir
from zppo_jax.runs.totals import History
from zppo_jax.study.tables import spread
from zppo_jax.tasks import micro, micro_corpus
from zppo_jax.weights import safetensors_file

ANSWERS = 'answers'  # the folder of `zppo eval` in the folder of a run
STOPPED = 'stopped.json'  # in its place: which guard stopped the run, and why
FORWARD, TRAIN = 2, 6  # FLOPs per parameter and token; backward counts twice
Fact = tuple[str, int]  # operator, digit


def json_lines(path: pathlib.Path) -> list[dict]:
  """The rows of a file of one JSON value per line."""
  return [json.loads(line) for line in path.read_text().splitlines()]


def uses(question_id: str, answer: str) -> list[tuple[Fact, bool]]:
  """The facts that an answer of the embedded world used, and whether each was
  right.

  A step of a chain reads the value that the answer itself has for the step
  before, so that an error counts once. A step without a value is no use.

  Args:
    question_id: 'micro/FAMILY/OPERATORS/DIGITS', or that of a picture or clip.
    answer: the parsed answer: values with spaces between.
  """
  _, family, ops, digits = question_id.split('/')
  values = [int(word) for word in answer.split()]
  read = ([int(d) for d in digits] if family == micro.LIST
          else [int(digits), *values])
  return [((op, x), value == micro.apply_operator(op, x))
          for op, x, value in zip(ops, read, values, strict=False)]


def mastered(rows: Iterable[Mapping], deep: Collection[Fact]) -> int:
  """How many deep facts are right in more than half of their uses.

  Args:
    rows: greedy answers, lines of samples.jsonl of `zppo eval`.
    deep: the deep facts of the student.
  """
  right: Counter = Counter()
  total: Counter = Counter()
  for row in rows:
    for fact, is_right in uses(row['id'], row['answer']):
      total[fact] += 1
      right[fact] += is_right
  return sum(2 * right[fact] > total[fact] for fact in deep)


def deep_facts(weights: str) -> frozenset[Fact]:
  """The facts of a deep misconception that a packaged or pre-trained student
  was taught, from the config in its file; none for one without misconceptions.

  Args:
    weights: a packaged name or a file of `zppo pretrain`.
  """
  described = safetensors_file.description(assets.find(weights))
  belief = dict(described.get('config', {}).get('belief', {}))
  if belief.pop('kind', '') != 'misconceived':
    return frozenset()
  deep = micro_corpus.misconceived(**belief).deep_OX
  return frozenset((micro.OPERATORS[o], int(x)) for o, x in np.argwhere(deep))


def parameters(file: pathlib.Path) -> int:
  """The number of parameters in a safetensors file."""
  with safe_open(file, framework='numpy') as f:
    return sum(math.prod(f.get_slice(name).get_shape()) for name in f.keys())


def mean_of_evaluations(curve: Sequence[Mapping], split: str) -> float:
  """The mean accuracy on a split over the evaluations after the first step.

  Args:
    curve: lines of eval.jsonl.
    split: the split.
  """
  return float(np.mean([line[split] for line in curve if line['step']]))


def _scoring(method: methods.Method) -> bool:
  """Whether the teacher reads what is trained on."""
  return method.teacher_scores or method.compares or bool(method.needs)


def flops(metrics: Sequence[Mapping], method: methods.Method, updates: int,
          student: int, teacher: int) -> float:
  """An estimate of the FLOPs of a run's steps.

  A forward pass costs 2 per parameter and token, an update 6. Attention,
  padding and evaluations are left out, as are probes. The student reads its
  prompts once and writes its rollouts; what carries a loss is read again before
  the first of several updates, and once in an update; groups without an
  advantage cost no update. The teacher reads and writes its answers, summaries
  and hints, and reads what is trained on once if the method scores it. Where
  the teacher's answers are trained on, those that are right count.

  Args:
    metrics: lines of metrics.jsonl.
    method: the method of the run.
    updates: algorithm.updates.
    student, teacher: parameters; 0 where there is no teacher.
  """
  total = 0.0
  for row in metrics:
    of = lambda role, row=row: (row.get(f'tokens/{role}_prompt', 0)
                                + row.get(f'tokens/{role}_generated', 0))
    sampled = of('student') + of('drawn')
    lessons = sampled
    if method.states == 'teacher':
      lessons = of('teacher') * row.get('teacher/accuracy', 0.0)
    trained = lessons * row['update/trained_tokens']
    again = trained if updates > 1 and method.old_logps else 0.0
    total += student * (FORWARD * (sampled + again) + TRAIN * trained)
    read = trained if _scoring(method) else 0.0
    total += teacher * FORWARD * (
        of('teacher') + of('compression') + of('hint') + read)
  return total


def _teacher_parameters(config: Mapping, method: methods.Method,
                        student: int) -> int:
  """Of the teacher of a run; 0 if it asks none, or one outside."""
  kind = config['teacher']['kind']
  if not method.teacher or kind not in ('own', 'in_process'):
    return 0
  if kind == 'own':
    return student
  return parameters(pathlib.Path(assets.find(config['teacher']['weights'])))


def graduated_from_0(summary: Mapping) -> float | None:
  """The share of admissions at accuracy 0 that graduated; None without any."""
  entries = summary['graduation_by_entry_accuracy'].get('0')
  return entries['graduated'] / entries['admitted'] if entries else None


def stop_of(path: pathlib.Path) -> str:
  """Why a guard stopped a run; '' where none did."""
  file = path / STOPPED
  return json.loads(file.read_text())['why'] if file.is_file() else ''


def summary_of(path: pathlib.Path) -> dict:
  """The summary of a complete run, or of one that a guard stopped: its first
  and last evaluation, and what its steps have cost.

  Raises:
    FileNotFoundError: for another run.
  """
  if not stop_of(path):
    return json.loads((path / 'summary.json').read_text())
  rows, curve = (json_lines(path / name)
                 for name in ('metrics.jsonl', 'eval.jsonl'))
  spent = History()
  for row in rows:
    spent.add(row, None)
  splits = workdir.read_config(path)['config']['eval']['splits']
  base, final = ({split: line[split] for split in splits if split in line}
                 for line in (curve[0], curve[-1]))
  return spent.summary(base, final, len(rows))


def watched_means(metrics: Sequence[Mapping],
                  names: Sequence[str]) -> dict[str, float]:
  """Means of metrics over the steps that wrote them; without the others.

  Args:
    metrics: lines of metrics.jsonl.
    names: metrics.
  """
  values = {name: [row[name] for row in metrics if name in row]
            for name in names}
  return {name: float(np.mean(of)) for name, of in values.items() if of}


def of_run(path: pathlib.Path, last: int,
           watched: Sequence[str] = ()) -> dict[str, float]:
  """The endpoints of a run by name.

  Args:
    path: its folder; with the folder ANSWERS in it, deep facts are counted.
    last: the last steps whose recorded samples say the spread.
    watched: metrics whose means are endpoints.

  Raises:
    FileNotFoundError: see summary_of.
  """
  summary = summary_of(path)
  config = workdir.read_config(path)['config']
  curve, metrics = (json_lines(path / name)
                    for name in ('eval.jsonl', 'metrics.jsonl'))
  out: dict[str, float | None] = {
      **{split: of['final'] for split, of in summary['eval'].items()},
      'student_rollouts': summary['student_rollouts'],
      'tokens': sum(count for role, count in summary['tokens'].items()
                    if not role.startswith('probe_')),
      'seconds': summary['wall_s'],
      **watched_means(metrics, watched)}
  if len(curve) > 1:
    out |= {f'mean_{split}': mean_of_evaluations(curve, split)
            for split in summary['eval']}
  if not stop_of(path):
    method = methods.get(config['method'])
    student = parameters(path / safetensors_file.FINAL)
    out |= {
        'spread': spread(json_lines(path / 'samples.jsonl'), summary['steps'],
                         last),
        'graduated_from_0': graduated_from_0(summary),
        'flops': flops(metrics, method, config['algorithm']['updates'], student,
                       _teacher_parameters(config, method, student))}
  if (path / ANSWERS / 'summary.json').is_file():
    rows = json_lines(path / ANSWERS / 'samples.jsonl')
    out['deep_mastered'] = mastered(
        rows, deep_facts(config['student']['weights']))
    out |= _accuracies(rows, summary['eval'])
  return {name: value for name, value in out.items()
          if value is not None and not math.isnan(value)}


def _accuracies(rows: Sequence[Mapping],
                known: Collection[str]) -> dict[str, float]:
  """Accuracy on splits of which answers alone were kept."""
  by_split = itertools.groupby(
      sorted(rows, key=lambda row: row['split']), lambda row: row['split'])
  return {split: float(np.mean([row['reward'] for row in group]))
          for split, group in by_split if split not in known}
