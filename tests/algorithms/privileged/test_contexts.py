"""What the teacher reads: each row, and the rules that all of them keep."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.builders import RIGHT, assert_uniform, rollout, wrong
from zppo_jax.algorithms.privileged import confidence, contexts, material
from zppo_jax.algorithms.privileged.contexts import (
  CONTEXTS,
  LEVELS,
  Material,
  Untaught,
  disclosed,
  lesson,
  lessons,
)
from zppo_jax.chat import images
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.chat.wording import BOXED
from zppo_jax.records import (
  Group,
  Prompt,
  PromptKind,
  Question,
  StopReason,
  Verdict,
)
from zppo_jax.tasks import micro_pictures

# The same chat without words for the wish for a short response.
SILENT = dataclasses.replace(CHAT, wording=dataclasses.replace(
    CHAT.wording, contexts={piece: words for piece, words in
                            CHAT.wording.contexts.items()
                            if piece != 'concise'}))
TEXTS = {'q': {'notes': 'a b', 'document': 'c d', 'slice': 'C h',
               'caption': 'e f', 'peers': ('4 h 8 A 8', RIGHT)}}
QUESTION = Question(
    'q', 'C h 4', '9', 'hard', hint='h 4',
    responses=('4 h 9 A 9 9', '<think> 4 h </think> A 9 A'))
OTHER = rollout('4 h 9 4 h 9 A 9')


def group(*rollouts, question=QUESTION, kind=PromptKind.PLAIN):
  return Group(Prompt(question, kind, CHAT.plain(question.text).tokens),
               tuple(rollouts))


def read(name, of, which=0, longest=99, chat=CHAT, **fields):
  """The lesson of a rollout as words, or why there is none."""
  made = lesson(name, of, of.rollouts[which],
                Material(**{'texts': TEXTS, **fields}), chat, longest)
  return made if isinstance(made, Untaught) else CHAT.codec.decode(made.tokens)


def shown(*texts):
  return ' '.join(['C h 4', *(f'<candidate> {t} </candidate>' for t in texts),
                   ':'])


GROUP = group(wrong(3), rollout(), OTHER, wrong(3),
              rollout('4 h h', Verdict.NO_ANSWER))


@pytest.mark.parametrize('name, words', [
    ('same', 'C h 4 :'), ('answer', shown('9')),
    ('reference', shown('4 h 9 A 9 9')), ('hint', shown('h 4')),
    ('feedback', 'C h 4 NCQ 3 :'), ('notes', shown('a b')),
    ('reflection', 'C h 4 <candidate> 4 h 3 A 3 </candidate> BCQ :'),
    ('revision', 'C h 4 <candidate> 4 h 3 A 3 </candidate> NCQ :'),
    ('document', shown('c d')), ('slice', 'C h :'), ('caption', shown('e f')),
    ('concise', 'C h 4 <summary> :'),
])
def test_each_row_shows_what_it_says(name, words):
  assert read(name, GROUP) == words


def test_drawn_rows_show_one_of_theirs():
  assert read('demonstration', GROUP) in (shown('4 h 9 A 9 9'), shown('A 9 A'))
  assert read('sibling', GROUP) in (shown(RIGHT), shown(OTHER.text))
  assert read('peer', GROUP) in (shown('4 h 8 A 8'), shown(RIGHT))
  assert read('concise', GROUP, chat=SILENT) is Untaught.WORDLESS
  assert set(CONTEXTS) == {
      'same', 'answer', 'reference', 'demonstration', 'hint', 'sibling',
      'feedback', 'sibling_and_feedback', 'reflection', 'revision', 'notes',
      'document', 'slice', 'concise', 'caption', 'peer', 'calibrated',
      'sibling_or_self'}
  assert {name for name, row in CONTEXTS.items() if row.attempt} == {
      'reflection', 'revision', 'sibling_or_self'}


def test_a_sibling_and_feedback_stand_together_or_alone():
  both = {' '.join([*shown(text).split()[:-1], 'NCQ 3 :'])
          for text in (RIGHT, OTHER.text)}
  assert read('sibling_and_feedback', GROUP) in both
  unread = read('sibling_and_feedback', GROUP, 4)  # no answer was read
  assert unread in (shown(RIGHT), shown(OTHER.text))
  alone = group(wrong(3), question=Question('x', 'C h 4', '9', 'hard'))
  assert read('sibling_and_feedback', alone) == 'C h 4 NCQ 3 :'
  neither = group(rollout('4 h h', Verdict.NO_ANSWER))
  assert read('sibling_and_feedback', neither) is Untaught.ABSENT


def test_a_stated_confidence_becomes_the_rate_of_the_group():
  """2 of 5 are right; a response that states none is not shown, and neither is
  one that is the rollout's own."""
  responses = ('4 h 9. Confidence: 0.9', 'no such claim',
               '<think> Confidence: 0.1 </think> 4 h 9, confidence is 95%')
  asked = dataclasses.replace(QUESTION, responses=responses)
  build = CONTEXTS['calibrated'].build
  seen = {build(asked, GROUP, r, Material(seed=seed)).pieces
          for r in GROUP.rollouts for seed in range(9)}
  assert seen == {(('demonstration', '4 h 9. Confidence: 0.40'),),
                  (('demonstration', '4 h 9, confidence is 40%'),)}
  own = group(rollout(responses[0]))
  assert build(dataclasses.replace(asked, responses=responses[:2]), own,
               own.rollouts[0], Material()) is Untaught.ITSELF
  assert build(QUESTION, GROUP, OTHER, Material()) is Untaught.ABSENT
  crashed = group(dataclasses.replace(wrong(1), verdict=Verdict.CRASH))
  assert build(asked, crashed, crashed.rollouts[0],
               Material()) is Untaught.ABSENT


@pytest.mark.parametrize('text, value, says', [
    ('A. Confidence: 0.9', .9, 'A. Confidence: 0.25'),
    ('**Confidence**: 80 %.', .8, '**Confidence**: 25 %.'),
    ('confidence = 70', .7, 'confidence = 25'),
    ('Confidence: 1', 1, 'Confidence: 0.25'),
    ('confidence of 0.5, then confidence 0.6', .6,
     'confidence of 0.25, then confidence 0.25'),
    ('overconfidence 9', None, 'overconfidence 9'),
    ('confidence: high', None, 'confidence: high'),
])
def test_confidence_is_replaced_in_its_own_form(text, value, says):
  assert confidence.stated(text) == value
  assert confidence.restated(text, .25) == says


def test_a_reflection_discloses_more_by_level():
  seen = [read('reflection', GROUP, level=level)
          for level in range(len(LEVELS))]
  attempt, verdict = '<candidate> 4 h 3 A 3 </candidate>', 'NCQ 3'
  more = [f'<candidate> {t} </candidate>' for t in ('9', '4 h 9 A 9 9')]
  for level, words in enumerate(([attempt], [attempt, verdict],
                                 [attempt, verdict, more[0]],
                                 [attempt, verdict, *more])):
    assert seen[level] == ' '.join(['C h 4', *words, 'BCQ :'])
  assert seen[4].startswith(seen[3].removesuffix(' BCQ :'))
  assert RIGHT in seen[4] or OTHER.text in seen[4]


def test_rows_without_anything_to_show_teach_nothing():
  bare = group(wrong(3), question=Question('x', 'C h 4', '9', 'hard'))
  for name in ('reference', 'demonstration', 'calibrated', 'hint', 'notes',
               'document', 'slice', 'caption', 'peer', 'sibling'):
    assert read(name, bare) is Untaught.ABSENT, name
  assert read('feedback', GROUP, 4) is Untaught.ABSENT  # no answer was read
  crashed = dataclasses.replace(wrong(1), verdict=Verdict.CRASH)
  assert read('feedback', group(crashed)) is Untaught.ABSENT
  spoilt = dataclasses.replace(QUESTION, hint='A 9')
  assert read('hint', group(wrong(3), question=spoilt)) is Untaught.SPOILER
  empty = dataclasses.replace(wrong(3), tokens=(), text='')
  assert read('answer', group(empty)) is Untaught.EMPTY
  assert read('revision', group(dataclasses.replace(
      wrong(3), text=' '))) is Untaught.ABSENT


def test_the_response_follows_what_the_template_writes_before_it():
  """Rule 1: the student's ids behind the prompt's own closing, and behind a
  forced beginning where there is one."""
  closing = CHAT.plain('C h 4').tokens[-1:]
  forced = tuple(CHAT.codec.encode_content('4 h')[0])
  plain = GROUP.prompt
  begun = dataclasses.replace(GROUP, prompt=dataclasses.replace(
      plain, kind=PromptKind.PREFIX, tokens=(*plain.tokens, *forced),
      forced=2))
  for name in CONTEXTS:
    for of, end in ((GROUP, closing), (begun, (*closing, *forced))):
      made = lesson(name, of, of.rollouts[0], Material(texts=TEXTS), CHAT, 99)
      if isinstance(made, Prompt):
        assert made.tokens[-len(end):] == end
        assert made.forced == of.prompt.forced
        assert made.question is of.prompt.question


def test_a_rollout_never_stands_in_its_own_context():
  """Rule 2, over random groups with duplicates: neither itself nor its text."""
  rng = np.random.default_rng(0)
  texts = [RIGHT, OTHER.text, '4 h 7 A 7', '9', QUESTION.responses[0]]
  texts += [thinking('4 h', text) for text in texts]
  asked = [QUESTION, THOUGHT]
  taught = 0
  for step in range(300):
    rollouts = []
    for _ in range(int(rng.integers(1, 6))):
      text = texts[int(rng.integers(len(texts)))]
      spaced = ' ' * int(rng.integers(2)) + text
      right = text.rpartition('> ')[2] not in ('4 h 7 A 7', '9')
      rollouts.append(dataclasses.replace(rollout(
          text, Verdict.CORRECT if right else Verdict.WRONG), text=spaced))
    of = group(*rollouts, question=asked[step % 2])
    for name, row in CONTEXTS.items():
      if row.attempt or name == 'same':
        continue
      made = lessons(name, [of], Material(step=step, texts=TEXTS), CHAT, 99)
      assert len(made.prompts) + len(made.untaught) == len(rollouts)
      for (_, g), prompt in made.prompts.items():
        words = CHAT.codec.decode(prompt.tokens)
        own = rollouts[g].text.strip()
        said = own.rpartition('</think> ')[2]
        assert f'<candidate> {own} </candidate>' not in words, (name, own)
        if name not in ('answer', 'feedback'):  # they show no response
          assert f'<candidate> {said} </candidate>' not in words, (name, own)
        taught += name == 'sibling'
  assert taught > 100


def thinking(thoughts, behind):
  return f'<think> {thoughts} </think> {behind}'


THOUGHT = dataclasses.replace(
    QUESTION, responses=(thinking('4 h', RIGHT), thinking('h 4', OTHER.text)))


@pytest.mark.parametrize('text, kept', [
    (thinking('4 h', RIGHT), OTHER.text),  # the stored one
    (f'4 h </think> {RIGHT}', OTHER.text),  # the template wrote <think>
    (thinking('i 5', RIGHT), OTHER.text),  # other thoughts, what is shown
    (RIGHT, OTHER.text), (thinking('i 5', OTHER.text), RIGHT),
    (thinking('i 5', '4 h 7 A 7'), None)])
def test_a_demonstration_is_not_what_a_rollout_says_behind_its_thoughts(
    text, kept):
  of = group(rollout(text), question=THOUGHT)
  seen = {read('demonstration', of, step=step) for step in range(30)}
  assert seen == ({shown(kept)} if kept else {shown(RIGHT),
                                              shown(OTHER.text)})


@pytest.mark.parametrize('name', ['reference', 'sibling', 'peer'])
@pytest.mark.parametrize('stored, own, itself', [
    (thinking('4 h', RIGHT), f'4 h </think> {RIGHT}', True),
    (thinking('4 h', RIGHT), RIGHT, True),
    (RIGHT, thinking('4 h', RIGHT), True),
    (RIGHT, thinking('', RIGHT), True),
    # Both think, and differ there: two responses with one answer.
    (thinking('4 h', RIGHT), thinking('i 5', RIGHT), False),
    (thinking('4 h', RIGHT), OTHER.text, False)])
def test_a_response_that_is_shown_with_its_thoughts(name, stored, own, itself):
  of = group(rollout(own, Verdict.WRONG), rollout(stored),
             question=dataclasses.replace(QUESTION, responses=(stored,)))
  made = CONTEXTS[name].build(
      of.prompt.question, of, of.rollouts[0],
      Material(texts={'q': {'peers': (stored,)}}))
  if name == 'reference' and itself:  # refused when it is compared
    made = read(name, of)
  assert made == (Untaught.ITSELF if itself else contexts.Shown(
      ((name, stored),)))


def test_a_stated_confidence_makes_no_other_response():
  """A rollout that differs in its confidence alone reads its own text."""
  asked = dataclasses.replace(QUESTION, responses=(
      '4 h 9. Confidence: 0.9', '9. Confidence: 0.9'))
  own = rollout(thinking('4 h', '4 h 9. Confidence: 0.7'))
  of = group(own, wrong(3), question=asked)
  assert {CONTEXTS['calibrated'].build(asked, of, own, Material(seed=seed))
          for seed in range(20)} == {contexts.Shown(
              (('demonstration', '9. Confidence: 0.50'),))}


def test_a_response_that_breaks_off_in_its_thoughts_shows_nothing():
  broken = dataclasses.replace(QUESTION, responses=('<think> 4 h 9',))
  assert read('demonstration', group(wrong(3), question=broken)) is (
      Untaught.ABSENT)


def test_what_a_context_says_without_a_text_is_no_copy():
  """`concise` shows words of the template alone; a rollout may be empty."""
  of = group(dataclasses.replace(wrong(3), text=''))
  assert read('concise', of) == 'C h 4 <summary> :'


def test_only_itself_is_no_sibling():
  """By index and by equal text; SDPO's released code takes the first."""
  assert read('sibling', group(rollout(), wrong(1))) is Untaught.ITSELF
  twice = group(rollout(), rollout(), wrong(1))
  assert read('sibling', twice, 0) is Untaught.ITSELF
  assert read('sibling', twice, 1) is Untaught.ITSELF
  assert read('sibling', twice, 2) == shown(RIGHT)
  # A duplicate leaves the draw to the others.
  third = group(rollout(), rollout(), OTHER)
  assert {read('sibling', third, step=step) for step in range(20)} == {
      shown(OTHER.text)}
  spaced = dataclasses.replace(rollout(), text=f' {RIGHT}\n')
  assert read('sibling', group(rollout(), spaced)) is Untaught.ITSELF


def test_a_sibling_may_be_the_rollout_itself_where_the_row_says_so():
  """`sibling_or_self` leaves neither the rollout nor its text out, and teaches
  the only right rollout of a group its own text."""
  name = 'sibling_or_self'
  alone = group(rollout(), wrong(1))
  assert read(name, alone, 0) == read(name, alone, 1) == shown(RIGHT)
  assert read(name, group(wrong(1), wrong(2))) is Untaught.ABSENT
  twice = group(rollout(), rollout(), OTHER)  # two of three have its own text
  drawn = [read(name, twice, 0, step=step) for step in range(600)]
  assert_uniform([x == shown(OTHER.text) or step % 2 + 2
                  for step, x in enumerate(drawn)], [True, 2, 3])
  assert drawn[:9] == [read(name, twice, 0, step=step) for step in range(9)]
  assert {read(name, twice, 1, step=step) for step in range(20)} == set(drawn)
  # Rollouts that are drawn under it read a right one, as under `sibling`.
  assert disclose(name, alone) == disclose('sibling', alone)


def test_siblings_are_drawn_uniformly_by_name():
  """Rule 3: by (seed, step, question, rollout), not by order of asking."""
  right = [rollout(f'4 {c} 9 A 9') for c in 'hijk']
  of = group(wrong(1), *right)
  drawn = [read('sibling', of, step=step) for step in range(400)]
  assert_uniform(drawn, [shown(r.text) for r in right])
  assert drawn == [read('sibling', of, step=step) for step in range(400)]
  assert drawn != [read('sibling', of, step=step, seed=1)
                   for step in range(400)]
  twins = group(wrong(1), wrong(1), *right)
  pairs = {tuple(read('sibling', twins, g, step=s) for g in (0, 1))
           for s in range(200)}
  assert len(pairs) == 16  # two rollouts of a group draw apart


def test_over_long_contexts_are_skipped_and_counted():
  """Rule 4: nothing is cut."""
  words = read('reference', GROUP)
  size = len(words.split())
  assert read('reference', GROUP, longest=size) == words
  assert read('reference', GROUP, longest=size - 1) is Untaught.OVER_LONG


def test_the_questions_pictures_are_shown_too():
  """Rule 5; a caption takes their place."""
  chat = micro_pictures.CHAT
  picture = images.picture(Image.new('RGB', (8, 8), 'white'))
  asked = dataclasses.replace(QUESTION, text='C h', media=(picture,))
  plain = chat.plain('C h', (picture,))
  of = Group(Prompt(asked, PromptKind.PLAIN, plain.tokens, plain.media),
             (wrong(3), rollout()))
  for name in CONTEXTS:
    made = lesson(name, of, of.rollouts[0], Material(texts=TEXTS), chat, 99)
    if name == 'calibrated':  # the stored responses state no confidence
      assert made is Untaught.ABSENT
      continue
    assert (made.media is None) == (name == 'caption'), name
    if made.media is not None:
      np.testing.assert_array_equal(made.media.patches_IC,
                                    plain.media.patches_IC)
      assert len(made.media.positions_TA) == len(made.tokens)


def test_the_boxed_words_cannot_be_forged():
  """Every piece has words, and no content writes its tags."""
  pieces = {word for row in CONTEXTS.values() for word in row.words}
  assert pieces | {'right'} == set(BOXED.contexts)
  for before, after in BOXED.contexts.values():
    for tag in ('candidate', 'response', 'hint', 'answer', 'notes', 'document',
                'caption'):
      opened = f'<{tag}>' in before
      assert opened == (f'</{tag}>' in after)
      if opened:
        assert BOXED.private.search(f'</{tag}>')
  assert not BOXED.delimiters.search('<notes>')  # prompts of before stay


def test_what_a_context_needs_is_checked():
  contexts.check('sibling', 0, CHAT, Material())
  with pytest.raises(KeyError, match="'peers' .*; known: same, answer"):
    contexts.check('peers', 0, CHAT, Material())
  with pytest.raises(ValueError, match='no words for concise. It has those '
                     'of: same, answer'):
    contexts.check('concise', 0, SILENT, Material())
  contexts.check('concise', 0, CHAT, Material())
  with pytest.raises(ValueError, match='context_level is 5'):
    contexts.check('reflection', 5, CHAT, Material())
  with pytest.raises(ValueError, match="field 'notes', the fields there are: "
                     'slice'):
    contexts.check('notes', 0, CHAT, Material(texts={'q': {'slice': 'x'}}))


def test_the_material_is_read_by_question(tmp_path):
  file = tmp_path / 'material.jsonl'
  lines = [{'id': '*', 'notes': 'all'}, {'id': 'q', 'peers': ['x', 'y']}]
  file.write_text('\n'.join(map(json.dumps, lines)) + '\n\n')
  made = Material(texts=material.read(str(file)))
  assert made.text(QUESTION, 'notes') == 'all'
  assert made.peers(QUESTION) == ('x', 'y') and not made.text(QUESTION, 'hint')
  assert material.read('') == {}


@pytest.mark.parametrize('line, error, words', [
    ('{"id": "a"', ValueError, 'line 1: no JSON'),
    ('[1]', ValueError, "a text 'id'"), ('{"id": 3}', ValueError, "text 'id'"),
    ('{"id": "a", "note": "x"}', KeyError, "field 'note'; known: hint, notes"),
    ('{"id": "a", "notes": 3}', ValueError, 'notes is 3; it must be a text'),
    ('{"id": "a", "peers": "x"}', ValueError, 'must be a list of texts'),
    ('{"id": "a", "notes": "\\ud83d"}', ValueError, 'surrogate'),
    ('{"id": "a"}\n{"id": "a"}', ValueError, "line 2: a second line of the id"),
])
def test_bad_material_is_refused(line, error, words, tmp_path):
  file = tmp_path / 'material.jsonl'
  file.write_text(line)
  with pytest.raises(error, match=words.replace('[', r'\[')):
    material.read(str(file))
  with pytest.raises(FileNotFoundError, match='distil.material'):
    material.read(str(tmp_path / 'none.jsonl'))


def test_truncated_rollouts_have_lessons_too():
  cut = rollout('4 h', Verdict.TRUNCATED, StopReason.LENGTH)
  assert read('answer', group(cut)) == shown('9')


def disclose(name, of, longest=99, chat=CHAT, **fields):
  return disclosed(name, of, Material(**{'texts': TEXTS, **fields}), chat,
                   longest)


@pytest.mark.parametrize('name, words', [
    ('answer', shown('9')), ('reference', shown('4 h 9 A 9 9')),
    ('hint', shown('h 4')), ('notes', shown('a b')), ('slice', 'C h :'),
    ('feedback', 'C h 4 NCQ 3 :'),
    ('revision', 'C h 4 <candidate> 4 h 3 A 3 </candidate> NCQ :')])
def test_the_prompt_under_which_rollouts_are_drawn(name, words):
  """What a lesson of a wrong rollout shows; of a context per question, the same
  as the lesson of any."""
  made = disclose(name, group(rollout(), wrong(3)))
  assert CHAT.codec.decode(made.prompt.tokens) == words
  assert made.prompt.kind == PromptKind.PRIVILEGED
  if CONTEXTS[name].of_question:
    assert read(name, GROUP) == words


def test_what_is_shown_of_an_attempt_is_a_wrong_one_drawn_by_name():
  of = group(rollout(), *(wrong(i) for i in range(4)))
  texts = lambda name, of, **fields: disclose(name, of, **fields).prompt.tokens
  drawn = [texts('revision', of, step=i) for i in range(400)]
  assert_uniform([CHAT.codec.decode(x).split()[6] for x in drawn], '0123')
  assert drawn[:9] == [texts('revision', of, step=i) for i in range(9)]
  right = group(rollout())
  assert RIGHT in CHAT.codec.decode(texts('revision', right))
  siblings = {CHAT.codec.decode(texts('sibling', group(
      wrong(3), rollout(), OTHER), step=i)) for i in range(40)}
  assert siblings == {shown(RIGHT), shown(OTHER.text)}


def test_a_question_with_nothing_to_show_has_no_prompt():
  nothing = group(wrong(3), question=dataclasses.replace(
      QUESTION, responses=(), hint='A 9'))
  assert disclose('reference', nothing) is Untaught.ABSENT
  assert disclose('sibling', nothing) is Untaught.ABSENT
  assert disclose('hint', nothing) is Untaught.SPOILER
  assert disclose('concise', nothing, chat=SILENT) is Untaught.WORDLESS
  assert disclose('answer', nothing, longest=6) is Untaught.OVER_LONG


def test_copies_are_texts_of_the_context_that_are_no_attempt():
  made = disclose('reflection', group(wrong(3)), level=3)
  assert made.texts == ('3', '9', '4 h 9 A 9 9')
  assert contexts.is_copy(rollout('4  h 9 A 9 9 '), made.texts)
  assert contexts.is_copy(rollout(thinking('', '4 h 9 A 9 9')), made.texts)
  # Thoughts of its own make it a rollout of the model.
  assert not contexts.is_copy(
      rollout(thinking('4 h', '4 h 9 A 9 9')), made.texts)
  assert not contexts.is_copy(rollout(''), ('',))
  assert not contexts.is_copy(wrong(3), made.texts)


def test_pictures_are_there_while_rollouts_are_drawn():
  chat = micro_pictures.CHAT
  picture = images.picture(Image.new('RGB', (8, 8), 'white'))
  asked = dataclasses.replace(QUESTION, text='C h', media=(picture,))
  plain = chat.plain('C h', (picture,))
  of = Group(Prompt(asked, PromptKind.PLAIN, plain.tokens, plain.media),
             (wrong(3),))
  made = disclosed('answer', of, Material(), chat, 99).prompt
  np.testing.assert_array_equal(made.media.patches_IC, plain.media.patches_IC)
  assert len(made.media.positions_TA) == len(made.tokens) > len(plain.tokens)
