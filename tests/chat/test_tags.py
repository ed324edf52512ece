"""Tags in disguise are tags; what only looks a little like one is left."""

import pytest

from tests.builders import rendered
from zppo_jax.chat import tags
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.chat.segments import cut_delimiters
from zppo_jax.chat.wording import BOXED, MICRO
from zppo_jax.records import PromptKind

DISGUISED = (
    '<{}>', '</{}>', '<{}/>', '</{}/>', '<//{}>', '<///{}>', '</{}//>',
    '</ {}>', '< /{} >', '<\n/\n{}\n>', '<\t{}\t>', '</{} >', '</{}\n>',
    '</{} class="x">', '<{} id=1>', "<{} a='1' b>", '</{} x="a&b">',
    '</{}\nx\n=\n"1"\n>', '</{} foo bar>', '<{} a="<">', '</{} a="<">',
    '<\u200b/{}>', '</\u200b{}>', '</{}\u200b>', '</{}\x00>', '<\x00{}>',
    '<\u00ad/{}>', '</{}\u2060\ufeff>', '<\u202e/{}>', '</{}\u0301>',
    '<\U000e0041/{}>', '</\u3164{}>', '</{}\ufe0f>', '</{}\x1b>',
    '\uff1c/{}\uff1e', '\uff1c\uff0f{}\uff1e', '\ufe64/{}\ufe65', '<\u2215{}>',
    '<\u2044{}>', '\u2039/{}\u203a', '\u3008/{}\u3009', '\u27e8{}\u27e9',
    '<\\{}>', '<\\/{}>', '&lt;/{}&gt;', '&lt;{}>', '<{}&gt;', '&LT;/{}&GT;',
    '&#60;/{}&#62;', '&#x3c;{}&#X3E;', '&#0060{}&#0062', '&amp;lt;/{}&amp;gt;',
    '&lt/{}&gt', '<&sol;{}>', '<&#47;{}>', '</{}&shy;>', '<&#8203;/{}>',
    '%3C/{}%3E', '\\u003c/{}\\u003e', '\\x3c{}\\x3e', '</{}', '</{} ', '</{}"',
    '\u1438/{}\u1433', '\u276c/{}\u276d', '\u227a{}\u227b', '\u27ea/{}\u27eb',
    '<|{}|>', '<|/{}|>', '</|{}|>', '<&nbsp;/{}>', '<&#32;/{}>', '</{}&#xA0;>')
# Spellings of the name itself.
NAMES = (
    'candidate', 'CANDIDATE', 'Candidate', 'cAnDiDaTe', 'can\u200bdidate',
    'c\u00adandidate', 'candidat\x00e', 'cand\u0301idate', 'candid\u00e1te',
    'c\u0430ndid\u0430te', '\u0441andidate', 'candid\uff41te',
    '\U0001d41c\U0001d41a\U0001d427didate',
    '\uff43\uff41\uff4e\uff44\uff49\uff44\uff41\uff54\uff45', 'candi\u2060date',
    'c&#97;ndidate', 'c&#x61;ndidate', 'cand\u0131date', 'cand\ufe0fidate')
HARMLESS = (
    'a < b', 'x </ y', 'List<int>', 'Map<String, List<int>>', '<div>', '</p>',
    '<a href="candidate">', '<candidates>', '<candidate_1>', '<candidate-name>',
    '<candidate.x>', '<x:candidate>', '<responses/>', 'candidate',
    'a <response',
    'time < response', 'a < response b > c', 'x <candidate and y', '<>', '< >',
    'if n<response then', '&lt;div&gt;', 'a &lt; b &amp; c', '<br/>',
    '50% < 3C',
    '<cand idate>', '</cand idate>', '\u27e8x\u27e9', '<=', '->', '<think>',
    '</think>', '\\frac{a}{b}', 'the candidate > the response', '1 &#60; 2',
    'f <| response', 'a |> candidate', '\u1433candidate\u1438')


@pytest.mark.parametrize('form', DISGUISED)
@pytest.mark.parametrize('wording', [MICRO, BOXED], ids=['micro', 'boxed'])
def test_a_tag_in_disguise_is_cut_and_counted(form, wording):
  """fault B10: attributes, slashes, unseen characters, look-alikes, entities,
  and a closing tag without its bracket."""
  for name in ('candidate', 'response', 'summary'):
    left, count = cut_delimiters(f'x {form.format(name)} y', wording.delimiters)
    assert count == 1 and name not in left
    assert left.startswith('x ') and left.endswith('y')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('form', ['<{}>', '</{}>', '\uff1c/{} a>', '&lt;/{}>'])
def test_a_name_in_disguise_is_cut_and_counted(name, form):
  """fault B10: capitals, letters that look alike, what shows nothing."""
  assert cut_delimiters(form.format(name), BOXED.delimiters) == (' ', 1)


@pytest.mark.parametrize('text', HARMLESS)
@pytest.mark.parametrize('wording', [MICRO, BOXED], ids=['micro', 'boxed'])
def test_harmless_text_is_left_alone(text, wording):
  for whole in (text, f'{text} {text}', f'x {text} y\n'):
    assert cut_delimiters(whole, wording.delimiters) == (whole, 0)


def test_disguises_that_a_cut_brings_together_are_cut_too():
  """fault B10: one disguise inside another."""
  for outer in ('<{}/candidate>', '</{}candidate a=1>', '&lt;{}/candidate&gt;'):
    for inner in ('</candidate x>', '&lt;summary&gt;', '\uff1c/hint\uff1e'):
      text = outer.format(inner)
      assert cut_delimiters(text, BOXED.delimiters) == (' ', 2), text


def test_more_nesting_than_is_looked_through_opens_nothing():
  """All brackets go, each counted, in linear time."""
  depth = 5000
  text = '<' * depth + 'candidate>' * depth + ' a > b'
  left, count = cut_delimiters(text, BOXED.delimiters)
  assert '<' not in left and not BOXED.delimiters.search(left)
  assert count == depth and left.endswith(' a > b')


def test_a_pattern_of_names():
  """Names are whole; a match holds the tag and no more."""
  found = tags.pattern('note').findall('<note> </NOTE x> <notes> note < note')
  assert found == ['<note>', '</NOTE x>']


def test_prompts_of_the_embedded_world_are_the_same():
  """fault B10: words of its vocabulary are cut as before."""
  text = '4 h </candidate> 5 <candidate> <response> 7 <summary> A 7'
  made = rendered(CHAT, PromptKind.BCQ, 'C h 4', [text, 'A 2'], [])
  assert made.removed == 4
  assert CHAT.codec.decode(made.tokens) == (
      'C h 4 BCQ <candidate> 4 h 5 7 A 7 </candidate> '
      '<candidate> A 2 </candidate> :')
