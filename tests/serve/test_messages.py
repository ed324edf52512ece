"""Messages of a request, from the body to the prompt that is generated on."""

import pytest

pytest.importorskip('transformers')
pytest.importorskip('uvicorn')
from tests import hub_builders  # noqa: E402
from tests.chat import templates  # noqa: E402
from tests.serve.test_app import serving  # noqa: E402
from zppo_jax.chat import hub_chat  # noqa: E402
from zppo_jax.chat.wording import BARE  # noqa: E402
from zppo_jax.serve import requests  # noqa: E402

TALK = [{'role': 'system', 'content': 'be brief'},
        {'role': 'user', 'content': ' the end? '},
        {'role': 'assistant', 'content': '<think>\nthe 1\n</think>\n\nno'},
        {'role': 'user', 'content': [{'type': 'text', 'text': 'why'},
                                     {'type': 'text', 'text': '?\n'}]}]


def flat(messages):
  return [{**m, 'content': m['content'] if isinstance(m['content'], str) else
           ''.join(p['text'] for p in m['content'])} for m in messages]


@pytest.fixture(scope='module', params=['QWEN3', 'QWEN3_5'])
def served(request):
  """(ask, worker, tokenizer)"""
  made = hub_builders.tokenizer(templates.ALL[request.param])
  chat = hub_chat.chat(made, hub_builders.ROWS, base=BARE)
  with serving(chat=chat, context=2000) as (ask, worker, _):
    yield lambda messages, **more: ask('/v1/chat/completions', {
        'model': 'm', 'messages': messages, 'max_tokens': 1,
        **more}), worker, made


@pytest.mark.parametrize('messages', [
    TALK, [*TALK[:2], {'role': 'assistant', 'content': 'no',
                       'reasoning_content': 'the 1'}],
    [*TALK[:2], {'role': 'assistant', 'content': 'no', 'reasoning': 'the 1',
                 'tool_calls': None, 'refusal': None, 'annotations': []},
     TALK[3]]], ids=['tags', 'field', 'as clients send it back'])
@pytest.mark.parametrize('more', [
    {}, {'chat_template_kwargs': {'enable_thinking': False}}])
def test_earlier_turns_are_what_the_template_makes_of_them(
    served, messages, more):
  """fault A12: ids of the prompt are the tokenizer's own."""
  ask, worker, made = served
  status, reply = ask(messages, **more)
  said = [{('reasoning_content' if k == 'reasoning' else k): v
           for k, v in m.items()} for m in flat(messages)]
  text = made.apply_chat_template(
      said, add_generation_prompt=True, tokenize=False,
      **more.get('chat_template_kwargs', {}))
  want = made.encode(text, add_special_tokens=False)
  assert status == 200, reply
  assert list(worker.jobs[-1].tokens) == want
  assert reply['usage']['prompt_tokens'] == len(want)
  assert ('the 1' in text) == (len(messages) == 3)


@pytest.mark.parametrize('message, said', [
    ({'role': 'tool', 'content': '4'}, "role is 'tool'; allowed: system, user"),
    ({'role': 'assistant', 'content': 'x', 'tool_calls': [{'id': 'a'}]},
     "tool_calls' is .*not built, allowed fields: role, content, name"),
    ({'role': 'assistant', 'content': 'x', 'function_call': {'name': 'f'}},
     "function_call' is .*not built"),
    ({'role': 'assistant', 'content': 'x', 'prefix': True},
     "'prefix' is True; it is not built"),
    ({'role': 'user', 'content': 'x', 'reasoning_content': 'y'},
     'reasoning_content is .y. in a message of role user; allowed in: assist'),
    ({'role': 'assistant', 'content': 'x', 'reasoning_content': ['y']},
     'reasoning_content is .*allowed: a string'),
    ({'role': 'assistant', 'content': 'x', 'name': 0},
     'name is 0; allowed: a string'),
    ({'role': 'assistant', 'content': 'x', 'reasoning_content': 'y',
      'thinking': 'z'}, "thinking is 'z'; another field says otherwise")])
def test_refused_fields_of_messages(message, said):
  """fault A12: what is not built is refused by its name, never left out."""
  with pytest.raises(requests.Refused, match=said) as e:
    requests.chat({'model': 'm', 'messages': [message]}, 'm', 10)
  assert e.value.param == 'messages' and e.value.status == 400


def test_a_template_refuses_by_its_own_words(served):
  """fault A12: and a field that it does not read is named."""
  made = hub_builders.tokenizer(templates.DEEPSEEK)
  chat = hub_chat.chat(made, hub_builders.ROWS, (263,), base=BARE)
  with serving(chat=chat, context=2000) as (ask, *_):
    status, reply = ask('/v1/chat/completions', {'model': 'm', 'messages': [
        TALK[1], {'role': 'assistant', 'content': 'no',
                  'reasoning_content': 'x'}, TALK[3]]})
  assert status == 400
  assert 'messages: reasoning_content is given' in reply['error']['message']
  ask, _, made = served
  status, reply = ask([TALK[0]])
  if 'No user query' in made.chat_template:
    assert status == 400
    assert 'does not take this: No user query.' in reply['error']['message']
  else:
    assert status == 200
