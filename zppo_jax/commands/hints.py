"""`zppo hints`: hints that the teacher writes once for all questions of a pool.

The file is material (algorithms/privileged/material.py): `hint.material` and
`distil.material` take it. A question without a hint that may be shown has a
line without one, so that the same command goes on behind the last line.
"""

import json
import pathlib
from collections import Counter

from ml_collections import ConfigDict

from zppo_jax import allowed
from zppo_jax.algorithms import methods, zppo
from zppo_jax.algorithms.privileged import hints, material
from zppo_jax.devices import disk
from zppo_jax.randomness import Purpose, host_rng
from zppo_jax.records import Group, HardVisit
from zppo_jax.train.build import build
from zppo_jax.train.run import Run


def _written(run: Run, prompts: list) -> tuple[hints.Hints, int]:
  """(hints of some questions, how many of them have a right answer)."""
  groups = (run.teacher.answer(prompts, 0)[0] if run.hint.of_answers
            else [Group(p, ()) for p in prompts])
  visits = [HardVisit(question=g.prompt.question, accuracy=0.0, wrong=(),
                      teacher_correct=g.correct) for g in groups]
  made = hints.written(
      visits, run.hint, run.chat,
      run.teacher.capabilities.max_compression_prompt,
      host_rng(run.seed, 0, Purpose.WRITTEN),
      lambda requests, traces: run.teacher.hint(requests, traces, 0))
  return made, sum(bool(v.teacher_correct or (
      not run.hint.of_answers and v.question.responses)) for v in visits)


def main(config: ConfigDict, to: str, limit: int) -> Counter:
  """Writes the hints of a config's questions and prints what became of them.

  Args:
    config: a config of the method 'hint' whose teacher writes.
    to: the file; lines that it holds are kept.
    limit: the most questions; 0: all.

  Returns:
    Numbers: 'questions', 'answered', 'kept' and each cause of rejection.

  Raises:
    ValueError: for another method or source of hints; for a line of the file
      that is none of its own.
  """
  allowed.number('--limit', limit, '>= 0', whole=True)
  if 'hint' not in methods.get(config.method).reformulations or (
      config.hint.source == 'stored'):
    raise ValueError(
        f'method is {config.method!r} and hint.source {config.hint.source!r}; '
        "the teacher writes hints with method 'hint' and hint.source "
        "'teacher' or 'reference', or with 'sage' or 'nurl' and 'reference'")
  run, file, counts = build(config), pathlib.Path(to), Counter()
  there = material.read(to) if file.is_file() else {}
  pool = run.source.pool
  todo = [i for i in range(len(pool)) if pool[i].id not in there]
  todo = todo[:limit or None]
  for start in range(0, len(todo), run.rules.num_new):
    questions = [pool[i] for i in todo[start:start + run.rules.num_new]]
    made, answered = _written(run, zppo.plain_prompts(questions, run.chat))
    rows = [{'id': q.id} | ({'hint': made.texts[q.id, '']}
                            if (q.id, '') in made.texts else {})
            for q in questions]
    disk.append(file, ''.join(
        json.dumps(row) + '\n' for row in rows))
    counts.update({'questions': len(questions), 'answered': answered,
                   'kept': len(made.texts)})
    counts.update(why.name.lower() for why in made.failures)
    print(', '.join(f'{name} {n}' for name, n in counts.items()), flush=True)
  return counts
