"""`zppo init`: a task, a config and a README of the user's own.

  text       a task of my own in the vocabulary of the package's small models
  pictures   the same with pictures
  files      no code: JSONL or Parquet with any text and pictures, and a small
             model of random numbers that reads them
"""

import io
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


def _squares(count: int, rng: random.Random) -> bytes:
  """A PNG of so many squares."""
  from PIL import Image, ImageDraw
  image = Image.new('RGB', (96, 96), 'white')
  draw = ImageDraw.Draw(image)
  for place in rng.sample(range(9), count):
    x, y = 32 * (place % 3) + 6, 32 * (place // 3) + 6
    draw.rectangle((x, y, x + 20, y + 20), fill=rng.choice(
        ('red', 'green', 'blue', 'black')))
  out = io.BytesIO()
  image.save(out, 'PNG')
  return out.getvalue()


def _counted() -> dict[str, bytes]:
  """The example of `files`: how many squares a picture shows."""
  rng, files = random.Random(0), dict[str, bytes]()
  for split, size in (('train', 48), ('test', 16)):
    lines = []
    for i in range(size):
      picture, count = f'pictures/{split}_{i:02d}.png', rng.randint(1, 9)
      files[f'data/{picture}'] = _squares(count, rng)
      lines.append(json.dumps({
          'question': f'How many squares does picture {i} show?',
          'answer': str(count), 'picture': picture}) + '\n')
    files[f'data/{split}.jsonl'] = ''.join(lines).encode()
  return files


def contents(kind: str) -> dict[str, bytes]:
  """The files of a new folder by relative path.

  Args:
    kind: 'text', 'pictures' or 'files'.

  Raises:
    ImportError: for pictures without scikit-learn, naming the extra.
  """
  files = {p.name.removesuffix('.txt'): p.read_bytes()
           for p in sorted((_HERE / kind).glob('*.txt'))}
  if kind == 'files':
    from zppo_jax.commands.starting import random_model
    return files | _counted() | {f'model/{name}': content for name, content in
                                 random_model.files().items()}
  readme = (_HERE / 'README.md.txt').read_text()
  files['README.md'] = readme.replace('FILES\n', _FILES[kind] + '\n').replace(
      'PROMPT', _PROMPTS[kind]).replace('TIME', _TIMES[kind]).encode()
  if kind == 'pictures':
    files['questions.jsonl'] = ''.join(
        json.dumps(row) + '\n' for row in _questions()).encode()
    files |= _pictures()
  return files


def main(folder: str, kind: str) -> list[str]:
  """Writes the files and returns their names.

  Args:
    folder: a new folder, or one without files of these names.
    kind: as of `contents`.

  Raises:
    FileExistsError: for a file that is there; nothing is written.
    ImportError: as `contents`.
  """
  root = pathlib.Path(allowed.text('the folder', folder))
  files = contents(kind)
  there = [name for name in files if (root / name).exists()]
  if there or root.is_file():
    raise FileExistsError(
        f'{root} ' + (f'holds {", ".join(there[:3])} already'
                      if there else 'is a file') + '; a new folder is needed')
  for name, content in files.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
  return list(files)
