"""The page as text: well-formed, complete, nothing escapes, nothing is asked
of the network."""

import html.parser
import json
import re

import pytest

from tests import workdirs
from zppo_jax import report
from zppo_jax.report import charts, frame

HOSTILE = '</script><script>alert(1)</script><!-- <img src=x onerror=1> \u2028&'
VOID = {'meta', 'input', 'br', 'img', 'link', 'hr'}


class Checker(html.parser.HTMLParser):
  """Every element is closed in order; ids are unique."""

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.tags = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self.ids += [v for k, v in attrs if k == 'id']
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
    self.open.pop()


def parsed(text: str) -> Checker:
  checker = Checker()
  checker.feed(text)
  checker.close()
  assert checker.open == [] and len(set(checker.ids)) == len(checker.ids)
  return checker


def data_of(text: str) -> dict:
  return json.loads(re.search(
      r'<script type="application/json" id="data">(.*?)</script>', text,
      re.S).group(1))


def written(paths, **fields) -> str:
  return report.main(paths, **fields).read_text()


@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
  path = workdirs.make(tmp_path_factory.mktemp('h') / 'run', hostile=HOSTILE)
  return written([path])


def test_a_single_run_is_written_beside_it_and_well_formed(tmp_path):
  path = workdirs.make(tmp_path / 'run')
  assert report.main([path]) == path / 'report.html'
  text = (path / 'report.html').read_text()
  parsed(text)
  for words in ('Before and after', 'Candidate copying alarm', 'Graduation',
                'What was trained',
                'Tokens by role', 'Time of a step', 'complete', 'a1b2c3d4e5'):
    assert words in text


@pytest.mark.parametrize('fields', [
    [dict(method='grpo')], [dict(unfinished=True)], [dict(steps=1)],
    [dict(seed=s, method=m, steps=6) for m in ('zppo', 'grpo')
     for s in (0, 1)]])
def test_other_runs_are_well_formed(tmp_path, fields):
  paths = [workdirs.make(tmp_path / str(i), **f) for i, f in enumerate(fields)]
  parsed(written(paths, to=tmp_path / 'r.html'))


def test_a_run_without_any_step_has_a_page(tmp_path):
  path = workdirs.make(tmp_path / 'run', unfinished=True)
  for name in ('metrics', 'eval', 'samples', 'buffer'):
    (path / f'{name}.jsonl').write_text('')
  text = written([path])
  parsed(text)
  assert 'No evaluation is recorded yet' in text
  assert 'recorded no questions' in text


def test_what_a_run_wrote_cannot_end_its_script(hostile):
  """The only script elements are ours; the data come back unchanged."""
  found = parsed(hostile).tags
  assert [a for t, a in found if t == 'script'] == [
      {'type': 'application/json', 'id': 'data'}, {}, {}, {}]
  assert not any(t == 'img' for t, _ in found)
  row = data_of(hostile)['samples'][0]
  assert row['question']['text'].endswith(HOSTILE)
  assert row['groups'][0]['rollouts'][0]['text'].endswith(HOSTILE)


def test_names_of_runs_and_config_values_are_escaped(tmp_path):
  """Two runs, so that the differing field is shown too."""
  nasty = '<b onclick=x>&"'
  one = workdirs.make(tmp_path / 'a', method='grpo')
  two = workdirs.make(tmp_path / '<u>run', method='grpo')
  for path, value in ((one, 'plain'), (two, nasty)):
    config = json.loads((path / 'config.json').read_text())
    config['config'][f'field<{value}>'] = value
    config['config']['method'] = value
    (path / 'config.json').write_text(json.dumps(config))
  text = written([one, two], to=tmp_path / 'r.html')
  tags = parsed(text).tags
  assert not any('onclick' in a for _, a in tags)
  assert not any(t == 'u' for t, _ in tags)
  assert '&lt;b onclick=x&gt;' in text


def test_nothing_is_asked_of_the_network(hostile):
  """No address but that of uPlot in its comment, and a policy that forbids
  every request."""
  shown = re.sub(r'<script type="application/json".*?</script>', '', hostile,
                 flags=re.S)
  comment = '/*! https://github.com/leeoniya/uPlot (v1.6.32) */'
  assert shown.count(comment) == 1
  shown = shown.replace(comment, '')
  assert 'http://' not in shown and 'https://' not in shown
  assert '@import' not in shown and 'url(' not in shown
  assert 'default-src &#x27;none&#x27;' in shown
  for tag, attrs in parsed(hostile).tags:
    assert 'src' not in attrs and tag != 'link'
    if 'href' in attrs:
      assert attrs['href'].startswith('#')


@pytest.mark.parametrize('name', [
    'page.js', 'charts.js', 'vendor/uPlot.iife.min.js'])
def test_scripts_insert_text_and_never_html(name):
  code = (frame.HERE / name).read_text()
  for word in ('innerHTML', 'outerHTML', 'insertAdjacentHTML', 'eval(',
               'document.write', 'fetch(', 'XMLHttpRequest'):
    assert word not in code


def test_every_chart_says_its_unit_and_what_is_drawn(tmp_path):
  text = written([workdirs.make(tmp_path / 'run')])
  figures = re.findall('<figure class="chart".*?</figure>', text, re.S)
  plots = data_of(text)['plots']
  assert len(figures) == len(plots) > 20
  for i, (figure, views) in enumerate(zip(figures, plots, strict=True)):
    assert f'data-plot="{i}"' in figure
    assert all(view['series'] and all(s['label'] for s in view['series'])
               for view in views)
    assert re.search(r'<p class="unit">[^<]+</p>', figure)
    assert re.search(r'<code>[^<]+</code></p></figure>', figure)


def test_a_page_stays_under_2_mb(tmp_path, monkeypatch):
  """Long runs of four methods with three seeds each, and long texts: curves get
  fewer points, and fewer questions are shown; the page says so."""
  monkeypatch.setattr(frame, 'MOST_CHARTS', 60_000)  # so that 4 runs exceed it
  paths = [workdirs.make(tmp_path / f'{m}{s}', method=m, seed=s, steps=120,
                         hostile='<' * 600, samples_every=2)
           for m in ('zppo', 'grpo') for s in (0, 1)]
  text = written(paths, to=tmp_path / 'r.html', max_samples=10_000)
  assert len(text.encode()) < 2_000_000
  data = data_of(text)
  assert len(frame.embed(data['plots'])) <= 60_000
  assert f'{len(data["samples"])} of 960 recorded questions are here' in text
  assert 0 < len(data['samples']) < 960


def test_thinned_curves_are_means_and_keep_gaps():
  view = charts.line_chart([charts.Line(
      'a', (0, 1, 2, 3), (1, 3, float('nan'), float('nan')), (0, 0, 0, 0),
      (9, 9, 9, 9), faint=(((0,), (1,)),))], x_label='x', y=(0, 5))
  assert view.series[0]['high'] == [5, 5, 5, 5]  # cut at what is possible
  one, = charts.thinned(view, 2).series
  assert (one['x'], one['y']) == ([0.5, 2.5], [2, None])
  assert one['high'] == [5, 5] and 'faint' not in one


def test_a_metric_without_a_panel_is_shown_all_the_same(tmp_path):
  path = workdirs.make(tmp_path / 'run')
  rows = [json.loads(x) for x in
          (path / 'metrics.jsonl').read_text().splitlines()]
  workdirs.write_lines(path / 'metrics.jsonl', [
      {**row, 'reward/format': 0.5, 'brand_new/number': 3} for row in rows])
  text = written([path])
  titles = re.findall('<h3>(.*?)</h3>', text)
  assert 'Components of the reward' in titles and 'brand new' in titles
  assert text.index('Components of the reward') < text.index('Other metrics')


def test_what_is_left_out_is_said(tmp_path):
  path = workdirs.make(tmp_path / 'run', samples_every=1)
  text = written([path], max_samples=10)
  assert '10 of 80 recorded questions are here' in text
  assert '70 were left out' in text
  assert len(data_of(text)['samples']) == 10
  assert 'All 80 recorded questions are here' in written([path])


def test_runs_of_several_methods_state_interval_and_count(tmp_path):
  paths = [workdirs.make(tmp_path / f'{m}{s}', method=m, seed=s)
           for m in ('zppo', 'grpo') for s in (0, 1)]
  text = written(paths, to=tmp_path / 'r.html')
  assert 'bands 95 % t intervals' in text
  one, *_ = data_of(text)['plots'][0][0]['series']
  assert one['bold'] and len(one['low']) == len(one['high']) == len(one['y'])
  assert 'mean of 2 runs' in text


def test_several_runs_need_a_file_and_numbers_are_checked(tmp_path):
  paths = [workdirs.make(tmp_path / n) for n in 'ab']
  with pytest.raises(ValueError, match='--to'):
    report.main(paths)
  with pytest.raises(ValueError, match='samples is -1'):
    report.main(paths[:1], max_samples=-1)
