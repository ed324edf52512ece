"""The table of methods: each method is a row, not a branch in the code.

| name | paper | buffer | reformulations |
|---|---|---|---|
| grpo | GRPO | no | - |
| grpo_replay | GRPO + replay (dagger) | yes | - |
| grpo_both | GRPO + Both | no | BCQ, NCQ |
| grpo_replay_bcq | GRPO + replay + BCQ | yes | BCQ |
| grpo_replay_ncq | GRPO + replay + NCQ | yes | NCQ |
| zppo | ZPPO | yes | BCQ, NCQ |
| prefix | GRPO + replay + Prefix | yes | Prefix |
| hint | GRPO + replay + Hint | yes | Hint |

Controls (docs/methods.md): ZPPO, GRPO + replay + BCQ or + NCQ, with one change
in what the slots of the reformulations show. The slots stay:

| name | control of | buffer | reformulations |
|---|---|---|---|
| placebo | ZPPO | yes | BCQ of two wrong candidates, NCQ |
| placebo_bcq | + BCQ | yes | BCQ of two wrong candidates |
| random | ZPPO | yes | BCQ, NCQ of another question's candidates |
| random_bcq | + BCQ | yes | BCQ of another question's candidates |
| random_ncq | + NCQ | yes | NCQ of another question's candidates |
| bare | ZPPO | yes | BCQ, NCQ without candidates |
| bare_bcq | + BCQ | yes | BCQ without candidates |
| bare_ncq | + NCQ | yes | NCQ without candidates |
| again | ZPPO | yes | the plain question for BCQ, NCQ |
| again_bcq | + BCQ | yes | the plain question for BCQ |
| again_ncq | + NCQ | yes | the plain question for NCQ |

Remedies of our own for saturated BCQs (docs/study.md), not the paper's:

| name | remedy for | buffer | reformulations |
|---|---|---|---|
| bcq_again | + BCQ | yes | BCQ, the plain question |

Rows that help with unsolved questions alone, those without a right rollout
(docs/neighbours.md), and otherwise are GRPO:

| name | paper | buffer | reformulations |
|---|---|---|---|
| sage | SAGE | no | Hint, of the reference solution |
| nurl | NuRL | no | Hint, of the reference solution |
| pope | POPE | no | the beginning of the reference solution |

Distillation rows (algorithms/distillation.py); their section is `distil`:

| name | source | buffer | states | loss |
|---|---|---|---|---|
| off_distill | ZPPO, App. D.2 | no | teacher | divergence |
| off_distill_replay | ZPPO, App. D.2 | yes | teacher | divergence |
| on_distill | ZPPO, App. D.2 | no | student | divergence |
| on_distill_replay | ZPPO, App. D.2 | yes | student | divergence |
| seqkd | Kim and Rush 2016 | no | teacher | nll |
| stored_nll | supervised fine-tuning | no | stored | nll |
| gkd | Agarwal et al. 2024 | no | mixed | divergence |
| opd_reverse | on-policy distillation, KL(S, T) | no | student | divergence |
| opd_forward | on-policy distillation, KL(T, S) | no | student | divergence |
| opd_jsd | on-policy distillation, JSD | no | student | divergence |
| opd_k2 | estimator k2 | no | student | estimate |
| opd_k3 | estimator k3 | no | student | estimate |
| opd_log_ratio | MiniLLM, one token's return | no | student | log_ratio |
| grpo_distill | GRPO + distillation | no | student | surrogate + divergence |

Neighbours of the seeds, whose section is `credit` too, are in credit/rows.py.

Other policy objectives (docs/methods.md), without buffer and reformulations:

| name | source | loss | advantages | mean over |
|---|---|---|---|---|
| gspo | Zheng et al. 2025 | sequence ratio | group | rollouts |
| dr_grpo | Liu et al. 2025 | clipped surrogate | none | rollouts x max_tokens |
| cispo | MiniMax-M1 2025 | clipped weight x log p | group | tokens |
"""

import dataclasses
import functools
import unicodedata
from collections.abc import Mapping
from typing import Any

from zppo_jax import allowed
from zppo_jax.algorithms import distillation
from zppo_jax.algorithms.credit import rows
from zppo_jax.algorithms.privileged import hints
from zppo_jax.algorithms.privileged.hints import HintConfig
from zppo_jax.algorithms.targets import MakeTargets, group_advantages
from zppo_jax.objectives import losses, surrogates

# Reformulations for which the teacher answers the hard questions; 'hint' does
# so by its source.
ANSWERED = frozenset({
    'bcq', 'ncq', 'placebo_bcq', 'prefix', 'random_bcq', 'random_ncq',
    'bare_bcq', 'bare_ncq', 'again_bcq', 'again_ncq'})


@dataclasses.dataclass(frozen=True)
class Method:
  """What a method adds to the loop.

  Attributes:
    replay: whether a buffer holds hard questions, which later steps ask again.
    reformulations: keys of reformulate.REFORMULATIONS, in the order of slots.
    loss: makes the loss from a config's sections (losses.LossContext), so that
      a row brings its own constants.
    targets: what the loss reads of each token of a mini-batch.
    old_logps: whether the loss reads the target 'old_logp'. The trainer then
      scores a step's rollouts before the first of several updates; with one
      update it takes the update's own log-probs.
    teacher_scores: whether `targets` asks the teacher for log-probs of given
      tokens.
    distils: whether the section `distil` says anything about this method.
    states: whose tokens are trained on, one of distillation.STATES.
    compares: whether the loss is a divergence on distil.support, which adds a
      need.
    needs: what must exist of the teacher besides, keys of distillation.NEEDS.
    normaliser: a key of advantages.NORMALISERS, where the row's paper fixes it;
      '' is that of the config.
    reducer: a key of reducers.REDUCERS; for a row that `distils`, the section
      `distil` says it.
    terms: 'policy' and 'divergence', for a row whose targets the section
      `credit` decides (credit/settings.py); () for the others.
    credit: fields of the section `credit` -> the row's values.
    reference: fields of algorithm.reference -> the row's values, where the
      config's kind is 'none'.
    pinned: dotted config field -> the value that the paper has there; a config
      that says otherwise is refused.
    tau: what algorithm.tau is for the row, whatever the config says; 0 is that
      of the config.
    surrogate: whether algorithm.surrogate may name the objective of the row's
      policy term; others have that of their paper.
    hint_sources: the sources of hints that the row takes.
    graded: whether its advantages may be those of graded rewards (section
      `reward`), because it reads rewards by their advantages alone.
    usual: dotted config field of `distil` or `teacher.own` -> the row's value
      where the config leaves the field open.
  """
  replay: bool
  reformulations: tuple[str, ...]
  loss: losses.MakeLoss = losses.make_clipped_surrogate
  targets: MakeTargets = group_advantages
  old_logps: bool = True
  teacher_scores: bool = False
  distils: bool = False
  states: str = 'student'
  compares: bool = False
  needs: frozenset[str] = frozenset()
  normaliser: str = ''
  reducer: str = 'token_mean'
  terms: tuple[str, ...] = ()
  credit: Mapping[str, str] = dataclasses.field(default_factory=dict)
  reference: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  pinned: Mapping[str, object] = dataclasses.field(default_factory=dict)
  tau: float = 0.0
  surrogate: bool = False
  hint_sources: tuple[str, ...] = hints.SOURCES
  graded: bool = False
  usual: Mapping[str, object] = dataclasses.field(default_factory=dict)

  @property
  def of_advantages(self) -> bool:
    """Whether the loss is a policy objective of group advantages alone."""
    return self.targets is group_advantages and not self.terms

  @property
  def teacher(self) -> bool:
    """Whether a teacher is asked for anything; hints that are stored with the
    questions (`hint.source`) spare it."""
    return (bool(self.reformulations) or self.teacher_scores or self.compares
            or bool(self.needs) or self.states in ('teacher', 'guided'))

  @property
  def takes_answers(self) -> bool:
    """Whether the loss is of answers that a teacher may write."""
    return self.states in ('teacher', 'guided', 'mixed')

  @property
  def draws(self) -> bool:
    """Whether rollouts are drawn under a context."""
    return self.states in ('context', 'joint')

  def visited(self, hint: HintConfig) -> bool:
    """Whether the teacher answers the hard questions."""
    return any(name in ANSWERED or (name == 'hint' and hint.of_answers)
               for name in self.reformulations)

  def asked(self, hint: HintConfig) -> bool:
    """`teacher`, with the section `hint` in view."""
    writes = 'hint' in self.reformulations and not hint.stored
    return self.teacher and (
        self.visited(hint) or writes
        or dataclasses.replace(self, reformulations=()).teacher)

  def needs_of(self, distil: distillation.Distil | None) -> frozenset[str]:
    """What must exist of the teacher, that of distil.support included."""
    if not self.compares:
      return self.needs
    assert distil is not None  # what compares also distils
    return self.needs | {distillation.SUPPORTS[distil.support]}

  def numbers_rollouts(self, distil: distillation.Distil | None,
                       stored_need: str) -> bool:
    """Whether the update tells what the teacher thinks of each rollout, because
    nobody else does."""
    return (distil is not None and not stored_need
            and 'teacher_hidden' in self.needs_of(distil))


def _replayed(*reformulations: str) -> Method:
  """GRPO + replay, and reformulations in the order of slots."""
  return _group(replay=True, reformulations=reformulations)


def _row(**fields: Any) -> Method:
  """A distillation row: no reformulations, every rollout is trained."""
  return Method(**{
      'replay': False, 'reformulations': (), 'old_logps': False,
      'targets': distillation.every_rollout, 'distils': True, **fields})


_divergence = functools.partial(
    _row, loss=distillation.make_divergence, compares=True)
# Divergence, support and one update are the paper's (App. D.2); beta and the
# temperature are open in it.
_paper = functools.partial(_divergence, pinned={
    'algorithm.updates': 1, 'distil.divergence': 'jensen_shannon',
    'distil.support': 'whole', 'distil.reducer': 'token_mean',
    'distil.coefficient': 1.0, 'distil.coefficient_schedule': 'constant',
    'distil.keep': 'correct'})


def _opd(divergence: str) -> Method:
  return _divergence(pinned={'distil.divergence': divergence})


def _sampled(loss: losses.MakeLoss, **fields: Any) -> Method:
  return _row(loss=loss, needs=frozenset({'teacher_scores'}), **fields)


def _nll(states: str) -> Method:
  return _row(loss=distillation.make_negative_log_likelihood, states=states)


# What algorithm.normaliser is by default; a row's own replaces it.
NORMALISER = 'without_zero'
_group = functools.partial(Method, graded=True)
_objective = functools.partial(_group, replay=False, reformulations=())
# Below it lies the accuracy 0 alone.
UNSOLVED = 1e-9
_unsolved = functools.partial(
    _group, replay=False, tau=UNSOLVED, hint_sources=('reference', 'stored'))

METHODS = {
    'grpo': _group(replay=False, reformulations=()),
    'grpo_replay': _group(replay=True, reformulations=()),
    'grpo_both': _group(replay=False, reformulations=('bcq', 'ncq')),
    'grpo_replay_bcq': _group(replay=True, reformulations=('bcq',)),
    'grpo_replay_ncq': _group(replay=True, reformulations=('ncq',)),
    'zppo': _group(replay=True, reformulations=('bcq', 'ncq')),
    'placebo': _replayed('placebo_bcq', 'ncq'),
    'placebo_bcq': _replayed('placebo_bcq'),
    **{of: _replayed(f'{of}_bcq', f'{of}_ncq')
       for of in ('random', 'bare', 'again')},
    **{f'{of}_{name}': _replayed(f'{of}_{name}')
       for of in ('random', 'bare', 'again') for name in ('bcq', 'ncq')},
    'bcq_again': _replayed('bcq', 'again_bcq'),
    'prefix': _group(replay=True, reformulations=('prefix',)),
    'hint': _group(replay=True, reformulations=('hint',)),
    'sage': _unsolved(reformulations=('hint',)),
    'nurl': _unsolved(reformulations=('hint',)),
    'pope': _unsolved(reformulations=('oracle_prefix',)),
    'off_distill': _paper(states='teacher'),
    'off_distill_replay': _paper(states='teacher', replay=True),
    'on_distill': _paper(),
    'on_distill_replay': _paper(replay=True),
    'seqkd': _nll('teacher'),
    'stored_nll': _nll('stored'),
    'gkd': _divergence(states='mixed'),
    'opd_reverse': _opd('reverse'),
    'opd_forward': _opd('forward'),
    'opd_jsd': _opd('jensen_shannon'),
    'opd_k2': _sampled(functools.partial(
        distillation.make_estimate, kind='k2')),
    'opd_k3': _sampled(functools.partial(
        distillation.make_estimate, kind='k3')),
    'opd_log_ratio': _sampled(distillation.make_log_ratio, old_logps=True),
    'grpo_distill': _divergence(
        loss=distillation.make_surrogate_and_divergence, surrogate=True,
        targets=distillation.advantages_and_scores, old_logps=True,
        graded=True),
    'gspo': _objective(loss=surrogates.make_gspo, normaliser='group',
                       reducer='per_rollout'),
    'dr_grpo': _objective(normaliser='none', reducer='constant_length'),
    'cispo': _objective(loss=surrogates.make_cispo, normaliser='group'),
    **{name: _row(**fields) for name, fields in rows.ROWS.items()},
}
_TOKENIZERS = (
    'teacher and student have other tokenizers there, and nothing here aligns '
    'their texts byte by byte; with one tokenizer it is opd or opd_reverse')
_SOUND = 'audio has no data path here; opd_reverse teaches texts and pictures'
_TURNS = 'it trains over several turns, and a rollout here has one turn; '
_VISION = 'it is a vision without an algorithm that one could build'
# Names that one may expect -> why there is no such row. docs/neighbours.md has
# them too.
REFUSED = {
    'opd_k1': 'as a loss the estimator k1 has a gradient of zero mean, so that '
              'it trains nothing; as an advantage it is opd_log_ratio',
    'gold': _TOKENIZERS, 'x_token': _TOKENIZERS,
    'cord': _SOUND, 'x_opd': _SOUND,
    'vla_opd': 'robots have no data path here; opd_reverse has its loss',
    'skill_sd': _TURNS + "distil.context = 'notes' shows a summary of skills",
    'tamtrl': _TURNS + 'credit.policy_weights = per_segment(id, ...) weighs '
              'the segments of one turn as it does turns',
    'rl2f': _TURNS + "distil.context = 'feedback' shows a verdict",
    'erl': _TURNS + "distil.context = 'reflection' shows the attempt",
    'ra_opd': _TURNS + "distil.context = 'reflection' discloses by level "
              'without a second turn',
    'x_kd': 'its rewards come from a model of rewards that is inferred first, '
            'and there is none here',
    'varreason': 'its bound needs a model of the posterior of reasonings, and '
                 'there is none here; paced weighs questions by accuracy',
    'copd': 'it trains several models at once, and a run trains one; '
            "distil.context = 'peer' reads another model's responses",
    'gad': 'its discriminator is trained beside the student, and a run trains '
           'one model; a fixed one is a judge (docs/verdicts.md)',
    'nested_learning': _VISION, 'intrinsic_motivation': _VISION}


def _squeezed(name: str) -> str:
  """X-KD, x_kd and XKD are one name, and a raised digit is a digit."""
  shown = unicodedata.normalize('NFKC', name).casefold()
  return ''.join(c for c in shown if c.isalnum())


_REFUSED = {_squeezed(name): why for name, why in REFUSED.items()}


def get(name: str) -> Method:
  """A row of the table.

  Raises:
    KeyError: for another name, with the known ones.
    ValueError: for a name of REFUSED, with the reason.
  """
  if name not in METHODS and _squeezed(name) in _REFUSED:
    raise ValueError(f'method is {name!r}, which is refused: '
                     f'{_REFUSED[_squeezed(name)]}')
  return allowed.known('method', name, METHODS)
