"""Traps of single rows: each was wrong, silent or refused before."""

import base64
import json

import pytest

from tests.data import published
from tests.data.published.forms import File, frames, png
from zppo_jax.data import suites
from zppo_jax.data.suites import charts, choices, image_rows
from zppo_jax.data.suites.benchmark import CONFIG, HOME, VARIANT
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds import ocrbench

SETS = published.SETS


def row_of(name, number=0, **changes):
  """A row of a miniature, with what data/suites/copies.py adds."""
  of = suites.get(name)
  files = {path: f for path, f in SETS[name](number + 1).items() if f.rows}
  path = next(p for p in files if 'test' in p or 'val' in p or len(files) == 1)
  return {**dict.fromkeys(of.optional), CONFIG: '', HOME: '', VARIANT: '',
          **files[path].rows[number], **changes}


# A published gold names an index, a letter or a text; options may look alike.
@pytest.mark.parametrize('gold, answer, options, letter', [
    ('index', '2', ['1', '2', '3', '4'], 'C'),  # 'B' before
    ('index', 0, ['1', '0'], 'A'), ('index', 2.0, list('abc'), 'C'),
    ('index', '2.0', list('abc'), 'C'),
    ('letter', 'B', ['B', 'A', 'AB', 'O'], 'B'),  # 'A' before
    ('letter', '(C)', list('xyz'), 'C'), ('letter', 'B.', ['2', '1'], 'B'),
    ('text', 'B', ['A', 'C', 'B'], 'C'), ('text', '1', ['0', '1', '2'], 'B'),
    ('text', ' two ', ['one', 'two'], 'B')])
def test_the_table_says_what_a_gold_is(gold, answer, options, letter):
  assert choices.BY[gold](answer, options) == letter


@pytest.mark.parametrize('gold, answer, options, match', [
    ('index', 4, list('abcd'), "'4'; there are 4 options, counted from 0"),
    ('index', -1, list('ab'), "'-1'; there are 2 options"),
    ('index', 'B', list('ab'), "'B'; there are 2 options"),
    ('index', 1.5, list('abc'), "'1.5'; there are 3"),
    ('index', True, list('ab'), 'answer is bool True'),
    ('letter', 'E', list('abcd'), "'E', which is not the letter of one of 4"),
    ('letter', '2', list('abc'), "'2', which is not the letter"),
    ('letter', 'AB', list('abc'), "'AB', which is not the letter"),
    ('text', 'blue', ['red'], "'blue', which is none of the 1 options")])
def test_another_gold_is_refused(gold, answer, options, match):
  with pytest.raises(ValueError, match=match):
    choices.BY[gold](answer, options)


def test_rows_without_a_gold_are_skipped():
  """'' was answered A, and null was answered None."""
  for name, changes in (
      ('ai2d', {'answer': None}), ('babyvision', {'choiceAns': None}),
      ('ceval', {'answer': ''}), ('infovqa', {'answers': None}),
      ('infovqa', {'answers': []}), ('mathverse', {'answer': ' '}),
      ('mathvision', {'answer': None}), ('mathvista', {'answer': ''}),
      ('mmmu_pro', {'answer': None}), ('mmvet', {'answer': ''}),
      ('ocrbench_en', {'answers': []}), ('visualpuzzles', {'answer': None}),
      ('vlmsareblind', {'groundtruth': ''}), ('wemath', {'answer': None}),
      ('aime25', {'answer': ''}), ('gpqa_diamond', {'Correct Answer': ' '}),
      ('hle', {'answer': None}), ('mmlu', {'answer': None}),
      ('mmlu_pro', {'answer_index': None}),
      ('multichallenge', {'pass_criteria': None}), ('mmvu', {'answer': ''}),
      ('mvbench', {'answer': ''}), ('video_mme', {'answer': None}),
      ('video_mmmu', {'answer': ''})):
    row = row_of(name) if name not in (
        'aime25', 'gpqa_diamond', 'mvbench', 'video_mmmu') else {
            **dict.fromkeys(suites.get(name).optional), CONFIG: '',
            **next(f for f in SETS[name](1).values() if f.rows).rows[0]}
    assert suites.get(name).read({**row, **changes}).skip == 'no gold', name
  blank = row_of('babyvision', 1)
  read = suites.get('babyvision').read
  assert read(blank).answer == '(1,7)'
  assert read({**blank, 'blankAns': 'null'}).skip == 'no gold'


def test_rows_without_a_question_are_skipped():
  """Their options alone were asked."""
  blank = {'gpqa_diamond': 'Question', 'vlmsareblind': 'prompt',
           'charxiv': 'reasoning_q', 'aime26': 'problem',
           'imo_answerbench': 'Problem'}
  for name, of in suites.BENCHMARKS.items():
    if name in ('mathverse', 'mmmu_pro', 'multichallenge'):  # tested apart
      continue
    rows = next(f for p, f in SETS[name](5).items() if f.rows and all(
        c in f.rows[0] for c in of.columns)).rows
    row = next(r for r in rows if str(r.get('type', 'en'))[-2:] != 'cn') if (
        name != 'ocrbench_zh') else rows[4]
    row = {**dict.fromkeys(of.optional), CONFIG: '', HOME: '',
           VARIANT: 'reasoning_q', **row}
    for nothing in (None, '', ' '):
      assert of.read({**row, blank.get(name, 'question'): nothing}
                     ).skip == 'no question', name


@pytest.mark.parametrize('name, changes, match', [
    ('babyvision', {'ansType': 'chioce'}, 'ansType is str .*choice and blank'),
    ('dynamath', {'answer_type': 'int'}, 'DynaMath has float, multiple'),
    ('mathverse', {'question_type': 'open'}, 'MathVerse has multi-choice and'),
    ('mathvista', {'question_type': 'multi'}, 'MathVista has multi_choice and'),
    ('mathverse', {'question': 'Which?'}, 'a row of Vision Only has a quest'),
    ('mathvista', {'question_type': 'free_form', 'answer_type': 'date'},
     'MathVista has float, integer'),
    ('mathvista', {'question_type': 'free_form', 'answer_type': 'float',
                   'precision': 1.5}, 'precision is float 1.5'),
    ('multichallenge', {'pass_criteria': 'MAYBE'}, 'has YES and NO'),
    ('mmvu', {'question_type': 'open'}, 'multiple-choice and open-ended')])
def test_a_row_of_another_vocabulary_is_refused(name, changes, match):
  rows = next(f for p, f in SETS[name](1).items() if f.rows).rows
  with pytest.raises(ValueError, match=match):
    suites.get(name).read({CONFIG: '', **dict.fromkeys(
        suites.get(name).optional), **rows[0], **changes})


def test_options_in_the_forms_of_files():
  assert choices.listed("['a', 2]") == ['a', '2']
  assert choices.listed({'B': 'b', 'A': '', 'C': 'c', 'D': '', 'E': None}) == [
      '', 'b', 'c']  # letters of a struct do not move up
  assert choices.listed(None) == choices.listed('') == []
  assert choices.unlettered(['A. one', '(B) two', 'C) 3', 'D: 4']) == [
      'one', 'two', '3', '4']
  for options in (['A. one', 'C. two'], ['A. one', 'two'], ['AB', 'B. x']):
    assert choices.unlettered(options) == options


@pytest.mark.parametrize('question, options, words', [
    ('<image 1> What is it?', ['a'], ('What is it?', ['a'], 1)),
    ('What is it?\n<image 1>', ['a'], ('What is it?', ['a'], 1)),
    ('In <image 1>, is it?', ['a'], ('In image 1, is it?', ['a'], 1)),
    ('See <image 2> and <image 1>.', ['<image 3>'],
     ('See image 2 and image 1.', ['image 3'], 3)),
    ('Which?', ['<image 1>', '<image 2>'],
     ('Which?', ['image 1', 'image 2'], 2)),
    ('<image1> or <image_2>?', [], ('image 1 or image 2?', [], 2)),
    ('Plain.', [], ('Plain.', [], 0))])
def test_places_of_pictures_stay_as_words(question, options, words):
  assert choices.pictured(question, options) == words


@pytest.mark.parametrize('gone', ['image_1', 'image_2'])
def test_a_row_is_skipped_that_names_a_picture_which_is_null(tmp_path, gone):
  """The second picture would be the first one that is shown."""
  home = published.write(tmp_path, 'mmmu_pro')
  rows = SETS['mmmu_pro'](6)
  path = next(p for p in rows if '(4' in p)
  rows[path].rows[0][gone] = None
  published.write_files(home, {path: rows[path]})
  pool = suites.open_pool('mmmu_pro?standard (4 options)', str(tmp_path))
  assert [len(q.media) for q in pool] == [2]
  assert list(pool.skipped.values()) == [{'no picture': 1}]


def test_standard_rows_of_mmmu_pro_need_a_question():
  row = row_of('mmmu_pro')
  with pytest.raises(KeyError, match="no column 'question'"):
    suites.get('mmmu_pro').read({**row, 'question': None})
  assert suites.get('mmmu_pro').read(
      {**row, 'question': ' '}).skip == 'no question'


def test_a_picture_of_embspatial_may_be_base64_in_a_text(tmp_path):
  """As FlagEval reads it; a text that is null or empty is no picture."""
  rows = SETS['embspatial'](3)
  (path,) = rows
  shown = base64.b64encode(png(9)).decode()
  published.write_files(tmp_path / 'embspatial', {path: File([
      {**row, 'image': picture} for row, picture in zip(
          rows[path].rows, (shown, None, ''), strict=True)])})
  pool = suites.open_pool('embspatial', str(tmp_path))
  assert [len(q.media) for q in pool] == [1]
  assert list(pool.skipped.values()) == [{'no picture': 2}]


def test_vision_only_is_asked_from_the_picture():
  asked = suites.get('mathverse').read(row_of('mathverse'))
  assert asked.text == image_rows.IN_THE_PICTURE and asked.answer == 'B'


def test_options_in_a_picture_are_said_to_be_there():
  row = row_of('visualpuzzles', 1)
  read = suites.get('visualpuzzles').read
  for none in (None, []):
    assert read({**row, 'options': none}).text.endswith(
        '\nThe options A, B, C and D are in the picture.')
  with pytest.raises(ValueError, match="'E', which is not the letter"):
    read({**row, 'answer': 'E'})


def test_padding_is_no_option_unless_it_is_the_gold():
  read = suites.get('mmlu_pro').read
  asked = read(row_of('mmlu_pro'))
  assert asked.text.endswith('\nD. O') and asked.answer == 'B'
  for options, place, last in ((['1', 'N/A'], 1, 'B. N/A'),
                               (['1', 'N/A', 'N/A'], 1, 'B. N/A'),
                               (['1', 'N/A', '2', 'N/A'], 0, 'C. 2')):
    asked = read(row_of('mmlu_pro', options=options, answer_index=place))
    assert asked.text.endswith(f'\n{last}') and asked.answer == 'AB'[place]
  with pytest.raises(ValueError, match="'2'; there are 2 options"):
    read(row_of('mmlu_pro', options=['1', '2'], answer_index=2))


def test_a_nan_is_no_value():
  """Tools without nulls write one where a number is missing; it was refused."""
  nan, read = float('nan'), lambda name, row: suites.mapping(
      suites.get(name)).read(row)
  row = row_of('babyvision')
  assert read('babyvision', {**row, 'choiceAns': nan}).skip == 'no gold'
  assert read('babyvision', {**row, 'choiceAns': 1.0}).answer == 'B'
  assert read('babyvision', {**row_of('babyvision', 1), 'choiceAns': nan}
              ).answer == '(1,7)'
  chart = {**row_of('charxiv'), VARIANT: 'descriptive_q1', 'subplot_row': nan,
           'subplot_col': nan}
  assert read('charxiv', chart).text.startswith('For the plot, what title')
  assert read('charxiv', {**chart, 'subplot_row': 1.0, 'subplot_col': 2.0}
              ).text.startswith('For the subplot in row 1 and column 2, ')
  pid = row_of('mathvista', precision=nan)
  assert read('mathvista', pid).kind == 'nearest'


def test_options_of_gpqa_keep_letters_of_their_own():
  """They were cut where the hash put them in order."""
  row = SETS['gpqa_diamond'](1)['gpqa_diamond.csv'].rows[0]
  read = suites.get('gpqa_diamond').read
  for right, wrong in (('A. x', ('B. y', 'C. z', 'D. w')),
                       ('C. x', ('A. y', 'B. z', 'D. w'))):
    asked = read({**row, 'Correct Answer': right, **{
        f'Incorrect Answer {i + 1}': w for i, w in enumerate(wrong)}})
    assert f'\n{asked.answer}. {right}' in asked.text


@pytest.mark.parametrize('text, options', [
    ('A. 1; B. 2; C. 3', '123'), ('A.1; B.2; C.3', '123'),
    ('A. 1\nB. 2\nC. 3', '123'), ('A. 1;B. 2;C. 3;', '123'),
    ('A. (1; 2); B. x; y; C. E. coli', ['(1; 2)', 'x; y', 'E. coli'])])
def test_options_of_we_math(text, options):
  """`A.1` was the text of one option."""
  asked = suites.get('wemath').read(row_of('wemath', option=text, answer='C'))
  assert asked.answer == 'C' and asked.text.endswith(
      'wide is angle 0?\n' + '\n'.join(
          f'{x}. {o}' for x, o in zip('ABC', options, strict=True)))


def test_infovqa_inside_of_its_repository(tmp_path):
  files = {f'DocVQA/{path}': f for path, f in SETS['infovqa'](2).items()}
  published.write_files(tmp_path / 'infovqa', files)
  pool = suites.open_pool('infovqa', str(tmp_path))
  assert [q.id for q in pool] == ['bench:infovqa/60000', 'bench:infovqa/60001']
  assert len(pool.notes) == 2 and '2 files left out: DocVQA/DocVQA/' in (
      pool.notes[1])


def test_the_place_of_gpqas_answer_is_fixed_and_varies():
  row = SETS['gpqa_diamond'](1)['gpqa_diamond.csv'].rows[0]
  read = suites.get('gpqa_diamond').read
  places = {read({**row, 'Question': f'{i}?'}).answer for i in range(40)}
  assert places == set('ABCD')
  assert read(row) == read(row)


def test_every_template_of_charxiv():
  """Nineteen questions; two are about the whole figure, one has no absence."""
  row = row_of('charxiv', subplot_row=2, subplot_col=3)
  texts = {}
  for number in charts.TEMPLATES:
    asked = charts.read({**row, VARIANT: 'descriptive_q1',
                         'descriptive_q1': number})
    assert json.loads(asked.answer)['template'] == number
    assert asked.text.startswith('For the subplot in row 2 and column 3, ') == (
        number not in (18, 19))
    assert ('Not Applicable' in asked.text) == (number not in (17, 18, 19))
    texts[number] = asked.text
  assert len(set(texts.values())) == 19
  for place, words in ((dict(subplot_loc='the left plot'),
                        'For the left plot, '),
                       (dict(subplot_row=0, subplot_col=0), 'For the plot, ')):
    assert charts.subplot({**row, **place}) == words
  with pytest.raises(ValueError, match='descriptive_q1 is int 20; .* 1 to 19'):
    charts.read({**row, VARIANT: 'descriptive_q1', 'descriptive_q1': 20})


@pytest.mark.parametrize('kind, answer, words', [
    (1, 'LR', 'words that stand in the chart.'),
    (2, 'rising', 'need not stand'), (3, '4', 'a number that stands'),
    (4, '4', 'with no decimals.'), (4, '0.1', 'with 1 decimal.'),
    (4, '-0.25', 'with 2 decimals.'), (4, '12.5%', 'with 1 decimal.'),
    (4, '-1,234', 'with no decimals.')])
def test_reasoning_questions_say_the_type_of_their_answer(kind, answer, words):
  """`reasoning_a_type` counts, and not `reasoning_q_source`."""
  asked = charts.read(row_of('charxiv', **{VARIANT: 'reasoning_q'},
                             reasoning_a=answer, reasoning_a_type=kind))
  assert words in asked.text
  assert json.loads(asked.answer) == {'answer': answer, 'type': kind}


def test_types_without_a_metric_are_skipped_by_reason():
  read = suites.get('ocrbench_en').read
  row = row_of('ocrbench_en', 3)
  assert read(row).skip == ocrbench.unscored('full-page OCR en')
  assert suites.get('ocrbench_zh').read(row).skip == 'another language'
  gold = json.loads(read(row_of('ocrbench_en', bbox=[1, 2, 3, 4])).answer)
  assert gold['bbox'] == [1, 2, 3, 4] and gold['answers'] == ['EXIT']


@pytest.mark.parametrize('options', [
    '[' * 500, '__import__("os")', "['a', open('x')]", '"a' * 30_000])
def test_options_as_text_are_a_list_or_refused(tmp_path, options):
  """fault B7: a row's text is read as a literal, and an error names it."""
  published.write_files(tmp_path / 'mmmu_pro', {'vision/a.jsonl': File([dict(
      id='a', options=options, answer='B', image='')])})
  with pytest.raises(ValueError, match=r'a\.jsonl, line 1'):
    suites.load('bench:mmmu_pro', str(tmp_path), 1)


def test_videos_are_folders_of_frames(tmp_path):
  """An address on the hub, segments, a rate of its own, a track's picture."""
  published.write_all(tmp_path, rows=3)
  load = lambda name: {
      q.id.removeprefix(f'bench:{name}/'): q
      for q in suites.load(name, str(tmp_path), 99)}
  frames_of = lambda q: [int(f.path.split('/')[-1].split('.')[0])
                         for f in q.media[-1].frames]
  mmvu = load('mmvu')['validation_1'].media[0]
  assert mmvu.frames[0].path.endswith('/mmvu/frames/videos/Art/1/0.png')
  mvbench = load('mvbench')
  # From 0.5 s to 1.6 s at two frames a second.
  assert frames_of(mvbench['action_sequence/0']) == [1, 2, 3]
  assert frames_of(mvbench['object_shuffle/0']) == [0, 1, 2, 3, 4]
  assert [mvbench[f'{task}/0'].media[0].fps for task in (
      'object_shuffle', 'moving_count')] == [2.0, 3.0]
  subtitled = load('video_mme_subtitles')
  assert subtitled['000-1'].text.startswith(
      'Subtitles:\nGood morning.\nWe begin.\n\nWho speaks 0th?')
  assert subtitled['000-3'].text.startswith('This video has no subtitles.')
  adaptation = load('video_mmmu')['dev_Art_0/Adaptation']
  assert len(adaptation.media) == 2 and adaptation.media[1].frames
  with pytest.raises(ValueError, match='is an address; the frames of'):
    suites.get('mmvu').read(row_of('mmvu', video='https://x.invalid/a.mp4'))


def test_a_column_of_subtitles_still_counts(tmp_path):
  row = row_of('video_mme_subtitles', subtitles='hello')
  published.write_files(tmp_path, frames('v0', 2, 0))
  asked = suites.get('video_mme_subtitles').read(row)
  assert asked.text.startswith('Subtitles:\nhello\n\nWho')
  with pytest.raises(FileNotFoundError, match='unpack subtitle.zip into'):
    suites.get('video_mme_subtitles').read(
        {**row, 'subtitles': None, HOME: str(tmp_path)})


def test_forms_of_open_answers_of_video_mmmu():
  row = {**SETS['video_mmmu'](1)['Adaptation/test-00000-of-00001.parquet'
                                 ].rows[0], CONFIG: 'Adaptation'}
  read = suites.get('video_mmmu').read
  for answer, forms in (("['0.5', '1/2']", ['0.5', '1/2']),
                        ('[0, 2]', ['[0, 2]']), ('[x', ['[x']),
                        (7, ['7']), ('\\frac12', ['\\frac12'])):
    assert json.loads(read({**row, 'answer': answer}).answer) == forms


def test_a_blank_answer_of_ocrbench_is_no_gold():
  """It was a part of every answer, which was right."""
  read = suites.get('ocrbench_en').read
  for answers in ([''], [' '], [None], ['', None], '', None, []):
    assert read(row_of('ocrbench_en', answers=answers)).skip == 'no gold'
  gold = json.loads(read(row_of('ocrbench_en', answers=['', 'x', None])).answer)
  assert gold['answers'] == ['x']
  spots = {'type': 'text spotting en', 'content': ['STOP'],
           'bbox_list': [[0, 0, 9, 9]]}
  assert not read(row_of('ocrbench_en', answers=[''], **spots)).skip


def test_another_unit_is_another_answer_of_mathvista():
  """'7 km' was right where the gold is 7 and the unit is cm, or people."""
  for of, unit, answer, right, wrong in (
      ('integer', 'cm', '7', ['7', '7 cm', '0.07 m'],
       ['7 km', '7 m', '8', '7 people', '7%']),
      ('float', 'cm', '1.4', ['1.4', '1.4 cm', '1.36 cm', '14 mm'],
       ['1.4 km', '1.5', '1.34 cm', '1.46']),
      ('float', 'people', '1.4', ['1.36', '1.44 people'],
       ['1.34', '1.4 km', '1.4%']),
      ('integer', '$', '7', ['7', r'\$7', r'7 \$', '7 dollars'],
       ['8', '7 km', '7%']),
      ('integer', '%', '7', ['7', '7%', r'7\%', '7 percent'],
       ['8', '0.7', '7 km', '7 people']),
      ('integer', 'degree', '7', ['7', r'7^\circ', '7°', '7 degrees'],
       ['8', '7 km', '7%', '7 radians']),
      ('integer', 'million', '7', ['7'], ['8']),
      ('integer', 'people', '7', ['7', '7 people'],
       ['8 people', '7 km', '7 dogs']),
      ('integer', '', '7', ['7'], ['8']),
      ('integer', None, '7', ['7'], ['8'])):
    words = suites.get('mathvista').read(row_of(
        'mathvista', question_type='free_form', answer_type=of, precision=1.0,
        answer=answer, unit=unit))
    mark = kinds.get(words.kind).mark
    assert [mark(a, words.answer) for a in right] == [1] * len(right), unit
    assert not any(mark(a, words.answer) for a in wrong), unit


@pytest.mark.parametrize('nothing', [None, {'bytes': None, 'path': None}])
def test_a_row_whose_picture_is_null_is_skipped(tmp_path, nothing):
  """It was asked about a picture that nobody saw."""
  for name, of in suites.BENCHMARKS.items():
    if of.family != 'image':  # most rows of hle have none, by right
      continue
    files = SETS[name](3)
    bare = {path: f._replace(rows=[{**row, **{
        c: nothing for c in of.images.split(',') if c in row}}
                                    for row in f.rows])
            for path, f in files.items()}
    published.write_files(tmp_path / 'bare' / name, bare)
    published.write_files(tmp_path / 'seen' / name, files)
    whole = suites.open_pool(name, str(tmp_path / 'seen'))
    source = suites.open_source(name, str(tmp_path / 'bare'))
    assert source.candidates({}) == [], name
    assert source.skipped['no picture'] == len(whole), name
