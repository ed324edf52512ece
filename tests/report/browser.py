"""A headless Chromium spoken to over a pipe; no package is needed for it."""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import time

import pytest

DEMAND = 'ZPPO_REQUIRE_CHROMIUM'  # set to 1: a missing Chromium is a failure
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')


def find() -> str:
  """The browser's path; skips the test, or fails it where it is demanded."""
  found = next(filter(None, map(shutil.which, NAMES)), None)
  if found is None:
    text = f'no Chromium among {", ".join(NAMES)}'
    if os.environ.get(DEMAND) == '1':
      pytest.fail(f'{text}, and {DEMAND}=1')
    pytest.skip(f'{text} (set {DEMAND}=1 to make this a failure)')
  return found


class Browser:
  """One page. Commands are those of the DevTools protocol."""

  def __init__(self, profile: pathlib.Path, seconds: float = 40):
    self._seconds = seconds
    self._number = 0
    self._rest = b''
    self.events: list[dict] = []
    theirs_in, self._out = os.pipe()
    self._in, theirs_out = os.pipe()

    # Chromium reads from descriptor 3 and writes to 4. A shell puts them there,
    # because Python's preexec_fn would fork this process with jax's threads.
    high_in, high_out = (fcntl.fcntl(end, fcntl.F_DUPFD, 10)
                         for end in (theirs_in, theirs_out))
    self._process = subprocess.Popen(
        ['bash', '-c', f'exec "$@" 3<&{high_in} 4>&{high_out}', 'bash', find(),
         '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run',
         f'--user-data-dir={profile}', '--remote-debugging-pipe',
         'about:blank'],
        pass_fds=(high_in, high_out), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(high_in)
    os.close(high_out)
    os.close(theirs_in)
    os.close(theirs_out)
    targets = self.send('Target.getTargets')['targetInfos']
    page = next(t for t in targets if t['type'] == 'page')
    self._session = None
    self._session = self.send('Target.attachToTarget', flatten=True,
                              targetId=page['targetId'])['sessionId']
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.send(f'{domain}.enable')

  _session = None

  def _read(self) -> dict:
    deadline = time.monotonic() + self._seconds
    while b'\0' not in self._rest:
      left = deadline - time.monotonic()
      if left <= 0 or not select.select([self._in], [], [], left)[0]:
        raise TimeoutError('Chromium does not answer')
      chunk = os.read(self._in, 1 << 20)
      if not chunk:
        raise RuntimeError('Chromium is gone')
      self._rest += chunk
    line, self._rest = self._rest.split(b'\0', 1)
    return json.loads(line)

  def send(self, method: str, **params) -> dict:
    """A command's result; events that arrive before it are kept."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    while True:
      found = self._read()
      if found.get('id') == self._number:
        if 'error' in found:
          raise RuntimeError(f'{method}: {found["error"]}')
        return found['result']
      self.events.append(found)

  def open(self, page: pathlib.Path, address: str = '', *, width: int = 1200,
           scheme: str = 'light') -> None:
    """Loads a file anew, at a width and in a colour scheme."""
    self.send('Emulation.setDeviceMetricsOverride', width=width, height=900,
              deviceScaleFactor=1, mobile=width < 600)
    self.send('Emulation.setEmulatedMedia', features=[
        {'name': 'prefers-color-scheme', 'value': scheme}])
    self.send('Page.navigate', url='about:blank')
    self.events.clear()
    self.send('Page.navigate', url=page.resolve().as_uri() + address)
    deadline = time.monotonic() + self._seconds
    while self.run('document.readyState + location.protocol') != (
        'completefile:'):
      assert time.monotonic() < deadline, 'the page does not load'
      time.sleep(0.05)

  def run(self, expression: str):
    """The JSON value of a JavaScript expression in the page."""
    found = self.send('Runtime.evaluate', expression=expression,
                      returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in found:
      raise RuntimeError(str(found['exceptionDetails']))
    return found['result'].get('value')

  def complaints(self) -> list[str]:
    """Exceptions, console errors and log entries since the page was opened."""
    self.run('1')
    kinds = ('Runtime.exceptionThrown', 'Log.entryAdded',
             'Runtime.consoleAPICalled')
    return [json.dumps(e['params']) for e in self.events
            if e.get('method') in kinds]

  def requests(self) -> list[str]:
    """Addresses that were asked for since the page was opened."""
    return [e['params']['request']['url'] for e in self.events
            if e.get('method') == 'Network.requestWillBeSent']

  def picture(self, path: pathlib.Path) -> None:
    """The whole page as a PNG."""
    height = self.run('document.documentElement.scrollHeight')
    width = self.run('document.documentElement.clientWidth')
    found = self.send('Page.captureScreenshot', captureBeyondViewport=True,
                      clip=dict(x=0, y=0, width=width, height=height, scale=1))
    path.write_bytes(base64.b64decode(found['data']))

  def close(self) -> None:
    with contextlib.suppress(Exception):
      self.send('Browser.close')
    try:
      self._process.wait(5)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._in)
    os.close(self._out)
