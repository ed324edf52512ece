"""zppo data: forms, splits, columns, fits, counts by reason, and its words."""

import csv
import io
import json
import pathlib
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from ml_collections import ConfigDict
from PIL import Image
from pyarrow import parquet

from tests.data import published
from tests.data.readers import test_saved
from zppo_jax import configs, tasks
from zppo_jax.commands import data
from zppo_jax.data import contents, pool
from zppo_jax.data.contents import columns, files, text

GSM = [{'question': f'What is {i} + 4?', 'answer': f'It is\n#### {i + 4}'}
       for i in range(40)]
GSM[5]['answer'], GSM[6]['question'] = 'none', ' '


def png(side: int = 8) -> bytes:
  out = io.BytesIO()
  Image.new('RGB', (side, 2 * side)).save(out, 'PNG')
  return out.getvalue()


def write(form: str, rows: list, path) -> None:
  """Rows as a file of a form."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if form == 'jsonl':
    path.write_text('\n'.join(map(json.dumps, rows)))
  elif form == 'json':
    path.write_text(json.dumps(rows))
  elif form == 'csv':
    with open(path, 'w', newline='') as f:
      writer = csv.DictWriter(f, list(rows[0]))
      writer.writeheader()
      writer.writerows(rows)
  elif form == 'parquet':
    parquet.write_table(pa.Table.from_pylist(rows), path)
  else:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), 'wb') as sink, pa.ipc.new_stream(
        sink, table.schema) as writer:
      writer.write_table(table)


def opened(lines: list[str]) -> pool.Pool:
  """The pool of the lines of a config, as they are printed."""
  c = ConfigDict({'data': {'task': '', 'pool': {'sources': {}}}})
  exec('\n'.join(lines), {'c': c})
  assert c.data.task == 'files'
  return pool.open_pool(c.data.pool.sources.to_dict(), {})


@pytest.mark.parametrize('form', files.SUFFIXES.values())
def test_each_form_is_counted_and_its_lines_read_it(tmp_path, form):
  home = tmp_path / 'gsm8k'
  write(form, GSM, home / f'train-00000-of-00002.{form}')
  write(form, GSM[:10], home / f'train-00001-of-00002.{form}')
  write(form, GSM[:3], home / f'test.{form}')
  test, train = contents.describe(str(tmp_path)).parts
  assert [(p.part.form, p.part.split, p.rows) for p in (test, train)] == [
      (form, 'test', 3), (form, 'train', 50)]
  assert [c.name for c in train.columns] == ['question', 'answer']
  fit = train.fits[0]
  assert (fit.kind, fit.name) == ('mapping', 'gsm8k')
  of = train.counted
  assert (of.looked, of.asked, of.refused) == (50, 46, {})
  assert of.skipped == {'no #### in the answer': 2, 'no question': 2}
  assert of.kinds == {'number': 46} and not of.twice
  questions = opened(text.config_lines(train.part, fit))
  assert len(questions) == of.asked
  assert questions[0].answer == train.examples[0].gold == '4'
  assert len(opened(text.config_lines(test.part, test.fits[0]))) == 3


def test_columns_of_ones_own_and_pictures(tmp_path):
  """No mapping fits: the lines name columns, the kind and the images."""
  rows = [{'prompt': [{'role': 'user', 'content': f'<image>Which? {i}'}],
           'reward_model': {'ground_truth': 'AB'[i % 2], 'style': 'rule'},
           'shown': {'bytes': png(8 + i), 'path': None}} for i in range(30)]
  rows[3]['shown'] = {'bytes': b'no picture', 'path': None}
  write('parquet', rows, tmp_path / 'mine' / 'rows.parquet')
  (part,) = contents.describe(str(tmp_path), contents.Options(
      to=tmp_path / 'saved', show=2)).parts
  assert part.fits[0].kind == 'columns'
  lines = text.config_lines(part.part, part.fits[0])
  assert "kind='choice'" in lines[2] and "images='shown'" in lines[2]
  questions = opened(lines)
  assert [len(questions), questions[1].answer] == [30, 'B']
  first, second = part.examples
  assert first.sizes == ((8, 16),) and second.sizes == ((9, 18),)
  assert [pathlib.Path(path).read_bytes() for path in (
      *first.saved, *second.saved)] == [png(8), png(9)]
  assert first.prompt.startswith('<image>Which? 0\n\n')
  assert first.tokens is None and first.characters == len(first.prompt)
  kinds = {c.name: list(c.types) for c in part.columns}
  assert kinds['reward_model'] == ['{ground_truth: text, style: text}']
  assert kinds['shown'] == ['image PNG {bytes, path}', 'image ? {bytes, path}']


def printed(shown: str) -> list[str]:
  """The lines of a config that a text tells to use."""
  return [line.removeprefix('    ') for part in re.findall(
      r"  to use it.*\n((?:    .*\n)+?)  question", shown)
          for line in part.splitlines()]


@pytest.mark.parametrize('form', ['hf', 'parquet'])
def test_splits_of_a_data_set_are_trained_on_and_evaluated(tmp_path, form):
  """Both splits had one key, so that the test split was trained on alone."""
  home = tmp_path / 'discs'
  shards = {'test': [[f'q{i}' for i in range(4)]], 'validation': [['q5']],
            'train': [['q2', 'q0'], ['q1']]}
  for split, rows in shards.items():
    if form == 'hf':
      test_saved.write(home / split, rows)
    else:
      write(form, [{'question': q, 'answer': q[1:]} for of in rows for q in of],
            home / f'{split}-00000-of-00001.parquet')
  if form == 'hf':
    (home / 'dataset_dict.json').write_text(json.dumps({'splits': [*shards]}))
  found = contents.describe(str(tmp_path))
  assert {p.part.form for p in found.parts} == {form}
  c = configs.load('files')
  exec('\n'.join(printed(text.text(found))), {'c': c})
  paths = {name: of.path for name, of in (
      *c.data.pool.sources.items(), *c.eval.sources.items())}
  assert c.data.pool.sources.keys() == ['discs_train']
  assert c.eval.splits == ('discs_test', 'discs_validation')
  if form == 'hf':
    assert paths['discs_train'] == f'{home}:train'
    assert paths['discs_test'] == f'{home}:test'
  train = pool.open_pool(c.data.pool.sources.to_dict(), {})
  assert sorted(q.text for q in train) == ['q0', 'q1', 'q2']
  asked = tasks.splits(tasks.get('files'), c.eval, c.eval.splits)
  assert [len(asked[split]) for split in c.eval.splits] == [4, 1]
  if form == 'hf':
    (alone,) = contents.describe(f'{home}:test').parts
    assert (alone.part.path, alone.rows) == (f'{home}:test', 4)
    with pytest.raises(KeyError, match="'dev'; known: test, validation, train"):
      contents.describe(f'{home}:dev')


def test_a_saved_data_set_of_several_shards(tmp_path):
  """Its folder is the path, and caches beside its files hold no rows."""
  test_saved.write(tmp_path / '3d' / 'inner', [['q2', 'q0'], ['q1']])
  (part,) = contents.describe(str(tmp_path)).parts
  assert (part.part.form, part.rows, len(part.part.files)) == ('hf', 3, 2)
  lines = text.config_lines(part.part, part.fits[0])
  assert f"path='{tmp_path}/3d/inner'" in lines[-1]
  assert lines[-1].startswith('c.data.pool.sources.inner = ')
  assert len(opened(lines)) == 3
  (tmp_path / '3d' / 'inner' / 'data-00001-of-00002.arrow').unlink()
  with pytest.raises(ValueError, match='00001-of-00002.arrow is gone'):
    contents.describe(str(tmp_path))


def test_no_two_parts_have_a_key(tmp_path):
  for folder in ('a', 'b', '3d', 'import'):
    write('jsonl', GSM, tmp_path / folder / 'rows.jsonl')
  write('jsonl', GSM, tmp_path / '3d.jsonl')
  c = configs.load('files')
  exec('\n'.join(printed(text.text(contents.describe(str(tmp_path))))),
       {'c': c})
  assert len(c.data.pool.sources) == 5
  assert len({of.path for of in c.data.pool.sources.values()}) == 5
  assert 'of_3d' in c.data.pool.sources


def test_a_test_split_alone_is_a_source(tmp_path):
  write('jsonl', GSM, tmp_path / 'test.jsonl')
  shown = text.text(contents.describe(str(tmp_path)))
  assert 'c.data.pool.sources.' in shown and 'c.eval' not in shown


def test_lines_below_the_packaged_config_leave_nothing_of_it(tmp_path):
  """issue 21: its example source stayed, and its filter of small pictures."""
  write('jsonl', GSM, tmp_path / 'a' / 'train.jsonl')
  write('jsonl', GSM[:9], tmp_path / 'b' / 'more.jsonl')
  shown = text.text(contents.describe(str(tmp_path)))
  c = configs.load('files')
  exec('\n'.join(printed(shown)), {'c': c})
  assert c.data.pool.keys() == ['sources']
  assert set(c.data.pool.sources.keys()) == {
      text.name_of(of.part) for of in contents.describe(str(tmp_path)).parts}


@pytest.mark.parametrize('golds, kind', [
    (['circle', 'square'], 'text'), (['Yes', 'no'], 'text'),
    (['New York', 'Straße'], 'text'), (['A', '(C)'], 'choice'),
    (['a', 'b'], 'choice'), (['7', '1,000'], 'number'), (['x', 'y'], 'math'),
    (['circle', '3'], 'math'), (['x y', 'z'], 'math'),
    ([r'\\frac{1}{2}', 'two'], 'math')])
def test_the_kind_follows_the_gold_answers(tmp_path, golds, kind):
  """issue 21: single words were proposed as math."""
  write('jsonl', [{'question': f'Which? {i}', 'answer': gold}
                  for i, gold in enumerate(golds)], tmp_path / 'a.jsonl')
  (part,) = contents.describe(str(tmp_path / 'a.jsonl')).parts
  assert part.fits[0].answers == kind


def test_a_suite_by_its_name_and_refused_rows(tmp_path):
  rows = [{'question': 'Which?', 'options': ['1', '2'], 'answer': a,
           'image': {'bytes': png(), 'path': None}} for a in '0171']
  write('parquet', rows, tmp_path / 'ai2d' / 'test.parquet')
  (part,) = contents.describe(str(tmp_path)).parts
  assert (part.fits[0].kind, part.fits[0].name) == ('suite', 'ai2d')
  assert part.counted.asked == 3 and len(part.counted.refused) == 1
  assert 'row 2' in part.counted.first_refused
  assert text.config_lines(part.part, part.fits[0]) == [
      f'zppo eval --suites={tmp_path} --splits=bench:ai2d ...']
  shown = text.text(contents.describe(str(tmp_path)))
  assert '4 rows, 3 asked, 0 skipped, 1 refused' in shown
  # Suites that are asked for by name: other columns, another split.
  with pytest.raises(KeyError, match="no column 'subject'"):
    contents.describe(str(tmp_path), contents.Options(suite='mmlu'))
  with pytest.raises(FileNotFoundError, match='no file of AIME 2026, train'):
    contents.describe(str(tmp_path), contents.Options(suite='aime26'))


def test_what_is_there_beside_rows(tmp_path):
  write('jsonl', GSM, tmp_path / 'a.jsonl')
  write('jsonl', [{'messages': [{'role': 'user', 'content': 'Hi'},
                                {'role': 'assistant', 'content': 'Ho'}]}],
        tmp_path / 'chats.jsonl')
  (tmp_path / 'info.json').write_text('{"rows": 3}')
  (tmp_path / 'b.zip').write_bytes(b'PK')
  (tmp_path / 'broken.parquet').write_bytes(b'PAR1')
  (tmp_path / 'c.png').write_bytes(png())
  (tmp_path / '.cache').mkdir()
  write('jsonl', GSM, tmp_path / '.cache' / 'a.jsonl')
  found = contents.describe(str(tmp_path))
  assert found.survey.others == {'.json': 1, '.png': 1}
  assert found.survey.unread == {str(tmp_path / 'b.zip'): 'unpack it'}
  # Files of other columns are another part.
  assert [(p.part.files, p.rows, bool(p.error)) for p in found.parts] == [
      ((str(tmp_path / 'a.jsonl'),), 40, False),
      ((str(tmp_path / 'chats.jsonl'),), 1, False),
      ((str(tmp_path / 'broken.parquet'),), 0, True)]
  assert 'cannot be read' in text.text(found)
  (chats,) = contents.describe(str(tmp_path / 'chats.jsonl')).parts
  assert chats.fits[0].kind == 'conversations' and chats.counted is None
  assert text.config_lines(chats.part, chats.fits[0])[0].startswith(
      'c.data.sources.chats = dict(')
  limited = contents.describe(str(tmp_path / 'a.jsonl'),
                              contents.Options(rows=7)).parts[0]
  assert (limited.rows, limited.counted.looked) == (40, 7)


@pytest.mark.parametrize('made, match', [
    ((), 'no file or folder'), (('x/a.zip',), r'holds no rows: .*a\.zip: unp'),
    (('x/a.txt',), r'holds no rows: .*1 \.txt'),
    (('x/a.parquet',), 'no parquet file that can be read')])
def test_folders_without_rows_are_refused(tmp_path, made, match):
  for name in made:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b'')
  with pytest.raises((ValueError, FileNotFoundError), match=match):
    contents.describe(str(tmp_path / 'x'))


@pytest.mark.parametrize('fields, match', [
    (dict(mapping='a', suite='b'), 'name one of them'),
    (dict(mapping='gsm9k'), 'gsm8k'), (dict(suite='aime27'), 'aime26'),
    (dict(rows=-1), 'rows is -1'), (dict(show=-1), 'show is -1')])
def test_options_without_meaning_are_refused(fields, match):
  with pytest.raises((KeyError, ValueError), match=match):
    contents.Options(**fields)


@pytest.mark.parametrize('value, kind', [
    (None, 'null'), (True, 'true/false'), (7, 'whole number'),
    (0.5, 'number'), ('a', 'text'), (b'a', 'bytes'), ([], 'empty list'),
    ([1, 'a'], 'list of whole number or text'), ('a/b.PNG', 'image path'),
    ({'a': {'b': {'c': {}}}}, '{a: {b: struct}}'),
    ([{'bytes': png(), 'path': None}], 'list of image PNG {bytes, path}'),
    ('data:image/png;base64,AAAA', 'image data: URI'),
    ({'bytes': None, 'path': None}, '{bytes: null, path: null}')])
def test_types(value, kind):
  assert columns.type_of(value) == kind


@pytest.mark.parametrize('name, split', [
    ('train-00000-of-00070.parquet', 'train'), ('a/test.jsonl', 'test'),
    ('validation/0.parquet', 'validation'), ('trainer.json', ''),
    ('data/sample_variant10-00000-of-00001.parquet', 'sample_variant10'),
    ('testmini.parquet', 'testmini'), ('rows_val.csv', 'val'),
    ('latest.csv', '')])
def test_splits(tmp_path, name, split):
  assert files.split_of(tmp_path / name, tmp_path) == split


def test_the_command_starts_without_jax_and_prints_json(tmp_path):
  write('jsonl', GSM, tmp_path / 'train.jsonl')
  (found,) = json.loads(data.main([str(tmp_path)], as_json=True))
  assert found['parts'][0]['counted']['asked'] == 38
  code = (f'import sys; from zppo_jax import main; main.main(["data", '
          f'{str(tmp_path)!r}]); sys.exit("jax" in sys.modules)')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True)
  assert done.returncode == 0 and '40 rows, 38 asked' in done.stdout


def test_splits_of_a_tfds_builder(tmp_path):
  pytest.importorskip('tensorflow_datasets')
  from zppo_jax.tasks import micro_tfds
  micro_tfds.prepare(tmp_path, micro_tfds.MicroConfig(pool_size=8, eval_size=4))
  found = contents.describe(str(tmp_path))
  by_split = {of.part.split: of for of in found.parts}
  assert set(by_split) == set(micro_tfds.SPLITS)
  train = by_split['train']
  assert (train.part.form, train.rows) == ('tfds', 8)
  assert train.fits[0].columns == {
      'text': 'text', 'answer': 'answer', 'id': 'id'}
  lines = text.config_lines(train.part, train.fits[0])
  assert len(opened(lines)) == 8
  (alone,) = contents.describe(train.part.files[0]).parts
  assert (alone.rows, alone.part.split) == (8, 'train')
  with pytest.raises(FileNotFoundError, match='no file or folder'):
    contents.describe(str(tmp_path / 'none:train'))


def test_a_name_in_the_path_counts_more_than_the_share_of_rows(tmp_path):
  """Else what asks at least half of the rows comes first."""
  rows = [{'question': 'Q?', 'answer': '#### 7' if i == 3 else '7'}
          for i in range(10)]
  best = {}
  for name in ('gsm8k', 'x'):
    write('jsonl', rows, tmp_path / name / 'a.jsonl')
    best[name] = contents.describe(str(tmp_path / name)).parts[0].fits[0].name
  assert best == {'gsm8k': 'gsm8k', 'x': 'columns'}


def test_the_general_way_comes_before_a_set_of_the_same_columns(tmp_path):
  """`images`, `problem`, `answer` were taken for Geometry3K, anyone's."""
  image = {'bytes': png(), 'path': None}
  rows = [{'images': [image], 'problem': f'<image>Find {i}.', 'answer': 'x'}
          for i in range(3)]
  for name, best, rest in (('x', 'columns', 'mapping geometry3k'),
                           ('geometry3k', 'geometry3k', 'columns')):
    write('parquet', rows, tmp_path / name / 'a.parquet')
    found = contents.describe(str(tmp_path / name))
    assert [fit.name for fit in found.parts[0].fits][0] == best
    shown = text.text(found)
    assert rest in re.search('  fits: (.*)', shown)[1]
    assert 'read as columns' in shown or best != 'columns'
    assert len(opened(text.config_lines(
        found.parts[0].part, found.parts[0].fits[0]))[0].media) == 1
  # GSM8K's mapping takes the number out of the answer, which columns do not.
  write('jsonl', GSM, tmp_path / 'y' / 'a.jsonl')
  (part,) = contents.describe(str(tmp_path / 'y')).parts
  assert part.fits[0].name == 'gsm8k'


def test_rows_of_several_questions_are_said_to_be_that(tmp_path):
  """A chart of CharXiv made `15 rows (the first; 3 in all, --rows)`."""
  published.write(tmp_path, 'charxiv', rows=15)
  (part,) = [of for of in contents.describe(
      str(tmp_path), contents.Options(rows=7)).parts if of.counted]
  assert (part.rows, part.counted.looked, part.counted.all) == (3, 7, 15)
  assert ('read as suite charxiv: 7 questions of 3 rows (the first; 15 in all, '
          '--rows), 7 asked') in text.text(contents.describe(
              str(tmp_path), contents.Options(rows=7)))
  assert 'charxiv: 15 questions of 3 rows, 15 asked' in text.text(
      contents.describe(str(tmp_path)))


def test_pictures_of_several_paths_lie_apart(tmp_path):
  for side in (8, 9):
    write('parquet', [{'question': 'Q?', 'answer': '7', 'shown': {
        'bytes': png(side), 'path': None}}], tmp_path / f'{side}.parquet')
  data.main([str(tmp_path / f'{side}.parquet') for side in (8, 9)],
            to=str(tmp_path / 'look'))
  saved = sorted((tmp_path / 'look').rglob('*.png'))
  assert [path.read_bytes() for path in saved] == [png(8), png(9)]


def test_a_models_chat_counts_the_tokens_of_a_prompt(tmp_path):
  from tests.hub_builders import tokenizer, write as write_model
  write('jsonl', GSM, tmp_path / 'gsm8k.jsonl')
  model = write_model(tmp_path / 'model')
  (found,) = json.loads(data.main([str(tmp_path / 'gsm8k.jsonl')],
                                  model=model, as_json=True))
  (example,) = found['parts'][0]['examples']
  assert example['prompt'].startswith('<|im_start|>user')
  assert example['tokens'] == len(tokenizer().encode(
      example['prompt'], add_special_tokens=False))
  for wrong, match in (('none', 'neither a checkpoint'), (
      str(tmp_path), 'cannot|no ')):
    with pytest.raises((FileNotFoundError, ValueError), match=match):
      data.main([str(tmp_path / 'gsm8k.jsonl')], model=wrong)


def test_a_text_that_a_set_asks_once_is_counted_once(tmp_path):
  """A run skips the others, and they were counted as asked."""
  rows = [{'prompt': f'What is {i % 2} + 4?', 'solution': str(i % 2 + 4),
           'data_source': 'd'} for i in range(10)]
  write('jsonl', rows, tmp_path / 'dapo_math_processed' / 'train.jsonl')
  (part,) = contents.describe(str(tmp_path)).parts
  assert part.fits[0].name == 'dapo_math_processed'
  assert (part.counted.looked, part.counted.asked) == (10, 2)
  assert part.counted.skipped == {'a repeated text': 8}
  assert len(opened(text.config_lines(part.part, part.fits[0]))) == 2


@pytest.mark.parametrize('words, hf, tfds', [
    ('{"splits": [', 'JSONDecodeError', 'JSONDecodeError'),
    ('[' * 100_000, 'RecursionError', 'RecursionError'),
    ('[]', 'TypeError', 'TypeError'),
    ('{"splits": 5}', 'must be a list of names', 'TypeError'),
    ('{"splits": [7]}', 'must be a list of names', 'TypeError')])
def test_a_damaged_description_hides_no_other_file(tmp_path, words, hf, tfds):
  """It ended `zppo data` for the whole folder."""
  (tmp_path / 'rows.jsonl').write_text('{"question": "q", "answer": "1"}\n')
  for name, described in (
      ('saved', ['dataset_dict.json']),
      ('built', ['dataset_info.json', 'features.json'])):
    (tmp_path / name).mkdir()
    for file in described:
      (tmp_path / name / file).write_text(words)
  found = {p.part.form: p for p in contents.describe(str(tmp_path)).parts}
  assert found.keys() == {'hf', 'tfds', 'jsonl'} and found['jsonl'].rows == 1
  shown = text.text(contents.describe(str(tmp_path)))
  assert re.search(rf'dataset_dict\.json is not readable: .*{hf}', shown)
  assert re.search(rf'dataset_info\.json lists no splits: .*{tfds}', shown)
