"""The 31 benchmarks: the table, a made-up row of each schema, local copies."""

import base64
import collections
import json

import pytest
from PIL import Image

from zppo_jax.chat import images
from zppo_jax.data import suites
from zppo_jax.records import Clip
from zppo_jax.verdicts import kinds

PNG = images.picture(Image.new('L', (8, 8)))
OPTIONS = ['red', 'blue']
MULTIPLE = dict(question='Which?', options=OPTIONS, answer='B')
# What differs from one of the forms above, and what the row must say.
ROWS = {
    'ai2d': (dict(MULTIPLE, answer='1'), 'B', 'choice'),
    'babyvision': (dict(taskId=1, question='Which?', ansType='choice',
                        options=OPTIONS, choiceAns=1, blankAns=None), 'B',
                   'choice'),
    'charxiv': (dict(reasoning_q='How high?', reasoning_a='4'), '4', 'judge'),
    'dynamath': (dict(question='x?', ground_truth='2.5', answer_type='float'),
                 '2.5', 'number'),
    'embspatial': (dict(question='Which?', answer_options=OPTIONS, answer=1),
                   'B', 'choice'),
    'infovqa': (dict(questionId='7', question='Who?', answers=['Ada', 'ada']),
                'Ada', 'text'),
    'mathverse': (dict(sample_index='1', question='x?\nA: 1\nB: 2',
                       answer='B', question_type='multi-choice'), 'B',
                  'choice'),
    'mathvision': (dict(MULTIPLE, id='1', options=[], answer='\\frac12'),
                   '\\frac12', 'math'),
    'mathvista': (dict(pid='1', question='Which?', choices=OPTIONS, unit=None,
                       answer='blue', question_type='multi_choice',
                       answer_type='text'), 'B', 'choice'),
    'mmmu_pro': (dict(MULTIPLE, id='a', options="['red', 'blue']",
                      question='See <image 1>. Which?'), 'B', 'choice'),
    'mmvet': (dict(question_id='v', question='What?', answer='a <AND> b'),
              'a <AND> b', 'judge'),
    'ocrbench_en': (dict(id=1, question='Read.', answers=['EXIT'],
                         type='text recognition en'), 'EXIT', 'text'),
    'ocrbench_zh': (dict(id=1, question='Read.', answers=['出口'],
                         type='full-page OCR cn'), '出口', 'text'),
    'visualpuzzles': (dict(MULTIPLE, id=3, category='Spatial'), 'B', 'choice'),
    'vlmsareblind': (dict(task='Circles', prompt='Do they touch?',
                          groundtruth='Yes'), 'Yes', 'text'),
    'wemath': (dict(ID='1', question='Which?', option='A. 1; B. 2',
                    answer='B'), 'B', 'choice'),
    'aime25': (dict(question='Find n.', answer='70'), '70', 'number'),
    'aime26': (dict(problem_idx=1, problem='Find n.', answer=70), '70',
               'number'),
    'ceval': (dict(question='哪个?', A='1', B='2', C='3', D='4', answer='B'),
              'B', 'choice'),
    'gpqa_diamond': ({'Question': 'Why?', 'Correct Answer': 'r',
                      **{f'Incorrect Answer {i}': f'w{i}'
                         for i in (1, 2, 3)}}, None, 'choice'),
    'hle': (dict(id='h', question='What?', answer='42', category='Math'), '42',
            'judge'),
    'imo_answerbench': ({'Problem ID': 'p', 'Problem': 'Find n.',
                         'Short Answer': '$3^n$', 'Category': 'Algebra'},
                        '$3^n$', 'math'),
    'mmlu': (dict(question='Which?', subject='law', choices=OPTIONS,
                  answer=1), 'B', 'choice'),
    'mmlu_pro': (dict(MULTIPLE, question_id=5, category='law'), 'B', 'choice'),
    'mmlu_redux': (dict(question='Which?', choices=OPTIONS, answer=1), 'B',
                   'choice'),
    'multichallenge': (dict(
        QUESTION_ID='q', AXIS='memory', CONVERSATION=[
            dict(role='user', content='No nuts.'),
            dict(role='assistant', content='Fine.'),
            dict(role='user', content='A cake?')],
        TARGET_QUESTION='Is it free of nuts?', PASS_CRITERIA='YES'),
        'Is it free of nuts? YES', 'judge'),
    'mmvu': (dict(id='v', question_type='multiple-choice', question='Which?',
                  choices={'A': 'red', 'B': 'blue', 'C': ''}, answer='B'),
             'B', 'choice'),
    'mvbench': (dict(question='Which?', candidates=OPTIONS, answer='blue'),
                'B', 'choice'),
    'video_mme': (dict(question_id='1', question='Which?',
                       options=['A. red', 'B. blue'], answer='B'), 'B',
                  'choice'),
    'video_mme_subtitles': (dict(
        question_id='1', question='Which?', options=['A. red', 'B. blue'],
        answer='B', subtitles='hello'), 'B', 'choice'),
    'video_mmmu': (dict(MULTIPLE, id='v1'), 'B', 'choice'),
}


def test_the_table_is_the_papers():
  families = collections.Counter(
      b.family for b in suites.BENCHMARKS.values())
  assert families == {'image': 16, 'text': 10, 'video': 5}
  for found in suites.BENCHMARKS.values():
    assert found.scoring in suites.SCORING and '/' in found.hub
    assert found.split and found.title
    assert bool(found.video) == (found.family == 'video')
  d = suites.DECODING
  assert (d.temperature, d.top_p, d.top_k, d.max_tokens) == (
      0.6, 0.95, 20, 12288)


def write(folder, name, row):
  """A local copy with one row."""
  of = suites.get(name)
  home = folder / name
  home.mkdir()
  shown = {c: None for c in of.images.split(',') if c}
  for column in list(shown)[:1]:
    shown[column] = {'bytes': None, 'path': 'shown.png'}
    (home / 'shown.png').write_bytes(base64.b64decode(PNG.base64))
  if of.video:
    shown.setdefault(of.video, 'v1')
    (home / 'frames' / 'v1').mkdir(parents=True)
    for i in range(3):
      (home / 'frames' / 'v1' / f'{i}.png').write_bytes(
          base64.b64decode(PNG.base64))
  (home / 'test.jsonl').write_text(json.dumps({**shown, **row}) + '\n')


def test_there_is_a_row_of_each():
  assert set(ROWS) == set(suites.BENCHMARKS)


@pytest.mark.parametrize('name', suites.BENCHMARKS)
def test_a_row_of_the_schema_can_be_asked(tmp_path, name):
  row, answer, kind = ROWS[name]
  assert set(suites.get(name).columns) == set(row) or name == 'mathvision'
  write(tmp_path, name, row)
  (asked,) = suites.load(f'bench:{name}', str(tmp_path), 9)
  assert asked.kind == kind and (kind in kinds.KINDS or kind == kinds.JUDGE)
  assert asked.split == f'bench:{name}' and '<image' not in asked.text
  if answer is not None:
    assert asked.answer == answer
  of = suites.get(name)
  assert bool(asked.media) == bool(of.images or of.video)
  if of.video:
    (clip,) = asked.media
    assert isinstance(clip, Clip) and len(clip.frames) == 3
  if kind == 'choice' and name not in ('wemath', 'mathverse'):
    lines = asked.text.split('\n')
    assert f'{asked.answer}. {"r" if answer is None else ""}' in [
        line[:len(line) if answer is None else 3] for line in lines]


def test_the_place_of_gpqas_answer_is_fixed_and_varies():
  row, _, _ = ROWS['gpqa_diamond']
  read = suites.get('gpqa_diamond').read
  places = {read({**row, 'Question': f'{i}?'}).answer for i in range(40)}
  assert places == set('ABCD')
  assert read(row) == read(row)


def test_rows_of_the_other_language_are_left_out():
  row = ROWS['ocrbench_en'][0]
  assert suites.get('ocrbench_zh').read(row).skip == 'not cn'
  assert not suites.get('ocrbench_en').read(row).skip


def test_what_is_not_on_disk_says_what_to_fetch_and_where(tmp_path):
  with pytest.raises(FileNotFoundError, match=(
      r'AIME 2025 is not on disk: fetch opencompass/AIME2025 .*put its parquet '
      fr'or JSONL files into {tmp_path}/aime25$')):
    suites.load('bench:aime25', str(tmp_path), 9)
  with pytest.raises(FileNotFoundError, match='frames of its videos into'):
    suites.load('bench:mmvu', str(tmp_path), 9)
  with pytest.raises(ValueError, match='eval.benchmarks must name'):
    suites.load('bench:aime25', '', 9)
  with pytest.raises(KeyError, match="'aime27'; known: ai2d"):
    suites.load('bench:aime27', str(tmp_path), 9)


def test_other_columns_are_named(tmp_path):
  """And that ours are from memory, where they are."""
  write(tmp_path, 'aime25', {'problem': 'Find n.', 'answer': '70'})
  with pytest.raises(KeyError, match=(
      "no column 'question'.*problem, answer; no public description was found "
      "for 'question'")):
    suites.load('bench:aime25', str(tmp_path), 9)
  write(tmp_path, 'visualpuzzles', {'problem': 'Which?'})
  with pytest.raises(KeyError, match="no column .*'question'") as e:
    suites.load('bench:visualpuzzles', str(tmp_path), 9)
  assert 'public' not in str(e.value)


@pytest.mark.parametrize('options', [
    '[' * 500, '__import__("os")', "['a', open('x')]", '"a' * 30_000])
def test_options_as_text_are_a_list_or_refused(tmp_path, options):
  """fault B7: a row's text is read as a literal, and an error names it."""
  home = tmp_path / 'mmmu_pro'
  home.mkdir()
  row = dict(MULTIPLE, id='a', options=options,
             **{f'image_{i}': None for i in range(1, 8)})
  (home / 'a.jsonl').write_text(json.dumps(row) + '\n')
  with pytest.raises(ValueError, match=r'a\.jsonl, line 1'):
    suites.load('bench:mmmu_pro', str(tmp_path), 1)
