"""Subtitles of SubRip files (.srt): the lines at given times."""

import bisect
import functools
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

_TIME = r'(\d+):(\d\d):(\d\d)[,.](\d{1,3})'
_SPAN = re.compile(rf'^\s*{_TIME}\s*-->\s*{_TIME}', re.MULTILINE)
_TAG = re.compile(r'</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}')
_BLANK = re.compile(r'\n\s*\n')
NO_FILE = 'This video has no subtitles.'
NO_LINES = 'No subtitles are shown at these frames.'


class Line(NamedTuple):
  """A line of subtitles.

  Attributes:
    start, end: in seconds.
    text: without tags of fonts.
  """
  start: float
  end: float
  text: str


def _seconds(hours: str, minutes: str, seconds: str, rest: str) -> float:
  return (int(hours) * 3600 + int(minutes) * 60 + int(seconds)
          + int(rest.ljust(3, '0')) / 1000)


@functools.lru_cache(maxsize=4)  # the questions of a video follow each other
def lines(path: pathlib.Path) -> tuple[Line, ...]:
  """The lines of a file in its order.

  Raises:
    ValueError: for a file without any times, or one that is no UTF-8.
  """
  try:
    words = path.read_text('utf-8-sig')
  except UnicodeDecodeError as e:
    raise ValueError(f'{path}: no UTF-8: {e}') from None
  out = []
  for block in _BLANK.split(words.replace('\r\n', '\n')):
    span = _SPAN.search(block)
    if span:
      text = _TAG.sub('', block[span.end():].partition('\n')[2])
      text = ' '.join(text.split())
      times = span.groups()
      if text:
        out.append(Line(_seconds(*times[:4]), _seconds(*times[4:]), text))
  if words.strip() and not _SPAN.search(words):
    raise ValueError(f'{path}: no times of subtitles, 00:00:01,000 --> ...')
  return tuple(out)


def at(path: pathlib.Path, times: Sequence[float]) -> str:
  """The subtitles that are shown at some of the times, each once.

  Args:
    path: of the video's file, which may not exist.
    times: of the frames, in seconds.
  """
  if not path.is_file():
    return NO_FILE
  times = sorted(times)
  shown = []
  for line in lines(path):
    first = bisect.bisect_left(times, line.start)  # the first frame of the line
    if first < len(times) and times[first] <= line.end:
      shown.append(line.text)
  return ('Subtitles:\n' + '\n'.join(shown)) if shown else NO_LINES
