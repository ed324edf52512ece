"""Hints for hard questions (ZPPO, App. D.2): written by the teacher, or stored.

The teacher reads one of its own correct traces and writes a short hint; with
`hint.source` = 'reference' it reads the first response that is stored with the
question (SAGE, NuRL), and with 'stored' the hint is the one that came with the
question. All pass the zero-spoiler filter (spoilers.py). A question whose hint
is rejected or missing gets no extra group and keeps what it has.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zppo_jax import allowed
from zppo_jax.algorithms.privileged import material, spoilers
from zppo_jax.algorithms.privileged.spoilers import Spoiler
from zppo_jax.chat import renderers
from zppo_jax.chat.wording import Chat
from zppo_jax.randomness import question_uid
from zppo_jax.records import (
  CallStats,
  HardVisit,
  Prompt,
  PromptKind,
  Question,
  Rollout,
  StopReason,
  Summaries,
)

SOURCES = ('teacher', 'stored', 'reference')
_TAGGED = re.compile(r'<hint>(.*?)(?:</hint>|\Z)', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class HintConfig:
  """The section `hint`.

  Attributes:
    source: one of SOURCES, who gives the hints.
    cap: the most tokens of the teacher's reply; a longer one is rejected.
    temperature: the temperature of the teacher's hints.
    max_characters: the most characters of a hint.
    material: a JSONL file of stored hints, for questions that carry none.
    level: how much a written hint may tell, a number of Wording.hint_levels
      from 1 on; 0 are the words of ZPPO's hint.
    texts: what is in it (material.read).
  """
  source: str = 'teacher'
  cap: int = 512
  temperature: float = 0.0
  max_characters: int = spoilers.MAX_CHARACTERS
  material: str = ''
  level: int = 0
  texts: Mapping[str, Mapping[str, object]] = dataclasses.field(
      default_factory=dict, repr=False, compare=False)

  def __post_init__(self) -> None:
    allowed.one_of('hint.source', self.source, SOURCES)
    allowed.number('hint.cap', self.cap, '>= 1', whole=True)
    allowed.number('hint.temperature', self.temperature, '>= 0')
    allowed.number('hint.max_characters', self.max_characters,
                   f'[1, {spoilers.MAX_CHARACTERS}]', whole=True)
    allowed.number('hint.level', self.level, '>= 0', whole=True)
    if self.material and not self.stored:
      raise ValueError(
          f'hint.material is {self.material!r} and hint.source '
          f"{self.source!r}; a file of hints is read for 'stored'")

  @property
  def stored(self) -> bool:
    return self.source == 'stored'

  @property
  def of_answers(self) -> bool:
    """Whether hints are made of the teacher's own right answers."""
    return self.source == 'teacher'

  def opened(self) -> 'HintConfig':
    """The section with the texts of its file.

    Raises:
      FileNotFoundError, KeyError, ValueError: see material.read.
    """
    return dataclasses.replace(
        self, texts=material.read(self.material, 'hint.material'))

  def of(self, question: Question) -> str:
    """The hint that is stored for a question, '' without one."""
    return (question.hint or str(self.texts.get(
        question.id, {}).get('hint', ''))).strip()


DEFAULT = HintConfig()


@dataclasses.dataclass(frozen=True)
class Hints:
  """The hints of a step, with the fields of compression.Compressed.

  Attributes:
    texts: (question id, '') -> the hint.
    failures: one reason per question whose hint was rejected or is missing.
    requested: the number of hints that the teacher was asked for.
    unchanged: the number of hints that are shown.
    over_bound: the number of requests that are too long for the teacher; it was
      not asked.
    prompt_tokens, generated_tokens: the tokens that the teacher read and wrote.
    removed: the number of pieces that were cut out of the content of requests.
    calls: statistics of the calls to the teacher.
  """
  texts: dict[tuple[str, str], str]
  failures: tuple[Spoiler, ...]
  requested: int = 0
  over_bound: int = 0
  prompt_tokens: int = 0
  generated_tokens: int = 0
  removed: int = 0
  calls: CallStats = dataclasses.field(default_factory=CallStats)

  @property
  def unchanged(self) -> int:
    return len(self.texts)

  def of(self, visit: HardVisit) -> HardVisit:
    """The visit with its hint, if it has one."""
    return dataclasses.replace(
        visit, hint=self.texts.get((visit.question.id, ''), ''))


def said(text: str) -> str | None:
  """The hint in a reply: what stands behind its thoughts, inside <hint> tags
  if there are some. None if it breaks off inside its thoughts."""
  before, thought, behind = text.rpartition('</think>')
  if not thought and '<think>' in text:
    return None
  if '<think>' in behind:
    return None
  del before
  tagged = _TAGGED.findall(behind)
  return (tagged[-1] if tagged else behind).strip()


def _judged(reply: Rollout | None, answer: str, most: int
            ) -> tuple[str, Spoiler | None]:
  """(the hint of a reply, why it may not be shown)."""
  if reply is None:
    return '', Spoiler.MISSING
  if reply.stop == StopReason.LENGTH:
    return '', Spoiler.OVER_CAP
  text = said(reply.text)
  if text is None:
    return '', Spoiler.UNFINISHED
  return text, spoilers.spoiler(text, answer, most)


def stored(visits: Sequence[HardVisit], config: HintConfig) -> Hints:
  """The hints that came with the questions."""
  texts, failures = {}, []
  for visit in visits:
    question = visit.question
    text = config.of(question)
    why = spoilers.spoiler(text, question.answer, config.max_characters) if (
        text) else Spoiler.MISSING
    if why is None:
      texts[question.id, ''] = text
    else:
      failures.append(why)
  return Hints(texts=texts, failures=tuple(failures))


def written(visits: Sequence[HardVisit], config: HintConfig, chat: Chat,
            max_prompt: int, rng: np.random.Generator,
            ask: Callable[[list[Prompt], list[str]], Summaries]) -> Hints:
  """Hints that the teacher writes, one for each question with a right trace:
  its own, or the reference that is stored.

  Args:
    visits: the hard questions.
    config: the section `hint`.
    chat: makes the requests.
    max_prompt: the longest prompt that the teacher takes, in tokens.
    rng: draws the trace of each question, uniformly.
    ask: (requests, the traces in them) -> one reply per request, cut at the
      cap. Its verdict is not read.
  """
  asked, traces, prompts = [], [], []
  over_bound = removed = 0
  for visit in visits:
    question = visit.question
    traces_of = ([r.text for r in visit.teacher_correct] if config.of_answers
                 else list(question.responses[:1]))
    if not traces_of:
      continue
    trace = traces_of[int(rng.integers(len(traces_of)))]
    encoded = chat.hint_request(
        renderers.text_of(question), trace, question.media, config.level)
    if len(encoded.tokens) > max_prompt:
      over_bound += 1
      continue
    # The trace is part of the name that keys the teacher's draw. Nobody grades
    # a hint, so the request has no kind of answer.
    name = f'{question.id}#hint{question_uid(trace):08x}'
    removed += encoded.removed
    asked.append(visit)
    traces.append(trace)
    prompts.append(Prompt(
        question=dataclasses.replace(question, id=name, kind=''),
        kind=PromptKind.PLAIN, tokens=encoded.tokens, media=encoded.media))
  replies, calls = ask(prompts, traces) if prompts else Summaries(
      rollouts=(), calls=CallStats())
  texts, failures = {}, []
  for visit, reply in zip(asked, replies, strict=True):
    text, why = _judged(reply, visit.question.answer, config.max_characters)
    if why is None:
      texts[visit.question.id, ''] = text
    else:
      failures.append(why)
  return Hints(
      texts=texts, failures=tuple(failures), requested=len(prompts),
      over_bound=over_bound, removed=removed, calls=calls,
      prompt_tokens=sum(len(p.tokens) for p in prompts),
      generated_tokens=sum(len(r.tokens) for r in replies if r))
