"""The section `credit` of a config: two terms of a loss, and who gets them.

The policy term multiplies log p_S of a sampled token by a number: the advantage
of its verdict, a signal of the teacher, or both (`combine`). The divergence
term compares distributions, or is a likelihood; the section `distil` says what
it is. Each term has a route (which rollouts), weights of tokens and weights of
rollouts, which multiply.

Every field is a text. '' is the value of the method's row, which is its
paper's, or else of NEUTRAL. Numbers may move with the optimizer steps
('linear:64:4096').
"""

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping, Sequence

from zppo_jax import allowed
from zppo_jax.algorithms.credit import routes
from zppo_jax.algorithms.credit.routes import Route
from zppo_jax.algorithms.schedules import Moving, moving
from zppo_jax.objectives.credit import (
  evidence,
  margins,
  rollout_weights,
  signals,
  token_weights,
)
from zppo_jax.objectives.credit.evidence import Call, Number, Row

# What a field is where neither the config nor the row says it.
NEUTRAL = {
    'signal': 'none', 'combine': 'replace', 'coefficient': '1', 'discount': '0',
    'margin': 'none', 'margin_kind': 'mean', 'margin_verdicts': 'own',
    'balance': 'none', 'base': 'none',
    'policy_route': 'all', 'policy_weights': 'none',
    'policy_rollout_weights': 'none', 'route': 'all', 'weights': 'none',
    'rollout_weights': 'none', 'gold': 'none'}
BASES = ('none', 'initial')
OTHER = '*'  # any source that credit.balance does not name
_RANDOM = re.compile(r'random\((.*)\)')
# What is done where the teacher contradicts the verdicts of a group.
_DELTA = Number('delta', '>= 0')
MARGINS: dict[str, Row] = {
    **{side: Row(functools.partial(margins.shift, side=side), frozenset(),
                 (_DELTA,)) for side in margins.SHIFTS},
    'mask': Row(margins.mask, frozenset(),
                (_DELTA, Number('keep', '[0, 1]', 0.25)))}


@dataclasses.dataclass(frozen=True)
class Term:
  """Who gets a term, and how much of it.

  Attributes:
    route: the rollouts.
    weights: rows of TOKEN_WEIGHTS.
    rollout_weights: rows of ROLLOUT_WEIGHTS, over the routed rollouts of a
      group.
  """
  route: Route
  weights: tuple[Call, ...] = ()
  rollout_weights: tuple[Call, ...] = ()

  @property
  def reads(self) -> frozenset[str]:
    """The fields of Evidence that the weights read."""
    return frozenset().union(
        *(c.row.reads for c in (*self.weights, *self.rollout_weights)))


@dataclasses.dataclass(frozen=True)
class Balance:
  """Right : wrong rollouts of a group, by the source of its question.

  Attributes:
    ratios: source -> ratio, inf for the right ones alone; OTHER is any other.
    at_random: whether those that are left out are drawn among all rollouts, as
      many as the ratio leaves out.
  """
  ratios: Mapping[str, float]
  at_random: bool = False

  def of(self, source: str) -> float | None:
    """The ratio of a source; None, if it has none, which `check` refuses for
    the sources of a run."""
    return self.ratios.get(source, self.ratios.get(OTHER))

  @property
  def by_source(self) -> bool:
    """Whether it names sources."""
    return self.ratios.keys() != {OTHER}

  def check(self, sources: Collection[str]) -> None:
    """ValueError for a source without a ratio, or a ratio without a source.

    Args:
      sources: those of the questions.
    """
    named = self.ratios.keys() - {OTHER}
    absent = sorted(set(sources) - named) if OTHER not in self.ratios else []
    unknown = sorted(named - set(sources))
    if absent or unknown:
      raise ValueError(
          f'credit.balance names {", ".join(map(repr, sorted(self.ratios)))}; '
          f'data.pool has the sources {", ".join(map(repr, sorted(sources)))}. '
          f'Each needs a ratio, or {OTHER}=RATIO, and no other is allowed')


@dataclasses.dataclass(frozen=True)
class Credit:
  """The section `credit` after the method's row has said its part.

  Attributes:
    signal: a row of SIGNALS; None: the verdict's advantage alone.
    combine: a key of signals.COMBINE.
    coefficient: the factor of the signal, a number or a Moving.
    discount: gamma of the return-to-go of the signal, the same.
    margin: a row of MARGINS, or None.
    margin_kind: one of margins.KINDS.
    margin_verdicts: whose verdicts the margin reads, one of margins.VERDICTS.
    balance: how many right and wrong rollouts are taught; None for all.
    base: whose log-probs are Evidence.base_logps, one of BASES.
    policy: who gets the policy term; None for a row without one.
    divergence: who gets the divergence term; None for a row without one.
    scored: whether the loss of the policy term itself reads the teacher's
      log-probs of the tokens.
    gold: the factor of the likelihood of stored answers (gold.py), a number or
      a Moving; None for none.
  """
  signal: Call | None
  combine: str
  coefficient: float | Moving
  discount: float | Moving
  margin: Call | None
  margin_kind: str
  margin_verdicts: str
  balance: Balance | None
  base: str
  policy: Term | None
  divergence: Term | None
  scored: bool = False
  gold: float | Moving | None = None

  @property
  def asks_teacher(self) -> bool:
    """Whether the policy term reads the teacher's log-probs of the tokens."""
    policy = self.policy is not None and (
        self.scored or self.signal is not None or self.margin is not None)
    return policy or bool(self.reads & {'teacher_logps', 'teacher_entropies',
                                        'divergences'})

  @property
  def reads(self) -> frozenset[str]:
    """The fields of Evidence that some part reads."""
    parts = [] if self.signal is None else [self.signal.row.reads]
    if self.margin is not None:
      parts.append(frozenset({'logps', 'teacher_logps'}))
    parts += [term.reads for term in (self.policy, self.divergence) if term]
    return frozenset().union(*parts)


def at(value: float | Moving, done: int) -> float:
  """A number after `done` optimizer steps."""
  return float(value(done)) if isinstance(value, Moving) else value


def _number(field: str, text: str, bounds: str,
            updates: int) -> float | Moving:
  try:
    value: float | Moving = float(text)
  except ValueError:
    value = moving(field, text, updates)
  for end in value.ends if isinstance(value, Moving) else (value,):
    allowed.number(field, end, bounds)
  return value


def _calls(field: str, text: str, table: Mapping[str, Row],
           updates: int) -> tuple[Call, ...]:
  """'bounded(10) * first(64)' as calls; none for 'none'."""
  if text == 'none':
    return ()
  return tuple(evidence.read(
      field, part, table, lambda name, x: moving(name, x, updates))
      for part in text.split('*'))


def _one(field: str, text: str, table: Mapping[str, Row],
         updates: int) -> Call | None:
  calls = _calls(field, text, table, updates)
  if len(calls) > 1:
    raise ValueError(f'{field} is {text!r}; one row is allowed, or none')
  return calls[0] if calls else None


def _term(said: Mapping[str, str], prefix: str, updates: int) -> Term:
  field = lambda name: f'credit.{prefix}{name}'
  return Term(
      route=routes.read(field('route'), said[f'{prefix}route']),
      weights=_calls(field('weights'), said[f'{prefix}weights'],
                     token_weights.TOKEN_WEIGHTS, updates),
      rollout_weights=_calls(
          field('rollout_weights'), said[f'{prefix}rollout_weights'],
          rollout_weights.ROLLOUT_WEIGHTS, updates))


def gold_of(section: Mapping[str, str], row: Mapping[str, str],
            updates: int) -> float | Moving | None:
  """The field `gold` of the section `credit`; see `of_section`."""
  said = section['gold'] or row.get('gold', NEUTRAL['gold'])
  return None if said == 'none' else _number('credit.gold', said, '> 0',
                                             updates)


def balance_of(text: str) -> Balance | None:
  """'1.2', or 'maths=1, code=1.2' with a ratio per source, as a Balance, either
  within 'random(...)', too; None for 'none'.

  Raises:
    ValueError: for another form, or a ratio below 0.
  """
  if text == 'none':
    return None
  at_random = _RANDOM.fullmatch(text.strip())
  ratios: dict[str, float] = {}
  try:
    for part in (at_random[1] if at_random else text).split(','):
      source, equals, ratio = part.strip().rpartition('=')
      source = source.strip() if equals else OTHER
      if not source or source in ratios:
        raise ValueError
      ratios[source] = float(ratio)
  except ValueError:
    raise ValueError(
        f"credit.balance is {text!r}; it must be 'none', a number >= 0 that "
        'does not move, inf included, or one per source: '
        f"'NAME=1, NAME=1.2', where {OTHER} is any other; 'random(...)' "
        'around all of it draws which rollouts are left out') from None
  for value in ratios.values():
    allowed.number('credit.balance', value, '>= 0', finite=False)
  return Balance(ratios, at_random=at_random is not None)


# Fields that say something about the signal of a policy term, and nothing
# without one.
_OF_SIGNAL = ('combine', 'coefficient', 'discount', 'margin')


def _check_signal(section: Mapping[str, str], said: Mapping[str, str],
                  terms: Sequence[str]) -> None:
  """ValueError for a field of the config that nothing would read."""
  lacks = ["credit.signal is 'none'"] if said['signal'] == 'none' else []
  if 'policy' not in terms:
    lacks.append('this method has no policy term')
  for name in _OF_SIGNAL:
    if lacks and section[name] and said[name] != NEUTRAL[name]:
      raise ValueError(
          f'credit.{name} is {said[name]!r}, which is for the signal of a '
          f'policy term; here {" and ".join(lacks)}. Allowed: '
          f'{NEUTRAL[name]!r}')
  if said['margin'] == 'none':
    lacks.insert(0, "credit.margin is 'none'")
  if said['margin_verdicts'] != 'own' and lacks:
    raise ValueError(
        f'credit.margin_verdicts is {said["margin_verdicts"]!r}, which is for '
        'a margin, and a margin changes the signal of a policy term; here '
        f"{' and '.join(lacks)}. Allowed: 'own'")


def of_section(section: Mapping[str, str], row: Mapping[str, str],
               updates: int, *, terms: Sequence[str],
               scored: bool = False) -> Credit:
  """The section `credit` of a method.

  Args:
    section: the config section.
    row: what the method's row says, by the same names.
    updates: optimizer steps of the run.
    terms: which terms the row has, of 'policy' and 'divergence'.
    scored: see Credit.

  Raises:
    KeyError: for an unknown name, with the known ones.
    ValueError: for a number out of its range, or a field of a term that the row
      does not have; the message names the field.
  """
  said = {name: section[name] or row.get(name, neutral)
          for name, neutral in NEUTRAL.items()}
  for prefix, term in (('policy_', 'policy'), ('', 'divergence')):
    for name in ('route', 'weights', 'rollout_weights'):
      if term not in terms and section[f'{prefix}{name}']:
        raise ValueError(
            f'credit.{prefix}{name} is {section[prefix + name]!r}; this method '
            f'has no {term} term')
  signals.combine_of(said['combine'])
  allowed.one_of('credit.margin_kind', said['margin_kind'], margins.KINDS)
  allowed.one_of('credit.margin_verdicts', said['margin_verdicts'],
                 margins.VERDICTS)
  allowed.one_of('credit.base', said['base'], BASES)
  _check_signal(section, said, terms)
  return Credit(
      signal=_one('credit.signal', said['signal'], signals.SIGNALS, updates),
      combine=said['combine'], base=said['base'],
      balance=balance_of(said['balance']),
      coefficient=_number('credit.coefficient', said['coefficient'], '>= 0',
                          updates),
      discount=_number('credit.discount', said['discount'], '[0, 1]', updates),
      margin=_one('credit.margin', said['margin'], MARGINS, updates),
      margin_kind=said['margin_kind'],
      margin_verdicts=said['margin_verdicts'],
      scored=scored, gold=gold_of(section, row, updates),
      policy=_term(said, 'policy_', updates) if 'policy' in terms else None,
      divergence=_term(said, '', updates) if 'divergence' in terms else None)


def check(credit: Credit, available: Sequence[str]) -> None:
  """ValueError where a part reads what the method does not have.

  Args:
    credit: the settings.
    available: the fields of Evidence that there will be.
  """
  calls = [] if credit.signal is None else [('credit.signal', credit.signal)]
  for name, term in (('credit.policy_', credit.policy),
                     ('credit.', credit.divergence)):
    if term:
      calls += [(f'{name}weights', c) for c in term.weights]
      calls += [(f'{name}rollout_weights', c) for c in term.rollout_weights]
  for field, call in calls:
    evidence.check(field, call, available)
  if credit.margin and not {'logps', 'teacher_logps'} <= set(available):
    raise ValueError(
        f'credit.margin is {credit.margin.name!r}, which reads the log-probs '
        "of student and teacher; this method's teacher scores no sampled "
        'tokens')
