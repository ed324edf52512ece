"""Fabricated workdirs: what a run leaves, made from a seed in milliseconds."""

import json
import pathlib

import numpy as np

SPLITS = ('hard', 'easy')
PHASES = ('rollouts', 'teacher', 'scoring', 'update', 'probe', 'evaluate',
          'checkpoint', 'log')
VERDICTS = ('correct', 'wrong', 'no_answer', 'truncated')


def write_lines(path, rows) -> None:
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def metrics_row(rng, method: str, step: int, steps: int) -> dict:
  """A step's numbers under the names of docs/metrics.md."""
  done = step / max(1, steps - 1)
  noise = lambda scale=0.03: float(rng.normal(0, scale))
  share = lambda v: float(np.clip(v, 0, 1))
  row = {
      'step': step, 'accuracy/plain': share(0.4 + 0.4 * done + noise()),
      'accuracy/plain/hard': share(0.05 + 0.6 * done + noise()),
      'accuracy/plain/easy': share(0.97 + noise()),
      'trivial/plain': share(0.9 - 0.5 * done + noise()),
      'advantage/positive': share(0.2 + 0.1 * done + noise()),
      'groups/plain': 32, 'length/plain': 14 + noise(1),
      'rollouts/length': 14 + noise(1),
      'stop/end': 0.98, 'stop/length': 0.02, 'verdict/correct': 0.5,
      'verdict/wrong': 0.45, 'verdict/no_answer': 0.05,
      'update/entropy': 0.6 - 0.4 * done + noise(),
      'update/grad_norm': 0.3 + abs(noise(0.1)),
      'update/ratio_max': 1.3 + abs(noise(0.2)),
      'update/ratio_min': 0.7 - abs(noise(0.1)),
      'update/clip_low': 0.01, 'update/clip_high': 0.02,
      'update/clip_dual': 0.0,
      'sampler_trainer/logp_gap_max': 1e-6 * (1 + abs(noise(1))),
      'student_rollouts': 320,
      'tokens/student_prompt': 900, 'tokens/student_generated': 4400,
      'tokens/teacher_prompt': 0, 'tokens/teacher_generated': 0}
  if method != 'grpo':
    row |= {
        'accuracy/bcq': share(0.2 + 0.6 * done + noise()),
        'accuracy/ncq': share(0.1 + 0.6 * done + noise()),
        'trivial/bcq': share(0.6 + noise()),
        'trivial/ncq': share(0.7 + noise()),
        'length/bcq': 15 + noise(1), 'length/ncq': 16 + noise(1),
        'buffer/size': min(192, 13 * (step + 1)), 'buffer/admitted': 9,
        'buffer/graduated': step % 4, 'buffer/evicted': step // 15,
        'buffer/visits_mean': 0.1 * step, 'teacher/answered': 1.0,
        'teacher/accuracy': share(0.98 + noise()), 'compression/asked': 12,
        'compression/kept': 3, 'compression/failed/over_cap': 1,
        'tokens/teacher_prompt': 50, 'tokens/teacher_generated': 450,
        'tokens/compression_prompt': 220, 'tokens/compression_generated': 90}
    if step % 5 == 0:
      row |= {'probe/bcq': share(0.95 - 0.1 * done + noise()),
              'probe/plain': share(0.97 + noise(0.01)),
              'probe/follows_wrong': share(0.03 + 0.1 * done),
              'probe/questions': 16}
  seconds = dict(zip(PHASES, (0.3, 0.1, 0.05, 0.4, 0.02, 0.05, 0.02, 0.01),
                     strict=True))
  for phase, s in seconds.items():
    row[f'time/{phase}'] = s * (12 if step == 0 else 1) * (1 + abs(noise()))
  return row


def sample_row(rng, step: int, i: int, kinds, hostile: str = '') -> dict:
  """A recorded question; `hostile` is put into everything somebody wrote."""
  accuracy = float(rng.integers(0, 9)) / 8

  def answer(right: bool) -> dict:
    verdict = 'correct' if right else VERDICTS[1 + int(rng.integers(3))]
    value = '9' if right else str(int(rng.integers(9)))
    return {'text': f'4 h {value} A {value}{hostile}', 'verdict': verdict,
            'answer': '' if verdict == 'no_answer' else value}

  groups = []
  for kind in kinds:
    rollouts = [{**answer(g < 8 * accuracy), 'length': 14, 'stop': 'end',
                 'advantage': (1.0 if g < 8 * accuracy else 0.0) - accuracy}
                for g in range(8)]
    for r in rollouts:
      r['reward'] = float(r['verdict'] == 'correct')
      r['stop'] = 'length' if r['verdict'] == 'truncated' else 'end'
    candidates = {'plain': [], 'bcq': [answer(True), answer(False)],
                  'ncq': [answer(False), answer(False)]}[kind]
    shown = ''.join(f'<candidate>{c["text"]}</candidate>' for c in candidates)
    groups.append({'kind': kind, 'prompt': f'C h 4 {kind.upper()} {shown}:',
                   'candidates': candidates, 'rollouts': rollouts})
  return {
      'step': step, 'question': {
          'id': f'q{step}-{i}', 'text': f'C h {step} {i}{hostile}',
          'answer': '9', 'split': SPLITS[i % 2]},
      'accuracy': accuracy, 'replayed': bool(i % 3 == 0),
      'teacher': [answer(True), answer(False)] if 'bcq' in kinds else [],
      'groups': groups}


def make(path, *, method='zppo', seed=0, steps=20, unfinished=False,
         hostile='', samples_every=5, samples_of_step=4, rate=2e-4,
         final=0.9) -> pathlib.Path:
  """Writes a workdir.

  Args:
    path: a new directory.
    method, seed, steps, rate: of its config.
    unfinished: stops halfway, without a summary, in a torn line.
    hostile: text put into all that a model or a data set wrote.
    samples_every, samples_of_step: recorded questions.
    final: hard accuracy at the end, before the seed's noise.
  """
  path = pathlib.Path(path)
  path.mkdir(parents=True)
  rng = np.random.default_rng((seed, len(method)))
  (path / 'config.json').write_text(json.dumps({
      'config': {'method': method, 'seed': seed, 'steps': steps,
                 'optimizer': {'learning_rate': rate},
                 'eval': {'splits': list(SPLITS), 'size': 64}},
      'versions': {'jax': '0.10.2'},
      'git_revision': 'a1b2c3d4e5f6' + '0' * 28}))
  done = steps // 2 if unfinished else steps
  rows = [metrics_row(rng, method, s, steps) for s in range(done)]
  write_lines(path / 'metrics.jsonl', rows)
  final += float(rng.normal(0, 0.02))
  evals = [{'step': s, 'student_rollouts': 320 * s, 'tokens': 6000 * s,
            'hard': final * s / steps, 'easy': 1.0}
           for s in range(0, done + 1, max(1, steps // 10))]
  write_lines(path / 'eval.jsonl', evals)
  kinds = ('plain',) if method == 'grpo' else ('plain', 'bcq', 'ncq')
  write_lines(path / 'samples.jsonl', [
      sample_row(rng, s, i, kinds, hostile)
      for s in range(0, done, samples_every) for i in range(samples_of_step)])
  if method != 'grpo':
    write_lines(path / 'buffer.jsonl', [
        {'step': s, 'fate': 'graduated' if i else 'evicted', 'id': f'q{s}-{i}',
         'entry_accuracy': 0.125 * i, 'admitted_at': 0,
         'visits': int(rng.integers(0, 6))}
        for s in range(done) for i in range(3)])
  if unfinished:
    with open(path / 'metrics.jsonl', 'a') as f:
      f.write('{"step": 10, "accuracy/pl')
    return path
  graduation = {} if method == 'grpo' else {
      f'{a / 8:g}': {'admitted': 40 - 8 * a, 'graduated': 20 - 3 * a}
      for a in range(4)}
  (path / 'summary.json').write_text(json.dumps({
      'method': method, 'seed': seed, 'steps': steps, 'wall_s': 20.0 + seed,
      'student_rollouts': 320 * steps,
      'tokens': {'student_prompt': 900 * steps, 'student_generated': 5100},
      'eval': {'easy': {'base': 1.0, 'final': 1.0},
               'hard': {'base': 0.0, 'final': evals[-1]['hard']}},
      'graduated': sum(g['graduated'] for g in graduation.values()),
      'admitted': sum(g['admitted'] for g in graduation.values()),
      'graduation_by_entry_accuracy': graduation}))
  return path
