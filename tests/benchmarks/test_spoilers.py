"""The rates of the zero-spoiler filter: what is counted and committed."""

import json
import random

import pytest

from benchmarks import spoilers, tables

pytest.importorskip('reasoning_gym')
pytest.importorskip('sklearn')


@pytest.mark.parametrize('world', spoilers.WORLDS)
def test_a_wrong_answer_is_wrong_and_steps_end_in_the_gold_one(world):
  """What a hint tells is known without the filter."""
  asked = spoilers.WORLDS[world](20, 0, random.Random(0))
  assert len(asked) >= 20
  for of in asked:
    made = {told.kind: told.hint for told in spoilers.hints(of)}
    assert of.wrong != of.gold and of.wrong in made['wrong_answer']
    assert f'\\boxed{{{of.gold}}}' in made['box']
    if of.steps:
      assert made['solution'].endswith(of.end(of.gold))
      assert made['wrong_solution'].endswith(of.end(of.wrong))


def test_each_hint_is_counted_once_under_its_rule(monkeypatch):
  """A filter that says nothing lets all pass; one that names the box for all
  takes all of both kinds."""
  whole = sum(
      len(list(spoilers.hints(of))) for world, make in spoilers.WORLDS.items()
      for of in make(20, 0, random.Random(f'spoilers {world} 0')))
  for why, rule in ((None, 'passed'), (spoilers.Spoiler.BOX, 'BOX')):
    monkeypatch.setattr(spoilers, 'spoiler', lambda *_, why=why: why)
    found = spoilers.rates(spoilers.measure(20, 0))
    assert found.keys() == {rule} and all(found[rule].values())
    assert sum(found[rule].values()) == whole


def test_committed_rates_are_those_of_this_filter():
  """At a tenth of the size: a kind that is refused always or never in the
  committed result is so here, in every world."""
  result = json.loads((tables.RESULTS / 'spoilers.json').read_text())
  now = spoilers.measure(result['size'] // 10, result['seed'])
  assert now['worlds'].keys() == result['worlds'].keys()
  for world, kinds in result['worlds'].items():
    for kind, rules in kinds.items():
      assert now['worlds'][world][kind].keys() <= rules.keys(), (world, kind)
  # The filter takes every spoiler that says the answer itself.
  for kinds in result['worlds'].values():
    for kind in ('answer', 'box', 'solution'):
      assert 'passed' not in kinds.get(kind, {}), kind
