"""Every record that crosses a file, the key of axis names, and the enums.

The axis key; the whole project uses it for the suffixes of array names:

  P questions (prompts) of a step   G rollouts per question   B rows
  T positions   R response positions   S cache slots   V vocabulary
  D width   F MLP width   L layers   N query heads   K key/value heads
  H head dimension   A rotary axes (1, or 3: time, height, width)
  I image patches   C pixel values of a patch

Host records are frozen dataclasses of Python values; device records are
`flax.struct` pytrees. Data flows one way:

  Question -> Prompt -> Rollout -> Group -> MicroBatch -> TrainState
"""

import dataclasses
import enum
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zppo_jax import allowed, import_paths


class PromptKind(enum.IntEnum):
  """How a prompt relates to its question; groups never mix kinds."""
  PLAIN = 0
  BCQ = 1  # binary candidate-included question
  NCQ = 2  # negative candidate-included question
  PREFIX = 3  # the response begins with tokens of a correct teacher response
  HINT = 4  # the question with a hint that does not tell the answer
  PRIVILEGED = 5  # the question with a teacher's context
  CARRIED = 6  # the plain question, before responses drawn under PRIVILEGED
  # Controls: the plain question once more, in the slot of a BCQ or of an NCQ.
  # They have draws of their own.
  AGAIN_BCQ = 7
  AGAIN_NCQ = 8


class StopReason(enum.IntEnum):
  """Why a generation ended."""
  END = 0  # the model emitted an end token (it is part of the tokens)
  LENGTH = 1  # the token limit came first, so the rollout is truncated
  STOP_STRING = 2  # the text held a stop string; the text is cut before it


class Verdict(enum.IntEnum):
  """Why a rollout got its reward; only CORRECT has reward 1."""
  CORRECT = 0
  WRONG = 1
  NO_ANSWER = 2  # the response ended, but no answer could be parsed
  TRUNCATED = 3  # the response hit the token limit; it is wrong in any case
  GOLD_UNREADABLE = 4  # the gold answer is at fault: not graded
  TIMEOUT = 5  # grading met a deadline: not graded
  CRASH = 6  # grading failed: not graded
  JUDGE_MALFORMED = 7  # the judge's reply had another form: counts as wrong


# These verdicts say nothing about a rollout, so it gets no reward and no
# advantage, and it is no candidate.
UNGRADED = frozenset(
    {Verdict.GOLD_UNREADABLE, Verdict.TIMEOUT, Verdict.CRASH})


class Cause(enum.IntEnum):
  """Why an answer is missing that a teacher was asked for."""
  CONNECTION = 0  # the connection was refused or reset, or the host is unknown
  DEADLINE = 1  # the request took too long
  BUDGET = 2  # the seconds of the step were used up
  BUSY = 3  # the server said 429, also after the last retry
  SERVER = 4  # the server said 5xx, also after the last retry
  REFUSED = 5  # another 4xx: wrong key, unknown model, bad field
  GARBAGE = 6  # the reply is not JSON, or not in the agreed form
  MISSING = 7  # fewer answers came than asked for, or none were stored
  DECLINED = 8  # the model said that it will not answer


@dataclasses.dataclass(frozen=True)
class Picture:
  """An encoded image (PNG, JPEG, ...): a file, or its bytes in base64.

  Attributes:
    path: the path of the file, or ''.
    base64: the bytes, or ''.
    where: the row that the image came from, for errors; it is not compared.
  """
  path: str = ''
  base64: str = ''
  where: str = dataclasses.field(default='', compare=False, repr=False)

  def __post_init__(self) -> None:
    if bool(self.path) == bool(self.base64):
      raise ValueError('a picture has either a path or base64')


@dataclasses.dataclass(frozen=True)
class Clip:
  """A video as a sequence of frames.

  Attributes:
    frames: the frames in order, evenly spaced in time.
    fps: frames per second.
  """
  frames: tuple[Picture, ...]
  fps: float

  def __post_init__(self) -> None:
    if not self.frames:
      raise ValueError('a clip has no frames')
    allowed.number('fps', self.fps, '> 0')


class Turn(NamedTuple):
  """An earlier message of a conversation; `role` is one of TURN_ROLES."""
  role: str
  content: str


TURN_ROLES = ('system', 'user', 'assistant')


@dataclasses.dataclass(frozen=True)
class Question:
  """A verifiable question.

  Attributes:
    id: a unique name, which keys the replay buffer and all randomness.
    text: the question, without chat template.
    answer: the gold answer, in the form that the task's parser returns.
    split: the label under which results are reported, e.g. 'hard'.
    media: pictures and clips, which are shown before the text.
    kind: how answers are compared (verdicts.kinds.get); '' if the task's grader
      has only one way.
    source: the data set that the question came from; '' if there is only one.
    hint: text that may help (for the hint baseline); '' if there is none.
    responses: answers that a teacher gave before the run.
    turns: the messages before `text`, which is the user's last one; () for a
      question that is asked alone.
    subset: the part of its data set, for averages; '' without parts.
  """
  id: str
  text: str
  answer: str
  split: str
  media: tuple[Picture | Clip, ...] = ()
  kind: str = ''
  source: str = ''
  hint: str = ''
  responses: tuple[str, ...] = ()
  turns: tuple[Turn, ...] = ()
  subset: str = ''


@dataclasses.dataclass(frozen=True)
class Grader:
  """The rules by which a response is right or wrong.

  Attributes:
    parse: response text -> answer; '' if there is no answer.
    grade: (parsed answer, question) -> score in [0, 1], for questions without
      a kind; it runs in this process.
    threshold: the least score in (0, 1] at which an answer is right.
    verifier: the verdicts.verifier.Verifier that grades questions with a kind,
      with the judge and the journal of a run. None: the process's own verifier,
      which has no judge and no journal.
    rewards: name -> (verdicts.rewards.Response) -> value in [0, 1], for weights
      of the section `reward`; it runs in this process.
    scoring: the verdicts.rewards.Scoring of a run; None without that section.
  """
  parse: Callable[[str], str]
  grade: Callable[[str, Question], float]
  threshold: float = 1.0
  verifier: Any = None
  rewards: Mapping[str, Callable[..., float]] = dataclasses.field(
      default_factory=dict)
  scoring: Any = None

  def __post_init__(self) -> None:
    allowed.number('threshold', self.threshold, '(0, 1]')


@dataclasses.dataclass(frozen=True, eq=False)
class ProcessedMedia:
  """A question's media after a processor, before there is a prompt.

  Attributes:
    text: template text that holds the placeholders.
    patches_IC: float32 normalised pixel values, frame by frame.
    frames: (rows, columns) of patches of each frame.
  """
  text: str
  patches_IC: np.ndarray
  frames: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class PromptMedia:
  """The images and videos of one prompt as host arrays.

  All patches of the prompt lie one after the other, in the order of the
  placeholder tokens; a frame's patches are in the vision tower's own order.

  Attributes:
    patches_IC: float32 normalised pixel values.
    rotary_I2: int32 (row, column) of each patch in its frame.
    segment_I: int32 number of the frame that a patch belongs to, from 1.
    corners_I4: int32 rows of the tower's learned position table.
    weights_I4: float32 bilinear weights of those rows.
    positions_TA: int32 position of each prompt token on the rotary axes.
    next_position: the first position of the response, on every axis.
  """
  patches_IC: np.ndarray
  rotary_I2: np.ndarray
  segment_I: np.ndarray
  corners_I4: np.ndarray
  weights_I4: np.ndarray
  positions_TA: np.ndarray
  next_position: int


@dataclasses.dataclass(frozen=True)
class Prompt:
  """Token ids that a model is given, and the question behind them.

  Attributes:
    question: the question.
    kind: how the prompt relates to its question.
    tokens: ids, placeholders of images and videos included.
    media: what the placeholders stand for; None for text alone.
    forced: how many of the last tokens are a beginning of the response that
      was written for the model. The model reads them like the rest of the
      prompt, so they carry no loss; a grader reads them as response.
    removed: how many pieces were cut out of its content (chat/segments.py).
  """
  question: Question
  kind: PromptKind
  tokens: tuple[int, ...]
  media: PromptMedia | None = None
  forced: int = 0
  removed: int = dataclasses.field(default=0, compare=False)

  @property
  def beginning(self) -> tuple[int, ...]:
    """The forced tokens."""
    return self.tokens[len(self.tokens) - self.forced:]


@dataclasses.dataclass(frozen=True)
class Rollout:
  """One graded generation.

  Attributes:
    tokens: response ids that were drawn; the end token is included when `stop`
      is END.
    logps: the sampler's log-prob of each token that it drew (nats), in order.
      It is taken over the full vocabulary, scaled by the temperature, before
      any top-p / top-k truncation. () if no sampler of this run drew the text
      behind its prompt (see `sampled`).
    text: the decoded response without its end token, from the prompt's forced
      beginning on.
    stop: why it ended.
    verdict: why it got its reward.
    answer: the parsed answer, or '' if none could be parsed.
    score: in [0, 1], of a kind that gives parts of a point; otherwise None. It
      counts in evaluations alone, never in training.
    components: (name, value) of its graded reward; () without weights.
  """
  tokens: tuple[int, ...]
  logps: tuple[float, ...]
  text: str
  stop: StopReason
  verdict: Verdict
  answer: str
  score: float | None = None
  components: tuple[tuple[str, float], ...] = ()

  @property
  def sampled(self) -> bool:
    """Whether `logps` has a number for each token. A teacher's text has none,
    because this run's policy did not draw it."""
    return len(self.logps) == len(self.tokens)

  @property
  def reward(self) -> float:
    return 1.0 if self.verdict == Verdict.CORRECT else 0.0

  @property
  def points(self) -> float:
    """The score of an evaluation: parts of a point where the kind has some."""
    return self.reward if self.score is None else self.score

  @property
  def graded(self) -> bool:
    return self.verdict not in UNGRADED


@dataclasses.dataclass(frozen=True)
class Group:
  """The rollouts of one prompt; a baseline is the mean over one group."""
  prompt: Prompt
  rollouts: tuple[Rollout, ...]

  @property
  def rewards(self) -> tuple[float, ...]:
    return tuple(rollout.reward for rollout in self.rollouts)

  @functools.cached_property
  def graded(self) -> tuple[Rollout, ...]:
    """The rollouts that have a reward; the others count for nothing."""
    return tuple(r for r in self.rollouts if r.graded)

  @functools.cached_property
  def accuracy(self) -> float:
    """The mean reward of the graded rollouts. Without any it is nan, which is
    neither hard nor solved, because < and >= are both False for nan."""
    graded = self.graded
    if not graded:
      return math.nan
    return sum(r.reward for r in graded) / len(graded)

  @property
  def trivial(self) -> bool:
    """Whether all are right or all wrong: no advantage and no gradient."""
    return len({r.reward for r in self.graded}) < 2

  @functools.cached_property
  def wrong(self) -> tuple[Rollout, ...]:
    return tuple(r for r in self.graded if r.verdict != Verdict.CORRECT)

  @functools.cached_property
  def correct(self) -> tuple[Rollout, ...]:
    return tuple(r for r in self.rollouts if r.verdict == Verdict.CORRECT)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenSequence:
  """A sequence to score: a prompt and one response behind it.

  Attributes:
    prompt: token ids.
    response: token ids.
    media: what the placeholders of the prompt stand for; None for text alone.
    source: the source of the question, by which a panel chooses a teacher.
  """
  prompt: Sequence[int]
  response: Sequence[int]
  media: PromptMedia | None = None
  source: str = ''

  def __len__(self) -> int:
    return len(self.prompt) + len(self.response)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingSequence:
  """A sequence to train on.

  Attributes:
    sequence: the tokens.
    mask_R: bool, True on the response tokens that carry a loss.
    targets: name -> array [R, ...] over the response tokens, what the loss
      reads of them. All sequences of a mini-batch have the same names, types
      and trailing axes.
    lesson: the same response behind the teacher's prompt; None: this prompt.

  Raises:
    ValueError: if the mask or a target has another length than the response.
  """
  sequence: TokenSequence
  mask_R: np.ndarray
  targets: Mapping[str, np.ndarray]
  lesson: TokenSequence | None = None

  def __post_init__(self) -> None:
    length = len(self.sequence.response)
    for name, array in {'mask_R': self.mask_R, **self.targets}.items():
      if np.ndim(array) < 1 or len(array) != length:
        raise ValueError(
            f'target {name!r} has shape {np.shape(array)}; its first axis must '
            f'be {length}, the number of response tokens')


@dataclasses.dataclass(frozen=True)
class CallStats:
  """Statistics of the calls to a teacher; they can be added up.

  Attributes:
    answers: the number of answers wanted.
    requests: requests sent, retries included; 0 for a teacher in this process.
    retries: the retries among them.
    failed: cause -> the number of answers that never came.
    error: the text of the last failure; '' without one.
  """
  answers: int = 0
  requests: int = 0
  retries: int = 0
  failed: Mapping[Cause, int] = dataclasses.field(default_factory=dict)
  error: str = ''

  def __add__(self, other: 'CallStats') -> 'CallStats':
    failed = Counter(self.failed) + Counter(other.failed)
    return CallStats(
        self.answers + other.answers, self.requests + other.requests,
        self.retries + other.retries, dict(failed), other.error or self.error)


class Answers(NamedTuple):
  """A teacher's graded answers.

  Attributes:
    groups: one group per prompt; missing answers are left out, so that a group
      may be empty.
    calls: statistics of the calls.
  """
  groups: tuple[Group, ...]
  calls: CallStats


class Summaries(NamedTuple):
  """Graded summaries, one per prompt and None if none came; call statistics."""
  rollouts: tuple[Rollout | None, ...]
  calls: CallStats


@dataclasses.dataclass(frozen=True, eq=False)
class Wanted:
  """What a teacher's scores hold besides each response token's log-prob.

  Attributes:
    top: K, the number of likeliest tokens at each position; 0 for none.
    ids: per sequence int32 [R, N], the ids whose log-probs are wanted; N is the
      same for all sequences, and -1 stands where there is no id. () for none.
    entropy: whether entropies are wanted.
    temperature: logits are divided by it.

  Raises:
    ValueError: for a number out of its range, or ids of another shape.
  """
  top: int = 0
  ids: Sequence[np.ndarray] = ()
  entropy: bool = False
  temperature: float = 1.0

  def __post_init__(self) -> None:
    allowed.number('top', self.top, '>= 0', whole=True)
    allowed.number('temperature', self.temperature,
                   f'>= {LEAST_TEMPERATURE:g}', note=' and finite')
    shapes = {np.shape(ids)[1:] for ids in self.ids}
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0]
                              for shape in shapes):
      raise ValueError(f'ids have trailing axes {sorted(shapes)}; they must '
                       'have one and the same axis [N], N >= 1')

  def of(self, places: Sequence[int]) -> 'Wanted':
    """The same for some of the sequences, by their numbers."""
    return dataclasses.replace(
        self, ids=tuple(self.ids[i] for i in places) if len(self.ids) else ())

  def check(self, sequences: Sequence[TokenSequence]) -> None:
    """ValueError unless there are ids for each token of each response."""
    if not len(self.ids):
      return
    have = [len(ids) for ids in self.ids]
    need = [len(s.response) for s in sequences]
    if have != need:
      raise ValueError(f'ids are given for responses of {have[:8]} tokens; the '
                       f'responses have {need[:8]}')


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
  """A model's view of given responses, nats, float32 over the response tokens.

  Every field but `calls` has an entry per sequence: an array, or None if the
  scores of this sequence did not come. What was not wanted is ().

  Attributes:
    logps: [R], of the response tokens.
    calls: statistics of the calls; one answer per sequence.
    top_ids: int32 [R, K] ids, the likeliest first, of equal ones the lower.
    top_logps: [R, K], of these ids. Their sum of exp is the kept mass.
    given_logps: [R, N], of the given ids; -inf where no id stands.
    entropies: [R].
  """
  logps: Sequence[np.ndarray | None]
  calls: CallStats
  top_ids: Sequence[np.ndarray | None] = ()
  top_logps: Sequence[np.ndarray | None] = ()
  given_logps: Sequence[np.ndarray | None] = ()
  entropies: Sequence[np.ndarray | None] = ()


@dataclasses.dataclass(frozen=True)
class HardVisit:
  """A hard question at one step, with everything a reformulation may use.

  Attributes:
    question: the question.
    accuracy: the mean reward of the student's plain rollouts, below tau.
    wrong: the student's wrong plain rollouts (never empty).
    teacher_correct: the teacher's correct rollouts of the same step.
    hint: a text that may help and does not tell the answer; '' without one.
    oracle: the first tokens of the reference solution that is stored with the
      question; () without one.
    others: the other visits of the step, without theirs; () for reformulations
      that show nothing of other questions.
  """
  question: Question
  accuracy: float
  wrong: tuple[Rollout, ...]
  teacher_correct: tuple[Rollout, ...]
  hint: str = ''
  oracle: tuple[int, ...] = ()
  others: tuple['HardVisit', ...] = ()


@dataclasses.dataclass(frozen=True)
class Instance:
  """A planned reformulation: what its prompt has besides the question.

  Each kind of prompt has a renderer (chat/renderers.py), which says what it
  reads of these.

  Attributes:
    question: the question.
    kind: the kind of the prompt.
    candidates: the traces that are shown, in this order.
    hints: texts that are shown as they stand here.
    forced: token ids with which the response begins.
  """
  question: Question
  kind: PromptKind
  candidates: tuple[Rollout, ...] = ()
  hints: tuple[str, ...] = ()
  forced: tuple[int, ...] = ()


# By a smaller one logits are divided into infinities, whose difference is NaN.
LEAST_TEMPERATURE = 1e-20


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How tokens are drawn. It is hashable: one compilation per setting.

  Attributes:
    max_tokens: response limit in tokens, end token included.
    temperature: 0 takes the argmax (log-probs are then those at 1); else
      LEAST_TEMPERATURE or more.
    top_p: nucleus mass in (0, 1]; 1 keeps all.
    top_k: tokens kept; 0 keeps all.
  """
  max_tokens: int
  temperature: float = 1.0
  top_p: float = 1.0
  top_k: int = 0

  def __post_init__(self) -> None:
    allowed.number('max_tokens', self.max_tokens, '>= 1')
    if self.temperature != 0:
      allowed.number('temperature', self.temperature,
                     f'>= {LEAST_TEMPERATURE:g}', note=' and finite, or 0')
    allowed.number('top_p', self.top_p, '(0, 1]')
    allowed.number('top_k', self.top_k, '>= 0', note=' (0: off)')


import_paths.refuse_moved_names(__name__)
