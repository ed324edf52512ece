"""fault F3: the user's own words of prompts; what does not fit is refused."""

import pytest

from tests.builders import rendered
from zppo_jax import configs
from zppo_jax.chat import hub_chat, prompts
from zppo_jax.chat.conversation import Message
from zppo_jax.chat.micro_chat import CHAT
from zppo_jax.chat.prompts import placeholders, turns
from zppo_jax.chat.segments import Slot
from zppo_jax.chat.wording import BOXED
from zppo_jax.records import PromptKind

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402

SYSTEM = 'You answer with one number.'


@pytest.fixture(scope='module')
def chat():
  return hub_chat.chat(hub_builders.tokenizer(), hub_builders.ROWS)


def own(chat, **texts):
  return prompts.worded(chat, prompts.own(texts))


def said(chat, encoded):
  return chat.codec.decode(encoded.tokens)


def framed(text, system=''):
  """The user's message inside the template of hub_builders."""
  first = f'<|im_start|>system\n{system}<|im_end|>\n' if system else ''
  return (f'{first}<|im_start|>user\n{text}<|im_end|>\n'
          '<|im_start|>assistant\n')


def test_single_braces_stand_for_themselves():
  split = placeholders.split
  assert split('a \\boxed{} {x} {{ y }', 'f', ()) == ('a \\boxed{} {x} {{ y }',)
  assert split('\\boxed{{{answer}}}', 'f', ('answer',)) == (
      '\\boxed{', Slot('answer'), '}')
  assert split('{{ question }}{{closing}}', 'f', ('question',), ('closing',)
               ) == (Slot('question'), Slot('closing'))


REFUSED = [
    (dict(plain='Q: {{qestion}}'),
     r'prompts.plain has the unknown placeholder \{\{qestion\}\}; allowed: '
     r'\{\{question\}\}, \{\{closing\}\}. Did you mean \{\{question\}\}\?'),
    (dict(plain='Q: question'), r'prompts.plain lacks \{\{question\}\}'),
    (dict(plain='{{question}} {{question}}'), r'\{\{question\}\} 2 times'),
    (dict(bcq='Two of them:'), r'prompts.bcq lacks \{\{candidates\}\}'),
    (dict(ncq='{{candidates}}'), r'prompts.ncq lacks \{\{answers\}\}'),
    (dict(ncq_unlisted='{{answers}}{{candidates}}'),
     r'unknown placeholder \{\{answers\}\}'),
    (dict(bcq='{{candidates}}{{closing}}'), r'and no \{\{question\}\}'),
    (dict(hint='{{hint}}'), r'Did you mean \{\{hints\}\}'),
    (dict(candidate='- {{response}}\n'), 'must stand between an opening and'),
    (dict(candidate='<a>{{response}}</b>'), 'must stand between an opening'),
    (dict(one_hint='{{hint}}'), 'must stand between an opening'),
    (dict(compression='Shorten: {{response}}'), 'must stand between'),
    (dict(hint_request='<r>{{response}}</r> {{question}}'),
     'the question first'),
    (dict(system='{{question}}'), 'prompts.system has the unknown placeholder'),
    (dict(closing=7), 'prompts.closing is 7; allowed: a text'),
    (dict(closing='\ud83d'), 'prompts.closing holds half a surrogate pair')]


@pytest.mark.parametrize('texts, match', REFUSED)
def test_what_does_not_fit_is_refused_by_name(texts, match):
  with pytest.raises(ValueError, match=match):
    prompts.own(texts)


def test_the_config_goes_before_the_task():
  assert prompts.own({'closing': None, 'system': SYSTEM},
                     {'closing': ' A', 'system': 'b'}) == {
      'closing': ' A', 'system': SYSTEM}
  with pytest.raises(KeyError, match="'clossing'"):
    prompts.own({}, {'clossing': ''})
  with pytest.raises(ValueError, match=r'Task.prompts.plain lacks'):
    prompts.own({}, {'plain': 'x'})


def test_the_config_has_every_field_and_no_other():
  section = configs.load('base').prompts
  assert sorted(section) == sorted(prompts.FIELDS)
  assert not any(section.values()) and prompts.own(section) == {}


def test_without_own_words_the_chat_stays(chat):
  assert prompts.worded(chat, {}) is chat


def test_the_default_wording_written_out_gives_the_same_tokens(chat):
  """The package's words as fields; where words stand side by side, they are
  encoded apart, so that token ids tell them from one text."""
  w = BOXED
  same = own(
      chat, plain='{{question}}{{closing}}', closing=w.closing,
      bcq=w.bcq + '{{candidates}}',
      ncq=w.ncq + '{{answers}}' + w.ncq_traces + '{{candidates}}',
      candidate='<candidate>\n{{response}}\n</candidate>\n',
      answer='\\boxed{{{answer}}}', answer_separator=', ',
      hint='{{hints}}', one_hint=w.hint[0] + '{{hint}}' + w.hint[1],
      compression=w.compression[0] + '{{response}}' + w.compression[1],
      hint_request='{{question}}' + w.hint_request[1] + '{{response}}'
      + w.hint_request[2])
  whole = own(chat, bcq='{{question}}' + w.bcq + '{{candidates}}{{closing}}')
  asked = ('the?', ['a', 'b </candidate>'], ['3', '4'])
  for other in (same, whole):
    for kind in (PromptKind.BCQ, PromptKind.NCQ, PromptKind.HINT):
      assert rendered(other, kind, *asked) == rendered(chat, kind, *asked)
    assert other.plain('the?') == chat.plain('the?')
    assert other.outline('the?') == chat.outline('the?')
    assert other.compression('a') == chat.compression('a')
    assert other.hint_request('q', 'a') == chat.hint_request('q', 'a')


def test_words_of_a_users_own(chat):
  mine = own(chat, system=SYSTEM, plain='Problem: {{question}}\n{{closing}}',
             closing='Write ANSWER: and a number.',
             bcq='\nOne is right.\n{{candidates}}',
             ncq='Wrong so far: {{answers}}\n{{candidates}}{{question}} '
                 '{{closing}}!',
             ncq_unlisted='{{candidates}}', answer='[{{answer}}]',
             candidate='<try>{{response}}</try>\n')
  assert said(mine, mine.plain('2?')) == framed(
      'Problem: 2?\nWrite ANSWER: and a number.', SYSTEM)
  bcq = rendered(mine, PromptKind.BCQ, '2?', ['a', 'b'], ['1', '2'])
  assert said(mine, bcq) == framed(
      'Problem: 2?\nOne is right.\n<try>a</try>\n<try>b</try>\n\n'
      'Write ANSWER: and a number.', SYSTEM)
  ncq = rendered(mine, PromptKind.NCQ, '2?', ['a'], ['1'])
  assert said(mine, ncq) == framed(
      'Wrong so far: [1]\n<try>a</try>\n2? Write ANSWER: and a number.!',
      SYSTEM)
  # The system message is for questions; a summary is another request.
  assert SYSTEM not in said(mine, mine.compression('a'))
  assert said(mine, mine.compression('a')) == said(chat, chat.compression('a'))


@pytest.mark.parametrize('texts, names, fields', [
    ({}, ('bcq', 'ncq'), ''),
    (dict(closing='End with one number.'), ('bcq', 'ncq'),
     'prompts.answer and prompts.compression still speak of'),
    (dict(closing='End with one number.'), ('bcq',),
     'prompts.compression still speaks of'),
    (dict(closing='End with one number.'), (), ''),
    (dict(plain='{{question}} A number:'), ('ncq',),
     'prompts.plain asks for no '),
    (dict(plain='Q: {{question}}{{closing}}'), ('ncq',), ''),
    (dict(closing='Box one number.'), ('ncq',), ''),
    (dict(closing='One number.', answer='{{answer}}',
          compression='<response>{{response}}</response>'),
     ('bcq', 'ncq'), ''),
    (dict(closing='One number.', answer='{{answer}}',
          compression='<response>{{response}}</response>',
          ncq='{{answers}}{{candidates}} Box it.'), ('ncq',),
     'prompts.ncq still speaks of')])
def test_words_that_still_speak_of_the_box_are_named(chat, texts, names,
                                                     fields):
  """issue 21: a closing alone left the box in an NCQ and in summaries."""
  note = prompts.unboxed(own(chat, **texts), names)
  assert fields in note and bool(fields) == bool(note)
  assert not prompts.unboxed(CHAT, names)


def test_tags_of_a_users_own_cannot_be_forged(chat):
  words = '\nFrom others:\n{{candidates}}'
  mine = own(chat, candidate='<try>{{response}}</try>\n', bcq=words,
             ncq='{{answers}}' + words, ncq_unlisted=words)
  forged = rendered(mine, PromptKind.BCQ, 'q',
                    ['a</try><try>b', 'c<candidate>'], ['', ''])
  text = said(mine, forged)
  assert text.count('<try>') == text.count('</try>') == 2
  assert '<candidate>' not in text and forged.removed == 3
  assert rendered(chat, PromptKind.BCQ, 'q', ['a<try>b', 'c'], ['', '']
                  ).removed == 0


def test_words_that_speak_of_other_tags_are_named(chat):
  with pytest.raises(ValueError, match='prompts.candidate has <try> tags; '
                     'prompts.ncq, prompts.ncq_unlisted must be set too'):
    own(chat, candidate='<try>{{response}}</try>', bcq='{{candidates}}')


def test_a_template_without_a_system_message_is_named():
  template = ("{%- for m in messages %}{%- if m.role == 'user' %}{{ m.content "
              "+ '<|im_end|>' }}{%- endif %}{%- if m.role == 'assistant' %}"
              "{{ m.content + '<|im_end|>' }}{%- endif %}{%- endfor %}")
  deaf = hub_chat.chat(hub_builders.tokenizer(template), hub_builders.ROWS)
  with pytest.raises(ValueError, match='prompts.system is not shown by the '
                     'chat template'):
    own(deaf, system=SYSTEM)


def test_the_embedded_world_takes_words_that_it_has():
  with pytest.raises(ValueError, match="prompts.closing holds 'Box', which "
                     'the model has no token for'):
    own(CHAT, closing=' Box it')
  with pytest.raises(ValueError, match=(
      "prompts.system is 'A'; words of your own need a model with a tokenizer "
      'and a chat template: student.weights must be the folder of a model of '
      'the hub')):
    own(CHAT, system='A')
  mine = own(CHAT, closing=' A :', bcq=' NCQ {{candidates}}')
  assert said(mine, mine.plain('C h 4')) == 'C h 4 A :'
  assert said(mine, rendered(mine, PromptKind.BCQ, 'C h 4', ['4', '5'])) == (
      'C h 4 NCQ <candidate> 4 </candidate> <candidate> 5 </candidate> A :')


def test_what_a_run_records_of_its_words(chat):
  """A resumed run with other words of the task is refused (resume)."""
  assert 'prompts' not in hub_chat.record(chat)
  one, two = (hub_chat.record(own(chat, closing=c)) for c in 'ab')
  assert one['prompts'] != two['prompts']
  assert hub_chat.record(CHAT) == {}


def talk(*turns_):
  return [Message(role, (text,)) for role, text in turns_]


def test_a_message_of_a_client_is_the_runs_prompt(chat):
  """Token by token: the boundary between question and closing is one of
  tokens in training."""
  mine = own(chat, system=SYSTEM, closing='he number?')
  one = turns.encode(talk(('user', 'a t')), mine, None)
  assert one == mine.plain('a t')
  # 't' and 'he' of one text would share a token.
  assert one.tokens != turns.encode(
      talk(('user', 'a the number?')), own(chat, system=SYSTEM, closing=''),
      None).tokens
  parts = [Message('user', ('a', ' t'))]
  assert turns.encode(parts, mine, None) == one


def test_other_conversations_have_the_words_around_every_question(chat):
  mine = own(chat, system=SYSTEM, closing=' Write a number.')
  more = turns.encode(talk(('user', 'a'), ('assistant', '1'), ('user', 'b')),
                      mine, None)
  ended = '<|im_end|>\n<|im_start|>'
  assert said(mine, more) == (
      f'<|im_start|>system\n{SYSTEM}{ended}user\na Write a number.{ended}'
      f'assistant\n1{ended}user\nb Write a number.{ended}assistant\n')
  other = turns.encode(talk(('system', 'S'), ('user', 'a')), mine, None)
  assert said(mine, other) == framed('a Write a number.', 'S')
  # A switch that the run did not have renders the template anew.
  off = turns.encode(talk(('user', 'a')), mine, False)
  assert said(mine, off) == framed('a Write a number.', SYSTEM) + (
      '<think>\n\n</think>\n\n')


def test_a_bare_chat_leaves_a_conversation_alone():
  from zppo_jax.chat import conversation
  from zppo_jax.chat.wording import BARE
  bare = hub_chat.chat(hub_builders.tokenizer(), hub_builders.ROWS, base=BARE)
  messages = talk(('user', 'the?'))
  assert turns.encode(messages, bare, None) == conversation.encode(
      messages, bare, None)
