"""Whether lm-eval and this library give the same answers the same verdict.

  python -m benchmarks.lm_eval_agreement --lm-eval=BIN --to=FILE.json

BIN is lm_eval 0.4 in an environment of its own (docs/evaluation.md). Questions
of our own in the schemas of GSM8K and MMLU-Pro are asked by lm-eval's own tasks
gsm8k and mmlu_pro_math, which read them from local files and score by their own
rules. A server of this process answers with texts that hold an answer in the
form of either library: `#### 12` and `\\boxed{12}`, `the answer is (C)` and
`\\boxed{C}`, right, wrong, spelled in several ways, or none. The texts that
lm-eval logged are then graded here, and both verdicts are compared one by one.
"""

import argparse
import collections
import contextlib
import http.server
import json
import os
import pathlib
import random
import subprocess
import tempfile
import threading
from collections.abc import Iterator

from zppo_jax.data import mappings, suites
from zppo_jax.study.launch import machine
from zppo_jax.verdicts import kinds
from zppo_jax.verdicts.kinds import boxed

SHOTS = 5
TIMEOUT_S = 1800
# Our name -> (folder of the YAML of lm-eval's task, its file).
TASKS = {'gsm8k': ('gsm8k', 'gsm8k.yaml'),
         'mmlu_pro': ('mmlu_pro', 'mmlu_pro_math.yaml')}
# How a number is written -> what both should read; None: texts that hold none.
SPELLINGS = {
    'plain': lambda n: str(n), 'thousands': lambda n: f'{n:,}',
    'dollar': lambda n: f'${n:,}', 'decimal': lambda n: f'{n}.0',
    'full stop': lambda n: f'{n}.', 'none': None}
LETTERS = 'ABCDEFGHIJ'


def gsm8k_rows(count: int, rng: random.Random) -> list[dict]:
  """Sums of our own in GSM8K's columns, some negative, some over 999."""
  rows = []
  for i in range(count):
    a, b = rng.randrange(2, 4000), rng.randrange(2, 900)
    total = a - b if i % 3 else a + b
    sign, word = ('-', 'gives away') if i % 3 else ('+', 'buys')
    rows.append({
        'question': f'Box {i} holds {a} pears. Ann {word} {b} of them. How '
                    'many pears are there now?',
        'answer': f'{a} {sign} {b} = <<{a}{sign}{b}={total}>>{total}.\n'
                  f'#### {total:,}'})
  return rows


def mmlu_pro_rows(count: int, rng: random.Random) -> list[dict]:
  """Questions of our own in MMLU-Pro's columns, of 3 to 10 options."""
  rows = []
  for i in range(count):
    size, a = 3 + i % 8, rng.randrange(3, 50)
    at = rng.randrange(size)
    options = [str(a * a + k - at) for k in range(size)]
    rows.append({
        'question_id': i, 'question': f'In case {i}, what is {a} squared?',
        'options': options, 'answer': LETTERS[at], 'answer_index': at,
        'cot_content': "A: Let's think step by step. The answer is "
                       f'({LETTERS[at]}).', 'category': 'math', 'src': 'own'})
  return rows


def gsm8k_text(row: dict, spelling: str, right: bool) -> str:
  """A response with the number as both libraries read it."""
  write = SPELLINGS[spelling]
  number = int(row['answer'].rpartition('#### ')[2].replace(',', ''))
  if write is None:
    return 'I do not know.'
  said = write(number if right else number + 1)
  return f'So \\boxed{{{said}}}\n#### {said}'


def mmlu_pro_text(row: dict, spelling: str, right: bool) -> str:
  """A response with the letter as both libraries read it."""
  if spelling == 'none':
    return 'I do not know.'
  at = row['answer_index']
  letter = LETTERS[at if right else (at + 1) % len(row['options'])]
  shown = {'plain': letter, 'thousands': f'({letter})', 'dollar': f'{letter}.',
           'decimal': f'{letter}:', 'full stop': f'{letter})'}[spelling]
  return f'The answer is {shown}: the answer is ({letter}). \\boxed{{{shown}}}'


MADE = {'gsm8k': (gsm8k_rows, gsm8k_text),
        'mmlu_pro': (mmlu_pro_rows, mmlu_pro_text)}


@contextlib.contextmanager
def answering(texts: dict[str, str]) -> Iterator[str]:
  """The address of a server of completions; it finds the last question of a
  prompt by its words, and says its text."""
  class Handler(http.server.BaseHTTPRequestHandler):
    """Answers POST /v1/completions."""

    def do_POST(self):  # noqa: N802
      body = json.loads(self.rfile.read(int(self.headers['content-length'])))
      prompts = body['prompt']
      prompts = [prompts] if isinstance(prompts, str) else prompts
      last = [max(texts, key=prompt.rfind) for prompt in prompts]
      reply = json.dumps({'choices': [
          {'index': i, 'text': texts[question], 'finish_reason': 'stop'}
          for i, question in enumerate(last)]}).encode()
      self.send_response(200)
      self.send_header('content-type', 'application/json')
      self.send_header('content-length', str(len(reply)))
      self.end_headers()
      self.wfile.write(reply)

    def log_message(self, *args):
      del args

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/v1/completions'
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def installed(command: str, code: str) -> str:
  """What Python prints in the environment of lm-eval."""
  python = pathlib.Path(command).parent / 'python'
  return subprocess.run([str(python), '-c', code], capture_output=True,
                        text=True, check=True).stdout.strip()


def ask(command: str, name: str, rows: list[dict], url: str,
        folder: pathlib.Path) -> list[dict]:
  """lm-eval's samples of one of its tasks on our rows.

  Args:
    command: lm_eval.
    name: in TASKS.
    rows: the first SHOTS of them are its examples, the others are asked.
    url: of completions.
    folder: for files.
  """
  home = installed(command, 'import lm_eval; print(lm_eval.__path__[0])')
  shots, asked = folder / f'{name}_shots.json', folder / f'{name}.json'
  for file, part in ((shots, rows[:SHOTS]), (asked, rows[SHOTS:])):
    file.write_text('\n'.join(map(json.dumps, part)))
  split = 'train' if name == 'gsm8k' else 'validation'
  own = folder / f'own_{name}.yaml'
  own.write_text('\n'.join([
      f'include: {home}/tasks/{"/".join(TASKS[name])}', f'task: own_{name}',
      'dataset_path: json', 'dataset_name: null', 'dataset_kwargs:',
      '  data_files:', f'    {split}: {shots}', f'    test: {asked}']) + '\n')
  subprocess.run(
      [command, '--model', 'local-completions', '--tasks', f'own_{name}',
       '--include_path', str(folder), '--log_samples', '--output_path',
       str(folder / name), '--model_args',
       f'model=m,base_url={url},num_concurrent=4,'
       'tokenized_requests=False,tokenizer_backend=None'],
      check=True, timeout=TIMEOUT_S, env={
          **os.environ, 'HF_HUB_OFFLINE': '1',
          'HF_DATASETS_CACHE': str(folder / 'cache')},
      stdout=subprocess.DEVNULL)
  (log,) = (folder / name).rglob(f'samples_own_{name}_*.jsonl')
  return [json.loads(line) for line in log.read_text().splitlines()]


def ours(name: str, row: dict, text: str) -> tuple[str, float]:
  """(parsed answer, score) of a response by this library."""
  if name == 'gsm8k':
    words = mappings.get('gsm8k').read(row)
  else:
    words = suites.get('mmlu_pro').read({**row, '#config': '', '#row': 0,
                                         '#variant': '', '#home': ''})
  answer = boxed.last(text)
  return answer, kinds.get(words.kind).mark(answer, words.answer) if (
      answer) else 0.0


def compare(name: str, rows: list[dict], samples: list[dict]) -> dict:
  """Both verdicts of each response, by lm-eval's filter."""
  by_question = {row['question']: row for row in rows}
  out: dict[str, dict] = {}
  for sample in samples:
    of = out.setdefault(sample['filter'], {
        'responses': 0, 'both_read': 0, 'agree': 0, 'lm_eval': 0.0,
        'ours': 0.0, 'differences': []})
    (text,) = sample['resps'][0]
    row = by_question[sample['doc']['question']]
    answer, score = ours(name, row, text)
    (theirs,) = sample['filtered_resps']
    both = bool(answer) and theirs != '[invalid]'
    of['responses'] += 1
    of['lm_eval'] += sample['exact_match']
    of['ours'] += score
    of['both_read'] += both
    of['agree'] += both and sample['exact_match'] == score
    if both and sample['exact_match'] != score:
      of['differences'].append({
          'gold': row['answer'].rpartition('#### ')[2], 'lm_eval_read': theirs,
          'lm_eval': sample['exact_match'], 'we_read': answer, 'ours': score})
  return out


def measure(flags, folder: pathlib.Path) -> dict:
  """The comparison of each task."""
  out = {}
  for name, (make, write) in MADE.items():
    rng = random.Random(f'{flags.seed} {name}')
    rows = make(flags.count + SHOTS, rng)
    forms = list(SPELLINGS)
    chosen = {row['question']: (forms[i % len(forms)],
                                bool(i // len(forms) % 2))
              for i, row in enumerate(rows)}
    texts = {row['question']: write(row, *chosen[row['question']])
             for row in rows}
    with answering(texts) as url:
      samples = ask(flags.lm_eval, name, rows, url, folder)
    out[name] = compare(name, rows, samples)
    for of in out[name].values():
      of['forms'] = collections.Counter(
          form for form, _ in list(chosen.values())[SHOTS:])
  return out


def main(argv: list[str] | None = None) -> dict:
  """Prints the comparison, or adds it to the JSON of --to."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--lm-eval', required=True)
  parser.add_argument('--count', type=int, default=48)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--to', type=pathlib.Path)
  flags = parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as folder:
    found = measure(flags, pathlib.Path(folder))
  out = {'command': 'python -m benchmarks.lm_eval_agreement --lm-eval=BIN '
                    f'--count={flags.count} --seed={flags.seed}',
         'seed': flags.seed, 'machine': machine(), 'lm_eval': installed(
             flags.lm_eval, 'from importlib.metadata import version; '
                            'print(version("lm_eval"))'), 'tasks': found}
  print(json.dumps(out, indent=1))
  if flags.to:
    whole = json.loads(flags.to.read_text()) if flags.to.is_file() else {}
    flags.to.write_text(json.dumps({**whole, 'agreement': out}, indent=1)
                        + '\n')
  return out


if __name__ == '__main__':
  main()
