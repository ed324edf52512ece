"""One command for every target of the fuzzing."""

import importlib
import json
import sys

import pytest

from benchmarks import fuzz


def test_every_target_is_there_with_the_count_of_its_issue():
  assert {name: row.count for name, row in fuzz.TARGETS.items()} == {
      'answers': 2000, 'replies': 2000, 'rows': 500, 'checkpoints': 200}
  for name, row in fuzz.TARGETS.items():
    if name == 'replies':
      pytest.importorskip('openai')
    module = importlib.import_module(row.module)
    assert callable(module.main) and not hasattr(module, 'command')


@pytest.mark.parametrize('faults', [[], [['digit', 'silent', '']]])
def test_faults_are_listed_and_end_with_1(monkeypatch, tmp_path, capsys,
                                          faults):
  asked = []

  def found(count, seed):
    asked.append((count, seed))
    return {'outcomes': {'same': 1}, 'faults': faults}

  module = importlib.import_module(fuzz.TARGETS['checkpoints'].module)
  monkeypatch.setattr(module, 'main', found)
  path = tmp_path / 'found.json'
  monkeypatch.setattr(sys, 'argv', ['fuzz', 'checkpoints', '--seed=3',
                                    f'--output={path}'])
  with pytest.raises(SystemExit) as ended:
    fuzz.main()
  assert ended.value.code == bool(faults) and asked == [(200, 3)]
  said = json.loads(path.read_text())
  assert said == json.loads(capsys.readouterr().out)
  assert said['faults'] == faults and said['outcomes'] == {'same': 1}
  assert said['command'] == ('python -m benchmarks.fuzz checkpoints '
                             '--count=200 --seed=3')
