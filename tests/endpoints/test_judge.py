"""The judge behind an endpoint: looked for before anything compiles, and its
word in an evaluation."""

import json
import pathlib
import re

import pytest

from tests.builders import json_rows

pytest.importorskip('openai')
from tests import fake_endpoint  # noqa: E402
from tests.fake_endpoint import serving  # noqa: E402
from tests.train import test_graded_training  # noqa: E402
from zppo_jax import main  # noqa: E402
from zppo_jax.commands import evaluate  # noqa: E402
from zppo_jax.endpoints import judge as judging  # noqa: E402
from zppo_jax.endpoints.client import EndpointError  # noqa: E402
from zppo_jax.records import Question, StopReason, Verdict  # noqa: E402
from zppo_jax.tasks import micro  # noqa: E402
from zppo_jax.train import build  # noqa: E402
from zppo_jax.verdicts import (
  grading,  # noqa: E402
  verifier,  # noqa: E402
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
  """A verifier for each test; its sandbox never starts."""
  monkeypatch.setattr(verifier, '_SHARED', [])


def make_config(**fields):
  c = test_graded_training.make_config(
      'tests.train.test_graded_training:JUDGED')
  c.judge.update(**{'model': 'm', 'retries': 0, 'budget_s': 5.0, **fields})
  return c


def test_a_question_that_needs_one_is_refused_without(tmp_path):
  """By a run and by an evaluation, naming field and question."""
  said = "judge.url is ''; a judge grades question 'micro/.*'"
  with pytest.raises(ValueError, match=said):
    build.build(make_config())
  with pytest.raises(ValueError, match=said):
    evaluate.main(make_config(), 'micro/student', tmp_path / 'out')
  judging.connect(make_config().judge, '')
  assert verifier.shared().ask is None


def test_it_is_looked_for():
  """A model that is not there, a wrong key, nobody."""
  with serving(fake_endpoint.right) as (url, _):
    with pytest.raises(ValueError, match="judge.model is 'x'; .* serves m"):
      build.build(make_config(url=url, model='x'))
    with pytest.raises(ValueError, match='judge.budget_s is 0'):
      judging.connect(make_config(url=url, budget_s=0.0).judge, '')
    judging.connect(make_config(url=url).judge, 'q')
    assert verifier.shared().ask is not None
  with pytest.raises(EndpointError, match=url):
    judging.connect(make_config(url=url).judge, '')
  assert verifier.shared().ask is None


def test_two_runs_in_a_process_have_a_judge_each(tmp_path):
  """fault D6: a second run, with another judge or with none, an evaluation's
  included, leaves the first one its judge, its cache and its journal."""
  def saying(word):
    words = json.dumps({'verdict': word})
    return lambda fake, route, body, headers: (
        200, {}, fake_endpoint.completion([words]))

  asked = Question('q', 'which?', 'this', 's', kind='judge')
  told = lambda run, text: grading.grade(
      text, StopReason.END, asked, run.sampler.grader)[0]
  with serving(saying('correct')) as (yes, _), serving(
      saying('wrong')) as (no, _):
    first = build.build(make_config(url=yes))
    with verifier.journalled(first.verifier, tmp_path / 'first.jsonl'):
      second = build.build(make_config(url=no))
      bare = test_graded_training.make_config(
          'tests.train.test_graded_training:TEXTS')
      third = build.build(bare)
      for text in ('A 1', 'A 2'):
        assert told(first, text) == Verdict.CORRECT
        assert told(second, text) == Verdict.WRONG
        with pytest.raises(ValueError, match='the run has no judge'):
          told(third, text)
      with verifier.journalled(second.verifier, tmp_path / 'second.jsonl'):
        assert told(first, 'A 1') == Verdict.CORRECT
        assert told(second, 'A 3') == Verdict.WRONG
  for name, count in (('first', 2), ('second', 1)):
    rows = (tmp_path / f'{name}.jsonl').read_text().splitlines()
    assert len(rows) == count, name
  assert first.verifier.sandbox is second.verifier.sandbox
  assert verifier.shared().ask is None


def test_words_and_why_there_are_none():
  """In the order of what was asked, one failure among them."""
  def some(fake, route, body, headers):
    said = body['messages'][0]['content']
    if said == 'b':
      return 401, {}, {'error': {'message': 'no'}}
    return 200, {}, fake_endpoint.completion([said * 2])

  with serving(some) as (url, _):
    c = make_config(url=url)
    c.judge.extra = dict(chat_template_kwargs=dict(enable_thinking=False))
    judging.connect(c.judge, '')
    first, second, third = verifier.shared().ask(
        [[{'role': 'user', 'content': x}] for x in 'abc'])
  assert (first, third) == ('aa', 'cc')
  assert isinstance(second, EndpointError)
  assert str(second).startswith('refused: status 401')


CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'micro.py'
SPLITS = ('hard', 'easy')
# What the judge says of questions 0, 3, 6; 1, 4, 7; 2, 5 of a split.
WORDS = ('{"verdict": "correct"}', '{"verdict": "wrong"}', '{"verdict": "corr')


def evaluated(url, to):
  """`zppo eval` of eight questions a split, graded by the judge at `url`."""
  main.main(['eval', f'--config={CONFIG}', '--checkpoint=micro/student',
             f'--to={to}', f'--splits={",".join(SPLITS)}',
             '--config.data.task=tests.train.test_graded_training:JUDGED',
             '--config.eval.size=8', '--config.shapes.prompt_buckets=(8,)',
             f'--config.judge.url={url}', '--config.judge.model=m',
             '--config.judge.retries=0'])
  return json.loads((to / 'summary.json').read_text())['splits']


def test_an_evaluation_is_the_judges_word(tmp_path, capsys, quick_compile):
  """Not the gold answers', of which the student has all of one split and none
  of the other: three of eight right in both, two malformed ones wrong and
  counted, every answer asked about once, at temperature 0. A judge that is
  gone after that leaves no verdicts, which the table shows."""
  said = {q.text: WORDS[i % 3] for split in SPLITS
          for i, q in enumerate(micro.evaluation(split, 8))}
  assert len(said) == 16
  down = [False]

  def judge(fake, route, body, headers):
    assert route == '/v1/chat/completions'
    asked = json.loads(body['messages'][1]['content'])
    if down[0]:
      return 500, {}, {'error': {'message': 'gone'}}
    return 200, {}, fake_endpoint.completion([said[asked['question']]])

  with serving(judge) as (url, fake):
    found = evaluated(url, tmp_path / 'a')
    shown = capsys.readouterr().out
    asked = list(fake.asked)
    down[0] = True
    verifier.shared().forget()
    lost = evaluated(url, tmp_path / 'b')
  assert len(asked) == 16 and {b['temperature'] for b in asked} == {0}
  rows = json_rows(tmp_path / 'a/samples.jsonl')
  assert {(x['question'], x['gold'], x['answer']) for x in rows} == {
      tuple(json.loads(b['messages'][1]['content']).values()) for b in asked}
  assert {x['split'] for x in rows if x['answer'] == x['gold']} == {'easy'}
  means = {'correct': 'correct', 'wrong': 'wrong', 'corr': 'judge_malformed'}
  for row in rows:
    word = means[said[row['question']].split('"')[3]]
    assert row['verdict'] == word and row['reward'] == (word == 'correct')
  for of in found.values():
    assert of['pass@1']['mean'] == of['avg@1']['mean'] == 3 / 8
    assert of['verdicts'] == {'correct': 3 / 8, 'wrong': 3 / 8,
                              'judge_malformed': 2 / 8, 'ungraded': 0}
  assert re.search(r'questions .* judge_malformed\nhard +8 .* 0\.250\n', shown)
  assert 'ungraded' not in shown
  assert "last malformed: the judge said '{\"verdict\": \"corr'" in shown
  for of in lost.values():
    assert of['pass@1']['mean'] == 0
    assert of['verdicts'] == {'crash': 1, 'ungraded': 1}
  shown = capsys.readouterr().out
  assert re.search(r'questions .* ungraded\nhard +8 .* 1\.000\n', shown)
  assert 'last crash: the judge: server: status 500' in shown
