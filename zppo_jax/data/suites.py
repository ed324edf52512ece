"""BENCHMARKS: the paper's 31 evaluation sets (App. B.2, Tables 5-7).

A split `bench:NAME` of a config reads a local copy; nothing is downloaded:

  config.eval.benchmarks/NAME/   the split's *.parquet, or *.jsonl
  config.eval.benchmarks/NAME/frames/VIDEO/   frames of each video

A prompt holds the question, its options as lines `A. ...` and the chat's
closer; the paper strips upstream directives likewise. `scoring` is the paper's.
The `kind` of a question says how answers are compared here. Exact and
rule-based parts run without the judge to which the paper falls back. ANLS
(InfoVQA) and the metrics of OCRBench v2 are text equality with the first listed
answer. Both are stricter than the paper.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zppo_jax import allowed
from zppo_jax.data import mappings, pool, suite_rows
from zppo_jax.data.mappings.mapping import Mapping, Row
from zppo_jax.records import Decoding, Question

PREFIX = 'bench:'
FAMILIES = ('image', 'text', 'video')
SCORING = ('exact+judge', 'rule+judge', 'deterministic', 'official judge')
# The paper's decoding of all benchmarks, with one answer per question. Its
# presence penalty of 1.5 is not built here. An image has 256 to 1280 x 32 x 32
# pixels.
DECODING = Decoding(max_tokens=12288, temperature=0.6, top_p=0.95, top_k=20)
ANSWERS = 1


class Benchmark(NamedTuple):
  """A row.

  Attributes:
    title: the full name.
    family: in FAMILIES.
    hub: the id of the data set.
    split: the part of it to fetch.
    scoring: that of the paper, in SCORING.
    columns: the columns that `read` needs.
    read: row -> mappings.Mapped, with the kind.
    images, video: columns, as in mappings.Mapping.
    confirmed: whether a public description confirms the columns. The others are
      from memory and may be wrong; errors about them say so.
    note: the difference from the paper.
  """
  title: str
  family: str
  hub: str
  split: str
  scoring: str
  columns: tuple[str, ...]
  read: Callable[[Row], mappings.Mapped]
  images: str = ''
  video: str = ''
  confirmed: bool = False
  note: str = ''


_Read = Callable[[Row], mappings.Mapped]


def _image(title: str, hub: str, split: str, scoring: str, columns: str,
           read: _Read, images: str = 'image', **more: Any) -> Benchmark:
  return Benchmark(title, 'image', hub, split, scoring, tuple(columns.split()),
                   read, images, **more)


def _text(title: str, hub: str, split: str, scoring: str, columns: str,
          read: _Read, **more: Any) -> Benchmark:
  return Benchmark(title, 'text', hub, split, scoring, tuple(
      c.strip() for c in columns.split(',')), read, **more)


def _video(title: str, hub: str, split: str, scoring: str, columns: str,
           read: _Read, video: str, **more: Any) -> Benchmark:
  return Benchmark(title, 'video', hub, split, scoring,
                   tuple(columns.split()), read, video=video, **more)


_JUDGE, _EXACT, _RULE, _FIXED = ('official judge', 'exact+judge',
                                 'rule+judge', 'deterministic')
_MMMU = ','.join(f'image_{i}' for i in range(1, 8))
BENCHMARKS: dict[str, Benchmark] = {
    'ai2d': _image('AI2 Diagrams', 'lmms-lab/ai2d', 'test', _EXACT,
                   'question options answer', suite_rows.ai2d),
    'babyvision': _image(
        'BabyVision', 'UnipatAI/BabyVision', 'train', _EXACT,
        'taskId question ansType options choiceAns blankAns',
        suite_rows.babyvision),
    'charxiv': _image(
        'CharXiv', 'princeton-nlp/CharXiv', 'validation', _JUDGE,
        'reasoning_q reasoning_a', suite_rows.charxiv,
        note='reasoning questions alone; the descriptive ones are numbers of '
             'templates'),
    'dynamath': _image(
        'DynaMath, 501 seeds x 10 variants', 'DynaMath/DynaMath_Sample',
        'sample_variant1 to sample_variant10', _EXACT,
        'question ground_truth answer_type', suite_rows.dynamath,
        'decoded_image'),
    'embspatial': _image(
        'EmbSpatial-Bench', 'FlagEval/EmbSpatial-Bench', 'test', _EXACT,
        'question answer_options answer', suite_rows.embspatial),
    'infovqa': _image(
        'InfographicVQA', 'lmms-lab/DocVQA', 'InfographicVQA validation',
        _FIXED, 'questionId question answers', suite_rows.infovqa,
        note='the paper scores by ANLS'),
    'mathverse': _image(
        'MathVerse', 'CaraJ/MathVerse-lmmseval', 'testmini', _EXACT,
        'sample_index question answer question_type', suite_rows.mathverse),
    'mathvision': _image(
        'MathVision', 'MathLLMs/MathVision', 'test', _EXACT,
        'id question options answer', suite_rows.mathvision, 'decoded_image'),
    'mathvista': _image(
        'MathVista', 'AI4Math/MathVista', 'testmini', _RULE,
        'pid question choices unit answer question_type answer_type',
        suite_rows.mathvista, 'decoded_image'),
    'mmmu_pro': _image(
        'MMMU-Pro', 'MMMU/MMMU_Pro', 'test of both standard configs', _EXACT,
        'id question options answer', suite_rows.mmmu_pro, _MMMU,
        note='the config vision has other columns (its question is in the '
             'image) and is not read'),
    'mmvet': _image('MM-Vet', 'lmms-lab/MMVet', 'test', _JUDGE,
                    'question_id question answer', suite_rows.mmvet,
                    note='the official judge gives parts of a point'),
    'ocrbench_en': _image(
        'OCRBench v2, English', 'ling99/OCRBench_v2', 'test', _FIXED,
        'id question answers type', suite_rows.ocrbench('en'),
        note='the paper scores by the official metrics of each task'),
    'ocrbench_zh': _image(
        'OCRBench v2, Chinese', 'ling99/OCRBench_v2', 'test', _FIXED,
        'id question answers type', suite_rows.ocrbench('cn'),
        note='the paper scores by the official metrics of each task'),
    'visualpuzzles': _image(
        'VisualPuzzles', 'neulab/VisualPuzzles', 'train', _EXACT,
        'id category question options answer', suite_rows.visualpuzzles,
        confirmed=True),
    'vlmsareblind': _image(
        'VLMs are Blind', 'XAI/vlmsareblind', 'valid', _EXACT,
        'task prompt groundtruth', suite_rows.vlmsareblind),
    'wemath': _image('We-Math', 'We-Math/We-Math', 'testmini', _EXACT,
                     'ID question option answer', suite_rows.wemath,
                     'image_path'),

    'aime25': _text('AIME 2025', 'opencompass/AIME2025',
                    'test of AIME2025-I and AIME2025-II', _EXACT,
                    'question, answer', suite_rows.aime25),
    'aime26': _text('AIME 2026', 'MathArena/aime_2026', 'train', _EXACT,
                    'problem_idx, problem, answer', suite_rows.aime26),
    'ceval': _text('C-Eval', 'ceval/ceval-exam', 'val of all 52 subjects',
                   _EXACT, 'question, A, B, C, D, answer', suite_rows.ceval),
    'gpqa_diamond': _text(
        'GPQA-Diamond', 'Idavidrein/gpqa', 'gpqa_diamond train (gated)',
        _EXACT, 'Question, Correct Answer, Incorrect Answer 1, '
        'Incorrect Answer 2, Incorrect Answer 3', suite_rows.gpqa),
    'hle': _text("Humanity's Last Exam", 'cais/hle', 'test (gated)', _JUDGE,
                 'id, question, answer, category', suite_rows.hle,
                 images='image'),
    'imo_answerbench': _text(
        'IMO-AnswerBench', 'OpenEvals/IMO-AnswerBench', 'train', _EXACT,
        'Problem ID, Problem, Short Answer, Category',
        suite_rows.imo_answerbench, confirmed=True),
    'mmlu': _text('MMLU', 'cais/mmlu', 'all test', _EXACT,
                  'question, subject, choices, answer', suite_rows.mmlu),
    'mmlu_pro': _text('MMLU-Pro', 'TIGER-Lab/MMLU-Pro', 'test', _EXACT,
                      'question_id, question, options, answer, category',
                      suite_rows.mmlu_pro),
    'mmlu_redux': _text('MMLU-Redux 2.0', 'edinburgh-dawg/mmlu-redux-2.0',
                        'test of all 57 subjects', _EXACT,
                        'question, choices, answer', suite_rows.mmlu_redux),
    'multichallenge': _text(
        'MultiChallenge', 'ScaleAI/MultiChallenge', 'test', _JUDGE,
        'QUESTION_ID, AXIS, CONVERSATION, TARGET_QUESTION, PASS_CRITERIA',
        suite_rows.multichallenge,
        note='a conversation is shown as one message'),

    'mmvu': _video('MMVU', 'yale-nlp/MMVU', 'validation', _JUDGE,
                   'id question_type question choices answer', suite_rows.mmvu,
                   'video'),
    'mvbench': _video('MVBench', 'OpenGVLab/MVBench', 'json of 20 tasks',
                      _RULE, 'question candidates answer', suite_rows.mvbench,
                      'video'),
    'video_mme': _video(
        'Video-MME without subtitles', 'lmms-lab/Video-MME', 'test', _RULE,
        'question_id question options answer', suite_rows.video_mme, 'videoID'),
    'video_mme_subtitles': _video(
        'Video-MME with subtitles', 'lmms-lab/Video-MME', 'test', _RULE,
        'question_id question options answer subtitles',
        suite_rows.video_mme_subtitles, 'videoID',
        note='subtitles are a column to be added from the set\'s files'),
    'video_mmmu': _video(
        'Video-MMMU', 'lmms-lab/VideoMMMU',
        'test of Perception, Comprehension and Adaptation', _RULE,
        'id question options answer', suite_rows.video_mmmu, 'id'),
}


def get(name: str) -> Benchmark:
  """A row of BENCHMARKS; KeyError names the known ones."""
  return allowed.known('benchmark', name, BENCHMARKS)


def mapping(of: Benchmark) -> Mapping:
  """The mapping of the rows of a benchmark."""
  return Mapping(source=of.hub, columns=of.columns, read=of.read,
                 images=of.images, video=of.video,
                 unconfirmed=() if of.confirmed else of.columns)


def load(split: str, folder: str, size: int,
         bounds: pool.Bounds | None = None) -> Sequence[Question]:
  """The first `size` questions of a benchmark's local copy.

  Args:
    split: `bench:NAME`, or NAME.
    folder: config.eval.benchmarks, which holds the copies.
    size: the most questions.
    bounds: of data.pool; None takes the defaults.

  Raises:
    KeyError: for an unknown benchmark, or for missing columns.
    FileNotFoundError: if there is no copy; it says what to fetch, and whereto.
    ValueError: for a row that cannot be read, or if `folder` is ''.
  """
  name = split.removeprefix(PREFIX)
  benchmark = get(name)
  if not folder:
    raise ValueError(f'eval.splits has {split!r}; eval.benchmarks must name '
                     'the folder that holds local copies')
  home = pathlib.Path(folder).expanduser() / name
  form = next((form for form in ('parquet', 'jsonl')
               if any(home.rglob(f'*.{form}'))), None)
  if form is None:
    frames = (f', and frames of its videos into {home}/frames/VIDEO/'
              if benchmark.video else '')
    raise FileNotFoundError(
        f'{benchmark.title} is not on disk: fetch {benchmark.hub} '
        f'({benchmark.split}) and put its parquet or JSONL files into '
        f'{home}{frames}')
  spec = pool.Spec(split, form, str(home), mapping='of its own', folder=str(
      home / 'frames' if benchmark.video else home))
  source = pool.Source(spec, mapping=mapping(benchmark), bounds=bounds)
  return pool.Pool([source], {})[:size]
