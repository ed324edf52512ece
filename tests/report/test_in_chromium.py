"""The page in a browser: no complaints, filters, both schemes, a phone."""

import pytest

from tests import workdirs
from tests.report.browser import Browser
from zppo_jax import report

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
@pytest.mark.parametrize('width', [390, 1200])
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


def test_pointer_shows_values(browser, many):
  """In the middle of the first chart: both methods with their bands."""
  browser.open(many)
  browser.run('document.querySelector(".plot").scrollIntoView()')
  box = browser.run('document.querySelector(".plot svg")'
                    '.getBoundingClientRect().toJSON()')
  browser.send('Input.dispatchMouseEvent', type='mouseMoved',
               x=box['x'] + box['width'] / 2, y=box['y'] + 50)
  tip = texts(browser, '.plot .tip')[0].split('\n')
  assert tip[0] == 'step 10'
  assert tip[1].startswith('zppo: 0.4') and '[' in tip[1]
  assert tip[2].startswith('grpo: 0.4')


def test_lines_are_drawn_as_lines_and_bands_as_areas(browser, many):
  browser.open(many)
  fill = ('getComputedStyle(document.querySelector(".plot path.{}")).{}')
  assert browser.run(fill.format('band', 'fill')) != 'none'
  assert browser.run(fill.format('bold', 'fill')) == 'none'
  assert browser.run(fill.format('bold', 'stroke')) != 'none'


def test_no_label_leaves_its_chart(browser, one, many):
  """Text of every chart lies inside of its SVG."""
  outside = '''[...document.querySelectorAll('.plot svg')].flatMap((svg) => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter((t) => {
      const b = t.getBoundingClientRect();
      return b.left < box.left - 1 || b.right > box.right + 1 ||
          b.top < box.top - 1 || b.bottom > box.bottom + 1;
    }).map((t) => t.textContent);
  })'''
  touching = '''[...document.querySelectorAll('.plot svg')].flatMap((svg) => {
    const floor = [...svg.querySelectorAll('.tick[text-anchor=middle]')]
        .map((t) => t.getBoundingClientRect());
    const row = floor.filter((b) => b.top > floor[0].top - 2 &&
                                    b.top < floor[0].top + 2);
    return row.slice(1).filter((b, i) => b.left < row[i].right)
        .map((b) => svg.getAttribute('aria-label'));
  })'''
  for page in (one, many):
    for width in (390, 1200):
      browser.open(page, width=width)
      assert browser.run(outside) == []
      assert browser.run(touching) == []
