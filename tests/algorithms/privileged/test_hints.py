"""Hints of the teacher and of the data: asked, filtered, counted, shown."""

import dataclasses

import numpy as np
import pytest

from tests.algorithms.test_zppo import RULES, WHOLE, FakeTeacher, words
from tests.builders import (
  group,
  json_rows,
  question,
  rollout,
  small_config,
  wrong,
)
from tests.long import LONG
from zppo_jax.algorithms import methods, zppo
from zppo_jax.algorithms.privileged import hints, material
from zppo_jax.algorithms.privileged.hints import HintConfig
from zppo_jax.algorithms.privileged.spoilers import Spoiler
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.chat.wording import BOXED
from zppo_jax.commands import hints as command
from zppo_jax.records import (
  CallStats,
  Group,
  HardVisit,
  Prompt,
  PromptKind,
  StopReason,
  Summaries,
  Verdict,
)
from zppo_jax.runs import metrics
from zppo_jax.train import build

# The embedded words cannot ask for a hint; these two stand for such words.
ASKING = dataclasses.replace(CHAT, wording=dataclasses.replace(
    CHAT.wording, hint_request=('', '<response>', '<summary>')))
STORED = HintConfig(source='stored')


class Hinting(FakeTeacher):
  """Writes what it is told; keeps what it was asked."""

  def __init__(self, *knows, says='h 4', stop=StopReason.END):
    super().__init__(*knows)
    self.says, self.stop, self.hinted = says, stop, []

  def hint(self, prompts, traces, step):
    del step
    self.hinted += zip(prompts, traces, strict=True)
    return Summaries(tuple(
        None if self.says is None else dataclasses.replace(
            rollout('h', Verdict.WRONG, self.stop), text=self.says)
        for _ in prompts), CallStats(len(prompts)))


def made(plain, teacher, hint=hints.DEFAULT, **fields):
  return zppo.reformulate_hard(
      plain, 3, rules=RULES, method=methods.get('hint'), teacher=teacher,
      chat=ASKING, compress=WHOLE, hint=hint, **fields)


def test_the_teacher_reads_a_correct_trace_and_the_student_its_hint():
  teacher = Hinting('a', 'c')
  plain = [group('a', 0), group('b', 1), group('c', 2), group('d', 8)]
  out = made(plain, teacher)
  assert [(p.question.id, p.kind) for p in out.prompts] == [
      ('a', PromptKind.HINT), ('c', PromptKind.HINT)]
  assert words(out.prompts[0]) == 'C h 4 <candidate> h 4 </candidate> :'
  assert out.prompts[0].forced == 0
  # b's teacher is never right, so nobody is asked for its hint.
  assert [(words(p), trace) for p, trace in teacher.hinted] == [
      ('C h 4 <response> 4 l 9 A 9 <summary>', '4 l 9 A 9')] * 2
  row = metrics.of_reformulation(out)
  assert row['hint/asked'] == row['hint/kept'] == 2
  assert row['hard/asked'] == 3 and row['hint/over_bound'] == 0
  tokens = metrics.of_tokens([group('a', 0)], out.teacher, out.written)
  assert tokens['tokens/hint_prompt'] == 2 * len(teacher.hinted[0][0].tokens)
  assert tokens['tokens/compression_prompt'] == 0
  assert out.calls.answers == 2 * 3 + 2


def test_hints_are_as_many_and_as_hard_as_bcqs():
  plain = [group(q, n % 4) for n, q in enumerate('abcdefgh')]
  asked = lambda out: [p.question.id for p in out.prompts]
  with_hints = made(plain, Hinting(*'abcdefgh'))
  bcqs = zppo.reformulate_hard(
      plain, 3, rules=RULES, method=methods.get('grpo_replay_bcq'),
      teacher=FakeTeacher(*'abcdefgh'), chat=CHAT, compress=WHOLE)
  assert asked(with_hints) == asked(bcqs) and len(asked(bcqs)) == 4


def test_the_trace_is_drawn_by_name_among_the_right_ones():
  right = tuple(rollout(f'4 {c} 9 A 9') for c in 'hijk')
  visit = HardVisit(question(), 0.0, (wrong(0),), right)
  def asked(seed):
    teacher = Hinting()
    hints.written([visit], HintConfig(), ASKING, 99,
                  np.random.default_rng(seed),
                  lambda *of: teacher.hint(*of, 0))
    ((prompt, trace),) = teacher.hinted
    return prompt.question.id, trace
  drawn = {asked(seed) for seed in range(40)}
  assert {trace for _, trace in drawn} == {r.text for r in right}
  assert len(drawn) == 4 and asked(7) == asked(7)


@pytest.mark.parametrize('says, stop, cause', [
    (None, StopReason.END, Spoiler.MISSING),
    ('h 4', StopReason.LENGTH, Spoiler.OVER_CAP),
    ('', StopReason.END, Spoiler.EMPTY), ('h 9', StopReason.END,
                                          Spoiler.NUMBER),
    ('<think>so 4', StopReason.END, Spoiler.UNFINISHED),
    (r'\boxed{4}', StopReason.END, Spoiler.BOX),
])
def test_what_is_rejected_is_counted_and_makes_no_group(says, stop, cause):
  out = made([group('a', 0)], Hinting('a', says=says, stop=stop))
  assert out.prompts == ()
  row = metrics.of_reformulation(out)
  assert row[f'hint/failed/{cause.name.lower()}'] == 1
  assert row['hint/kept'] == 0 and row['hint/asked'] == 1


def test_the_words_of_a_reply():
  assert hints.said('<think>9</think>\n<hint> h 4 </hint> so') == 'h 4'
  assert hints.said('try h') == 'try h'
  assert hints.said('<hint>h') == 'h'
  assert hints.said('<think>9') is None
  assert hints.said('a</think>b <think>c') is None


def test_stored_hints_need_no_teacher():
  plain = [Group(dataclasses.replace(g.prompt, question=dataclasses.replace(
      g.prompt.question, hint=hint)), g.rollouts)
      for g, hint in ((group('a', 0), 'h 4 h'), (group('b', 0), ''),
                      (group('c', 0), 'A 9'))]
  out = made(plain, None, STORED)
  assert [words(p) for p in out.prompts] == [
      'C h 4 <candidate> h 4 h </candidate> :']
  row = metrics.of_reformulation(out)
  assert row['hint/asked'] == row['hard/asked'] == 0
  assert row['hint/kept'] == 1
  assert row['hint/failed/missing'] == row['hint/failed/number'] == 1
  assert 'teacher/answered' not in row


def test_a_file_of_hints_stands_in_for_the_column(tmp_path):
  """The question's own hint comes first; a line without one is none."""
  file = tmp_path / 'hints.jsonl'
  file.write_text('{"id": "a", "hint": " h 4 "}\n{"id": "b"}\n')
  config = HintConfig(source='stored', material=str(file)).opened()
  assert config.of(question('a')) == 'h 4' and config.of(question('b')) == ''
  assert config.of(dataclasses.replace(question('a'), hint='h')) == 'h'
  out = made([group('a', 0), group('b', 0)], None, config)
  assert [p.question.id for p in out.prompts] == ['a']
  with pytest.raises(ValueError, match="is read for 'stored'"):
    HintConfig(material='x')
  with pytest.raises(FileNotFoundError, match='hint.material'):
    HintConfig(source='stored', material='x').opened()


def test_over_long_requests_are_counted():
  teacher = Hinting('a')
  teacher.capabilities = dataclasses.replace(
      teacher.capabilities, max_compression_prompt=8)
  out = made([group('a', 0)], teacher)
  assert metrics.of_reformulation(out)['hint/over_bound'] == 1
  assert not teacher.hinted and out.prompts == ()


def test_a_boxed_prompt_asks_without_the_closer():
  asked = dataclasses.replace(ASKING, wording=BOXED).wording
  assert asked.hint_request and 'hint' in ''.join(asked.hint_request)
  assert 'Leave out the final answer' in asked.hint_request[1]
  with pytest.raises(ValueError, match="hint.source = 'stored'"):
    CHAT.hint_request('C h 4', '4 h 9 A 9')


@LONG
@pytest.mark.usefixtures('quick_compile')
def test_a_teacher_in_this_process_writes_by_name(monkeypatch, tmp_path):
  """The embedded teacher, asked with words that it knows for another thing."""
  task = build.tasks.TASKS['micro']
  monkeypatch.setitem(build.tasks.TASKS, 'micro',
                      task._replace(chat=ASKING))
  c = small_config(method='hint')
  c.hint.cap, c.algorithm.num_new = 12, 4
  run = build.build(c)
  prompts = [Prompt(question('x#hint', answer='9'), PromptKind.PLAIN,
                    ASKING.hint_request('C h 4', trace).tokens)
             for trace in ('4 h 9 A 9', '4 h 3 A 3')]
  one, two = (run.teacher.hint(prompts, ['', ''], 0) for _ in range(2))
  assert [r.text for r in one.rollouts] == [r.text for r in two.rollouts]
  assert all(r.answer == '' and len(r.tokens) <= 13 for r in one.rollouts)
  assert one.calls.answers == 2
  # `zppo hints`: six questions in two calls, which do not ask twice.
  monkeypatch.setattr(command, 'build', lambda config: run)
  to = tmp_path / 'hints.jsonl'
  first = command.main(c, str(to), 2)
  second = command.main(c, str(to), 4)
  assert first['questions'] == 2 and second['questions'] == 4
  rows = json_rows(to)
  assert [r['id'] for r in rows] == [q.id for q in run.source.pool[:6]]
  kept = sum('hint' in r for r in rows)
  assert kept == first['kept'] + second['kept']
  assert sum(first.values()) + sum(second.values()) == 6 + 6 + sum(
      n for counts in (first, second) for name, n in counts.items()
      if name == 'answered')
  assert material.read(str(to)).keys() == {r['id'] for r in rows}
  c.method, c.hint.source = 'nurl', 'reference'  # nobody answers for them
  worked = dataclasses.replace(run, hint=HintConfig(source='reference'))
  monkeypatch.setattr(command, 'build', lambda config: worked)
  third = command.main(c, str(tmp_path / 'more.jsonl'), 2)
  assert third['questions'] == 2 and third['answered'] == 0
  with pytest.raises(ValueError, match="hint.source 'stored'"):
    c.hint.source = 'stored'
    command.main(c, str(to), 1)


@pytest.mark.parametrize('changes, words', [
    ({}, ("hint.source is 'teacher'", "task 'micro'", "'stored'")),
    ({'teacher.kind': 'stored', 'data.pool.worked': True},
     ("hint.source is 'teacher'", "kind 'stored' writes none")),
    ({'hint.source': 'stored'}, ("hint.source is 'stored'", 'columns.hint')),
    ({'hint.source': 'book'}, ('hint.source', "'book'", 'teacher, stored')),
    ({'hint.cap': 0}, ('hint.cap is 0', '>= 1')),
    ({'hint.max_characters': 4096}, ('hint.max_characters is 4096', '2048')),
    ({'hint.temperature': -1.0}, ('hint.temperature is -1.0',)),
])
def test_bad_configs_are_refused(changes, words):
  c = small_config(method='hint')
  c.update_from_flattened_dict(changes)
  with pytest.raises((ValueError, KeyError)) as e:
    build.build(c)
  assert all(word in str(e.value) for word in words), str(e.value)


def test_hints_of_a_stored_reference_need_no_right_answer():
  """sage, nurl: of unsolved questions alone, and of those with a reference."""
  def told(name, right, responses):
    of = group(name, right)
    return Group(dataclasses.replace(of.prompt, question=dataclasses.replace(
        of.prompt.question, responses=responses)), of.rollouts)
  plain = [told('a', 0, ('4 h h 9', 'A 9')), told('b', 1, ('4 9',)),
           told('c', 0, ())]
  teacher = Hinting(says='h 4')
  method = methods.get('sage')
  out = zppo.reformulate_hard(
      plain, 3, rules=dataclasses.replace(RULES, tau=method.tau), method=method,
      teacher=teacher, chat=ASKING, compress=WHOLE,
      hint=HintConfig(source='reference'))
  assert teacher.asked == []  # it answers no question
  assert [(words(p), trace) for p, trace in teacher.hinted] == [
      ('C h 4 <response> 4 h h 9 <summary>', '4 h h 9')]
  assert [words(p) for p in out.prompts] == [
      'C h 4 <candidate> h 4 </candidate> :']
  assert out.hard == 2 and methods.get('nurl') == method
  assert method.asked(HintConfig(source='reference'))
  assert not method.asked(STORED)


def test_levels_of_hints_have_words_of_their_own():
  levels = BOXED.hint_levels
  assert len(set(levels)) == 3
  assert all('<response>' in x and '<hint>' in x for x in levels)
  chat = dataclasses.replace(ASKING, wording=dataclasses.replace(
      ASKING.wording, hint_levels=('BCQ', 'NCQ')))
  said = lambda level: chat.codec.decode(
      chat.hint_request('C h', '9', level=level).tokens)
  assert [said(i) for i in range(3)] == [
      'C h <response> 9 <summary>', 'C h BCQ 9 <summary>',
      'C h NCQ 9 <summary>']
  with pytest.raises(ValueError, match='hint.level is -1'):
    HintConfig(level=-1)
