"""A panel of teachers: routes, averages, and one that is its only member."""

import dataclasses
import math

import numpy as np
import pytest

from zppo_jax.records import (
  Answers,
  CallStats,
  Group,
  Prompt,
  PromptKind,
  Question,
  Scores,
  Summaries,
  TokenSequence,
  Wanted,
)
from zppo_jax.teachers import Capabilities, panel


@dataclasses.dataclass
class Fake:
  """A teacher that says who it is, with a log-prob of its own."""
  name: str
  probability: float
  capabilities: Capabilities = Capabilities(
      max_compression_prompt=9, scores=True, pictures=True, clips=False,
      repeatable=True, top=5, gathers=True, entropy=True, temperature=True)
  asked: list = dataclasses.field(default_factory=list)

  def answer(self, prompts, step):
    self.asked.append((step, [p.question.id for p in prompts]))
    return Answers(groups=tuple(Group(p, (self.name,)) for p in prompts),
                   calls=CallStats(answers=len(prompts)))

  def summarise(self, prompts, traces, step):
    del step
    return Summaries(tuple(f'{self.name}:{t}' for t in traces),
                     CallStats(answers=len(prompts)))

  hint = summarise

  def score(self, sequences, wanted=None, step=None):
    del step
    self.asked.append([s.response for s in sequences])
    each = lambda s: np.full(len(s.response), math.log(self.probability),
                             np.float32)
    return Scores(
        logps=tuple(map(each, sequences)), calls=CallStats(answers=1),
        given_logps=tuple(np.zeros(i.shape) + math.log(self.probability)
                          for i in wanted.ids))


def _prompt(name, source):
  return Prompt(Question(id=name, text='', answer='', split='', source=source),
                PromptKind.PLAIN, tokens=(1,))


def _sequence(length, source):
  return TokenSequence(prompt=(1,), response=tuple(range(length)),
                       source=source)


def _panel(**routes):
  members = {'a': Fake('a', .5), 'b': Fake('b', .1)}
  return panel.Panel(members, {
      {'rest': panel.ANY}.get(source, source):
      panel.read_route('r', text, members) for source, text in routes.items()})


def test_every_question_goes_to_one_member_and_order_stays():
  teacher = _panel(maths='a', rest='b')
  prompts = [_prompt(str(i), s) for i, s in enumerate(
      ['code', 'maths', 'code', 'maths'])]
  answers = teacher.answer(prompts, 3)
  assert [g.rollouts[0] for g in answers.groups] == ['b', 'a', 'b', 'a']
  assert [g.prompt.question.id for g in answers.groups] == list('0123')
  assert answers.calls.answers == 4
  assert teacher.members['a'].asked == [(3, ['1', '3'])]
  summaries = teacher.summarise(prompts, list('wxyz'), 3)
  assert summaries.rollouts == ('b:w', 'a:x', 'b:y', 'a:z')
  assert teacher.hint(prompts[:1], ['w'], 3).rollouts == ('b:w',)


def test_probabilities_are_averaged():
  teacher = _panel(maths='3 a + 1 b', code='b')
  scores = teacher.score([_sequence(2, 'maths'), _sequence(1, 'code')],
                         Wanted(ids=[np.zeros((2, 1), int),
                                     np.zeros((1, 1), int)]))
  np.testing.assert_allclose(np.exp(scores.logps[0]), [.4, .4], rtol=1e-6)
  np.testing.assert_allclose(np.exp(scores.logps[1]), [.1], rtol=1e-6)
  np.testing.assert_allclose(np.exp(scores.given_logps[0]), .4, rtol=1e-6)
  assert scores.calls.answers == 3
  assert teacher.members['a'].asked == [[(0, 1)]]
  assert teacher.capabilities.top == 0 and not teacher.capabilities.entropy
  with pytest.raises(ValueError, match='the 2 likeliest tokens'):
    teacher.score([_sequence(1, 'code')], Wanted(top=2))


def test_a_panel_of_one_is_that_teacher():
  teacher = _panel(rest='a')
  alone = teacher.members['a']
  assert teacher.capabilities == alone.capabilities
  sequences = [_sequence(3, 'x'), _sequence(1, '')]
  ours, own = (t.score(sequences, Wanted()) for t in (teacher, alone))
  assert all((a == b).all() for a, b in zip(ours.logps, own.logps, strict=True))
  assert ours.given_logps == () and ours.calls == own.calls


def test_a_source_without_a_teacher_is_an_error():
  teacher = _panel(maths='a')
  teacher.check_sources([_prompt('0', 'maths').question])
  with pytest.raises(KeyError, match="source 'code'; .*has 'maths'"):
    teacher.check_sources([_prompt('0', 'code').question])


@pytest.mark.parametrize(('text', 'error', 'says'), [
    ('c', KeyError, "member in r 'c'; known: a, b"),
    ('0 a', ValueError, 'a weight of r is 0.0; it must be > 0'),
    ('x a', ValueError, 'WEIGHT NAME'), ('a + a', ValueError, 'once')])
def test_refused_routes(text, error, says):
  with pytest.raises(error, match=says):
    panel.read_route('r', text, ['a', 'b'])
