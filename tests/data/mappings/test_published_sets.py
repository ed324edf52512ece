"""Training sets in their published shape, with the traps of their files."""

import io
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.builders import ROOT
from zppo_jax.commands import data
from zppo_jax.data import mappings, pool, tiers
from zppo_jax.data.mappings import directives, mapping, mmfinereason
from zppo_jax.verdicts import kinds, verifier

# MMFineReason's 22 names of `source`; two are in no tier of the paper.
IN_NO_TIER = ('GameQA-140K', 'WaltonColdStart')
SOURCES = (
    'FineVision-ai2d_merged', 'FineVision-geo170k(qa)',
    'FineVision-geometry3k(mathv360k)', 'FineVision-raven',
    'FineVision-scienceqa', 'FineVision-tqa',
    'FineVision-visualwebinstruct(filtered)', 'Euclid30K', 'mmopenr1-8k',
    'WeMath2-Pro', 'WeMath2-SFT', 'WeMath2-Standard', 'Zebra-CoT-Physics',
    'MMR1', 'BMMR', 'MMK12', 'ViRL39K', 'LLaVA-CoT', 'PuzzleQA',
    'VisualSphinx', *IN_NO_TIER)
MATH = {'role': 'user', 'content': 'What is $3+4$?'}


def png(side: int) -> bytes:
  out = io.BytesIO()
  Image.new('L', (side, side)).save(out, 'PNG')
  return out.getvalue()


def opened(tmp_path: pathlib.Path, rows, name: str, **fields) -> pool.Pool:
  """A pool of a parquet file of these rows."""
  file = tmp_path / f'{name}.parquet'
  pq.write_table(pa.Table.from_pylist(list(rows)), file)
  wanted = fields.pop('wanted', {})
  return pool.open_pool({name: dict(
      format='parquet', path=str(file), mapping=name, **fields)}, wanted)


def fine(source='MMK12', number=0, answer: str | None = 'B', **more):
  return {'source': source, 'id': number, 'ori_question': '', 'answer': answer,
          'original_answer': answer, 'question': '<image>Find x.',
          'image': {'bytes': png(9), 'path': 'a.png'}, 'caption': '',
          'qwen3vl_235b_thinking_response': 'so <answer>B</answer>',
          'pass_rate': .25, 'is_consistent': True, 'consistency_analysis': '',
          **more}


def test_mmfinereason_as_it_is_published(tmp_path):
  """M1, M2, M3: `pass_rate`, ids inside of a source, answers of null."""
  rows = [fine('FineVision-tqa', 0), fine('PuzzleQA', 0),
          fine('FineVision-ai2d_merged', 0, None), fine('MMR1', 3, '7',
                                                         pass_rate=.75)]
  found = opened(tmp_path, rows, 'mmfinereason', filters={'pass_rate': .5})
  assert found.ids == ('mmfinereason/FineVision-tqa/0',
                       'mmfinereason/PuzzleQA/0')
  assert found.skipped == {'mmfinereason': {'no gold': 1}}
  assert found[0].responses == ('so\n\\boxed{B}',) and found[0].media
  renamed = [{'qwen3vl_4b_pass_rate' if k == 'pass_rate' else k: v
              for k, v in row.items()} for row in rows]
  assert opened(tmp_path, renamed, 'mmfinereason',
                filters={'pass_rate': .5}).ids == found.ids
  with pytest.raises(ValueError, match="no column 'pass_rate' or 'qwen3vl_4b"):
    mappings.get('mmfinereason').read(
        {k: v for k, v in fine().items() if k != 'pass_rate'})


def test_rows_of_mmfinereason_without_a_picture_are_counted(tmp_path):
  """A null was asked about a picture that nobody saw, or ended a run."""
  rows = [fine(), fine(number=1, image=None),
          fine(number=2, image={'bytes': None, 'path': None}),
          fine(number=3, image=None, question='Find y.'),
          fine(number=4, image=None, answer=None)]
  found = opened(tmp_path, rows, 'mmfinereason')
  assert found.ids == ('mmfinereason/MMK12/0',) and found[0].media
  assert found.skipped == {'mmfinereason': {'no picture': 3, 'no gold': 1}}
  bare = [{k: v for k, v in row.items() if k != 'image'} for row in rows]
  (tmp_path / 'rows.jsonl').write_text(''.join(
      json.dumps(row) + '\n' for row in (
          {**bare[0], 'image': 'a.png'}, bare[1], {**bare[2], 'image': ''})))
  (tmp_path / 'a.png').write_bytes(png(9))
  found = pool.open_pool({'fine': dict(
      format='jsonl', path=str(tmp_path / 'rows.jsonl'),
      mapping='mmfinereason')}, {})
  assert len(found[0].media) == 1
  assert found.skipped == {'fine': {'no picture': 2}}
  with pytest.raises(ValueError, match='is left; .* kept; mmfinereason: 1 '
                     'skipped: no picture'):
    opened(tmp_path, rows[1:2], 'mmfinereason')


@pytest.mark.parametrize('trace, worked', [
    ('so <answer>B</answer>', 'so\n\\boxed{B}'),
    ('so \\boxed{4} <answer>4</answer>', 'so \\boxed{4} <answer>4</answer>'),
    # A box inside of the thoughts stopped the one behind them.
    ('<think>\\boxed{3}?</think> so <answer>B</answer>',
     '<think>\\boxed{3}?</think> so\n\\boxed{B}'),
    ('<think>\\boxed{3}?</think> so \\boxed{B}',
     '<think>\\boxed{3}?</think> so \\boxed{B}'),
    ('<think>\\boxed{3}?</think> so B', ''),
    ('<answer>B</answer> no', ''), ('so B', ''), ('', '')])
def test_traces_end_in_the_box_of_the_closer(trace, worked):
  assert mmfinereason.worked(trace) == worked
  assert not worked or verifier.BOXED.parse(worked) in ('B', '4')


def test_the_names_of_mmfinereason_are_in_the_papers_tiers(tmp_path):
  """M4: 20 of 22, and Vero's subsets win over the same ones here."""
  assert len(SOURCES) == 22
  assert [s for s in SOURCES if not tiers.cap(s)] == list(IN_NO_TIER)
  names = [tiers.canonical(s) for s in SOURCES[:13]]
  assert names == ['ai2d', 'geo170k', 'geo3k', 'raven', 'scienceqa', 'tqa',
                   'visualwebinstruct', 'euclid', 'mmopenr1', 'wemath',
                   'wemath', 'wemath', 'zebracot']
  found = opened(tmp_path, [fine(s) for s in SOURCES], 'mmfinereason',
                 wanted={'tiers': True})
  assert len(found) == 20
  assert found.counts['tiers'] == {'mmfinereason': 2}


def vero(reward='string_match', gold='4', question='<image>How many?', **more):
  extra = {'id': 'x', 'index': 0, 'question': question, 'answer': gold,
           'reward_type': reward, 'tolerance': more.pop('tolerance', None)}
  return {'prompt': [{'role': 'user', 'content': '<image>Asked first?'}],
          'image': {'bytes': png(9), 'path': 'a.png'}, 'ability': 'stem',
          'data_source': 'ai2d_merged', 'id': 'x',
          'reward_model': {'style': 'rule', 'ground_truth': gold},
          'extra_info': extra, **more}


def test_vero_as_the_hub_holds_it(tmp_path):
  """Fault 1: `image`, the trainer's names of rewards, null questions, prompts
  that are a struct of lists, and rewards without a kind by name."""
  rows = [vero(), vero(question=None), vero('grounding'), vero('clicking'),
          vero('web_action'), vero(gold='')]
  found = opened(tmp_path, rows, 'vero')
  assert [q.text for q in found] == ['How many?', 'Asked first?']
  assert len(found[0].media) == 1
  assert found.skipped == {'vero': {
      "reward 'grounding'": 1, "reward 'clicking'": 1,
      "reward 'web_action'": 1, 'no gold': 1}}
  struct = [{**vero(question=''), 'prompt': {
      'role': ['system', 'user'], 'content': ['Think.', '<image>Struct?']}}]
  assert opened(tmp_path, struct, 'vero')[0].text == 'Struct?'
  parts = [{**vero(question=''), 'prompt': [{'role': 'user', 'content': [
      {'type': 'image', 'text': None}, {'type': 'text', 'text': 'Parts?'}]}]}]
  shown = opened(tmp_path, parts, 'vero')[0]
  assert shown.text == 'Parts?' and len(shown.media) == 1


def test_vero_as_the_makers_script_exports_it(tmp_path):
  """JSONL has `images`, a list of paths, and no nulls."""
  (tmp_path / 'a.png').write_bytes(png(9))
  row = {**vero(question=''), 'images': ['a.png']}
  del row['image']
  (tmp_path / 'rows.jsonl').write_text(json.dumps(row) + '\n')
  found = pool.open_pool({'vero': dict(
      format='jsonl', path=str(tmp_path / 'rows.jsonl'), mapping='vero')}, {})
  assert found[0].text == 'Asked first?' and len(found[0].media) == 1


@pytest.mark.parametrize('reward, gold, tolerance, kind, right, wrong', [
    ('string_match', 'A cat', None, 'text', 'a cat', 'a dog'),
    ('list_string_match', "['cat', 'kitty']", None, 'any_text', 'kitty',
     'cat, kitty'),
    ('number_list', '[2, 1]', None, 'number_list', '2, 1', '1, 2'),
    ('ordering', '2, 1', None, 'number_list', '2, 1', '1, 2'),
    ('ordering', 'b, a', None, 'text', 'B, A', 'a, b'),
    ('list_match', '2, 1', None, 'set', '1, 2', '1, 2, 3'),
    ('numeric', '100', .05, 'relative(0.05)', '105', '106'),
    ('numeric', '100', float('nan'), 'number', '100.0', '101'),
    ('numeric', '100', None, 'number', '100', '100.1'),
    ('counting', '4', None, 'number', '4', '5'),
    ('search', 'red', None, 'text', 'Red', 'blue'),
    ('multiple_choice', 'B', None, 'choice', '(b)', 'C'),
    ('exact_match', 'red', None, 'text', 'red', 'reddish'),
])
def test_what_veros_rewards_call_right(reward, gold, tolerance, kind, right,
                                       wrong):
  words = mapping.checked(mappings.get('vero').read(
      vero(reward, gold, tolerance=tolerance)))
  assert words.kind == kind
  mark = kinds.get(kind).mark
  assert mark(right, words.answer) == 1 and mark(wrong, words.answer) == 0


def test_a_tolerance_below_0_is_refused():
  with pytest.raises(ValueError, match='tolerance is -1.0; it must be >= 0'):
    mappings.get('vero').read(vero('numeric', tolerance=-1.))


def verl(source='openai/gsm8k', content='What is 3 + 4?', gold='7', **more):
  return {'data_source': source, 'ability': 'math',
          'prompt': [{'role': 'user', 'content': content}],
          'reward_model': {'style': 'rule', 'ground_truth': gold},
          'extra_info': {'split': 'train', 'index': 0}, **more}


def test_verls_own_form(tmp_path):
  """The source picks the kind; what has none is skipped and counted by name."""
  ask = "Let's think step by step and output the final answer "
  rows = [
      verl(content=f'What is 3 + 4? {ask}after "####".'),
      verl('DigitalLearningGmbH/MATH-lighteval',
           content=f'Find $x$. {ask}within \\boxed{{}}.'),
      verl('aime2024'), verl('numina_olympiads'), verl('codecontests'),
      verl('somebody/else'), verl('somebody/else'), verl(gold=''),
      {**verl(), 'prompt': [MATH, {'role': 'assistant', 'content': '7'},
                            MATH]}]
  found = opened(tmp_path, rows, 'verl')
  assert [(q.text, q.kind) for q in found] == [
      ('What is 3 + 4?', 'number'), ('Find $x$.', 'math'),
      ('What is 3 + 4?', 'math'), ('What is 3 + 4?', 'math')]
  assert found.skipped == {'verl': {
      'code (codecontests): no kind executes it': 1, 'no gold': 1,
      "no kind for the data_source 'somebody/else'": 2,
      'a conversation of several turns': 1}}
  assert found[0].subset == 'openai/gsm8k'


def test_verls_other_golds_and_pictures(tmp_path):
  geometry = verl(
      'hiyouga/geometry3k', '<image>Find x. You FIRST think about the reasoning'
      ' process as an internal monologue. The final answer MUST BE put in '
      '\\boxed{}.', '5', images=[{'bytes': png(9), 'path': None}])
  found = opened(tmp_path, [geometry], 'verl')
  assert found[0].text == 'Find x.' and len(found[0].media) == 1
  search = {**verl('searchR1_nq'), 'reward_model': {
      'style': 'rule', 'ground_truth': {'target': np.array(['Ann', 'Bo'])}}}
  words = mapping.checked(mappings.get('verl').read(search))
  assert (words.kind, words.answer) == ('any_text', '["Ann", "Bo"]')
  own = verl(content='with a directive', extra_info={'question': 'bare?'})
  assert mappings.get('verl').read(own).text == 'bare?'
  assert mappings.get('verl').read({**verl(), 'reward_model': {
      'style': 'model', 'ground_truth': '7'}}).skip == "reward style 'model'"


def test_columns_take_paths_and_refuse_what_is_no_scalar(tmp_path):
  """`reward_model` is a struct, whose repr would be the gold answer."""
  file = tmp_path / 'rows.parquet'
  pq.write_table(pa.Table.from_pylist([verl(), verl(gold='8')]), file)
  opened_by = lambda **columns: pool.open_pool({'mine': dict(
      format='parquet', path=str(file), columns=columns, kind='number')}, {})
  found = opened_by(text='prompt', answer='reward_model.ground_truth')
  assert [(q.text, q.answer) for q in found] == [
      ('What is 3 + 4?', '7'), ('What is 3 + 4?', '8')]
  with pytest.raises(ValueError, match='answer is dict .*reward_model.ground'):
    opened_by(text='prompt', answer='reward_model')


DAPO = ('Solve the following math problem step by step. The last line of your '
        'response should be of the form Answer: $Answer (without quotes) where '
        '$Answer is the answer to the problem.\n\n{}\n\nRemember to put your '
        'answer on its own line after "Answer:".')


def test_dapo_asks_each_text_once(tmp_path):
  """Rows and their ids repeat about a hundred times; the frame is cut."""
  rows = [verl('math_dapo', DAPO.format(text), gold,
               extra_info={'index': uuid})
          for text, gold, uuid in (('What is 1?', '1', 'u'),
                                   ('What is 2?', '-2', 'v'),
                                   ('What is 1?', '1', 'u'))] * 3
  found = opened(tmp_path, rows, 'dapo_math')
  assert [(q.text, q.answer, q.kind) for q in found] == [
      ('What is 1?', '1', 'number'), ('What is 2?', '-2', 'number')]
  assert found.skipped == {'dapo_math': {'a repeated text': 7}}
  cleaned = [{'prompt': 'What is 1?', 'solution': '1', 'data_source': 'd'},
             {'prompt': 'What is $a$?', 'solution': '\\frac12',
              'data_source': 'd'}]
  found = opened(tmp_path, cleaned, 'dapo_math_processed')
  assert [(q.answer, q.kind) for q in found] == [('1', 'number'),
                                                 ('\\frac12', 'math')]


def test_eurus_leaves_out_code(tmp_path):
  code = json.dumps({'inputs': ['1'], 'outputs': ['2']})
  rows = [verl('numina_olympiads', 'What?\n\nPresent the answer in LaTex '
               'format: \\boxed{Your answer}', '\\frac12'),
          {**verl('taco', 'Write.', code), 'ability': 'code'},
          {**verl('x'), 'ability': 'chess'}]
  rows[0]['prompt'].insert(0, {'role': 'system', 'content': 'Think.'})
  found = opened(tmp_path, rows, 'eurus2')
  assert [(q.text, q.answer) for q in found] == [('What?', '\\frac12')]
  assert found.skipped == {'eurus2': {'code: no kind executes it': 1,
                                      "ability 'chess'": 1}}


def test_openmmreasoners_configs_differ_in_columns(tmp_path):
  """Training rows have avg_reward, validation rows extra_info instead."""
  picture = [{'bytes': png(9), 'path': None}]
  train = {**verl('mmk12', '<image>Find x.', 'B', images=picture),
           'avg_reward': .5}
  del train['extra_info']
  val = {**verl('virl39k', '<image>Find y.', '3', images=picture)}
  for name, row in (('a', train), ('b', val)):
    (tmp_path / name).mkdir()
    pq.write_table(pa.Table.from_pylist([row]),
                   tmp_path / name / 'rows.parquet')
  found = pool.open_pool({'om': dict(format='parquet', path=str(tmp_path),
                                     mapping='openmmreasoner')}, {})
  assert [(q.text, q.kind, len(q.media)) for q in found] == [
      ('Find x.', 'choice', 1), ('Find y.', 'math', 1)]


def test_mmk12_geometry3k_deepmath_and_virl39k(tmp_path):
  picture = {'bytes': png(9), 'path': None}
  found = opened(tmp_path, [
      {'id': 'a', 'question': '<image>x?', 'answer': '3', 'subject': 'physics',
       'image': picture},
      {'id': 'b', 'question': '<image>x? A. 3 B. 4', 'answer': 'B',
       'subject': 'biology', 'image': picture}], 'mmk12')
  assert [q.kind for q in found] == ['math', 'choice']
  assert tiers.cap(found[0].subset) == 2800
  found = opened(tmp_path, [
      {'id': 0, 'images': [picture], 'problem': '<image>Find x.',
       'answer': '3 \\sqrt { 2 }', 'choices': ['1', '3 \\sqrt { 2 }'],
       'ground_truth': 'B'}], 'geometry3k')
  assert (found[0].answer, found[0].kind) == ('3 \\sqrt { 2 }', 'math')
  rows = [{'question': f'q{d}', 'final_answer': '1', 'difficulty': d,
           'topic': 't', **dict.fromkeys(
               ('r1_solution_1', 'r1_solution_2', 'r1_solution_3'), '')}
          for d in (5.5, 6., 6.5, None)]
  found = opened(tmp_path, rows, 'deepmath', filters={'difficulty': 6})
  assert [q.text for q in found] == ['q6.0', 'q6.5', 'qNone']
  rows = [{'question': '<image>x', 'answer': '\\boxed{4}', 'category': 'c',
           'PassRate_7BBase': rate, 'PassRate_32BTrained': 1., 'qid': str(i),
           'source': 's', 'image': ['a.png']}
          for i, rate in enumerate((-1., .5, .75))]
  read = mappings.get('virl39k').read
  assert [read(row).pass_rate for row in rows] == [None, .5, .75]


@pytest.mark.parametrize('text, left', [
    ("How many? Answer with the option's letter from the given choices "
     'directly.', 'How many?'),
    ('Which?\nA. x\nB. y\nPlease answer with the letter of the option.',
     'Which?\nA. x\nB. y'),
    ('Find x. Please reason step by step, and put your final answer within '
     '\\boxed{}.', 'Find x.'),
    ('Answer with the letter that Ann wrote. Which is it?', None),
    ('He said: reason step by step, and put your final answer here. Why?',
     None), ('x' * 50_000, None), (' \n' * 20_000 + 'x', 'x')])
def test_directives_are_cut_at_the_ends_alone(text, left):
  assert directives.without(text) == (text.strip() if left is None else left)


def test_the_papers_recipe_counts_by_tier_and_filter(tmp_path, monkeypatch):
  """configs/zppo_77k.py on a miniature of both sets: the pass rate, sides of
  images, long answers, Vero's subsets first, tiers and caps."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(tiers, 'CAPS', {1: 2, 2: 1})
  big = {'bytes': png(100), 'path': 'a.png'}
  vqa = {'data_source': 'vqav2', 'image': big}
  of_vero = {
      'stem-ai2d_merged': [{**vero(question=f'<image>a{i}?'), 'image': big}
                           for i in range(4)],
      'knowledge_recognition-vqav2': [
          {**vero(question='<image>b?'), **vqa},
          {**vero(question='<image>b2?'), **vqa},
          {**vero(question='<image>c?', gold='x' * 513), **vqa}],
      'spatial_action-game_QA': [{**vero(), 'data_source': 'game_QA',
                                  'image': big}]}
  for name, rows in of_vero.items():
    folder = tmp_path / 'data' / 'vero' / name
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / 'train-0.parquet')
    pq.write_table(pa.Table.from_pylist(rows), folder / 'val-0.parquet')
  (tmp_path / 'data' / 'mmfinereason').mkdir()
  pq.write_table(pa.Table.from_pylist([
      fine('FineVision-ai2d_merged', 0, image=big),
      fine('Euclid30K', 0, image=big), fine('Euclid30K', 1, image=big),
      fine('Euclid30K', 2, image=big, pass_rate=.75),
      fine('BMMR', 0, None, image=big), fine('MMR1', 0),
  ]), tmp_path / 'data' / 'mmfinereason' / 'train-0.parquet')
  said = data.main([str(ROOT / 'configs' / 'zppo_77k.py')])
  for line in (
      'vero: 8 rows, 1 by answer_characters, 4 by tiers, 3 kept',
      'mmfinereason: 6 rows, 1 skipped, 1 by pass_rate, 1 by image_side, 1 by '
      'subset_duplicates, 2 kept', '  mmfinereason: 1 skipped: no gold',
      'tier 1: 4 questions of 2 subsets, 2 of them at the cap of 2; the paper '
      'names 21 subsets', 'tier 1 by subset: ai2d 2, euclid 2',
      'tier 2: 1 questions of 1 subsets, 1 of them at the cap of 1; the paper '
      'names 19 subsets', 'tier 2 by subset: vqav2 1',
      'by source: vero 3 of 2 subsets, mmfinereason 2 of 1 subsets; the paper '
      'has 34 subsets of Vero-600k, and the others of MMFineReason',
      'in all: 5 questions; the paper has about 77000'):
    assert line in said.splitlines(), said
  (tmp_path / 'none.py').write_text('x = 1')
  with pytest.raises(ValueError, match='none.py is no config of data.pool'):
    data.main([str(tmp_path / 'none.py')])
