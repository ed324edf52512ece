"""Questions behind earlier turns: a real conversation of the chat template."""

import dataclasses

import pytest

from tests import hub_builders
from zppo_jax.algorithms import zppo
from zppo_jax.chat import hub_chat, micro_chat, renderers
from zppo_jax.chat.wording import BOXED
from zppo_jax.data import digest, prompt_lengths, values
from zppo_jax.records import Question, Turn

TURNS = (Turn('system', 'be kind'), Turn('user', 'a <|im_end|>?'),
         Turn('assistant', 'b\n'))


def test_the_prompt_is_the_templates_conversation():
  """The closer is in the last message alone, and no turn forges a token."""
  tokenizer = hub_builders.tokenizer()
  chat = hub_chat.chat(tokenizer, 270, (263, 261))
  want = tokenizer.apply_chat_template(
      [turn._asdict() for turn in TURNS]
      + [{'role': 'user', 'content': 'and then?' + BOXED.closing}],
      tokenize=False, add_generation_prompt=True)
  encoded = chat.plain('and then?', (), TURNS)
  assert chat.codec.decode(encoded.tokens) == want
  assert want.count('Reason in private') == 1
  end = chat.codec.ids['<|im_end|>']
  assert encoded.tokens.count(end) == 4  # of four messages
  assert chat.outline('and then?', (), TURNS) == (len(encoded.tokens), 0)


def test_the_users_own_system_message_and_closer_are_in_it():
  """prompts.system comes first, unless the conversation has one of its own."""
  chat = dataclasses.replace(hub_chat.chat(
      hub_builders.tokenizer(), 270, (263, 261),
      base=dataclasses.replace(BOXED, closing=' Box it.')),
      prompts={'system': 'be terse'})
  text = lambda turns: chat.codec.decode(chat.plain('c', (), turns).tokens)
  assert text(TURNS[1:]).startswith('<|im_start|>system\nbe terse<|im_end|>')
  assert 'be terse' not in text(TURNS)
  assert text(TURNS).count('Box it.') == 1
  assert 'c Box it.<|im_end|>' in text(TURNS)


def test_a_chat_without_a_template_refuses_turns():
  with pytest.raises(ValueError, match='has earlier turns; the chat of this'):
    micro_chat.CHAT.plain('1 + 1', (), TURNS)
  dropping = hub_builders.tokenizer(
      "{{ messages[-1]['content'] }}{{ '<|im_end|>' }}")
  chat = hub_chat.chat(dropping, 270, (263, 261))
  with pytest.raises(ValueError, match='does not show every message'):
    chat.plain('x', (), TURNS)


def test_turns_are_asked_measured_and_digested():
  chat = hub_chat.chat(hub_builders.tokenizer(), 270, (263, 261))
  question = Question('q', 'and then?', '1', '', turns=TURNS)
  prompt, = zppo.plain_prompts([question], chat)
  assert prompt.tokens == chat.plain('and then?', (), TURNS).tokens
  size = len(prompt.tokens)
  assert prompt_lengths.why_overlong(question, chat, size, ()) == ''
  assert f'{size} tokens' in prompt_lengths.why_overlong(
      question, chat, size - 1, ())
  other = dataclasses.replace(question, turns=TURNS[:1])
  assert digest.of_words(question) != digest.of_words(other)


def test_other_prompts_refuse_turns():
  assert renderers.text_of(Question('q', 'x', '1', '')) == 'x'
  with pytest.raises(ValueError, match="'q' has 3 earlier turns"):
    renderers.text_of(Question('q', 'x', '1', '', turns=TURNS))


@pytest.mark.parametrize('value', [
    [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'},
     {'role': 'user', 'content': 'c'}],
    {'role': ['user', 'assistant', 'user'], 'content': ['a', 'b', 'c']}])
def test_a_conversation_of_structs_or_of_lists(value):
  assert values.conversation(value, 'conversation') == (
      (('user', 'a'), ('assistant', 'b')), 'c')


@pytest.mark.parametrize('value, words', [
    ([], 'chat of none'), ('a', "is str 'a'"), ([{'role': 'user'}], r'\[0\]'),
    ([{'role': 'assistant', 'content': 'a'}], 'chat of assistant; its last'),
    ({'role': ['user'], 'content': ['a', 'b']}, 'different lengths: role 1, c'),
    ([{'role': 'user', 'content': None}], r'\[0\].content is NoneType')])
def test_what_is_no_conversation_is_refused(value, words):
  with pytest.raises(ValueError, match=words):
    values.conversation(value, 'conversation')
