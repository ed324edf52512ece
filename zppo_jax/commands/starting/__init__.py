"""`zppo init`: a task, a config and a README of the user's own."""

import json
import pathlib
import random

from zppo_jax import allowed

_HERE = pathlib.Path(__file__).parent
_FILES = {
    'text': '',
    'pictures': '| `questions.jsonl`, `pictures/` | the questions; handwritten '
                'digits of scikit-learn |\n'}
_PROMPTS = {'text': 'C h i j 8',
            'pictures': 'C h i j" --image="pictures/8_0.png'}
_TIMES = {
    'text': 'the run takes about a minute on two cores',
    'pictures': 'the training takes about a minute on two cores (52 s were\n'
                'seen), and the run about two minutes on one core with nothing '
                'cached'}
_SCANS = 12  # pictures of each digit
# split -> (first scan, scans, questions); no scan is in two splits.
_SPLITS = {'train': (0, 9, 400), 'test': (9, 3, 64)}


def _questions() -> list[dict]:
  """Rows of questions.jsonl, half of them easy."""
  from zppo_jax.tasks import micro
  rng, rows = random.Random(0), {}
  for split, (first, scans, size) in _SPLITS.items():
    while sum(row['split'] == split for row in rows.values()) < size:
      operators = rng.choices(micro.EASY if len(rows) % 2 else micro.HARD, k=3)
      digit, scan = rng.randrange(10), first + rng.randrange(scans)
      value = digit
      for operator in operators:
        value = micro.apply_operator(operator, value)
      row = {'picture': f'pictures/{digit}_{scan}.png',
             'text': ' '.join(['C', *operators]), 'answer': str(value),
             'split': split}
      rows[row['picture'], row['text']] = row
  return list(rows.values())


def _pictures() -> dict[str, bytes]:
  """Name of a file -> a PNG of a handwritten digit."""
  import base64

  from zppo_jax.tasks import micro_pictures
  return {f'pictures/{digit}_{i}.png': base64.b64decode(picture.base64)
          for digit in range(10) for i, picture in enumerate(
              micro_pictures.scans(digit, False)[:_SCANS])}


def contents(pictures: bool) -> dict[str, bytes]:
  """The files of a new folder by relative path.

  Raises:
    ImportError: for pictures without scikit-learn, naming the extra.
  """
  kind = 'pictures' if pictures else 'text'
  files = {p.name.removesuffix('.txt'): p.read_bytes()
           for p in sorted((_HERE / kind).glob('*.txt'))}
  readme = (_HERE / 'README.md.txt').read_text()
  files['README.md'] = readme.replace('FILES\n', _FILES[kind] + '\n').replace(
      'PROMPT', _PROMPTS[kind]).replace('TIME', _TIMES[kind]).encode()
  if pictures:
    files['questions.jsonl'] = ''.join(
        json.dumps(row) + '\n' for row in _questions()).encode()
    files |= _pictures()
  return files


def main(folder: str, pictures: bool) -> list[str]:
  """Writes the files and returns their names.

  Args:
    folder: a new folder, or one without files of these names.
    pictures: whether questions show pictures.

  Raises:
    FileExistsError: for a file that is there; nothing is written.
    ImportError: as `contents`.
  """
  root = pathlib.Path(allowed.text('the folder', folder))
  files = contents(pictures)
  there = [name for name in files if (root / name).exists()]
  if there or root.is_file():
    raise FileExistsError(
        f'{root} ' + (f'holds {", ".join(there[:3])} already'
                      if there else 'is a file') + '; a new folder is needed')
  for name, content in files.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
  return list(files)
