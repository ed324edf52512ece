"""The questions of gen.json as a task of inspect (docs/evaluation.md)."""

import json
import pathlib

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def tiny_gen() -> Task:
  """Counts an answer that holds the gold one."""
  lines = pathlib.Path(__file__).with_name('gen.json').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return Task([Sample(input=r['q'], target=r['a']) for r in rows],
              solver=generate(), scorer=includes())
