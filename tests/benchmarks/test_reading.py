"""The benchmark of reading at a tiny size, and its committed results."""

import json
import pathlib

from benchmarks import reading

RESULTS = pathlib.Path(reading.__file__).parent / 'results' / 'reading.json'


def test_an_index_and_a_batch_read_parts_of_the_file(tmp_path, monkeypatch):
  """A suite of pictures read all of them to find those that are null."""
  monkeypatch.setattr(reading, 'NULL', 100)
  monkeypatch.setattr(reading, 'apart', reading.measure)
  found = reading.main(['--rows=240', '--group', '20', '--side=64',
                        '--batch=2', f'--to={tmp_path / "r.json"}'])
  for way, of in found['groups']['20'].items():
    assert of['rows'] == 240 and of['file_bytes'] > 238 * 64 * 64 * 3
    assert of['questions'] == (240 if way == 'columns' else 238)
    assert 0 < of['index_bytes'] < of['file_bytes'] / 20, way
    # Two row groups of twelve.
    assert of['index_bytes'] < of['first_batch_bytes'] < of['file_bytes'] / 4
  assert json.loads((tmp_path / 'r.json').read_text()) == found


def test_the_committed_results_meet_the_goals():
  found = json.loads(RESULTS.read_text())
  assert found['goals'] == reading.GOALS and found['groups']
  for of in (of for ways in found['groups'].values() for of in ways.values()):
    assert of['rows'] == 100_000
    assert all(of[name] <= most for name, most in reading.GOALS.items())
    assert of['index_bytes'] < of['file_bytes'] / 100
    assert of['first_batch_bytes'] < of['file_bytes'] / 2
