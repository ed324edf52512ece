"""The 31 benchmarks: the table, local copies in their published forms."""

import collections
import json
import pathlib
import re
import shutil

import pytest

from tests.data import published
from tests.data.published import text_sets
from tests.data.published.forms import File
from zppo_jax.data import suites
from zppo_jax.data.suites import copies
from zppo_jax.records import Clip, Picture
from zppo_jax.verdicts import kinds

CHOICE, MATH, NUMBER = 'choice', 'math', 'number'
# Of each miniature: (id, gold, kind, subset) of its first questions.
EXPECTED = {
    'ai2d': [('0', 'C', CHOICE, ''), ('1', 'D', CHOICE, '')],
    'babyvision': [('0', 'B', CHOICE, 'Visual Tracking'),
                   ('1', '(1,7)', 'text', 'Visual Tracking')],
    'charxiv': [
        ('0/descriptive_q1', {'answer': 'Not Applicable', 'template': 1},
         'charxiv_descriptive', 'descriptive'),
        ('0/descriptive_q2', {'answer': '3', 'template': 12},
         'charxiv_descriptive', 'descriptive'),
        ('0/descriptive_q3', {'answer': '2 by 2', 'template': 18},
         'charxiv_descriptive', 'descriptive'),
        ('0/descriptive_q4', {'answer': '11', 'template': 17},
         'charxiv_descriptive', 'descriptive'),
        ('0/reasoning_q', {'answer': '0.25', 'type': 4}, 'charxiv_reasoning',
         'reasoning')],
    'dynamath': [('0/variant1', '2.5', 'absolute(0.001)', 'variant1'),
                 ('0/variant10', '2.5', 'absolute(0.001)', 'variant10')],
    'embspatial': [('0', 'B', CHOICE, 'left'), ('1', 'C', CHOICE, 'left')],
    'infovqa': [('60000', ['90 metres', '90 m'], 'anls', '')],
    'mathverse': [('1', 'B', CHOICE, 'Vision Only'),
                  ('2', 'B', CHOICE, 'Text Dominant'),
                  ('3', '5', MATH, 'Text Lite')],
    'mathvision': [('1', {'options': ['B', 'A', 'AB', 'O'], 'letter': 'B'},
                    'option', ''), ('2', '\\frac{1}{2}', MATH, '')],
    'mathvista': [('1', {'options': ['red', 'blue', 'green', 'grey'],
                         'answer': 'blue'}, 'nearest', ''),
                  ('2', '1.4 metres', 'rounded_unit(1)', ''),
                  ('3', '[0, 2]', 'number_list', '')],
    'mmmu_pro': [(f'test_History_0/{config}', 'B', CHOICE, config)
                 for config in ('standard (10 options)',
                                'standard (4 options)', 'vision')],
    'mmvet': [('v1_0', 'tea<AND>bread<OR>cake', 'mmvet', '')],
    'ocrbench_en': [('0', None, 'ocrbench(text recognition en)',
                     'text recognition en'),
                    ('1', None, 'ocrbench(cognition VQA en)',
                     'cognition VQA en')],
    'ocrbench_zh': [('4', None, 'ocrbench(cognition VQA cn)',
                     'cognition VQA cn'),
                    ('5', None, 'ocrbench(key information extraction cn)',
                     'key information extraction cn')],
    'visualpuzzles': [('0', 'C', CHOICE, 'Spatial'),
                      ('1', 'C', CHOICE, 'Spatial')],
    'vlmsareblind': [('0', '5,6', 'values', 'Counting Grid - Blank Grids'),
                     ('1', 'No', 'values', 'Touching Circles')],
    'wemath': [('7/2steps_1', 'B', CHOICE, '2steps_1'),
               ('7/2steps_2', 'B', CHOICE, '2steps_2'),
               ('7/2steps_multi', 'B', CHOICE, '2steps_multi')],
    'aime25': [('aime2025-I/0', '70', NUMBER, ''),
               ('aime2025-I/1', '71', NUMBER, ''),
               ('aime2025-II/0', '70', NUMBER, '')],
    'aime26': [('1', '100', NUMBER, '')],
    'ceval': [('accountant/0', 'B', CHOICE, 'accountant'),
              ('high_school_physics/0', 'B', CHOICE, 'high_school_physics'),
              ('law/0', 'B', CHOICE, 'law')],
    'gpqa_diamond': [('0', 'C', CHOICE, ''), ('1', 'D', CHOICE, '')],
    'hle': [('660', '42', 'hle', 'Humanities'),
            ('661', '42', 'hle', 'Humanities')],
    'imo_answerbench': [('imo-0', '$3^n$', MATH, 'Algebra')],
    'mmlu': [('0', 'B', CHOICE, 'law'), ('1', 'C', CHOICE, 'law')],
    'mmlu_pro': [('70', 'B', CHOICE, 'health'), ('71', 'B', CHOICE, 'health')],
    'mmlu_redux': [('anatomy/0', 'B', CHOICE, 'anatomy'),
                   ('astronomy/0', 'B', CHOICE, 'astronomy')],
    'multichallenge': [
        ('q0', {'target_question': 'Is the cake free of nuts?',
                'pass_criteria': 'YES'}, 'multichallenge',
         'INFERENCE_MEMORY'),
        ('q1', {'target_question': 'Is the cake free of nuts?',
                'pass_criteria': 'NO'}, 'multichallenge',
         'INFERENCE_MEMORY')],
    'mmvu': [
        ('validation_0', {
            'answer': 'B', 'mode': 'multiple-choice', 'options': {
                'A': 'O', 'B': 'A', 'C': 'B', 'D': 'AB'}}, 'mmvu', 'Art'),
        ('validation_1', {'answer': 'glazing', 'mode': 'open-ended'}, 'mmvu',
         'Art')],
    'mvbench': [('action_sequence/0', 'B', CHOICE, 'action_sequence'),
                ('moving_count/0', 'B', CHOICE, 'moving_count')],
    'video_mme': [('000-1', 'B', CHOICE, 'short'),
                  ('000-2', 'B', CHOICE, 'medium')],
    'video_mme_subtitles': [('000-1', 'B', CHOICE, 'short')],
    'video_mmmu': [
        ('dev_Art_0/Adaptation', ['0.5', '1/2'], 'mmmu', 'Adaptation'),
        ('dev_Art_0/Comprehension', 'B', CHOICE, 'Comprehension'),
        ('dev_Art_0/Perception', 'B', CHOICE, 'Perception')],
}


# Questions of each set, as its page states them.
COUNTS = {
    'ai2d': 3088, 'babyvision': 388, 'charxiv': 4 * 1000 + 1000,
    'dynamath': 10 * 501, 'embspatial': 3640, 'infovqa': 2801,
    'mathverse': 5 * 788, 'mathvision': 3040, 'mathvista': 1000,
    'mmmu_pro': 3 * 1730, 'mmvet': 218, 'ocrbench_en': 7400,
    'ocrbench_zh': 2600, 'visualpuzzles': 1168, 'vlmsareblind': 8016,
    'wemath': 1740, 'aime25': 15 + 15, 'aime26': 30, 'ceval': 1346,
    'gpqa_diamond': 198, 'hle': 2500, 'imo_answerbench': 400, 'mmlu': 14_042,
    'mmlu_pro': 12_032, 'mmlu_redux': 57 * 100, 'multichallenge': 266,
    'mmvu': 1000, 'mvbench': 20 * 200, 'video_mme': 2700,
    'video_mme_subtitles': 2700, 'video_mmmu': 3 * 300}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with all sets in miniature."""
  path = tmp_path_factory.mktemp('benchmarks')
  published.write_all(path, rows=3)
  return path


def test_the_table_is_the_papers():
  assert {name: of.count for name, of in suites.BENCHMARKS.items()} == COUNTS
  families = collections.Counter(
      b.family for b in suites.BENCHMARKS.values())
  assert families == {'image': 16, 'text': 10, 'video': 5}
  for name, of in suites.BENCHMARKS.items():
    assert of.scoring in suites.SCORING and '/' in of.hub
    assert of.split and of.title and of.gold in suites.GOLDS
    assert bool(of.video) == (of.family == 'video')
    assert of.average in suites.AVERAGES and of.count > 0 and of.confirmed
    assert not of.shares or suites.get(of.shares).hub == of.hub, name
    counts = [config.count for config in of.configs.values()]
    assert not counts or sum(counts) == of.count
  d = suites.DECODING
  assert (d.temperature, d.top_p, d.top_k, d.max_tokens) == (
      0.6, 0.95, 20, 12288)


@pytest.mark.parametrize('name', suites.BENCHMARKS)
def test_a_set_as_it_is_published(folder, name):
  pool = suites.open_pool(f'bench:{name}', str(folder))
  of = suites.get(name)
  questions = pool[:]
  for asked, (ident, gold, kind, subset) in zip(
      questions, EXPECTED[name], strict=False):
    assert asked.id == f'bench:{name}/{ident}'
    assert asked.split == f'bench:{name}' == asked.source
    if isinstance(gold, str):
      assert asked.answer == gold
    elif gold is not None:
      assert json.loads(asked.answer) == gold
    assert (asked.kind, asked.subset) == (kind, subset)
  assert len(questions) >= len(EXPECTED[name])
  for asked in questions:
    assert '<image' not in asked.text and kinds.known(asked.kind)
    assert asked.kind in of.kinds or re.sub(r'\(.*', '(', asked.kind) in [
        k[:-len('P)')] if k.endswith('P)') else k[:-len('TYPE)')]
        for k in of.kinds]
    clips = [m for m in asked.media if isinstance(m, Clip)]
    pictures = [m for m in asked.media if isinstance(m, Picture)]
    assert len(clips) == bool(of.video)
    if name != 'hle':  # most of whose rows have no picture
      assert bool(pictures) == bool(of.images and (
          not of.video or asked.subset == 'Adaptation'))
  assert suites.load(name, str(folder), 1) == questions[:1]
  # A miniature says that it is one.
  published_rows = of.rows or of.count
  assert pool.notes[0].endswith(
      f'; the published set has {published_rows:,}')
  assert pool.record()['notes'] == list(pool.notes)
  assert pool.notes[0] in pool.account()


def test_a_picture_of_hle_is_a_data_uri_or_an_empty_text(folder):
  questions = suites.load('hle', str(folder), 9)
  assert [len(q.media) for q in questions] == [0, 1, 0]


def test_choices_show_their_options_with_letters(folder):
  """And the gold letter's line is the right option."""
  lines = {
      'ai2d': 'C. 3', 'babyvision': 'B. 0', 'embspatial': 'B. blue',
      'mathvision': 'B. A', 'mathvista': 'B. blue', 'visualpuzzles':
      'C. three', 'wemath': 'B. 60', 'ceval': 'B. 2', 'gpqa_diamond':
      'C. acid, 0', 'mmlu': 'B. 2', 'mmlu_pro': 'B. A', 'mmlu_redux': 'B. x',
      'mmvu': 'B. A', 'mvbench': 'B. A', 'video_mme': 'B. Bea.',
      'video_mme_subtitles': 'B. Bea.'}
  for name, line in lines.items():
    (asked,) = suites.load(name, str(folder), 1)
    assert line in asked.text.split('\n'), name
  (asked,) = suites.load('video_mmmu?Perception', str(folder), 1)
  assert asked.text.split('\n')[-2:] == ['B. two', 'C. ten']


@pytest.mark.parametrize('split, count, notes', [
    ('mmmu_pro?vision', 1, ['1 rows; the published set has 1,730']),
    ('video_mmmu?Adaptation', 1, ['1 rows; the published set has 300']),
    ('charxiv?reasoning', 1, ['1 rows; the published set has 1,000',
                              '1 files left out: test.parquet']),
    ('charxiv?descriptive', 4, ['4 rows; the published set has 4,000',
                                '1 files left out: test.parquet']),
    ('dynamath?variant1', 1, ['1 rows; the published set has 501']),
    ('mmlu_redux?ok', 2, ['2 rows; the published set has 5,330',
                          '3 of 57 configs are there'])])
def test_a_part_of_a_set(folder, split, count, notes):
  pool = suites.open_pool(f'bench:{split}', str(folder))
  assert len(pool) == count
  assert list(pool.notes) == [f'bench:{split}: {note}' for note in notes]
  assert {q.split for q in pool} == {f'bench:{split}'}


def test_rows_that_cannot_be_asked_are_counted(folder):
  pool = suites.open_pool('ocrbench_en', str(folder))
  assert pool.counts['rows'] == {'bench:ocrbench_en': 7}
  assert pool.counts['skipped'] == {'bench:ocrbench_en': 5}
  redux = suites.open_pool('mmlu_redux?ok', str(folder))
  assert redux.counts['skipped'] == {'bench:mmlu_redux?ok': 1}


def test_languages_of_one_copy(tmp_path):
  published.write(tmp_path, 'ocrbench_en')
  (asked, _) = suites.load('bench:ocrbench_zh', str(tmp_path), 9)
  assert asked.kind == 'ocrbench(cognition VQA cn)'
  published.write(tmp_path, 'video_mme')
  assert suites.load('video_mme_subtitles', str(tmp_path), 9)


def test_a_judge_is_asked_where_the_paper_asks_one(folder):
  """Exact and rule-based kinds fall back to it; deterministic ones do not."""
  kind = lambda name: suites.load(name, str(folder), 1, judged=True)[0].kind
  assert kind('ai2d') == 'choice+judge'
  assert kind('dynamath') == 'absolute(0.001)+judge'
  assert kind('video_mme') == 'choice+judge'
  assert (kind('infovqa'), kind('mmvet')) == ('anls', 'mmvet')


def test_a_complete_copy_and_an_earlier_one_have_no_or_another_note(tmp_path):
  published.write(tmp_path, 'aime26', rows=30)
  assert not suites.open_pool('aime26', str(tmp_path)).notes
  published.write_files(tmp_path / 'multichallenge',
                        text_sets.multichallenge_github(273))
  pool = suites.open_pool('multichallenge', str(tmp_path))
  assert pool.notes == ('bench:multichallenge: 273 rows, as in an earlier '
                        'revision; the newest has 266',)
  asked = pool[0]
  assert asked.text == 'Name cake 0.' and asked.subset == 'SELF_COHERENCE'
  assert [turn.role for turn in asked.turns] == ['user', 'assistant']


def test_what_is_not_on_disk_says_what_to_fetch_and_where(tmp_path):
  with pytest.raises(FileNotFoundError, match=(
      r'AIME 2025 is not on disk: fetch opencompass/AIME2025 .*put its files '
      fr'\(parquet, .*\) into {tmp_path}/aime25$')):
    suites.load('bench:aime25', str(tmp_path), 9)
  with pytest.raises(FileNotFoundError, match='frames of its videos into'):
    suites.load('bench:mmvu', str(tmp_path), 9)
  with pytest.raises(ValueError, match='eval.benchmarks must name'):
    suites.load('bench:aime25', '', 9)
  with pytest.raises(KeyError, match="'aime27' .*; known: ai2d"):
    suites.load('bench:aime27', str(tmp_path), 9)
  with pytest.raises(KeyError, match="part of bench:mmmu_pro: 'visions'; .*"
                     r'standard \(4 options\), .*vision'):
    suites.load('bench:mmmu_pro?visions', str(tmp_path), 9)
  (tmp_path / 'hle').mkdir()
  (tmp_path / 'hle' / 'train.jsonl').write_text('{}\n')
  with pytest.raises(FileNotFoundError, match='holds no file of .*, test .*; '
                     'there: train.jsonl'):
    suites.load('hle', str(tmp_path), 9)


def test_a_file_of_no_known_config_is_refused(tmp_path):
  published.write_files(tmp_path / 'video_mmmu', {'test.jsonl': File([{}])})
  with pytest.raises(ValueError, match='test.jsonl: its path does not tell '
                     'which config .*: Perception, Comprehension, Adaptation'):
    suites.load('video_mmmu', str(tmp_path), 9)


def test_another_set_of_the_repository_is_never_read(tmp_path):
  """GPQA's other files and the DocVQA beside InfographicVQA."""
  home = published.write(tmp_path, 'gpqa_diamond')
  (home / 'gpqa_diamond.csv').unlink()
  with pytest.raises(FileNotFoundError, match='no file of GPQA-Diamond, .*; '
                     'there: gpqa_experts.csv, gpqa_main.csv'):
    suites.load('gpqa_diamond', str(tmp_path), 9)
  (home / 'gpqa_main.csv').rename(home / 'mine.csv')
  assert len(suites.load('gpqa_diamond', str(tmp_path), 9)) == 2
  home = published.write(tmp_path, 'infovqa')
  shutil.rmtree(home / 'InfographicVQA')
  with pytest.raises(FileNotFoundError, match='there: DocVQA/validation-'):
    suites.load('infovqa', str(tmp_path), 9)


def test_ceval_from_its_archive(tmp_path):
  """A folder a split, a CSV a subject; the test split has no golds."""
  rows = [dict(id=str(i), question=f'{i}？', A='1', B='0', C='2', D='3',
               answer='BA'[i]) for i in range(2)]
  published.write_files(tmp_path / 'ceval', {
      'val/law_val.csv': File(rows), 'val/logic_val.csv': File(rows[:1]),
      'dev/law_dev.csv': File(rows),
      'test/law_test.csv': File([{**row, 'answer': ''} for row in rows])})
  pool = suites.open_pool('ceval', str(tmp_path))
  assert [(q.id, q.answer, q.subset) for q in pool] == [
      ('bench:ceval/law/0', 'B', 'law'), ('bench:ceval/law/1', 'A', 'law'),
      ('bench:ceval/logic/0', 'B', 'logic')]
  assert pool.notes == (
      'bench:ceval: 3 rows; the published set has 1,346',
      'bench:ceval: 2 files left out: dev/law_dev.csv, test/law_test.csv',
      'bench:ceval: 2 of 52 configs are there')


def test_other_columns_are_named(tmp_path):
  published.write_files(tmp_path / 'aime25', {
      'test.jsonl': File([{'problem': 'Find n.', 'answer': '70'}])})
  with pytest.raises(KeyError, match=(
      "no column 'question'.*problem, answer")) as e:
    suites.load('bench:aime25', str(tmp_path), 9)
  assert 'public' not in str(e.value)


@pytest.mark.parametrize('path, split, config', [
    ('accountant/val-00000-of-00001.parquet', 'val', 'accountant'),
    ('val/accountant_val.csv', 'val', 'accountant'),
    ('high_school_physics/test-00000-of-00001.parquet', 'test',
     'high_school_physics'),
    ('anatomy/test/data-00000-of-00001.arrow', 'test', 'anatomy'),
    ('json/action_sequence.json', '', 'action_sequence'),
    ('data/testmini-00000-of-00001-725687bf.parquet', 'testmini', ''),
    ('data/train-00001-of-00002.parquet', 'train', ''),
    ('testimony.jsonl', '', 'testimony'), ('a/dev.jsonl', 'dev', 'a'),
    ('aime2025-II.jsonl', '', 'aime2025-II'), ('validation.json',
                                               'validation', '')])
def test_what_a_path_tells(path, split, config):
  assert copies.split_of(pathlib.PurePath(path)) == split
  assert copies.free_config(pathlib.PurePath(path)) == config


def test_a_config_is_the_folder_above_its_split(tmp_path):
  """Converters of hubs name the files of all configs alike."""
  layouts = {
      'ceval': ('{}/val/0000.parquet', '{}/ceval-exam-val.parquet',
                '{}/0000.parquet', 'val/{}_val.csv', '{}/val/part.parquet',
                'ceval-exam/{}/val-00000-of-00001.parquet'),
      'mmlu_redux': ('{}/test/0000.parquet', '{}/test-0.parquet'),
      'aime25': ('{}/test/0000.parquet', '{}/aime2025-test.parquet'),
      'mvbench': ('{}/train/0000.parquet', 'json/{}.json')}
  for name, paths in layouts.items():
    for path in paths:
      assert [copies.free_config(pathlib.Path(path.format(config)),
                                 suites.get(name).hub)
              for config in ('accountant', 'law')] == [
                  'accountant', 'law'], path
  row = {'question': 'Which?', **dict.fromkeys('ABCD', '1'), 'answer': 'B'}
  published.write_files(tmp_path / 'ceval', {
      f'{config}/val/0000.parquet': File([row]) for config in ('law',
                                                               'accountant')})
  assert [q.id for q in suites.open_pool('bench:ceval', str(tmp_path))] == [
      'bench:ceval/accountant/0', 'bench:ceval/law/0']
