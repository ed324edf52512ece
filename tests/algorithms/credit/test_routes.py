"""Routes: which rollouts a term of the loss is for."""

import numpy as np
import pytest

from zppo_jax.algorithms.credit import routes
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Verdict,
)

_VERDICTS = {'+': Verdict.CORRECT, '-': Verdict.WRONG,
             '?': Verdict.TIMEOUT}


def _group(verdicts, texts=None, answers=None, kind=PromptKind.PLAIN):
  texts = texts or [str(i) for i in range(len(verdicts))]
  answers = answers or [''] * len(verdicts)
  prompt = Prompt(Question(id='q', text='', answer='', split=''),
                  kind, tokens=(1,))
  return Group(prompt, tuple(
      Rollout(tokens=(1,), logps=(0.,), text=text, stop=StopReason.END,
              verdict=_VERDICTS[v], answer=answer)
      for v, text, answer in zip(verdicts, texts, answers, strict=True)))


def _taken(route, group, draws=None, done=0):
  draws = np.zeros(len(group.rollouts)) if draws is None else draws
  taken = routes.read('distil.route', route)(group, np.asarray(draws), done)
  return ''.join('x' if t else '.' for t in taken)


@pytest.mark.parametrize(('route', 'expected'), [
    ('all', 'xxxx'), ('correct', 'x...'), ('wrong', '.xx.'),
    ('not wrong', 'x..x'), ('wrong_below', '.xx.'),
    ('wrong_below(0.3)', '....'), ('wrong_below(0.34)', '.xx.'),
    ('cliff', '....'), ('not cliff', 'xxxx'), ('sibling', '.xxx'),
    ('wrong_with_sibling', '.xx.')])
def test_routes_of_a_mixed_group(route, expected):
  assert _taken(route, _group('+--?')) == expected


def test_a_group_without_a_right_rollout():
  group = _group('--')
  assert _taken('cliff', group) == 'xx'
  assert _taken('wrong_below(0.01)', group) == 'xx'
  assert _taken('sibling', group) == _taken('wrong_with_sibling', group) == '..'


def test_a_group_without_a_verdict_is_on_no_cliff():
  group = _group('??')
  assert _taken('cliff', group) == _taken('wrong_below', group) == '..'
  assert _taken('all', group) == 'xx'


def test_an_equal_text_is_no_sibling():
  assert _taken('sibling', _group('++-', texts=['a', 'a', 'a'])) == '...'
  assert _taken('sibling', _group('++-', texts=['a', 'b', 'c'])) == 'xxx'
  # As the context `sibling` compares: spaces and thoughts make no other text.
  assert _taken('sibling', _group(
      '++-', texts=['a', ' a', '<think>b</think> a'])) == '...'


def test_consensus_reads_answers_alone():
  group = _group('---+', answers=['4', '4', '', '5'])
  assert _taken('consensus(0.5)', group) == 'xx..'
  assert _taken('consensus(0.51)', group) == '....'
  assert _taken('consensus(0.25)', _group('--')) == '..'


def test_a_random_route_follows_its_draws():
  assert _taken('random(0.5)', _group('----'), [.1, .5, .49, .9]) == 'x.x.'
  assert _taken('random(0)', _group('-'), [0.]) == '.'
  assert _taken('random(1)', _group('-'), [.999]) == 'x'


def test_routes_by_who_drew():
  """The student behind the prompt; the model behind a context, which is there
  or not."""
  kinds = {kind: _group('+-', kind=kind) for kind in PromptKind}
  for name, of in (('privileged', {PromptKind.PRIVILEGED}),
                   ('carried', {PromptKind.CARRIED}),
                   ('plain', {PromptKind.PLAIN}),
                   ('student', set(PromptKind) - {
                       PromptKind.PRIVILEGED, PromptKind.CARRIED})):
    assert {kind for kind, group in kinds.items()
            if _taken(name, group) == 'xx'} == of
    assert {_taken(name, group) for group in kinds.values()} == {'xx', '..'}


def test_joined_routes_take_what_all_of_them_take():
  group = _group('+-+-', answers=['4', '4', '5', '4'], kind=PromptKind.CARRIED)
  assert _taken('carried & correct', group) == 'x.x.'
  assert _taken('carried&not correct & consensus(0.5)', group) == '.x.x'
  assert _taken('student & correct', group) == '....'
  with pytest.raises(KeyError, match="distil.route ''; known: all, corr"):
    routes.read('distil.route', 'carried &')


def test_refused_routes():
  with pytest.raises(KeyError, match="distil.route 'right'; known: all, corr"):
    routes.read('distil.route', 'right')
  with pytest.raises(ValueError, match=r'tau is 0.0; it must be in \(0, 1\]'):
    routes.read('distil.route', 'wrong_below(0)')


def test_groups_below_an_accuracy_and_groups_that_are_taught():
  assert _taken('below(0.5)', _group('+--')) == 'xxx'
  assert _taken('not below(0.3)', _group('+--')) == 'xxx'
  route = routes.read('r', 'not taught', routes.ANCHOR_ROUTES)
  group, draws = _group('+-?'), np.zeros(3)
  assert route(group, draws).tolist() == [True] * 3
  assert route(group, draws, taught=True).tolist() == [False] * 3
  with pytest.raises(KeyError, match="r 'taught'; known"):
    routes.read('r', 'taught')
