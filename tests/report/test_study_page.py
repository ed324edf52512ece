"""The page of a study, from the committed results."""

import json
import re

import pytest

from tests import workdirs
from tests.builders import ROOT
from tests.report.test_page import data_of, parsed
from zppo_jax import report
from zppo_jax.report import study_page

RESULTS = ROOT / 'studies' / 'results'


@pytest.mark.parametrize('name', sorted(
    p.parent.name for p in RESULTS.glob('*/results.json')))
def test_every_committed_study_has_a_page(name, tmp_path):
  results = study_page.read(RESULTS / name)
  text = report.main([RESULTS / name], tmp_path / 's.html').read_text()
  parsed(text)
  assert len(text.encode()) < 2_000_000
  arms = {r['arm'] for r in results['reported']}
  for arm in arms:
    assert f'<td>{arm}</td>' in text
  end = results['study']['endpoint']
  drawn = [one['label'] for views in data_of(text)['plots']
           for one in views[0]['series']]
  assert set(drawn) == arms
  assert f'>{end}, 0 to 1</th>' in text


def test_numbers_of_the_headline_are_those_of_its_table(tmp_path):
  text = report.main([RESULTS / 'headline' / 'results.json'],
                     tmp_path / 's.html').read_text()
  plain = re.sub('<[^>]+>', '', text)
  for words in ('0.732 [0.663, 0.802]', '0.893 [0.871, 0.916]',  # table.md
                '+0.335 [+0.292, +0.378]', '0.0078', '8'):
    assert words in plain
  view, *others = data_of(text)['plots'][0]
  zppo = view['series'][0]  # the best arm is the first
  assert zppo['label'] == 'zppo' and zppo['y'][-1] == 1 and zppo['x'][-1] == 200
  assert len(zppo['low']) == len(zppo['y']) == 9
  assert [v['x'] for v in others] == [
      'student rollouts', 'tokens (teacher and prompts included)']


def words_of(name, tmp_path):
  """The text of a committed study's page, a space between cells."""
  page = report.main([RESULTS / name], tmp_path / 's.html').read_text()
  body = page.partition('<main>')[2].partition('</main>')[0]
  return ' '.join(re.sub('<[^>]+>', ' ', body).split())


def test_claims_fates_and_cost_are_those_of_the_tables(tmp_path):
  """And runs that a guard stopped are named."""
  dial = words_of('depth', tmp_path)  # of docs/study.md and table.md
  for words in ('zppo_60 - grpo_replay_60 hard 3 +0.396 [+0.116, +0.676]',
                '665 / 2243', 'zppo_10, seed 2: stopped at step 292',
                'Fates by entry accuracy', 'FLOPs'):
    assert words in dial, words
  assert 'Claims' not in dial
  (claim, *_) = study_page.read(RESULTS / 'smoke')['confirmatory']
  smoke = words_of('smoke', tmp_path)
  assert (f'{claim["sign_flip_p"]:.4f} {claim["holm_p"]:.4f} '
          f'{claim["verdict"]}') in smoke
  assert 'Claims' in smoke and 'Exploratory contrasts' in smoke


def test_each_endpoint_has_its_own_scale():
  """Differences in FLOPs do not hide those in accuracy."""
  of = lambda endpoint, mean, half: {
      'first': 'a', 'second': 'b', 'endpoint': endpoint, 'seeds': [0, 1],
      'mean': mean, 'low': mean - half, 'high': mean + half,
      'sign_flip_p': 0.5}
  text = study_page._contrasts([of('flops', 2e11, 2e11), of('hard', 0.2, 0.2)])
  bars = re.findall('<span class="track".*?</span>', text)
  assert len(bars) == 2 and bars[0] == bars[1]
  assert '+2e+11' in text and '+0.200' in text


def test_a_study_stands_alone_and_others_are_refused(tmp_path):
  run = workdirs.make(tmp_path / 'run')
  with pytest.raises(ValueError, match='headline is a study, which has a page'):
    report.main([run, RESULTS / 'headline'], tmp_path / 'x.html')
  file = tmp_path / 'results.json'
  for content, message in (('{', 'not readable JSON'), ('{}', 'holds no study'),
                           (json.dumps({'study': {}, 'reported': [],
                                        'contrasts': [], 'machine': {}}),
                            'reports no run')):
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
      report.main([file])
