"""Totals over the committed steps of a run; part of every checkpoint."""

from collections import Counter

from zppo_jax.algorithms.replay import Settlement
from zppo_jax.runs import watch


def _pairs(counter: Counter) -> list:
  return [[key, counter[key]] for key in sorted(counter)]


class History:
  """What was spent, and what became of buffered questions.

  Attributes:
    student_rollouts: rollouts that were trained on or settled the buffer.
    tokens: tokens by role, probes included.
    admitted, graduated: numbers of entries by accuracy at admission.
    seconds: wall-clock time of the committed steps, over all attempts.
    idle_steps: steps without a gradient.
    visits: the number of questions that the teacher was asked ('asked'), and of
      those that it answered correctly ('answered').
  """

  def __init__(self):
    self.student_rollouts = 0
    self.tokens: Counter = Counter()
    self.graduated: Counter = Counter()
    self.admitted: Counter = Counter()
    self.seconds = 0.0
    self.idle_steps = 0
    self.visits: Counter = Counter()

  def add(self, row: dict, settled: Settlement | None) -> None:
    """Adds a step's metrics and buffer settlement; a supervised step has no
    rollouts."""
    self.student_rollouts += row.get('student_rollouts', 0)
    self.idle_steps += watch.idle(row)
    count, right = watch.asked(row)
    self.visits.update({'asked': count, 'answered': right})
    for name, value in row.items():
      if name.startswith('tokens/'):
        self.tokens[name.removeprefix('tokens/')] += value
    if settled is not None:
      self.admitted.update(e.entry_accuracy for e in settled.admitted)
      self.graduated.update(e.entry_accuracy for e in settled.graduated)

  def dump(self) -> dict:
    """JSON values; `load` inverts it."""
    return {'student_rollouts': self.student_rollouts,
            'tokens': _pairs(self.tokens), 'admitted': _pairs(self.admitted),
            'graduated': _pairs(self.graduated), 'seconds': self.seconds,
            'idle_steps': self.idle_steps, 'visits': _pairs(self.visits)}

  @classmethod
  def load(cls, values: dict) -> 'History':
    out = cls()
    out.student_rollouts = values['student_rollouts']
    out.seconds = values['seconds']
    out.idle_steps = values.get('idle_steps', 0)  # earlier versions had none
    for name in ('tokens', 'admitted', 'graduated', 'visits'):
      setattr(out, name, Counter(dict(map(tuple, values.get(name, [])))))
    return out

  def summary(self, base: dict, final: dict, steps: int) -> dict:
    """The summary. It counts graduations by accuracy at admission, and names
    wasted work if there is any."""
    vain = {'idle_steps': self.idle_steps} if self.idle_steps else {}
    if self.visits['asked']:
      vain['teacher_visits'] = dict(self.visits)
    return {
        'steps': steps, 'wall_s': self.seconds,
        'student_rollouts': self.student_rollouts,
        'tokens': dict(self.tokens),
        'eval': {s: {'base': base[s], 'final': final[s]} for s in base},
        'graduated': sum(self.graduated.values()),
        'admitted': sum(self.admitted.values()),
        'graduation_by_entry_accuracy': {
            f'{a:g}': {'admitted': n, 'graduated': self.graduated[a]}
            for a, n in sorted(self.admitted.items())},
        **vain,
    }
