"""Rows of the benchmarks of videos as questions, as image_rows.py.

A video is the folder `frames/VIDEO` of the copy, which holds its frames.
"""

import functools
import json
import pathlib
import re
from typing import Any

from zppo_jax.data import media, values
from zppo_jax.data.mappings.mapping import Mapped, Row, asked, letters
from zppo_jax.data.suites import subtitles
from zppo_jax.data.suites.benchmark import CONFIG, HOME, skipped
from zppo_jax.data.suites.choices import (
  Gold,
  blank,
  choice,
  listed,
  literal,
  opened,
  pictured,
  unlettered,
  why_not,
)

FRAMES, SUBTITLES = 'frames', 'subtitle'
_ON_THE_HUB = re.compile(r'https?://[^/]+/(?:[^?#]*/)?(?:resolve|blob)/[^/]+/')
_FILM = re.compile(r'\.(mp4|webm|mkv|avi|mov|gif)$', re.IGNORECASE)
_OF_ANOTHER = ('The last frame belongs to another question. Leave it out of '
               'account.')
_OF_THIS = 'The picture belongs to the question, and the video explains how.'


def _frames(video: Any) -> str:
  """The folder of a video's frames, from its name or its address on the hub.

  Raises:
    ValueError: for an address of another site.
  """
  name = _ON_THE_HUB.sub('', values.text(video, 'the video').strip())
  if '://' in name:
    raise ValueError(f'the video {values.shown(video)} is an address; the '
                     'frames of a file on the hub lie in the folder of its '
                     'path there')
  return f'{FRAMES}/{_FILM.sub("", name)}'


@functools.lru_cache(maxsize=4)  # the questions of a video follow each other
def _times(frames: pathlib.Path) -> tuple[float, ...]:
  return tuple(media.times(frames))


def mmvu(row: Row, gold: Gold) -> Mapped:
  """The judge compares answers of both types, in two modes."""
  if reason := why_not(row['question'], row['answer']):
    return skipped(reason)
  video = (_frames(row['video']),)
  answer = values.text(row['answer'], 'answer').strip()
  mode = row['question_type']
  if mode == 'open-ended':
    words = opened(row['question'], json.dumps(
        {'answer': answer, 'mode': mode}, ensure_ascii=False), 'mmvu')
  elif mode == 'multiple-choice':
    options = listed(row['choices'])
    words = asked(row['question'], json.dumps({
        'answer': gold(answer, options), 'mode': mode,
        'options': dict(zip('ABCDEFGHIJ', options, strict=False))},
        ensure_ascii=False), 'mmvu', f'\n{letters(options)}')
  else:
    raise ValueError(f'question_type is {values.shown(mode)}; MMVU has '
                     'multiple-choice and open-ended')
  of = row['metadata']
  subject = of.get('subject', '') if isinstance(of, dict) else ''
  return words._replace(videos=video, subset=subject)


def mvbench(row: Row, gold: Gold) -> Mapped:
  """Names of videos repeat across tasks; five tasks ask about a segment."""
  task = row[CONFIG]
  name = _FILM.sub('', values.text(row['video'], 'video'))
  video: dict[str, Any] = {
      'frames': '/'.join(p for p in (FRAMES, task, name) if p)}
  if not blank(row['start']) or not blank(row['end']):
    video |= {'start': row['start'], 'end': row['end']}
  words = choice(row['question'], row['candidates'], row['answer'], gold)
  return words._replace(videos=(video,))


def video_mme(row: Row, gold: Gold) -> Mapped:
  words = choice(row['question'], row['options'], row['answer'], gold)
  return words._replace(videos=(_frames(row['videoID']),))


def video_mme_subtitles(row: Row, gold: Gold) -> Mapped:
  """The lines at the frames that are shown stand before the question."""
  words = video_mme(row, gold)
  if words.skip:
    return words
  if row['subtitles'] is not None:  # a column that a user has added
    shown = f'Subtitles:\n{values.text(row["subtitles"], "subtitles")}'
  else:
    home = pathlib.Path(row[HOME])
    folder = home / SUBTITLES
    if not folder.is_dir():
      raise FileNotFoundError(
          f'no subtitles: unpack subtitle.zip into {folder}')
    shown = subtitles.at(
        folder / f'{values.text(row["videoID"], "videoID")}.srt',
        _times(home / words.videos[0]))
  return words._replace(text=f'{shown}\n\n{words.text}')


def _forms(answer: Any) -> str:
  """The forms of an open answer as a JSON list; some rows hold the text of a
  list."""
  said = values.text(answer, 'answer').strip()
  if said.startswith('['):
    try:
      forms = literal(said)
    except ValueError:
      forms = None
    if isinstance(forms, list) and forms and all(
        isinstance(form, str) for form in forms):
      return json.dumps(forms, ensure_ascii=False)
  return json.dumps([said], ensure_ascii=False)


def video_mmmu(row: Row, gold: Gold) -> Mapped:
  """Three tracks ask about one video, whose last frame is a quiz's picture."""
  if reason := why_not(row['question'], row['answer']):
    return skipped(reason)
  how = _OF_THIS if row[CONFIG] == 'Adaptation' else _OF_ANOTHER
  question, options, _ = pictured(values.text(row['question'], 'question'),
                                  unlettered(listed(row['options'])))
  question = f'{how}\n{question}'
  words = (choice(question, options, row['answer'], gold) if options else
           opened(question, _forms(row['answer']), 'mmmu'))
  return words._replace(videos=(_frames(row['id']),), subset=row[CONFIG])
