"""Teachers: answers to questions, short versions of traces, and hints.

The kinds have one contract (docs/teachers.md): `in_process`, `own`, `endpoint`,
`stored`. What a teacher does not send is missing and never made up:
a question without a correct answer falls back to its NCQ (ZPPO, Algorithm 1,
step 4).
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from zppo_jax.records import (
  Answers,
  Prompt,
  Scores,
  Summaries,
  TokenSequence,
  Wanted,
)


@dataclasses.dataclass(frozen=True)
class Capabilities:
  """What a teacher can do, known before the first step.

  Attributes:
    max_compression_prompt: the longest prompt for a summary or a hint that the
      teacher takes, in tokens of the student's vocabulary; 0 if it writes none.
    scores: whether it returns the log-probs of given tokens.
    pictures: whether questions may hold pictures.
    clips: whether questions may hold clips.
    repeatable: whether the same (prompts, step) brings the same answers in a
      resumed run. If not, a journal keeps the answers (teachers/journal.py).
    top: the most likeliest tokens per position that it returns with scores.
    gathers: whether it returns the log-probs of any given ids.
    entropy: whether it returns entropies.
    temperature: whether it scores at another temperature than 1.
  """
  max_compression_prompt: int
  scores: bool
  pictures: bool
  clips: bool
  repeatable: bool
  top: int = 0
  gathers: bool = False
  entropy: bool = False
  temperature: bool = False


PLAIN = Wanted()  # the log-probs of the response tokens alone
ANY_IDS = (np.zeros((1, 1), np.int32),)  # stands for ids that are not known yet


class Teacher(Protocol):
  """An answer depends on (question, step) and on no other request."""
  capabilities: Capabilities

  def answer(self, prompts: Sequence[Prompt], step: int) -> Answers:
    """Graded answers, at most G_T per prompt, which are new in every step."""

  def summarise(self, prompts: Sequence[Prompt], traces: Sequence[str],
                step: int) -> Summaries:
    """A graded summary of each trace.

    Args:
      prompts: the requests for the summaries, in the student's tokens.
      traces: the text that each of these prompts holds.
      step: the step; with the prompt it keys the draw.
    """

  def hint(self, prompts: Sequence[Prompt], traces: Sequence[str],
           step: int) -> Summaries:
    """A hint for each question, made of a right trace; its verdict says
    nothing.

    Args:
      prompts: the requests for the hints, in the student's tokens.
      traces: the right trace that each of these prompts holds.
      step: the step; with the prompt it keys the draw.
    """

  def score(self, sequences: Sequence[TokenSequence],
            wanted: Wanted = PLAIN, step: int | None = None) -> Scores:
    """The log-probs of responses after their prompts.

    Args:
      sequences: prompts and responses, in the student's tokens.
      wanted: what else is wanted.
      step: the step, whose budget the calls share; None: a budget of their own.

    Raises:
      ValueError: for what the teacher cannot deliver (see `lacking`), or ids
        that do not fit the responses.
    """


# What each kind of teacher delivers, for errors.
KINDS = {
    'in_process': 'log-probs of given tokens, any top K, given ids, entropies, '
                  'any temperature',
    'own': 'the same as in_process, with the weights of the student',
    'endpoint': "under api 'completions', log-probs of given tokens and a top "
                "K of at most teacher.endpoint.max_logprobs, at temperature 1",
    'stored': 'nothing',
    'panel': 'what all of its members return; no top K and no entropies where '
             'members are combined'}


def lacking(kind: str, capabilities: Capabilities, wanted: Wanted) -> str:
  """Why a teacher cannot deliver scores; '' if it can.

  Args:
    kind: its teacher.kind.
    capabilities: what it can do.
    wanted: what is wanted. Of the ids it only counts whether there are any, so
      that `dataclasses.replace(wanted, ids=ANY_IDS)` asks before there are
      sequences.
  """
  able = capabilities
  lacks = [what for what, can in (
      ('log-probs of given tokens', able.scores),
      (f'the {wanted.top} likeliest tokens', wanted.top <= able.top),
      ('log-probs of given ids', able.gathers or not len(wanted.ids)),
      ('entropies', able.entropy or not wanted.entropy),
      (f'temperature {wanted.temperature:g}',
       able.temperature or wanted.temperature == 1)) if not can]
  if not lacks:
    return ''
  can = [what for what, able in (
      ('log-probs of given tokens', able.scores),
      (f'a top K of at most {able.top}', able.top),
      ('given ids', able.gathers), ('entropies', able.entropy),
      ('any temperature', able.temperature)) if able]
  kinds = '; '.join(f'{name!r}: {what}' for name, what in KINDS.items())
  return (f'teacher.kind is {kind!r}; this teacher does not return '
          f'{", ".join(lacks)}. It returns {", ".join(can) or "no scores"}. '
          f'What each kind returns: {kinds} (docs/teachers.md)')


def check(kind: str, capabilities: Capabilities, wanted: Wanted,
          sequences: Sequence[TokenSequence]) -> None:
  """ValueError for what `lacking` says, or ids that do not fit."""
  reason = lacking(kind, capabilities, wanted)
  if reason:
    raise ValueError(reason)
  wanted.check(sequences)
