"""The vendored files are those of uPlot's release."""

import hashlib

from zppo_jax.report import frame

DIGESTS = {
    'uPlot.iife.min.js':
        '19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f',
    'uPlot.min.css':
        'df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04',
    'LICENSE.uPlot':
        '8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd'}


def test_digests_of_the_release():
  folder = frame.HERE / 'vendor'
  assert {p.name for p in folder.iterdir()} == {*DIGESTS, 'README.md'}
  assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
          for name in DIGESTS} == DIGESTS
  assert '1.6.32' in (folder / 'README.md').read_text()
