"""Clients that stop: they hold no descriptor, and do not hold up the end."""

import contextlib
import json
import logging
import socket
import threading
import time

import pytest

pytest.importorskip('starlette')
pytest.importorskip('uvicorn')
from tests.serve.test_app import running, wait_for  # noqa: E402
from zppo_jax.serve import connections, replied  # noqa: E402

HEAD = (b'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n'
        b'content-type: application/json\r\n')


CONNECTIONS: list[socket.socket] = []  # of the test that runs


@pytest.fixture(autouse=True)
def closed():
  """Every connection that a test made is closed at its end."""
  yield
  while CONNECTIONS:
    CONNECTIONS.pop().close()


def request(**fields) -> bytes:
  body = json.dumps({'model': 'm', 'prompt': [1], **fields}).encode()
  return HEAD + b'content-length: %d\r\n\r\n' % len(body) + body


def client(port: int, said: bytes, room: int = 0) -> socket.socket:
  """A connection on which something was said; `room`: bytes it takes in."""
  talk = socket.socket()
  CONNECTIONS.append(talk)
  if room:
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
  talk.settimeout(20)
  talk.connect(('127.0.0.1', port))
  talk.sendall(said)
  return talk


def is_dropped(talk: socket.socket) -> bool:
  """Whether the server has ended a connection."""
  try:
    while talk.recv(2**20):
      pass
  except TimeoutError:
    return False
  except OSError:
    pass
  return True


STOPPED = {
    'nothing': b'', 'a part of a head': b'POST /v1/comple',
    'a head': HEAD + b'content-length: 999\r\n\r\n',
    'a part of a body': HEAD + b'content-length: 999\r\n\r\n{"model"',
    'a part of a second head': b'GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET'}


@contextlib.contextmanager
def watched(monkeypatch, patience=0.3, grace=20, **fields):
  monkeypatch.setattr(connections, 'PATIENCE_S', patience)
  monkeypatch.setattr(connections, 'ENDING_S', 0.3)
  with running(grace=grace, protocol=connections.Connection,
               **fields) as found:
    yield found


@pytest.mark.parametrize('said', STOPPED.values(), ids=STOPPED)
def test_who_sends_no_more_is_dropped(monkeypatch, said):
  with watched(monkeypatch) as (ask, _, port, _, _):
    talk = client(port, said)
    assert is_dropped(talk)
    assert ask('/health')[0] == 200


def test_who_sends_slowly_or_waits_for_an_answer_stays(monkeypatch):
  """Progress is enough, and the server's own time is not the client's."""
  with watched(monkeypatch, patience=0.5) as (_, worker, port, _, _):
    whole = request(seed=99)
    talk = client(port, whole[:20])
    for i in range(20, len(whole), 20):
      time.sleep(0.1)
      talk.sendall(whole[i:i + 20])
    wait_for(lambda: worker.stuck)
    time.sleep(1.6)  # three times as long as its patience
    worker.stuck[0].set_result([])
    assert talk.recv(100)


@pytest.mark.parametrize('ends', [False, True])
def test_who_reads_nothing_is_dropped(monkeypatch, ends):
  """While the server runs, and while it ends, which it does at once."""
  monkeypatch.setattr(replied, 'text', lambda *_: b'x' * (32 << 20))
  patience = 60 if ends else 0.5
  with watched(monkeypatch, patience) as (_, worker, port, server, thread):
    talk = client(port, request(), room=2048)
    wait_for(lambda: worker.jobs)
    begun = time.monotonic()
    if ends:
      server.should_exit = True
      thread.join(15)
      assert not thread.is_alive() and time.monotonic() - begun < 15
    else:
      wait_for(lambda: not server.server_state.connections)
    talk.settimeout(5)
    with contextlib.suppress(OSError):
      received = len(talk.recv(2**26))
      while piece := talk.recv(2**20):
        received += len(piece)
      assert received < 32 << 20


def test_who_reads_slowly_gets_all_of_it(monkeypatch):
  size = 32 << 20
  monkeypatch.setattr(replied, 'text', lambda *_: b'x' * size)
  with watched(monkeypatch, patience=1.0) as (_, _, port, _, _):
    talk = client(port, request(), room=2**16)
    received, pause = 0, time.monotonic()
    while received < size:
      piece = talk.recv(2**18)
      assert piece
      received += len(piece)
      if time.monotonic() - pause > 0.3 and received < size // 2:
        time.sleep(0.3)
        pause = time.monotonic()


def test_the_end_waits_for_no_client_and_says_nothing_of_it(monkeypatch,
                                                            caplog):
  """Whoever has not sent a whole request has 5 s (here 0.3) without a byte, and
  a drip at most the grace; what the server works on has its time. There are no
  tracebacks."""
  with watched(monkeypatch, patience=60, grace=4) as (
      _, worker, port, server, thread):
    logging.getLogger('uvicorn.error').setLevel(logging.INFO)
    stopped = [client(port, said) for said in STOPPED.values()]
    drip = client(port, HEAD + b'content-length: 999\r\n\r\n')

    def drops():
      with contextlib.suppress(OSError):
        for _ in range(200):
          drip.sendall(b' ')
          time.sleep(0.05)
    threading.Thread(target=drops, daemon=True).start()
    talk = client(port, request(seed=99))
    wait_for(lambda: worker.stuck)
    server.should_exit = True
    assert all(is_dropped(s) for s in stopped)
    assert not worker.stuck[0].cancelled()
    thread.join(10)
    assert not thread.is_alive() and worker.stuck[0].cancelled()
    assert b'503' in talk.recv(100)
  assert not [r for r in caplog.records if r.exc_info]
