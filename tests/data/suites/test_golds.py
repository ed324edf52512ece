"""An answer equal to the gold scores 1, and its neighbour 0, in every suite.

Neighbours are the next letter, the next index, another unit, another order, and
numbers on the other side of a tolerance.
"""

import json

import pytest

from tests.data import published
from zppo_jax.data import suites
from zppo_jax.records import Grader, StopReason, Verdict
from zppo_jax.verdicts import grading, kinds, verifier
from zppo_jax.verdicts.kinds import boxed

# Suite -> {id: (right answers, wrong answers)}.
ANSWERS = {
    'ai2d': {'0': (['C', '(C)'], ['B', 'D', '2'])},
    'babyvision': {'0': (['B'], ['C', 'A', '1']),
                   '1': (['(1,7)'], ['(7,1)', '(1,8)', '1'])},
    'charxiv': {'0/descriptive_q2': (['3'], ['4', 'three of 4']),
                '0/reasoning_q': (['0.25'], ['0.26', '25'])},
    'dynamath': {'0/variant1': (['2.5', '2.501', '2.499', '5/2'],
                                ['2.5011', '2.4989', '25']),
                 '1/variant3': (['B', '(b)'], ['A', 'C', '2']),
                 '2/variant10': (['a parabola', 'parabola'],
                                 ['a line', 'para', 'a parabola and a line'])},
    'embspatial': {'0': (['B'], ['C', 'A', '1'])},
    'infovqa': {'60000': (['90 metres', '90 M'], ['12 feet', '7', '91 m'])},
    'mathverse': {'1': (['B'], ['A', 'C']), '3': (['5', '5.0'], ['6', '-5'])},
    'mathvision': {'1': (['B'], ['A', 'C', 'O']),
                   '2': (['0.5', '\\frac12'], ['\\frac13', '2'])},
    'mathvista': {'1': (['B', 'blue'], ['C', 'red', 'green']),
                  '2': (['1.4', '1.36', '1.44'], ['1.34', '1.46', '14']),
                  '3': (['[0, 2]', '[0,2]'], ['[2, 0]', '[0, 3]', '[0]']),
                  '4': (['7', '7 people'], ['8', '7 km', '7 dogs', '7%']),
                  '5': (['Yes', 'yes'], ['No'])},
    'mmmu_pro': {f'test_History_0/{config}': (['B'], ['A', 'C', 'J'])
                 for config in ('vision', 'standard (4 options)',
                                'standard (10 options)')},
    'mmvet': {'v1_0': (['tea<AND>bread<OR>cake'], ['coal'])},
    'ocrbench_en': {'0': (['EXIT', 'exit'], ['ENTER']),
                    '1': (['B'], ['C', 'A'])},
    'ocrbench_zh': {'4': (['出口'], ['入口']),
                    '5': (['{"年": "1990"}'], ['{"年": "1991"}'])},
    'visualpuzzles': {'0': (['C'], ['B', 'D']), '1': (['C'], ['B', 'D'])},
    'vlmsareblind': {
        '0': (['5,6', '(5, 6)', '{5}, {6}', 'rows={5} columns={6}'],
              ['6,5', '5,7', '5']), '1': (['No', '{no}'], ['Yes']),
        '2': (['o', '{o}'], ['p', '0', 'oo'])},
    'wemath': {f'7/2steps_{key}': (['B'], ['A', 'C', 'E'])
               for key in ('1', '2', 'multi')},
    'aime25': {'aime2025-I/0': (['70', '070'], ['71', '7']),
               'aime2025-II/1': (['71', r'71^\circ', '71 degrees'],
                                 ['70', r'72^\circ'])},
    'aime26': {'1': (['100'], ['101', '10'])},
    'ceval': {f'{subject}/0': (['B'], ['A', 'C'])
              for subject in ('accountant', 'high_school_physics', 'law')},
    'gpqa_diamond': {'0': (['C'], ['B', 'D']), '1': (['D'], ['C', 'A'])},
    'hle': {'660': (['42'], ['43']), '661': (['42'], ['41'])},
    'imo_answerbench': {'imo-0': (['$3^n$', '3^{n}'], ['$3^{n+1}$', '3n'])},
    'mmlu': {'0': (['B'], ['A', 'C', '1']), '1': (['C'], ['B', 'D'])},
    'mmlu_pro': {'70': (['B'], ['A', 'C']), '71': (['B'], ['A', 'C', '8'])},
    'mmlu_redux': {'anatomy/0': (['B'], ['A', 'C']),
                   'astronomy/0': (['B'], ['A', 'C'])},
    'multichallenge': {'q0': (['YES'], ['NO']), 'q1': (['NO'], ['YES'])},
    'mmvu': {'validation_0': (['B'], ['A', 'C']),
             'validation_1': (['glazing'], ['firing'])},
    'mvbench': {f'{task}/0': (['B'], ['A', 'C']) for task in (
        'action_sequence', 'object_shuffle', 'moving_count')},
    'video_mme': {'000-1': (['B', 'B.'], ['A', 'C'])},
    'video_mme_subtitles': {'000-1': (['B'], ['A', 'C'])},
    'video_mmmu': {'dev_Art_0/Perception': (['B'], ['A', 'C']),
                   'dev_Art_0/Comprehension': (['B'], ['A', 'C']),
                   'dev_Art_0/Adaptation': (
                       ['0.5', '1/2', '0.504'], ['0.506', '0.6', '2'])},
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('benchmarks')
  published.write_all(path, rows=3)
  for name, rows in (('dynamath', 30), ('mathvista', 5)):  # all their forms
    published.write(path, name, rows)
  return path


def judge(requests):
  """A judge that calls the reference itself right and nothing else; what a
  response to MultiChallenge says is what the judge is asked about it."""
  replies = []
  for system, user in requests:
    data = json.loads(user['content'])
    said = boxed.last(data['response'])
    right = said == data.get('reference')
    replies.append(json.dumps(
        {'reasoning': '', 'verdict': said} if '"verdict": "YES"' in
        system['content'] else
        {'extracted': said, 'reasoning': '', 'confidence': 90,
         'correct': 'yes' if right else 'no'} if '"extracted"' in
        system['content'] else {'score': float(right)} if '{"score"' in
        system['content'] else {'answer': said, 'score': int(right)}))
  return replies


def verdict(asked, answer):
  """What is said of a response that ends in an answer."""
  grader = Grader(boxed.last, verifier.needs_kind,
                  verifier=verifier.of_run(judge))
  (result,) = grading.graded_all(
      [(f'So it is \\boxed{{{answer}}}', StopReason.END, asked)], grader)
  return result.verdict


@pytest.mark.parametrize('name', suites.BENCHMARKS)
def test_the_gold_is_right_and_its_neighbour_wrong(folder, name):
  questions = {q.id.removeprefix(f'bench:{name}/'): q
               for q in suites.load(name, str(folder), 99)}
  for ident, (right, wrong) in ANSWERS[name].items():
    asked = questions[ident]
    for answer, points in (*((a, 1) for a in right), *((a, 0) for a in wrong)):
      if kinds.judged(asked.kind):
        assert verdict(asked, answer) == (
            Verdict.CORRECT if points else Verdict.WRONG), (ident, answer)
      else:
        mark = kinds.get(asked.kind).mark(answer, asked.answer)
        assert (mark == 1) == bool(points), (ident, answer, mark)
