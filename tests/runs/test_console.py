"""What a person sees: a bar in a terminal, few lines elsewhere."""

import json
import os
import pty
import subprocess
import sys
import textwrap

from zppo_jax.runs import console

CODE = textwrap.dedent('''
  from zppo_jax.runs import console
  progress = console.progress(40, 3)
  for step in (3, 4):
    progress.step({'step': step, 'accuracy/plain': 0.25, 'buffer/size': 17})
  progress.note('after    5 steps: [hard] 0.500')
  progress.close()
''')


def in_a_terminal(code: str) -> str:
  """Output of Python code whose stdout is a terminal of 100 columns."""
  leader, follower = pty.openpty()
  child = subprocess.Popen(
      [sys.executable, '-c', code], stdout=follower,
      env={**os.environ, 'TERM': 'xterm', 'COLUMNS': '100'})
  os.close(follower)
  out = b''
  while True:
    try:
      piece = os.read(leader, 4096)
    except OSError:  # the child closed its end
      break
    if not piece:
      break
    out += piece
  os.close(leader)
  assert child.wait() == 0
  return out.decode()


def test_a_terminal_shows_step_eta_and_the_few_numbers():
  out = in_a_terminal(CODE)
  assert '5/40' in out and 'eta' in out
  assert 'acc 0.25' in out and 'buffer 17' in out and 'bcq' not in out
  assert '[hard] 0.500' in out  # not taken for markup


def test_elsewhere_only_notes_are_printed():
  out = subprocess.run([sys.executable, '-c', CODE], capture_output=True,
                       text=True, check=True).stdout
  assert out == 'after    5 steps: [hard] 0.500\n'


def test_elsewhere_a_step_ends_a_long_silence(monkeypatch, capsys):
  """A file without a line for minutes looks as if the run hung."""
  now = [100.0]
  monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
  view = console.progress(40, 3)
  for step in range(3, 12):
    now[0] += 11.0
    view.step({'step': step, 'accuracy/plain': 0.25})
    if step == 7:
      view.note('note')
  assert capsys.readouterr().out == (
      'step 6 of 40: acc 0.25\nnote\nstep 11 of 40: acc 0.25\n')
  now[0] += 60
  view.step({'step': 12})
  assert capsys.readouterr().out == 'step 13 of 40\n'


def test_the_table_at_the_end(capsys):
  console.show_summary(
      {'method': 'zppo', 'seed': 3, 'wall_s': 61.5, 'admitted': 40,
       'graduated': 7, 'student_rollouts': 512,
       'eval': {'hard': {'base': 0.0, 'final': 0.5}}}, 'runs/[a]')
  out = capsys.readouterr().out
  assert 'zppo, seed 3' in out and '0.000' in out and '0.500' in out
  assert '7 of 40 buffered questions graduated; 512 student rollouts' in out
  assert 'results: runs/[a]' in out and 'mean reward' not in out


def test_graded_rewards_stand_below_the_table(tmp_path, capsys):
  """issue 21: the terminal showed right answers alone."""
  (tmp_path / 'metrics.jsonl').write_text(''.join(
      json.dumps({'step': i, 'reward/near': i / 20, 'reward/total': i / 10,
                  'accuracy/plain': 0.0}) + '\n' for i in range(20)))
  console.show_summary(
      {'method': 'grpo', 'seed': 3, 'wall_s': 61.5, 'admitted': 0,
       'graduated': 0, 'student_rollouts': 512,
       'eval': {'hard': {'base': 0.0, 'final': 0.0}}}, tmp_path)
  out = capsys.readouterr().out
  rows = [[cell.strip() for cell in line.strip('│┃').replace(
      '┃', '│').split('│')] for line in out.splitlines()]
  assert ['component', 'first 2 steps', 'last 2 steps'] in rows
  assert rows.index(['total', '0.050', '1.850']) + 1 == rows.index(
      ['near', '0.025', '0.925'])
