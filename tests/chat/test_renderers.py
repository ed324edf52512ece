"""The table of renderers, and prompts that begin the response."""

import dataclasses
import enum

import pytest
from PIL import Image

from tests.builders import question, rendered
from zppo_jax.algorithms import zppo
from zppo_jax.chat import images, renderers
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.chat.segments import content, template
from zppo_jax.records import Instance, PromptKind
from zppo_jax.tasks import micro_pictures

STEPS = tuple(CHAT.codec.encode_content('4 h 7')[0])


class Kind(enum.IntEnum):
  """A kind of prompt that the package does not know."""
  ASIDE = 77


def aside(chat, shown):
  """A renderer of somebody's own, which shows a text beside the question."""
  before, after = chat.wording.candidate
  parts = [part for text in shown.hints
           for part in (template(before), content(text), template(after))]
  return chat.around(shown.question, parts, shown.media)


def words(encoded, chat=CHAT):
  return chat.codec.decode(encoded.tokens)


def test_every_kind_but_plain_has_a_renderer():
  """Nor have the kinds under a context, whose prompts are a teacher's
  (privileged/contexts.py) and the plain one."""
  assert set(renderers.RENDERERS) == set(PromptKind) - {
      PromptKind.PLAIN, PromptKind.PRIVILEGED, PromptKind.CARRIED}
  with pytest.raises(KeyError, match="'PLAIN'; known: BCQ, NCQ, PREFIX, HINT"):
    rendered(CHAT, PromptKind.PLAIN, '4', ['7'])


def test_a_new_kind_is_a_function_and_a_row(monkeypatch):
  monkeypatch.setitem(renderers.RENDERERS, Kind.ASIDE, aside)
  instance = Instance(question=question(), kind=Kind.ASIDE,
                      hints=('h 4 <end>',))
  prompt, removed = zppo.render(instance, {}, CHAT)
  assert words(prompt) == 'C h 4 <candidate> h 4 </candidate> :'
  assert removed == 1  # the end token in the text of the hint
  assert (prompt.kind, prompt.forced, prompt.beginning) == (Kind.ASIDE, 0, ())


def test_a_prefix_ends_the_prompt_and_counts_its_tokens():
  instance = Instance(question=question(), kind=PromptKind.PREFIX,
                      forced=STEPS)
  prompt, removed = zppo.render(instance, {}, CHAT)
  assert words(prompt) == 'C h 4 : 4 h 7' and removed == 0
  assert (prompt.forced, prompt.beginning) == (3, STEPS)
  plain, _ = zppo.render(
      dataclasses.replace(instance, forced=STEPS[:1]), {}, CHAT)
  assert (words(plain), plain.forced) == ('C h 4 : 4', 1)


def test_prompts_without_a_prefix_force_nothing():
  (prompt,) = zppo.plain_prompts([question()], CHAT)
  assert prompt.forced == 0 and prompt.beginning == ()
  assert rendered(CHAT, PromptKind.BCQ, '4', ['7', '2']).forced == 0


def test_a_prefix_behind_a_picture_has_positions_too():
  chat = micro_pictures.CHAT
  picture = images.picture(Image.new('RGB', (8, 8), 'white'))
  plain = chat.plain('C h', (picture,))
  encoded = renderers.render(PromptKind.PREFIX, chat, renderers.Exhibit(
      question='C h', media=(picture,),
      forced=tuple(chat.codec.encode_content('4 h 7')[0])))
  assert encoded.tokens[:-3] == plain.tokens
  assert len(encoded.media.positions_TA) == len(encoded.tokens)
  start = plain.media.next_position
  assert encoded.media.positions_TA[-3:].tolist() == [
      [start + i] * 3 for i in range(3)]
  assert encoded.media.next_position == start + 3
