"""A run whose teacher reads more than the student."""

import dataclasses
import math
import types

import jax
import numpy as np
import optax
import pytest

from tests.builders import documented_metrics
from tests.long import LONG, long
from tests.train.test_distillation import gradient as whole, make_config
from tests.train.test_step import recorded_groups
from zppo_jax import tasks
from zppo_jax.algorithms import distillation
from zppo_jax.algorithms.privileged import lenders
from zppo_jax.algorithms.replay import ReplayBuffer
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.tasks import micro
from zppo_jax.train import build, minibatches, step
from zppo_jax.train.builders import watching
from zppo_jax.train.teaching import reading

pytestmark = pytest.mark.usefixtures('quick_compile')


def told_groups():
  """Three recorded groups whose questions carry a hint and their solution."""
  out = []
  for of in recorded_groups()[2:5]:
    question = of.prompt.question
    told = dataclasses.replace(
        question, hint=micro.first_step(question),
        responses=(micro.solution(question), f'A {question.answer}'))
    out.append(dataclasses.replace(
        of, prompt=dataclasses.replace(of.prompt, question=told),
        rollouts=tuple(dataclasses.replace(r, text=f'{g} {of.rollouts[g].text}')
                       for g, r in enumerate(of.rollouts[:4]))))
  return out


def gradient(run, groups):
  """The gradient alone; its mini-batches differ from form to form."""
  return whole(run, groups)[0]


def config(method, context, **changes):
  return make_config(method, **{'distil.context': context, **changes})


@LONG
@pytest.mark.parametrize('context, layout', [
    ('hint', 'shared'),
    long('demonstration', 'packed')])
def test_every_form_and_layout_reads_the_same_context(context, layout):
  """The pass inside the update, of a prompt per question and per rollout, has
  the gradient of the stored pass over all ids, which scores sequence by
  sequence. Without the context it is another one."""
  groups = told_groups()
  of = {name: gradient(build.build(config('opd_reverse', context, **changes)),
                       groups) for name, changes in {
      'stored': {'distil.support': 'student', 'distil.top': 36},
      'inside': {'shapes.layout': layout}}.items()}
  size = optax.tree.norm(of['stored'])
  apart = lambda one, two: optax.tree.norm(jax.tree.map(
      lambda x, y: x - y, one, two))
  assert apart(of['inside'], of['stored']) < 1e-4 * size
  if layout == 'shared':
    same = gradient(build.build(config('opd_reverse', 'same')), groups)
    assert apart(same, of['stored']) > 0.1 * size


def test_steps_with_a_context_are_counted():
  """Rollouts without a lesson are not trained by a pure row; names are those
  of docs/metrics.md."""
  run = build.build(config('opd_k2', 'sibling'))
  names = documented_metrics()
  made = step.train_step(
      run, run.init_state(), ReplayBuffer(run.buffer_capacity), 0)
  row = step.metrics_row(run, made)
  assert all(any(p.fullmatch(k) for p in names) for k in row), row.keys()
  assert all(math.isfinite(x) for x in row.values())
  untaught = sum(v for k, v in row.items()
                 if k.startswith('context/untaught/'))
  assert untaught == round(16 * (1 - row['context/taught']))
  taught = sum(len(made.groups[p].rollouts[g].tokens)
               for p, g in made.scored.lessons.prompts)
  trained = sum(float(np.sum(b.mask_BT)) for of in made.minibatches
                for b in of.batches)
  assert trained == taught and made.scored.tokens == taught
  assert made.minibatches[0].tokens == sum(
      len(r.tokens) for g in made.groups for r in g.rollouts)


@LONG
def test_untaught_rollouts_keep_their_advantages():
  """GRPO and distillation where no rollout has a lesson: GRPO's gradient."""
  groups = [dataclasses.replace(g, prompt=dataclasses.replace(
      g.prompt, question=dataclasses.replace(g.prompt.question, hint='')))
            for g in told_groups()]
  none = gradient(build.build(config('grpo_distill', 'hint')), groups)
  grpo = gradient(build.build(make_config('grpo')), groups)
  for x, y in zip(jax.tree.leaves(none), jax.tree.leaves(grpo), strict=True):
    assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y)


@pytest.mark.parametrize('method, changes, words', [
    ('opd_k2', {'distil.context': 'book'}, ("'book'", 'same, answer')),
    ('opd_k2', {'distil.context': 'notes'}, ("the field 'notes'", 'none')),
    ('opd_k2', {'distil.context_level': 5}, ('distil.context_level is 5',)),
    ('opd_k2', {'distil.context': 'notes', 'distil.material': 'x.jsonl'},
     ("distil.material is 'x.jsonl'",)),
    ('seqkd', {'distil.context': 'answer'}, ("'seqkd'", "allowed: 'same'")),
    ('opd_k2', {'distil.context_of': 'another'},
     ("distil.context_of is 'another'", "distil.context 'same'", 'hint')),
    ('opd_k2', {'distil.context': 'revision', 'distil.context_of': 'another'},
     ("distil.context 'revision'", "'own'", 'reference')),
    ('opd_k2', {'distil.context': 'hint', 'distil.context_of': 'others'},
     ("distil.context_of 'others'", 'own, another')),
])
def test_bad_contexts_are_refused(method, changes, words):
  with pytest.raises((KeyError, ValueError, FileNotFoundError)) as e:
    build.build(make_config(method, **changes))
  assert all(word in str(e.value) for word in words), str(e.value)


def test_shared_texts_are_no_other_questions(tmp_path):
  file = tmp_path / 'material.jsonl'
  file.write_text('{"id": "*", "notes": "h 0"}')
  with pytest.raises(ValueError, match="'another' and distil.context 'notes'"):
    build.build(config('opd_k2', 'notes', **{
        'distil.material': str(file), 'distil.context_of': 'another'}))


def test_the_teacher_of_a_step_reads_what_another_question_has():
  """Where the run says so; a step keys the draw."""
  groups = told_groups()
  hints = [CHAT.codec.encode_content(g.prompt.question.hint)[0]
           for g in groups]
  c = config('opd_k2', 'hint')
  holds = lambda prompt, ids: any(
      list(prompt.tokens[i:i + len(ids)]) == list(ids)
      for i in range(len(prompt.tokens)))
  for of in ('own', 'another'):
    c.distil.context_of = of
    distil = distillation.settings('opd_k2', {}, c)
    run = types.SimpleNamespace(
        distil=distil, chat=CHAT, context=reading.material_of(c, distil),
        rules=types.SimpleNamespace(max_prompt=99))
    made = minibatches._lessons(run, groups, 3, {})
    assert made == lenders.lessons(
        'hint', groups, dataclasses.replace(run.context, step=3), CHAT,
        99, of)
    assert len(made.prompts) == 12
    for (p, _), prompt in made.prompts.items():
      assert holds(prompt, hints[p]) == (of == 'own')


def test_a_teacher_that_may_read_the_attempt_has_the_alarm_of_copying():
  for context, alarms in (('sibling', 0), ('sibling_or_self', 1),
                          ('revision', 1)):
    c = config('opd_k2', context)
    distil = distillation.settings('opd_k2', {}, c)
    assert [of.name for of in watching.alarms_of(c, distil)] == [
        'distil/copied'] * alarms, context


@pytest.mark.parametrize('method', ['opd_k2', 'star'])
def test_a_chat_without_words_for_a_context_is_refused(method, monkeypatch):
  """Of the teacher's context, and of one under which rollouts are drawn."""
  task = tasks.TASKS['micro']
  words = {piece: of for piece, of in task.chat.wording.contexts.items()
           if piece != 'concise'}
  monkeypatch.setitem(tasks.TASKS, 'micro', task._replace(
      chat=dataclasses.replace(task.chat, wording=dataclasses.replace(
          task.chat.wording, contexts=words))))
  with pytest.raises(ValueError, match='no words for concise'):
    build.build(config(method, 'concise'))
