"""Whether there is a judge where one is needed, before anything compiles."""

import pytest

pytest.importorskip('openai')
from tests import fake_endpoint, test_graded_training  # noqa: E402
from tests.fake_endpoint import serving  # noqa: E402
from zppo_jax import build, judging, measure  # noqa: E402
from zppo_jax.openai_client import EndpointError  # noqa: E402
from zppo_jax.verdicts import verifier  # noqa: E402


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
  """A verifier for each test; its wall never starts."""
  monkeypatch.setattr(verifier, '_SHARED', [])


def make_config(**fields):
  c = test_graded_training.make_config('tests.test_graded_training:JUDGED')
  c.judge.update(**{'model': 'm', 'retries': 0, 'budget_s': 5.0, **fields})
  return c


def test_a_question_that_needs_one_is_refused_without(tmp_path):
  """By a run and by an evaluation, naming field and question."""
  said = "judge.url is ''; question 'micro/.*' is of kind 'judge'"
  with pytest.raises(ValueError, match=said):
    build.build(make_config())
  with pytest.raises(ValueError, match=said):
    measure.main(make_config(), 'micro/student', tmp_path / 'out')
  judging.appoint(make_config().judge, '')
  assert verifier.shared().ask is None


def test_it_is_looked_for():
  """A model that is not there, a wrong key, nobody."""
  with serving(fake_endpoint.right) as (url, _):
    with pytest.raises(ValueError, match="judge.model is 'x'; .* serves m"):
      build.build(make_config(url=url, model='x'))
    with pytest.raises(ValueError, match='judge.budget_s is 0'):
      judging.appoint(make_config(url=url, budget_s=0.0).judge, '')
    judging.appoint(make_config(url=url).judge, 'q')
    assert verifier.shared().ask is not None
  with pytest.raises(EndpointError, match=url):
    judging.appoint(make_config(url=url).judge, '')
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
    judging.appoint(c.judge, '')
    first, second, third = verifier.shared().ask(
        [[{'role': 'user', 'content': x}] for x in 'abc'])
  assert (first, third) == ('aa', 'cc')
  assert isinstance(second, EndpointError)
  assert str(second).startswith('refused: status 401')
