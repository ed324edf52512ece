"""Sets of text in their published schema, as image_sets.py."""

import base64
from collections.abc import Callable

import pyarrow as pa

from tests.data.published.forms import TEXTS, File, png, shared


def aime25(n):
  """A file of two has a gold in degrees."""
  return {f'{name}.jsonl': File([dict(
      question=f'Find the {i}th {what} n.',
      answer=f'{70 + i}' + '^\\circ' * (what == 'largest' and i == 1))
      for i in range(shared(n, 2))])
      for name, what in (('aime2025-I', 'least'), ('aime2025-II', 'largest'))}


def aime26(n):
  return {'data/train-00000-of-00001.parquet': File([dict(
      problem_idx=i + 1, problem=f'How many tilings has board {i}?',
      answer=100 + i) for i in range(n)])}


def ceval(n):
  """Only `val` has both a gold and our interest: `test` has none."""
  def rows(count, answer, start=0):
    return [dict(
        id=i, question=f'第{start + i}题？', A='1', B='2', C='3', D='4',
        answer=answer, explanation='') for i in range(count)]
  out = {}
  for k, subject in enumerate(('accountant', 'high_school_physics', 'law')):
    for split, count, answer in (('dev', 1, 'A'), ('test', 2, ''),
                                 ('val', shared(n, 3), 'B')):
      out[f'{subject}/{split}-00000-of-00001.parquet'] = File(
          rows(count, answer, 10 * k))
  return out


def gpqa(n):
  """CSV with more columns than are read, line breaks in its cells."""
  def rows(of, count):
    return [{
        'Record ID': f'rec{i}', 'Pre-Revision Question': 'x',
        'Question': f'Which of these, "{of}",\nbreaks bond {i}?',
        'Correct Answer': f'acid, {i}\n', 'Incorrect Answer 1': 'water',
        'Incorrect Answer 2': ' salt ', 'Incorrect Answer 3': 'light',
        'Explanation': 'long', 'Subdomain': 'Chemistry'}
        for i in range(count)]
  return {'gpqa_diamond.csv': File(rows('d', n)),
          'gpqa_main.csv': File(rows('m', 2)),
          'gpqa_experts.csv': File([{'Expert': 'x'}])}


def hle(n):
  """A picture is a data URI; most rows have ''."""
  uri = 'data:image/png;base64,' + base64.b64encode(png(9)).decode()
  return {'data/test-00000-of-00001.parquet': File([dict(
      id=f'66{i}', question=f'What does rune {i} mean?', answer='42',
      image=uri if i % 3 == 1 else '', image_preview=None,
      answer_type='exactMatch', author_name='x', rationale='y',
      rationale_image=None, raw_subject='Runes', category='Humanities',
      canary='z') for i in range(n)],
      {'image_preview': pa.binary(), 'rationale_image': pa.binary()})}


def imo_answerbench(n):
  return {'data/train-00000-of-00001.parquet': File([{
      'Problem ID': f'imo-{i}', 'Problem': f'Find all n below ${i + 5}^n$.',
      'Short Answer': '$3^n$', 'Category': 'Algebra', 'Subcategory': 'x',
      'Source': 'y'} for i in range(n)])}


def mmlu(n):
  """One subject lies beside `all`; two rows have the same words."""
  rows = [dict(question=f'Which holds in case {i // 2}?', subject='law',
               choices=['1', '2', '0', '3'], answer=(i + 1) % 4)
          for i in range(n)]
  return {'all/test-00000-of-00001.parquet': File(rows),
          'all/validation-00000-of-00001.parquet': File(rows),
          'law/test-00000-of-00001.parquet': File(rows)}


def mmlu_pro(n):
  """Options that are letters; early files fill ten options with N/A."""
  rows = [dict(
      question_id=70 + i, question=f'Which blood group is {i}?',
      options=['B', 'A', 'AB', 'O', *['N/A'] * 6] if i % 2 == 0
      else ['7', '8', '9'], answer='B', answer_index=1, cot_content='',
      category='health', src='x') for i in range(n)]
  return {'data/test-00000-of-00001.parquet': File(rows),
          'data/validation-00000-of-00001.parquet': File(rows)}


def mmlu_redux(n):
  """Arrow streams in the folders of `save_to_disk`."""
  kinds = ('ok', 'wrong_groundtruth', 'ok')
  out = {}
  for k, subject in enumerate(('anatomy', 'astronomy', 'virology')):
    out |= {f'{subject}/test/data-00000-of-00001.arrow': File([dict(
        question=f'Which is true of {subject} {i}?', choices=list('wxyz'),
        answer=(i + 1) % 4, error_type=kinds[k], source='', correct_answer=None,
        potential_reason=None) for i in range(shared(n, 3))],
        dict(correct_answer=pa.string(), potential_reason=pa.string())),
        f'{subject}/test/dataset_info.json': File(words='{}'),
        f'{subject}/test/state.json': File(words='{}')}
  return out


def multichallenge(n):
  """A Sequence of role and content is a struct of two lists in parquet."""
  return {'data/test-00000-of-00001.parquet': File([dict(
      question_id=f'q{i}', axis='INFERENCE_MEMORY', num_turns=2,
      conversation={'role': ['user', 'assistant', 'user'], 'content': [
          'I eat no nuts.', 'Noted.', f'Name cake {i}.']},
      target_question='Is the cake free of nuts?',
      pass_criteria='YES' if i % 2 == 0 else 'NO') for i in range(n)],
      {'conversation': pa.struct([('role', TEXTS), ('content', TEXTS)])})}


def multichallenge_github(n):
  """The JSON lines of the GitHub repository, in capital letters."""
  return {'benchmark_questions.jsonl': File([dict(
      QUESTION_ID=f'q{i}', AXIS='SELF_COHERENCE', CONVERSATION=[
          dict(role='user', content='I eat no nuts.'),
          dict(role='assistant', content='Noted.'),
          dict(role='user', content=f'Name cake {i}.')],
      TARGET_QUESTION='Is the cake free of nuts?', PASS_CRITERIA='YES')
      for i in range(n)])}


SETS: dict[str, Callable[[int], dict[str, File]]] = {
    'aime25': aime25, 'aime26': aime26, 'ceval': ceval, 'gpqa_diamond': gpqa,
    'hle': hle, 'imo_answerbench': imo_answerbench, 'mmlu': mmlu,
    'mmlu_pro': mmlu_pro, 'mmlu_redux': mmlu_redux,
    'multichallenge': multichallenge}
