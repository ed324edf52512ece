"""The page in a browser: no complaints, filters, both schemes, a phone."""

import json

import pytest
from PIL import Image

from tests import workdirs
from tests.builders import ROOT
from tests.report.browser import Browser
from zppo_jax import report
from zppo_jax.chat import pictures

HOSTILE = ('</script><script>document.title="owned"</script>'
           '<img src=x onerror=\'document.title="owned"\'>')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  made = Browser(tmp_path_factory.mktemp('profile'))
  yield made
  made.close()


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  """A run of 20 steps, 16 recorded questions, hostile texts."""
  return report.main([workdirs.make(
      tmp_path_factory.mktemp('one') / 'run', hostile=HOSTILE)])


@pytest.fixture(scope='module')
def many(tmp_path_factory):
  home = tmp_path_factory.mktemp('many')
  return report.main(
      [workdirs.make(home / f'{m}{s}', method=m, seed=s)
       for m in ('zppo', 'grpo') for s in (0, 1)], home / 'r.html')


SHOWN = 'document.getElementById("count").textContent'
CARDS = 'document.querySelectorAll("#cards > details").length'


def texts(browser, selector: str) -> list[str]:
  return browser.run(f'[...document.querySelectorAll({selector!r})]'
                     '.map((e) => e.textContent)')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [360, 768, 1280])
def test_renders_without_complaint_request_or_overflow(
    browser, one, many, scheme, width):
  for page in (one, many):
    browser.open(page, '#open=1', width=width, scheme=scheme)
    assert browser.run(CARDS) == 10
    assert browser.complaints() == []
    assert browser.requests() == [page.resolve().as_uri() + '#open=1'] or (
        browser.requests() == [page.resolve().as_uri()])
    assert browser.run('innerWidth') == width
    assert browser.run('document.documentElement.scrollWidth') <= width


def test_schemes_differ_and_text_stands_out(browser, one):
  """WCAG contrast of text and background at least 7, of soft text 4.5."""
  found = []
  contrast = '''(() => {
    const lum = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number)
        .map((v) => v / 255)
        .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const back = lum(getComputedStyle(document.body).backgroundColor);
    const of = (selector) => ratio(back, lum(getComputedStyle(
        document.querySelector(selector)).color));
    return [back, of('body'), of('.what')];
  })()'''
  for scheme in ('light', 'dark'):
    browser.open(one, scheme=scheme)
    back, text, soft = browser.run(contrast)
    assert text >= 7 and soft >= 4.5
    found.append(back)
  assert found[0] > 0.8 and found[1] < 0.1


def test_hostile_text_stays_text(browser, one):
  browser.open(one, '#open=1')
  assert browser.run('document.title') == 'zppo report: zppo'
  assert browser.run('document.querySelectorAll("#samples img, '
                     '#samples script").length') == 0
  assert any(HOSTILE in t for t in texts(browser, '#cards pre'))


@pytest.mark.parametrize('address, kinds', [
    ('#kind=bcq&open=1', {'BCQ'}), ('#kind=plain&open=1', {'Plain'}),
    ('#open=1', {'BCQ', 'NCQ', 'Plain', 'Teacher'})])
def test_filter_by_prompt_kind(browser, one, address, kinds):
  browser.open(one, address)
  found = {t.split(':')[0] for t in texts(browser, '#cards h4')}
  assert found - {'Teacher'} == kinds - {'Teacher'}


def test_filter_by_verdict_shows_only_those_answers(browser, one):
  browser.open(one, '#kind=plain&verdict=truncated&open=1')
  found = browser.run(
      '[...document.querySelectorAll("#cards h4 ~ .answers")].filter((e) => '
      'e.previousSibling.textContent.startsWith("Student\'s answers"))'
      '.flatMap((e) => '
      '[...e.querySelectorAll(".chip")].map((c) => c.textContent))')
  assert found and set(found) == {'truncated'}
  # the heading still counts the whole group
  assert all(t.endswith(' of 8 right)') for t in texts(browser, '#cards h4')
             if t.startswith('Plain'))


def test_filters_by_step_split_and_text_join(browser, one):
  browser.open(one)
  assert browser.run(SHOWN) == '16 of 16 questions'
  browser.open(one, '#step=5')
  assert browser.run(SHOWN) == '4 of 16 questions'
  browser.open(one, '#step=5&split=hard')
  assert browser.run(SHOWN) == '2 of 16 questions'
  browser.open(one, '#step=5&split=hard&q=Q5-2')  # case does not matter
  assert browser.run(SHOWN) == '1 of 16 questions'
  browser.open(one, '#q=not+there')
  assert browser.run(SHOWN) == '0 of 16 questions'


def test_order_is_best_or_worst_first(browser, one):
  share = ('[...document.querySelectorAll("#cards .meta")].map((e) => '
           'Number(/plain (\\d+) %/.exec(e.textContent)[1]))')
  browser.open(one, '#kind=plain&sort=best')
  best = browser.run(share)
  browser.open(one, '#kind=plain&sort=worst')
  worst = browser.run(share)
  assert best == sorted(best, reverse=True) and worst == sorted(worst)
  assert best[0] > worst[0]


def test_choosing_a_filter_changes_view_and_address(browser, one):
  browser.open(one)
  browser.run('document.querySelector("[name=split]").value = "easy"')
  browser.run('document.getElementById("filters").dispatchEvent('
              'new Event("input"))')
  assert browser.run(SHOWN) == '8 of 16 questions'
  assert browser.run('location.hash') == '#split=easy'


def test_more_questions_are_shown_on_demand(browser, one):
  browser.open(one)
  assert browser.run(CARDS) == 10
  browser.run('document.getElementById("more").click()')
  assert browser.run(CARDS) == 16
  assert browser.run('document.getElementById("more").hidden')


def test_a_question_shows_all_that_was_recorded(browser, one):
  browser.open(one)
  browser.run('document.querySelector("#cards summary").click()')
  browser.run('new Promise((done) => setTimeout(done, 100))')
  body = texts(browser, '#cards .body')[0]
  for words in ('Right answer', 'advantage', 'tokens', 'Candidates in it',
                'Prompt, as the model saw it', "Teacher's answers",
                '<candidate>4 h 9 A 9'):
    assert words in body


def test_runs_can_be_told_apart(browser, many):
  browser.open(many, '#run=1')
  assert browser.run(SHOWN) == '16 of 64 questions'
  assert 'zppo1' in texts(browser, '#cards .meta')[0]


FIRST = 'document.querySelector(".plot").chart'


def test_pointer_shows_values(browser, many):
  """In the middle of the first chart: both methods."""
  browser.open(many)
  browser.run('document.querySelector(".plot").scrollIntoView()')
  box = browser.run(f'{FIRST}.u.over.getBoundingClientRect().toJSON()')
  browser.send('Input.dispatchMouseEvent', type='mouseMoved',
               x=box['x'] + box['width'] / 2, y=box['y'] + 50)
  rows = texts(browser, '.plot:first-of-type .u-series')
  assert rows[0] == 'step10'
  assert rows[1].startswith('zppo0.4')
  assert any(row.startswith('grpo0.4') for row in rows)


def test_a_drag_zooms_and_the_button_resets(browser, many):
  browser.open(many)
  browser.run('document.querySelector(".plot").scrollIntoView()')
  box = browser.run(f'{FIRST}.u.over.getBoundingClientRect().toJSON()')
  scale = f'[{FIRST}.u.scales.x.min, {FIRST}.u.scales.x.max]'
  assert browser.run(scale) == [0, 20]
  at = lambda share: {'x': box['x'] + share * box['width'], 'y': box['y'] + 50,
                      'button': 'left', 'clickCount': 1}
  for kind, share in (('mouseMoved', 0.25), ('mousePressed', 0.25),
                      ('mouseMoved', 0.5), ('mouseReleased', 0.5)):
    browser.send('Input.dispatchMouseEvent', type=kind, **at(share))
  low, high = browser.run(scale)
  assert abs(low - 5) < 0.2 and abs(high - 10) < 0.2
  button = 'document.querySelector(".tools button")'
  assert not browser.run(f'{button}.hidden')
  browser.run(f'{button}.click()')
  assert browser.run(scale) == [0, 20]
  assert browser.run(f'{button}.hidden')


def test_log_scale_and_the_x_axis_can_be_chosen(browser, many):
  browser.open(many)
  scale = f'{FIRST}.u.scales.y.distr'
  assert browser.run(scale) == 1
  browser.run(f'{FIRST}.logButton.click()')
  assert browser.run(scale) == 3
  assert browser.run(f'{FIRST}.u.scales.y.min') > 0
  browser.run('''(() => {
    const select = document.querySelector('.tools select');
    select.value = '2';
    select.dispatchEvent(new Event('change'));
  })()''')
  assert browser.run(f'{FIRST}.u.scales.x.max') == 120_000
  assert browser.complaints() == []


PAINTED = '''[...document.querySelectorAll('.plot')].filter((plot) => {
  const canvas = plot.querySelector('canvas');
  const {data} = canvas.getContext('2d').getImageData(
      0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, a] = data.slice(i, i + 4);
    if (a > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60) return true;
  }
  return false;
}).length'''


def test_every_chart_is_painted_in_colour(browser, one):
  browser.open(one)
  count = browser.run('document.querySelectorAll(".plot").length')
  assert count > 20
  # a chart of grey alone would be one whose style is --s6
  assert browser.run(PAINTED) == count


def test_a_line_is_switched_off_with_its_band(browser, many):
  browser.open(many)
  browser.run('document.querySelectorAll(".u-series th")[1].click()')
  shown = browser.run(f'{FIRST}.u.series.slice(1).map((s) => s.show)')
  labels = browser.run(f'{FIRST}.u.series.slice(1).map((s) => s.label)')
  assert {x for x, on in zip(labels, shown, strict=True) if not on} == {'zppo'}
  assert not any(on for x, on in zip(labels, shown, strict=True)
                 if x == 'zppo')


def test_colours_follow_the_scheme(browser, one):
  """Also those that are painted."""
  inks = []
  for scheme in ('light', 'dark'):
    browser.open(one, scheme=scheme)
    inks.append(browser.run(f'{FIRST}.u.series[1].stroke()'))
  assert inks == ['rgb(0, 114, 178)', 'rgb(86, 180, 233)']


def test_a_wide_table_says_that_it_scrolls(browser, one):
  hints = 'document.querySelectorAll(".hint:not([hidden])").length'
  browser.open(one, width=360)
  assert browser.run(hints) > 0
  browser.open(one, width=1280)
  assert browser.run(hints) == 0


def test_navigation_stays_and_marks_the_section(browser, one):
  browser.open(one)
  browser.run('document.getElementById("health").scrollIntoView()')
  browser.run('new Promise((done) => setTimeout(done, 200))')
  assert browser.run(
      'document.querySelector("nav").getBoundingClientRect().top') == 0
  assert texts(browser, 'nav a.here') == ['Health']


def test_a_filter_that_no_question_has_shows_none(browser, tmp_path):
  """fault F9: the page showed everything under an empty choice."""
  page = report.main([workdirs.make(tmp_path / 'run', method='grpo')])
  browser.open(page, '#kind=bcq')
  assert browser.run(SHOWN) == 'No question here has kind = bcq.'
  assert browser.run(CARDS) == 0
  assert browser.run('document.querySelector("[name=kind]").value') == ''


def test_pictures_of_a_question_are_shown(browser, tmp_path):
  """fault F8: a run on images showed only its placeholders."""
  path = workdirs.make(tmp_path / 'run')
  line, *_ = (path / 'samples.jsonl').read_text().splitlines()
  row = json.loads(line)
  of = pictures.picture(Image.new('RGB', (40, 20), 'red'))
  row['question']['media'] = [
      {'kind': 'clip', 'count': 9, 'size': '40x20',
       'shown': [pictures.thumbnail(of), '"><script>alert(1)</script>']}]
  workdirs.write_lines(path / 'samples.jsonl', [row])
  browser.open(report.main([path]), '#open=1')
  found = ('[...document.querySelectorAll(".media img")].map((i) => '
           'i.decode().then(() => i.naturalWidth, () => 0))')
  assert browser.run(f'Promise.all({found})') == [40, 0]
  assert texts(browser, '.media figcaption') == [
      'clip of 9 frames, 2 of 9 shown']
  assert browser.run('document.querySelectorAll("main script").length') == 0


def test_a_study_in_the_browser(browser, tmp_path):
  page = report.main([ROOT / 'studies/results/headline'], tmp_path / 's.html')
  for width in (360, 1280):
    browser.open(page, width=width)
    assert browser.complaints() == []
    assert browser.run('document.documentElement.scrollWidth') <= width
  assert browser.run(PAINTED) == 5


def test_paper_is_white_in_a_dark_scheme_too(browser, one):
  browser.open(one, scheme='dark')
  browser.run('dispatchEvent(new Event("beforeprint"))')
  assert browser.run(f'{FIRST}.u.series[1].stroke()') == 'rgb(0, 114, 178)'
  browser.run('dispatchEvent(new Event("afterprint"))')
  assert browser.run(f'{FIRST}.u.series[1].stroke()') == 'rgb(86, 180, 233)'
