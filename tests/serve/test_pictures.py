"""Pictures through `zppo serve`: what the model is shown is what was sent."""

import base64
import io
import zlib

import jax
import numpy as np
import pytest

pytest.importorskip('openai')
pytest.importorskip('uvicorn')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.builders import small_config  # noqa: E402
from tests.long import long
from tests.serve.test_app import running  # noqa: E402
from tests.train.test_vision_training import drawn  # noqa: E402
from zppo_jax import serve  # noqa: E402
from zppo_jax.algorithms.compression import CompressionConfig  # noqa: E402
from zppo_jax.chat import images, segments  # noqa: E402
from zppo_jax.chat.wording import BARE  # noqa: E402
from zppo_jax.learner import packing  # noqa: E402
from zppo_jax.records import (  # noqa: E402
  Decoding,
  Grader,
  Picture,
  Prompt,
  PromptKind,
  Question,
)
from zppo_jax.teachers import endpoint  # noqa: E402
from zppo_jax.weights import pretrained  # noqa: E402

pytestmark = pytest.mark.usefixtures('quick_compile')
TEXT = 'the end?'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  """(ask, model, params, chat, port) of a tiny random Qwen3.5 that sees."""
  folder = hub_builders.write_seeing(
      tmp_path_factory.mktemp('seeing'), 'qwen3_5')
  found = pretrained.load(folder)
  chat = pretrained.chat(found, BARE)
  worker = serve.start(found, chat, context=256, slots=4, top=5)
  with running(worker=worker, chat=chat, context=256,
               max_bytes=1 << 20) as (ask, _, port, *_):
    yield ask, found.model, found.params, chat, port
  worker.close()


def message(*parts) -> dict:
  """A body that shows data URLs, then asks TEXT; most likely token, once."""
  shown = [{'type': 'image_url', 'image_url': {'url': p}} for p in parts]
  return {'model': 'm', 'temperature': 0, 'max_tokens': 1, 'logprobs': True,
          'top_logprobs': 5, 'messages': [{'role': 'user', 'content': [
              *shown, {'type': 'text', 'text': TEXT}]}]}


def data_url(of: Picture, kind='png') -> str:
  out = io.BytesIO()
  images.decode(of).save(out, kind)
  return f'data:image/{kind};base64,' + base64.b64encode(
      out.getvalue()).decode()


def expected(model, params, chat, pictures):
  """(prompt tokens, log-probs of what may come first) by one pass over the
  prompt, without engine, cache or server."""
  encoded = chat.plain(TEXT, pictures)
  batch = packing.pad_prompts(
      [Prompt(Question('q', TEXT, '', ''), PromptKind.PLAIN, encoded.tokens,
              encoded.media)], 1, len(encoded.tokens),
      len(encoded.media.patches_IC), model.num_axes)
  hidden, _ = model.apply(
      params, batch.tokens_PT, batch.positions_PTA,
      np.ones_like(batch.tokens_PT), media=batch.media)
  vocab = segments.true_vocabulary(chat.codec)  # padding rows have no mass
  logits = (hidden[0, -1] @ model.head(params))[:vocab]
  return len(encoded.tokens), np.asarray(jax.nn.log_softmax(logits))


@pytest.mark.parametrize('kind, sizes', [
    ('png', ((16, 12),)), ('jpeg', ((16, 12),)),
    long('png', ((16, 12), (8, 8)))])
def test_the_model_sees_what_was_sent(server, kind, sizes):
  """One or two pictures in a message: prompt tokens, and the log-probs of
  the first place."""
  ask, model, params, chat, _ = server
  urls = [data_url(drawn(i, *size), kind) for i, size in enumerate(sizes)]
  status, reply = ask('/v1/chat/completions', message(*urls))
  assert status == 200, reply
  count, logp_V = expected(model, params, chat, tuple(
      Picture(base64=url.partition(',')[2]) for url in urls))
  assert reply['usage']['prompt_tokens'] == count
  (told,) = reply['choices'][0]['logprobs']['content']
  best = max(chat.codec.sampled_ids, key=lambda i: logp_V[i])
  assert told['token'] == chat.codec.decode([best])
  assert told['logprob'] == pytest.approx(logp_V[best], abs=1e-4)
  np.testing.assert_allclose([t['logprob'] for t in told['top_logprobs']],
                             np.sort(logp_V)[:-6:-1], atol=1e-4)


def test_another_picture_another_answer(server):
  ask, *_ = server
  told = [ask('/v1/chat/completions', message(data_url(drawn(i))))[1][
      'choices'][0]['logprobs']['content'][0]['top_logprobs']
      for i in (3, 4, 3)]
  assert told[0] == told[2] != told[1]


def test_a_teacher_is_shown_them(server):
  """Behind `api` chat, by the client that training uses."""
  *_, chat, port = server
  c = small_config().teacher.endpoint
  c.update(url=f'http://127.0.0.1:{port}/v1', model='m')
  teacher = endpoint.connect(
      c, chat=chat, words=BARE, grader=Grader(lambda text: text, lambda *_: 0),
      decoding=Decoding(4), num_answers=2, compress=CompressionConfig(8, 0),
      max_prompt=256, seed=0)
  assert teacher.capabilities.pictures
  prompts = [Prompt(Question(f'q{i}', TEXT, '', '', (drawn(i),)),
                    PromptKind.PLAIN, ()) for i in range(2)]
  found, asked = teacher.answer(prompts, 0)
  assert [len(g.rollouts) for g in found] == [2, 2] and not asked.failed


def huge() -> bytes:
  """The header of a PNG of 60,000 x 60,000 pixels."""
  size = (60_000).to_bytes(4, 'big')
  head = b'IHDR' + size + size + bytes([8, 2, 0, 0, 0])
  return (b'\x89PNG\r\n\x1a\n' + (13).to_bytes(4, 'big') + head
          + zlib.crc32(head).to_bytes(4, 'big'))


@pytest.mark.parametrize('raw', [
    b'no picture', huge(), base64.b64decode(drawn(0).base64)[:60]],
    ids=['text', 'huge', 'torn'])
def test_what_is_no_picture_is_refused(server, raw):
  """And the next request is answered."""
  ask, *_ = server
  url = 'data:image/png;base64,' + base64.b64encode(raw).decode()
  status, reply = ask('/v1/chat/completions', message(url))
  assert status == 400, reply
  assert 'is no image that can be read' in reply['error']['message']
  assert ask('/v1/chat/completions', message(data_url(drawn(0))))[0] == 200
