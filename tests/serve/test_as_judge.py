"""A judge behind `zppo serve`."""

import pytest

pytest.importorskip('openai')
pytest.importorskip('uvicorn')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.builders import small_config  # noqa: E402
from tests.serve.test_app import running  # noqa: E402
from zppo_jax import serve  # noqa: E402
from zppo_jax.chat.wording import BARE  # noqa: E402
from zppo_jax.endpoints import judge  # noqa: E402
from zppo_jax.records import Question, Verdict  # noqa: E402
from zppo_jax.serve.worker import Worker  # noqa: E402
from zppo_jax.verdicts import verifier  # noqa: E402
from zppo_jax.weights import pretrained  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_our_own_server_is_asked_as_any_other(tmp_path, monkeypatch):
  """A model with random weights: it is shown all that the judge is told, at
  temperature 0, and what it says is malformed, twice the same."""
  monkeypatch.setattr(verifier, '_SHARED', [])
  found = pretrained.load(hub_builders.write(tmp_path / 'model'))
  chat = pretrained.chat(found, BARE)
  worker = serve.start(found, chat, context=2048, slots=1, top=1)
  jobs, submit = [], Worker.submit

  def kept(self, job):
    jobs.append(job)
    return submit(self, job)

  monkeypatch.setattr(Worker, 'submit', kept)
  question = Question('q', 'How many?', 'five', '', kind='judge')
  with running(worker=worker, chat=chat, context=2048) as (_, _, port, *_):
    c = small_config()
    c.judge.update(url=f'http://127.0.0.1:{port}/v1', model='m', retries=0)
    judge.connect(c.judge, 'q')
    replies = []
    for _ in range(2):
      replies += verifier.shared().grade([('the answer 5', question)])
      verifier.shared().forget()
  worker.close()
  assert replies[0] == replies[1] and len(jobs) == 2
  assert verifier.verdict(replies[0], 1.0) == Verdict.JUDGE_MALFORMED
  assert replies[0].reason.startswith('the judge said ')
  job = jobs[0]
  assert (job.decoding.temperature, job.decoding.max_tokens, job.n) == (
      0, 512, 1)
  shown = chat.codec.decode(job.tokens)
  for words in ('You compare a given answer', 'How many?', 'five',
                'the answer 5'):
    assert words in shown
