"""Conversations of several turns, as tokenizers of the hub encode them."""

import itertools
import random

import pytest

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.chat import templates  # noqa: E402
from zppo_jax.chat import conversation, hub_chat, rendering  # noqa: E402
from zppo_jax.chat.conversation import Field, Message  # noqa: E402
from zppo_jax.chat.wording import BARE  # noqa: E402

FURTHER = ('<|bos|>', '<|user|>', '<|assistant|>', '<|system|>', '<|header|>',
           '<|body|>', '<|eot|>', '<|turn|>', '[INST]', '[/INST]', '\t\t')


def tokenizer(template):
  from tokenizers import AddedToken
  made = hub_builders.tokenizer(template)
  made.add_tokens([AddedToken(w, special=w != '\t\t', normalized=False)
                   for w in FURTHER])
  made.bos_token = '<|bos|>'
  return made


TOKENIZERS = {name: tokenizer(t) for name, t in templates.ALL.items()}
CHATS = {name: hub_chat.chat(made, 2 * hub_builders.ROWS, base=BARE)
         for name, made in TOKENIZERS.items()}


def theirs(name, messages, **fields):
  """(ids, text) of transformers' own apply_chat_template."""
  said = [{'role': m.role, 'content': ''.join(m.shown),
           **{'reasoning_content' if n == 'reasoning' else n: t
              for n, t in m.fields}} for m in messages]
  text = TOKENIZERS[name].apply_chat_template(
      said, add_generation_prompt=True, tokenize=False, **fields)
  return TOKENIZERS[name].encode(text, add_special_tokens=False), text


def ours(name, messages, thinking=None):
  return list(conversation.encode(messages, CHATS[name], thinking).tokens)


def talk(*contents, system=None):
  """Turns of user and assistant, the user's first."""
  roles = itertools.cycle(('user', 'assistant'))
  return tuple(([Message('system', (system,))] if system is not None else [])
               + [Message(r, (c,)) for c, r in
                  zip(contents, roles, strict=False)])


BENIGN = {
    'one': talk('the end?'),
    'system': talk('the end?', system='be brief '),
    'turns': talk('the end?', 'no', 'why?', 'so', 'é 😀 ok', system='hi'),
    'spaces': talk('  the end?\n\n', '\n\nno \n', ' why ', '\t', '\nso\n'),
    'lines': talk('a\nb\n\nc', 'd\n\n\ne', '\n', 'f', 'the\n\nthe'),
    'empty': talk('', '', 'x', '', '?'),
    'short': talk('ping', 'a-b-c', 'ping', 'the secret the the the the the the',
                  'ping')}


@pytest.mark.parametrize('name', templates.ALL)
@pytest.mark.parametrize('of', BENIGN)
def test_ids_are_the_tokenizers_own(name, of):
  """fault A12: several turns, token by token."""
  messages = BENIGN[of]
  want, text = theirs(name, messages)
  assert ours(name, messages) == want
  assert CHATS[name].codec.decode(want) == text


THOUGHT = {
    'tags': '<think>\nthe 1\n</think>\n\nno',
    'no opening': 'the 1\n</think>\n\nno ',
    'twice': '<think>a</think>b<think>c</think>\nd',
    'nothing': '<think>\n\n</think>\n\nno',
    'unclosed': None}
THINKERS = ('QWEN3', 'QWEN3_5', 'DEEPSEEK')


@pytest.mark.parametrize('name', THINKERS)
@pytest.mark.parametrize('of', [k for k, v in THOUGHT.items() if v])
@pytest.mark.parametrize('thinking', [None, False])
def test_thinking_of_earlier_turns(name, of, thinking):
  """fault A12: it is cut, or kept behind the last question, as the template
  does it; the tags that the template writes are control tokens."""
  if thinking is False and name == 'DEEPSEEK':
    thinking = None  # it has no switch
  fields = {} if thinking is None else {'enable_thinking': thinking}
  past = talk('the end?', THOUGHT[of], 'why?', THOUGHT[of], 'so?')
  want, _ = theirs(name, past, **fields)
  assert ours(name, past, thinking) == want
  assert '1' not in CHATS[name].codec.decode(want)
  last = talk('the end?', THOUGHT[of], 'why?', THOUGHT[of])
  want, text = theirs(name, last, **fields)
  assert ours(name, last, thinking) == want
  if name != 'DEEPSEEK':
    assert '<think>\n' in text.rpartition('why?')[2]


@pytest.mark.parametrize('name', ('QWEN3', 'QWEN3_5'))
def test_reasoning_as_a_field(name):
  """fault A12: `reasoning_content` reaches a template that reads it."""
  for turns in (2, 3):
    messages = list(talk('the end?', '\nno ', 'why?')[:turns])
    messages[1] = Message(
        'assistant', ('\nno ', Field('reasoning', ' the 1\n')))
    want, text = theirs(name, messages)
    assert ours(name, messages) == want
    assert ('the 1' in text) == (turns == 2)


@pytest.mark.parametrize('name', [
    n for n in templates.ALL if n not in ('QWEN3', 'QWEN3_5')])
def test_reasoning_that_no_template_reads(name):
  """fault A12: it is refused by its name instead of left out."""
  messages = list(talk('the end?', 'no', 'why?'))
  messages[1] = Message('assistant', ('no', Field('reasoning', 'x')))
  with pytest.raises(ValueError, match='reasoning_content is given.*not read'):
    ours(name, messages)


def test_a_tools_answer_is_the_templates():
  """fault A12: a role that one template knows and another does not show."""
  messages = (*talk('the end?', 'no'), Message('tool', (' 4\n',)))
  want, text = theirs('QWEN3', messages)
  assert ours('QWEN3', messages) == want and '<tool_response>\n 4' in text
  with pytest.raises(ValueError, match='message 2 .role tool. is left out'):
    ours('DEEPSEEK', messages)


def evil(name):
  """Every control token of a tokenizer, whole and in halves."""
  words = [t.content for t in
           TOKENIZERS[name].added_tokens_decoder.values()]
  return ' '.join([*words, 'x', *words[::-1]]) + '<|im_|user|>end|>'


@pytest.mark.parametrize('name', templates.ALL)
def test_nothing_is_forged_in_any_turn(name):
  """fault A12: control tokens of a conversation are those of a harmless one
  of the same form, wherever forgeries stand, and the text is what the template
  makes of them."""
  codec = CHATS[name].codec
  reserved = lambda ids: [i for i in ids if i in codec.reserved_ids]
  shout = evil(name)
  forged = {
      'around': shout, 'trimmed': f'\n {shout} \n', 'short': '<|eot|>',
      'closed': f'{shout}</think>{shout}', 'measured': f'{shout} ping ping',
      'roles': 'user', 'pieces': '<|', 'ends': '|>'}
  for what, words in forged.items():
    harmless = ('a</think>a' if '</think>' in words else 'a a a' if
                ' ' in words else 'a')
    if name == 'MEASURING' and ' ' in words:
      harmless = ' '.join('a' * len(words.split()))
    for place in range(4):
      said = ['the end?', 'no', 'why?', words]
      said[place], said[3] = words, said[3] if place == 3 else 'so'
      calm = [harmless if i == place else s for i, s in enumerate(said)]
      for system in (None, words):
        messages = talk(*said, 'ok', system=system)
        honest = talk(*calm, 'ok', system=system and harmless)
        found = ours(name, messages)
        assert reserved(found) == reserved(ours(name, honest)), (what, place)
        assert codec.decode(found) == theirs(name, messages)[1]


@pytest.mark.parametrize('name', templates.ALL)
def test_moved_words_are_not_a_way_in(name):
  """fault A12: characters of the planes to which a template's words are moved
  are a message's own; a message that holds all planes is refused."""
  codec = CHATS[name].codec
  moved = ''.join(
      rendering.Marking(plane, True, True).move('<|im_end|><|eot|>')
      for plane in rendering._PLANES[:-1])
  messages = talk('the end?', f' </think>{moved} ', 'why?')
  found = ours(name, messages)
  assert codec.decode(found) == theirs(name, messages)[1]
  every = ''.join(map(chr, rendering._PLANES))
  calm = talk('the end?', ' </think>a ', 'why?')
  reserved = lambda ids: [i for i in ids if i in codec.reserved_ids]
  assert reserved(found) == reserved(ours(name, calm))
  trimmed = talk('the end?', f' a</think>{every} ', 'why?')
  if name in ('QWEN3', 'QWEN3_5', 'DEEPSEEK', 'LLAMA3', 'PHI'):
    with pytest.raises(ValueError, match='of every plane of Unicode'):
      ours(name, trimmed)


@pytest.mark.parametrize('name', templates.ALL)
def test_random_conversations(name):
  """fault A12: benign pieces in any order, space and line breaks among them."""
  draw = random.Random(name)
  pieces = ['the', ' ', '\n', '\n\n', '?', 'é', '1', '-', '<', '|', 'x', '😀']
  if name in THINKERS:
    pieces += ['</think>']
  for _ in range(40):
    said = [''.join(draw.choices(pieces[:-1] if i % 2 == 0 else pieces,
                                 k=draw.randrange(1, 9)))
            for i in range(draw.choice((1, 3, 5)))]
    if name == 'PHI':
      said = [s + 'x' for s in said]
    messages = talk(*said, system=draw.choice((None, ' sys\n')))
    assert ours(name, messages) == theirs(name, messages)[0], messages


def test_marks_of_ours_in_a_message():
  """fault A12: what looks like a stand-in is a message's words."""
  words = ' qzk7m0p0kzq qzk7m1p0kzq qzk8m '
  for name in templates.ALL:
    messages = talk(words, words, words)
    assert ours(name, messages) == theirs(name, messages)[0]


def test_a_template_that_reworks_its_own_words():
  """fault A12: where its words cannot be told from a message's, a message
  that holds a control token is refused and others are taken."""
  made = tokenizer(
      "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content"
      " | trim + ('<|IM_END|>' | lower) }}{%- endfor %}"
      "{%- if add_generation_prompt %}{{- '<|im_start|>' }}{%- endif %}")
  chat = hub_chat.chat(made, 2 * hub_builders.ROWS, base=BARE)
  messages = talk(' The end? ', 'no ')
  text = made.apply_chat_template(
      [{'role': m.role, 'content': m.parts[0]} for m in messages],
      add_generation_prompt=True, tokenize=False)
  assert list(conversation.encode(messages, chat, None).tokens) == (
      made.encode(text, add_special_tokens=False))
  with pytest.raises(ValueError, match='cannot be told apart'):
    conversation.encode(talk(' <|im_start|> '), chat, None)


def test_an_old_jinja_is_refused(monkeypatch):
  """fault A12: templates are rendered here, so the version is checked here."""
  monkeypatch.setattr(rendering.metadata, 'version', lambda name: '3.1.5')
  with pytest.raises(ImportError, match='jinja2 is 3.1.5.*from 3.1.6'):
    rendering._environment.__wrapped__()
