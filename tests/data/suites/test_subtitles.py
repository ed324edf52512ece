"""SubRip files: times, tags, lines at the frames that are shown."""

import pytest

from zppo_jax.data.suites import subtitles

SRT = ('\ufeff1\r\n00:00:01,000 --> 00:00:02,500\r\n<font color="#f00">Who '
       '<b>goes</b>\r\nthere?</font>\r\n\r\n2\r\n01:00:00.5 --> 01:00:01.250 '
       'X1:9\r\n{\\an8}3 < 4\r\n\r\n3\r\n00:00:09,000 --> 00:00:09,100\r\n'
       '<i></i>\r\n')


def test_lines_without_tags(tmp_path):
  path = tmp_path / 'a.srt'
  path.write_text(SRT)
  assert subtitles.lines(path) == (
      (1.0, 2.5, 'Who goes there?'), (3600.5, 3601.25, '3 < 4'))


@pytest.mark.parametrize('times, shown', [
    ([0.0, 0.5], subtitles.NO_LINES), ([2.6, 9.0], subtitles.NO_LINES),
    ([1.0], 'Subtitles:\nWho goes there?'),
    ([2.5, 1.5], 'Subtitles:\nWho goes there?'),
    ([1.5, 3601.0], 'Subtitles:\nWho goes there?\n3 < 4')])
def test_the_lines_at_the_frames(tmp_path, times, shown):
  path = tmp_path / 'b.srt'
  path.write_text(SRT)
  assert subtitles.at(path, times) == shown


def test_videos_without_subtitles_and_other_files(tmp_path):
  assert subtitles.at(tmp_path / 'c.srt', [0.0]) == subtitles.NO_FILE
  (tmp_path / 'd.srt').write_text('WEBVTT\n\nHello.\n')
  with pytest.raises(ValueError, match='d.srt: no times of subtitles'):
    subtitles.lines(tmp_path / 'd.srt')
  (tmp_path / 'e.srt').write_bytes(b'\xff\xfe1')
  with pytest.raises(ValueError, match='e.srt: no UTF-8'):
    subtitles.lines(tmp_path / 'e.srt')
