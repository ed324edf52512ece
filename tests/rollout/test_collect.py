"""What is graded: the whole response, from its forced beginning on; and when
draws wait for what was asked ahead."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.builders import question
from tests.long import LONG
from zppo_jax import assets
from zppo_jax.algorithms import zppo
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.devices import sharding
from zppo_jax.randomness import Purpose
from zppo_jax.records import Decoding, Instance, PromptKind, StopReason, Verdict
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.rollout.requests import Completion
from zppo_jax.tasks import TASKS
from zppo_jax.weights import pretrained


class Engine:
  """It draws the same words for every prompt."""

  def __init__(self, words):
    self.words = words

  def generate(self, params, requests, see):
    del params
    tokens = CHAT.response(self.words)
    see([(place, Completion(
        id=r.id, rollout=0, tokens=tokens, logps=(-1.0,) * len(tokens),
        text=self.words, stop=StopReason.END))
        for place, r in enumerate(requests)])


def prefixed(words, answer='7'):
  of = question(answer=answer)
  prompt, _ = zppo.render(Instance(
      question=of, kind=PromptKind.PREFIX,
      forced=tuple(CHAT.codec.encode_content(words)[0])), {}, CHAT)
  return prompt


def collected(prompts, engine, num_rollouts=1):
  sampler = collect.Sampler(
      engine=engine, chat=CHAT, grader=TASKS['micro'].grader,
      decoding=Decoding(8), num_rollouts=num_rollouts)
  return collect.collect(sampler, None, prompts, seed=0, step=0,
                         purpose=Purpose.ROLLOUT)


def test_a_forced_beginning_is_graded_and_not_trained():
  """'A' is forced and '7' is drawn: neither of them alone is an answer."""
  (plain,) = zppo.plain_prompts([question(answer='7')], CHAT)
  forced, bare = collected([prefixed('4 h 7 A'), plain], Engine('7'))
  (rollout,) = forced.rollouts
  assert rollout.text == '4 h 7 A 7' and rollout.answer == '7'
  assert rollout.verdict == Verdict.CORRECT
  # What the learner sees as the response are the drawn tokens alone.
  assert rollout.tokens == CHAT.response('7')
  assert len(rollout.logps) == len(rollout.tokens) == 2
  assert bare.rollouts[0].text == '7'
  assert bare.rollouts[0].verdict == Verdict.NO_ANSWER


@LONG
def test_an_engine_goes_on_from_the_forced_tokens():
  """The packaged student, asked to begin with all but the last of its own
  tokens, draws that last one with the log-prob that it had before."""
  found = pretrained.load(str(assets.find('micro/student')))
  mesh = sharding.make_mesh(sharding.MeshConfig())
  sampler = collect.make_sampler(
      model=found.model, mesh=mesh, chat=CHAT, grader=TASKS['micro'].grader,
      decoding=Decoding(32, 0.0), num_rollouts=1, prompt_buckets=(64,),
      group_buckets=(8,))
  params = weight_sync.place_copy(found.params, found.model, mesh)
  ask = lambda prompts: collect.collect(
      sampler, params, prompts, seed=0, step=0, purpose=Purpose.ROLLOUT)
  of = question(text='C a b 4', answer='?')
  (whole,) = ask(zppo.plain_prompts([of], CHAT))
  (rollout,) = whole.rollouts
  assert rollout.stop == StopReason.END and len(rollout.tokens) > 4
  instance = Instance(question=of, kind=PromptKind.PREFIX,
                      forced=rollout.tokens[:3])
  prompt, _ = zppo.render(instance, {}, CHAT)
  (group,) = ask([prompt])
  (rest,) = group.rollouts
  assert rest.tokens == rollout.tokens[3:]
  assert rest.text == rollout.text and rest.answer == rollout.answer
  np.testing.assert_allclose(rest.logps, rollout.logps[3:], atol=1e-4)


class OneByOne(Engine):
  """The rollouts end one after another; `shapes.slots` of them draw at once."""

  def __init__(self, slots):
    super().__init__('4 h 7 A 7')
    self.shapes = SimpleNamespace(slots=(slots,))

  def generate(self, params, requests, see):
    del params
    tokens, asked = CHAT.response(self.words), list(requests)
    for place, r in enumerate(asked):
      for g in range(len(r.key_G2)):
        asked += see([(place, Completion(
            id=r.id, rollout=g, tokens=tokens, logps=(-1.0,) * len(tokens),
            text=self.words, stop=StopReason.END))])


class Rooms:
  """Notes the room that it is offered, and takes none."""

  def __init__(self):
    self.rooms = []

  def seen(self, place, rollouts):
    return []

  def idle(self, room):
    self.rooms.append(room)
    return []


@pytest.mark.parametrize('slots, first', [
    (8, 7),   # 24 rollouts fill them 3 times: seven eighths
    (16, 14),
    (5, 5),   # 4.8 times: seven eighths, rounded up
    (4, 1),   # 6 times: an answer is waited for once no rollout waits
    (2, 1)])
def test_when_an_answer_is_waited_for(slots, first):
  ahead, prompts = Rooms(), zppo.plain_prompts(
      [question(f'q{i}') for i in range(12)], CHAT)
  sampler = collect.Sampler(
      engine=OneByOne(slots), chat=CHAT, grader=TASKS['micro'].grader,
      decoding=Decoding(8), num_rollouts=2, overlapped=True)
  groups = collect.collect(sampler, None, prompts, seed=0, step=0,
                           purpose=Purpose.ROLLOUT, ahead=ahead)
  assert len(groups) == 12
  assert ahead.rooms == list(range(first, slots + 1))
