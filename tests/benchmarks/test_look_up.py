"""Prompt look-up, by hand."""

import json
import pathlib

import pytest

from benchmarks import look_up

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize('context, number, proposed', [
    ('a b c d a b', 2, 'c d'), ('a b c d a b', 9, 'c d a b'),
    ('a b x b c a b', 1, 'x'),  # two tokens before one
    ('a x b y b', 1, 'y'),      # the last place before the end
    ('a b c', 4, ''), ('a a', 3, 'a'), ('a', 3, '')])
def test_proposals(context, number, proposed):
  assert look_up.proposal(context.split(), number) == proposed.split()


@pytest.mark.parametrize('prompt, response, number, calls', [
    ('a b c d :', 'a b c d', 4, 2),  # the first token, then three at once
    ('a b c d :', 'a b c d', 1, 3),  # a; b c; d
    ('a b c d :', 'a b x y', 2, 3),  # a; b x; y
    ('p q :', 'x y z', 4, 3), ('p q :', '', 4, 0)])
def test_calls(prompt, response, number, calls):
  assert look_up.calls(prompt.split(), response.split(), number) == calls


def test_a_recorded_run_is_counted_by_kind(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(
      {'config': {'student': {'weights': 'micro/student', 'dtype': 'float32',
                              'remat': 'none', 'attention': 'auto',
                              'unroll': 1, 'end_tokens': (),
                              'chat_template': ''}}}))
  group = lambda kind, prompt, *texts: {
      'kind': kind, 'prompt': prompt, 'rollouts': [{'text': t} for t in texts]}
  (tmp_path / 'samples.jsonl').write_text(json.dumps({'groups': [
      group('bcq', 'a b c d :', 'a b c d', 'x y'),
      group('plain', 'q :', 'x y z')]}) + '\n')
  bcq, plain = look_up.measured(tmp_path)
  assert (bcq['kind'], bcq['rollouts'], bcq['tokens']) == ('bcq', 2, 6)
  assert bcq['per_call'] == {'1': 6 / 5, '2': 6 / 4, '4': 6 / 4, '8': 6 / 4}
  assert plain['per_call'] == dict.fromkeys(('1', '2', '4', '8'), 1.0)


def test_the_page_holds_what_was_measured():
  found = json.loads(
      (ROOT / 'benchmarks' / 'results' / 'look_up.json').read_text())
  page = (ROOT / 'docs' / 'performance.md').read_text()
  assert look_up.table(found) in page
