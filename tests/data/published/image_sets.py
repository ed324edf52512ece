"""Sets of pictures in their published schema; every value is invented.

Golds are made so that each trap of a schema is met by the first rows: numbers
as options, options that are letters, nulls, ids that repeat.
"""

from collections.abc import Callable

import pyarrow as pa

from tests.data.published.forms import IMAGE, TEXTS, File, image, shared

COLOURS = ['red', 'blue', 'green', 'grey']


def _parquet(path, rows, **types):
  return {path: File(rows, {'image': IMAGE, **types})}


def ai2d(n):
  """The answer is a place from 0 as digits; options may be numbers."""
  return _parquet('data/test-00000-of-00001.parquet', [dict(
      question=f'How many arrows are in diagram {i}?',
      options=['1', '2', '3', '4'] if i % 2 == 0 else COLOURS,
      answer=str((i + 2) % 4), image=image(i)) for i in range(n)])


def babyvision(n):
  rows = []
  for i in range(n):
    blank = i % 2 == 1
    rows.append(dict(
        taskId=i, type='Visual Tracking', subtype='Maze', image=image(i),
        question=f'Which line of {i} ends at the star?',
        ansType='blank' if blank else 'choice',
        options=[] if blank else ['1', '0', '2', '3'],
        choiceAns=None if blank else (i + 1) % 4,
        blankAns=f'({i},7)' if blank else None, coT='We follow the line.'))
  return _parquet('data/train-00000-of-00001.parquet', rows,
                  choiceAns=pa.int64(), blankAns=pa.string(), options=TEXTS)


def charxiv(n):
  """One chart holds five questions; the test split has no answers."""
  def rows(count, answers):
    return [dict(
        image=image(i), category='cs', year='20', original_id=f'2001.{i}',
        figure_path=f'images/{i}.jpg', num_subplots=1 + i % 2,
        subplot_row=i % 2, subplot_col=i % 2, subplot_loc=None,
        **{f'descriptive_q{k}': (1, 12, 18, 17)[k - 1] for k in range(1, 5)},
        **{f'descriptive_a{k}': answers and ('Not Applicable', '3', '2 by 2',
                                             '11')[k - 1]
           for k in range(1, 5)},
        reasoning_q=f'Which line of chart {i} is the highest?',
        reasoning_q_source=1, reasoning_a=answers and '0.25',
        reasoning_a_type=4) for i in range(count)]
  types = dict(subplot_loc=pa.string(), reasoning_a=pa.string(), **{
      f'descriptive_a{k}': pa.string() for k in range(1, 5)})
  return {**_parquet('val.parquet', rows(shared(n, 5), True), **types),
          **_parquet('test.parquet', rows(2, None), **types)}


def dynamath(n):
  """Ten variants of each seed, a file each."""
  kinds = (('float', '2.5'), ('multiple choice', 'B'), ('text', 'a parabola'))
  out = {}
  for variant in range(1, 11):
    out |= _parquet(
        f'data/sample_variant{variant}-00000-of-00001.parquet', [dict(
            id=str(i), image=f'images/Q{i}.png', decoded_image=image(variant),
            question=f'Seed {i}, variant {variant}: what is f?\nA: 1\nB: 2',
            answer_type=kinds[i % 3][0], ground_truth=kinds[i % 3][1],
            subject='algebra', knowledge_level='high school')
            for i in range(shared(n, 10))],
            decoded_image=IMAGE, image=pa.string())
  return out


def embspatial(n):
  return _parquet('data/test-00000-of-00001.parquet', [dict(
      question_id=f'mp3d_{i}', question=f'What is left of chair {i}?',
      answer_options=COLOURS, answer=(i + 1) % 4, relation='left',
      data_source='mp3d', image=image(i)) for i in range(n)])


def infovqa(n):
  """DocVQA lies beside it in the same repository."""
  def rows(count, answers):
    return [dict(
        questionId=str(60_000 + i), question=f'How tall is tower {i}?',
        answers=answers, answer_type=['single span'], image=image(i),
        image_url=f'http://x.invalid/{i}', ocr='{}',
        **{'operation/reasoning': []}) for i in range(count)]
  types = {'operation/reasoning': TEXTS, 'answers': TEXTS}
  return {
      **_parquet('InfographicVQA/validation-00000-of-00001.parquet',
                 rows(n, ['90 metres', '90 m']), **types),
      **_parquet('InfographicVQA/test-00000-of-00001.parquet',
                 rows(2, None), **types),
      **_parquet('DocVQA/validation-00000-of-00001.parquet',
                 rows(2, ['7']), **types)}


def mathverse(n):
  """Vision Only has no question; six files beside it repeat its rows."""
  versions = ('Vision Only', 'Text Dominant', 'Text Lite', 'Vision Intensive')
  rows = []
  for i in range(n):
    version = versions[i % 4]
    free = i % 3 == 2
    rows.append(dict(
        sample_index=str(i + 1), problem_index=str(i // 5 + 1),
        problem_version=version, answer='5' if free else 'B', image=image(i),
        question='' if version == 'Vision Only' else
        f'Angle {i} is?\nChoices:\nA: 30\nB: 60',
        question_type='free-form' if free else 'multi-choice',
        metadata={'split': 'testmini', 'source': 'x'}, query_wo='Do it.',
        query_cot='Do it.', question_for_eval=f'Angle {i} is?'))
  return {**_parquet('testmini.parquet', rows),
          'testmini_text_only.parquet': File(
              [{**rows[-1], 'image': '', 'extra': 1}]),
          **_parquet('testmini_version_split.parquet', rows)}


def mathvision(n):
  """Options that are letters; several names for parts of one picture."""
  rows = [dict(
      id=str(i + 1), question=f'<image1> Which of <image2> fits shape {i}?',
      options=['B', 'A', 'AB', 'O'] if i % 2 == 0 else [], level=2,
      image=f'images/{i}.jpg', decoded_image=image(i), solution=None,
      answer='B' if i % 2 == 0 else '\\frac{1}{2}', subject='algebra')
      for i in range(n)]
  types = dict(decoded_image=IMAGE, image=pa.string(), options=TEXTS,
               solution=pa.string())
  return {**_parquet('data/test-00000-of-00001.parquet', rows, **types),
          **_parquet('data/testmini-00000-of-00001.parquet', rows[:1],
                     **types)}


def mathvista(n):
  """Choices by their text, floats with a precision, lists, units."""
  forms = (dict(question_type='multi_choice', answer_type='text',
                choices=COLOURS, precision=None, answer='blue', unit=None),
           dict(question_type='free_form', answer_type='float', choices=None,
                precision=1.0, answer='1.4', unit='metres'),
           dict(question_type='free_form', answer_type='list', choices=None,
                precision=None, answer='[0, 2]', unit=None),
           dict(question_type='free_form', answer_type='integer', choices=None,
                precision=None, answer='7', unit='people'),
           dict(question_type='free_form', answer_type='text', choices=None,
                precision=None, answer='Yes', unit=None))
  return _parquet('data/testmini-00000-of-00001-725687bf.parquet', [dict(
      pid=str(i + 1), question=f'What is bar {i}?', image=f'images/{i}.jpg',
      decoded_image=image(i), metadata={'category': 'x', 'grade': 'y'},
      query='Hint: ...', **forms[i % 5]) for i in range(n)],
      decoded_image=IMAGE, image=pa.string(), choices=TEXTS,
      precision=pa.float64(),
      unit=pa.string())


def mmmu_pro(n):
  """The standard configs hold the same questions; options hold pictures."""
  def row(i, options, **more):
    return dict(id=f'test_History_{i}', options=options, answer='B',
                subject='History', topic_difficulty='Easy', **more)
  pictures = {f'image_{k}': IMAGE for k in range(1, 8)}
  out = {}
  for config, options in (
      ('standard (4 options)', "['<image 2>', 'A town', 'C', 'D']"),
      ('standard (10 options)', str(['<image 2>', 'A town', *'CDEFGHIJ']))):
    out |= _parquet(f'{config}/test-00000-of-00001.parquet', [row(
        i, options, question=f'Compare map {i}, <image 1>, with <image 2>.',
        explanation='', img_type="['Maps']", **{
            f'image_{k}': image(10 * i + k) if k < 3 else None
            for k in range(1, 8)}) for i in range(shared(n, 3))], **pictures)
  return {**out, **_parquet('vision/test-00000-of-00001.parquet', [row(
      i, "['A farm', 'A town', 'C', 'D']", image=image(i))
      for i in range(shared(n, 3))])}


def mmvet(n):
  return _parquet('data/test-00000-of-00001.parquet', [dict(
      question_id=f'v1_{i}', image=image(i), question=f'What is on plate {i}?',
      answer='tea<AND>bread<OR>cake', image_source='x',
      capability=['rec', 'ocr']) for i in range(n)])


OCR = (
    dict(type='text recognition en', answers=['EXIT'], eval=None),
    dict(type='cognition VQA en', answers=['B'], eval='multiple choice'),
    dict(type='text recognition en', answers=[], eval=None),
    dict(type='full-page OCR en', answers=['A page of words.'], eval=None),
    dict(type='cognition VQA cn', answers=['出口'], eval=None),
    dict(type='key information extraction cn', answers=['{"年": "1990"}'],
         eval=None),
    dict(type='full-page OCR cn', answers=['一页'], eval=None))


def ocrbench(n):
  """Both languages in one file; a row without answers; rows whose metric is
  not built."""
  rows = [dict(
      id=i, dataset_name='x', question=f'Read sign {i}.', image=image(i),
      bbox=None, bbox_list=None, content=None, **OCR[i % len(OCR)])
      for i in range(max(n, len(OCR)))]
  return _parquet('data/test-00000-of-00001.parquet', rows, answers=TEXTS,
                  bbox=pa.list_(pa.int64()), eval=pa.string(),
                  bbox_list=pa.list_(pa.list_(pa.int64())),
                  content=TEXTS)


def visualpuzzles(n):
  """Options are in the picture where the file has none."""
  return _parquet('data.parquet', [dict(
      id=i, category='Spatial', image=image(i), answer='C',
      question=f'Which tile follows tile {i}?',
      options=None if i % 2 == 1 else ['one', 'two', 'three', 'four'])
      for i in range(n)], options=TEXTS)


def vlmsareblind(n):
  forms = (('Counting Grid - Blank Grids', '5,6'),
           ('Touching Circles', 'No'), ('Circled Letter', 'o'))
  return _parquet('data/valid-00000-of-00001.parquet', [dict(
      task=forms[i % 3][0], image=image(i), groundtruth=forms[i % 3][1],
      prompt=f'Look at figure {i}. Write it in braces, e.g. {{x}}.',
      metadata='{}') for i in range(n)])


def wemath(n):
  """`ID` names a group of questions; `key` tells them apart."""
  keys = ('2steps_1', '2steps_2', '2steps_multi')
  return {'testmini.parquet': File([{
      'ID': str(7 + i // 3), 'split': 'testmini', 'key': keys[i % 3],
      'knowledge concept': 'Angles', 'question': f'How wide is angle {i}?',
      'option': 'A. 30; B. 60; C. 90; D. 120; E. No correct answer',
      'answer': 'B', 'image_path': image(i), 'question number': i,
      'knowledge concept description': 'x'} for i in range(n)],
      {'image_path': IMAGE})}


SETS: dict[str, Callable[[int], dict[str, File]]] = {
    'ai2d': ai2d, 'babyvision': babyvision, 'charxiv': charxiv,
    'dynamath': dynamath, 'embspatial': embspatial, 'infovqa': infovqa,
    'mathverse': mathverse, 'mathvision': mathvision, 'mathvista': mathvista,
    'mmmu_pro': mmmu_pro, 'mmvet': mmvet, 'ocrbench_en': ocrbench,
    'ocrbench_zh': ocrbench, 'visualpuzzles': visualpuzzles,
    'vlmsareblind': vlmsareblind, 'wemath': wemath}
