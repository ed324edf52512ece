"""BENCHMARKS: the paper's 31 evaluation sets (App. B.2, Tables 5-7).

`scoring` is the paper's; the `kind` of a question says how its answer is
compared here. Numbers of questions are those that the sets' own pages state.
"""

import functools
from collections.abc import Callable
from typing import Any

from zppo_jax.data.mappings.mapping import Mapped, Row
from zppo_jax.data.suites import (
  charts,
  image_rows as image,
  text_rows as text,
  video_rows as video,
)
from zppo_jax.data.suites.benchmark import (
  CONFIG,
  ROW,
  VARIANT,
  Benchmark,
  Config,
  Option,
)
from zppo_jax.data.suites.choices import BY

_JUDGE, _EXACT, _RULE, _FIXED = ('official judge', 'exact+judge',
                                 'rule+judge', 'deterministic')
_VAL, _VALIDATION = ('val',), ('validation', 'val', 'valid')
_TEST, _TESTMINI, _TRAIN = ('test',), ('testmini',), ('train',)
_MMMU = tuple(f'image_{i}' for i in range(1, 8))
_BOXES = ('eval', 'bbox', 'bbox_list', 'content')
_RATE = 'the number or the rate of frames that the paper shows'


def _row(family: str, title: str, hub: str, split: str, scoring: str,
         gold: str, columns: str, read: Callable[..., Mapped], kinds: str,
         **more: Any) -> Benchmark:
  """A row; `read` gets the way to read the gold of a choice, if `gold` is one.

  Args:
    columns: names with commas.
    kinds: names with spaces.
    The others are those of Benchmark.
  """
  of: Callable[[Row], Mapped] = (
      functools.partial(read, gold=BY[gold]) if gold in BY else read)
  return Benchmark(
      title=title, family=family, hub=hub, split=split, scoring=scoring,
      gold=gold, columns=tuple(c.strip() for c in columns.split(',')),
      read=of, kinds=tuple(kinds.split()), **more)


_image, _text, _video = (functools.partial(_row, family)
                         for family in ('image', 'text', 'video'))


def _ocrbench(language: str, title: str, count: int, other: str) -> Benchmark:
  return _image(
      title, 'ling99/OCRBench_v2', 'test', _FIXED, 'value',
      'id, question, answers, type', image.ocrbench(language),
      kinds='ocrbench(TYPE)', count=count,
      rows=10_000, ids=('id',), subset='type', files=_TEST, images='image',
      optional=_BOXES, shares=other, average='macro',
      note='tables in HTML and types whose metric takes METEOR are skipped and '
           'counted; the macro average is over the abilities of the others')


BENCHMARKS: dict[str, Benchmark] = {
    'ai2d': _image(
        'AI2 Diagrams', 'lmms-lab/ai2d', 'test', _EXACT, 'index',
        'question, options, answer', image.ai2d, images='image',
        kinds='choice', count=3088,
        files=_TEST),
    'babyvision': _image(
        'BabyVision', 'UnipatAI/BabyVision', 'train', _EXACT, 'index',
        'taskId, question, ansType, options, choiceAns, blankAns',
        image.babyvision, images='image',
        kinds='choice text', count=388, ids=('taskId',),
        subset='type', optional=('type',), files=_TRAIN,
        note='a blank is compared as text, without the official judge'),
    'charxiv': _image(
        'CharXiv', 'princeton-nlp/CharXiv', 'validation', _JUDGE, 'value',
        ', '.join(('subplot_row, subplot_col, subplot_loc', *(
            f'descriptive_{x}{i}' for i in range(1, 5) for x in 'qa'),
            'reasoning_q, reasoning_a, reasoning_a_type')), charts.read,
        images='image', kinds='charxiv_descriptive charxiv_reasoning',
        count=5000, ids=(ROW, VARIANT), files=_VALIDATION,
        variants=charts.VARIANTS,
        note='templates and instructions in our own words',
        unknown='how the paper makes one number of the two kinds'),
    'dynamath': _image(
        'DynaMath, 501 seeds x 10 variants', 'DynaMath/DynaMath_Sample',
        'sample_variant1 to sample_variant10', _EXACT, 'value',
        'id, question, ground_truth, answer_type', image.dynamath,
        images='decoded_image',
        kinds='absolute(0.001) choice within', count=5010, ids=('id', CONFIG),
        configs={
            f'variant{i}': Config(
                path=rf'(?:sample|variant)[^0-9a-z]*{i}(?![0-9])', count=501)
            for i in range(1, 11)},
        unknown='whether the paper reports the average or the worst case; '
                'both are computed'),
    'embspatial': _image(
        'EmbSpatial-Bench', 'FlagEval/EmbSpatial-Bench', 'test', _EXACT,
        'index', 'question, answer_options, answer', image.embspatial,
        images='image',
        kinds='choice', count=3640, files=_TEST, subset='relation',
        optional=('relation',)),
    'infovqa': _image(
        'InfographicVQA', 'lmms-lab/DocVQA', 'InfographicVQA validation',
        _FIXED, 'value', 'questionId, question, answers', image.infovqa,
        images='image',
        kinds='anls', count=2801, ids=('questionId',), files=_VALIDATION,
        # The repository DocVQA holds both in a folder each.
        apart='(?:^|/)docvqa/(?!(?:.*/)?infographicvqa/)'),
    'mathverse': _image(
        'MathVerse', 'CaraJ/MathVerse-lmmseval', 'testmini (testmini.parquet '
        'alone)', _EXACT, 'letter',
        'sample_index, question, answer, question_type, problem_version',
        image.mathverse, images='image',
        kinds='choice math', count=3940, ids=('sample_index',),
        subset='problem_version', files=_TESTMINI,
        apart='testmini_[a-z]',
        note='the official judge reads another form of the question'),
    'mathvision': _image(
        'MathVision', 'MathLLMs/MathVision', 'test', _EXACT, 'letter',
        'id, question, options, answer', image.mathvision,
        images='decoded_image',
        kinds='option math', count=3040, ids=('id',), files=_TEST,
        note='numbers are compared without the official rounding to two '
             'decimals'),
    'mathvista': _image(
        'MathVista', 'AI4Math/MathVista', 'testmini', _RULE, 'text',
        'pid, question, choices, unit, precision, answer, question_type, '
        'answer_type', image.mathvista, images='decoded_image',
        kinds='nearest rounded(P) rounded_unit(P) number unit number_list text',
        count=1000, ids=('pid',), files=_TESTMINI),
    'mmmu_pro': _image(
        'MMMU-Pro', 'MMMU/MMMU_Pro', 'test of all three configs', _EXACT,
        'letter', 'id, options, answer', image.mmmu_pro,
        images=','.join((*_MMMU, 'image')),
        kinds='choice', count=5190, ids=('id', CONFIG),
        subset=CONFIG, files=_TEST, optional=('question', *_MMMU, 'image'),
        configs={
            'standard (4 options)': Config(
                path='standard[^0-9a-z]*4', count=1730),
            'standard (10 options)': Config(
                path='standard[^0-9a-z]*10', count=1730),
            'vision': Config(path='vision', count=1730)},
        note='pictures stand before the text, which names them "image 2"',
        unknown='how the paper averages the configs (lmms-eval takes two)'),
    'mmvet': _image(
        'MM-Vet', 'lmms-lab/MMVet', 'test', _JUDGE, 'value',
        'question_id, question, answer', image.mmvet, images='image',
        kinds='mmvet', count=218, ids=('question_id',), files=_TEST),
    'ocrbench_en': _ocrbench('en', 'OCRBench v2, English', 7400,
                             'ocrbench_zh'),
    'ocrbench_zh': _ocrbench('cn', 'OCRBench v2, Chinese', 2600,
                             'ocrbench_en'),
    'visualpuzzles': _image(
        'VisualPuzzles', 'neulab/VisualPuzzles', 'train, called test in later '
        'revisions', _EXACT, 'letter',
        'id, category, question, options, answer', image.visualpuzzles,
        images='image',
        kinds='choice', count=1168, ids=('id',), subset='category',
        files=_TRAIN + _TEST),
    'vlmsareblind': _image(
        'VLMs are Blind', 'XAI/vlmsareblind', 'valid', _EXACT, 'value',
        'task, prompt, groundtruth', image.vlmsareblind, images='image',
        kinds='values', count=8016, earlier=(9704, 7656), subset='task',
        files=_VALIDATION,
        note='prompts carry a directive of their own',
        unknown='which revision the paper read, and whether it averages rows '
                'or tasks; both are computed'),
    'wemath': _image(
        'We-Math', 'We-Math/We-Math', 'testmini', _EXACT, 'letter',
        'ID, key, question, option, answer', image.wemath,
        images='image_path',
        kinds='choice', count=1740, ids=('ID', 'key'), subset='key',
        files=_TESTMINI,
        unknown='whether the paper means accuracy over rows, as here, or the '
                'official scores over 525 groups'),

    'aime25': _text(
        'AIME 2025', 'opencompass/AIME2025', 'test of AIME2025-I and '
        'AIME2025-II', _EXACT, 'value', 'question, answer', text.aime25,
        kinds='number', count=30, ids=(CONFIG, ROW), free=2, files=_TEST),
    'aime26': _text(
        'AIME 2026', 'MathArena/aime_2026', 'train', _EXACT, 'value',
        'problem_idx, problem, answer', text.aime26, kinds='number', count=30,
        ids=('problem_idx',), files=_TRAIN),
    'ceval': _text(
        'C-Eval', 'ceval/ceval-exam', 'val of all 52 subjects', _EXACT,
        'letter', 'question, A, B, C, D, answer', text.ceval,
        kinds='choice', count=1346,
        ids=(CONFIG, ROW), subset=CONFIG, files=_VALIDATION, free=52,
        note='without the official five examples'),
    'gpqa_diamond': _text(
        'GPQA-Diamond', 'Idavidrein/gpqa', 'gpqa_diamond train (gated)',
        _EXACT, 'text', 'Question, Correct Answer, Incorrect Answer 1, '
        'Incorrect Answer 2, Incorrect Answer 3', text.gpqa,
        kinds='choice', count=198,
        files=_TRAIN, apart='gpqa_(?:main|extended|experts)',
        note='a hash of the question orders the options; every harness has its '
             'own order'),
    'hle': _text(
        "Humanity's Last Exam", 'cais/hle', 'test (gated)', _JUDGE, 'value',
        'id, question, answer, category', text.hle, images='image',
        kinds='hle', count=2500, ids=('id',), subset='category', files=_TEST),
    'imo_answerbench': _text(
        'IMO-AnswerBench', 'OpenEvals/IMO-AnswerBench', 'train', _EXACT,
        'value', 'Problem ID, Problem, Short Answer, Category',
        text.imo_answerbench, kinds='math', count=400, ids=('Problem ID',),
        subset='Category', files=_TRAIN),
    'mmlu': _text(
        'MMLU', 'cais/mmlu', 'all test', _EXACT, 'index',
        'question, subject, choices, answer', text.mmlu,
        kinds='choice', count=14_042,
        subset='subject', files=_TEST, pick='(?:^|/)all/'),
    'mmlu_pro': _text(
        'MMLU-Pro', 'TIGER-Lab/MMLU-Pro', 'test', _EXACT, 'index',
        'question_id, question, options, answer_index, category',
        text.mmlu_pro,
        kinds='choice', count=12_032, ids=('question_id',), subset='category',
        files=_TEST, note='without the official five examples'),
    'mmlu_redux': _text(
        'MMLU-Redux 2.0', 'edinburgh-dawg/mmlu-redux-2.0',
        'test of all 57 subjects', _EXACT, 'index',
        'question, choices, answer', text.mmlu, kinds='choice', count=5700,
        ids=(CONFIG, ROW), subset=CONFIG, free=57, files=_TEST,
        optional=('error_type',), options={'ok': Option(
            skip=text.not_ok, count=5330)},
        unknown='whether the paper drops the 370 rows with a known error'),
    'multichallenge': _text(
        'MultiChallenge', 'ScaleAI/MultiChallenge', 'test, or the JSONL of its '
        'GitHub repository', _JUDGE, 'value',
        'question_id, axis, conversation, target_question, pass_criteria',
        text.multichallenge,
        kinds='multichallenge', count=266, earlier=(273,), ids=('question_id',),
        subset='axis', files=_TEST, lower=True),

    'mmvu': _video(
        'MMVU', 'yale-nlp/MMVU', 'validation', _JUDGE, 'letter',
        'id, video, question_type, question, choices, answer', video.mmvu,
        video='video', kinds='mmvu', count=1000, ids=('id',), files=_VALIDATION,
        optional=('metadata',), unknown=_RATE),
    'mvbench': _video(
        'MVBench', 'OpenGVLab/MVBench', 'json of 20 tasks', _RULE, 'text',
        'video, question, candidates, answer', video.mvbench, video='video',
        kinds='choice', count=4000, ids=(CONFIG, ROW), subset=CONFIG, free=20,
        optional=('start', 'end'), unknown=_RATE),
    'video_mme': _video(
        'Video-MME without subtitles', 'lmms-lab/Video-MME', 'test', _RULE,
        'letter', 'question_id, videoID, question, options, answer',
        video.video_mme, video='videoID',
        kinds='choice', count=2700, ids=('question_id',),
        subset='duration', optional=('duration',), files=_TEST,
        shares='video_mme_subtitles', unknown=_RATE),
    'video_mme_subtitles': _video(
        'Video-MME with subtitles', 'lmms-lab/Video-MME',
        'test and subtitle.zip', _RULE, 'letter',
        'question_id, videoID, question, options, answer',
        video.video_mme_subtitles, video='videoID', kinds='choice', count=2700,
        ids=('question_id',), subset='duration',
        optional=('duration', 'subtitles'), files=_TEST, shares='video_mme',
        note='subtitles that are shown at the frames stand before the '
             'question, without tags', unknown=_RATE),
    'video_mmmu': _video(
        'Video-MMMU', 'lmms-lab/VideoMMMU',
        'test of Perception, Comprehension and Adaptation (gated)', _RULE,
        'letter', 'id, question, options, answer', video.video_mmmu,
        video='id', images='image',
        kinds='choice mmmu', count=900, ids=('id', CONFIG),
        subset=CONFIG, files=_TEST, optional=('image',), configs={
            name: Config(path=name.lower(), count=300)
            for name in ('Perception', 'Comprehension', 'Adaptation')},
        note='the picture of Adaptation is shown apart from the video',
        unknown=_RATE),
}
