"""The page as text: well-formed, complete, nothing escapes, nothing is asked
of the network."""

import html.parser
import json
import re

import pytest

from tests import workdirs
from zppo_jax import report
from zppo_jax.report import page

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
      {'type': 'application/json', 'id': 'data'}, {}]
  assert not any(t == 'img' for t, _ in found)
  row = data_of(hostile)['samples'][0]
  assert row['question']['text'].endswith(HOSTILE)
  assert row['groups'][0]['rollouts'][0]['text'].endswith(HOSTILE)


def test_names_of_runs_and_config_values_are_escaped(tmp_path):
  """Two runs, so that the differing field is shown too."""
  nasty = '<b onclick=x>&"'
  one = workdirs.make(tmp_path / 'a', method='grpo')
  two = workdirs.make(tmp_path / '<i>run', method='grpo')
  for path, value in ((one, 'plain'), (two, nasty)):
    config = json.loads((path / 'config.json').read_text())
    config['config'][f'field<{value}>'] = value
    config['config']['method'] = value
    (path / 'config.json').write_text(json.dumps(config))
  text = written([one, two], to=tmp_path / 'r.html')
  tags = parsed(text).tags
  assert not any('onclick' in a for _, a in tags)
  assert not any(t == 'i' for t, _ in tags)
  assert '&lt;b onclick=x&gt;' in text


def test_nothing_is_asked_of_the_network(hostile):
  """No address at all, and a policy that forbids every request."""
  shown = re.sub(r'<script type="application/json".*?</script>', '', hostile,
                 flags=re.S)
  assert 'http://' not in shown and 'https://' not in shown
  assert '@import' not in shown and 'url(' not in shown
  assert 'default-src &#x27;none&#x27;' in shown
  for tag, attrs in parsed(hostile).tags:
    assert 'src' not in attrs and tag != 'link'
    if 'href' in attrs:
      assert attrs['href'].startswith('#')


def test_page_js_inserts_text_and_never_html():
  code = (page.HERE / 'page.js').read_text()
  for word in ('innerHTML', 'outerHTML', 'insertAdjacentHTML', 'eval(',
               'document.write', 'fetch(', 'XMLHttpRequest'):
    assert word not in code


def test_every_chart_of_several_curves_has_a_legend(tmp_path):
  """And says its unit and the names of what is drawn."""
  text = written([workdirs.make(tmp_path / 'run')])
  charts = re.findall('<figure.*?</figure>', text, re.S)
  curves = [len(h['series']) for h in data_of(text)['hovers']]
  assert len(charts) == len(curves) > 20
  for chart, count in zip(charts, curves, strict=True):
    entries = chart.count('<li>')
    assert entries == count or (count == 1 and entries == 0)
    assert re.search(r'<p class="unit">[^<]+</p>', chart)
    assert re.search(r'<code>[^<]+</code></p></figure>', chart)


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
  assert 'class="band"' in text
  assert 'mean of 2 runs' in text


def test_several_runs_need_a_file_and_numbers_are_checked(tmp_path):
  paths = [workdirs.make(tmp_path / n) for n in 'ab']
  with pytest.raises(ValueError, match='--to'):
    report.main(paths)
  with pytest.raises(ValueError, match='samples is -1'):
    report.main(paths[:1], max_samples=-1)
