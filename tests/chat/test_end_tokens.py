"""What ends a turn: published folders, folders that declare nothing."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests.long import LONG, long
from zppo_jax import main
from zppo_jax.chat import hub_chat, rendering, wording
from zppo_jax.commands import sample
from zppo_jax.records import Decoding, StopReason
from zppo_jax.rollout import collect, weight_sync
from zppo_jax.train import loop
from zppo_jax.weights import hub_checkpoint, hub_folder, pretrained

pytestmark = pytest.mark.usefixtures('quick_compile')
pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.hub_builders import set_json, write_published  # noqa: E402
from tests.train.test_hub_training import COIN, make_config, tasks  # noqa: E402

END, TEXT_END = 263, 261  # <|im_end|>, <|endoftext|>
FORMS = ('qwen3_5', 'base')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  home = tmp_path_factory.mktemp('published')
  return {form: write_published(home / form, form) for form in FORMS}


@pytest.fixture
def bare(tmp_path):
  """A folder whose tokenizer has no chat template and that declares no end."""
  folder = pathlib.Path(hub_builders.write(
      tmp_path / 'bare', hub_builders.tokenizer(template=None)))
  (folder / 'generation_config.json').unlink()
  set_json(folder / 'tokenizer_config.json', eos_token=None)
  set_json(folder / 'config.json', eos_token_id=None)
  return folder


def chat_of(folder, **words):
  return pretrained.chat(pretrained.with_words(
      pretrained.load(str(folder)), **words), wording.BARE)


@pytest.mark.parametrize('form', FORMS)
def test_published_folders_have_both_ends(folders, form):
  """The template's own comes first; every file that was read is named with
  its tokens: fault A1."""
  chat = chat_of(folders[form])
  assert chat.codec.end_ids == (END, TEXT_END)
  assert chat.codec.end_id == END
  assert {END, TEXT_END} <= chat.codec.sampled_ids
  (ends,) = [n for n in chat.notes if n.startswith('end tokens')]
  own, other = ends.removeprefix('end tokens: ').split(', <|endoftext|>')
  assert own.startswith('<|im_end|> 263 (chat template')
  place = {'qwen3_5': 'config.json text_config.eos_token_id',
           'base': 'generation_config.json eos_token_id'}[form]
  assert other.startswith(' 261 (') and place in other


@pytest.mark.parametrize('name, declared, place', [
    ('generation_config.json', 265, 'generation_config.json eos_token_id'),
    ('generation_config.json', [265, 261], 'generation_config.json'),
    ('config.json', [265], 'config.json eos_token_id'),
    ('config.json', {'text_config': {'eos_token_id': [265]}},
     'config.json text_config.eos_token_id')])
def test_every_place_is_read(tmp_path, name, declared, place):
  """As a number and as a list: fault A1."""
  folder = hub_builders.write(tmp_path / 'a')
  (tmp_path / 'a' / 'generation_config.json').unlink()
  fields = declared if isinstance(declared, dict) else {
      'eos_token_id': declared}
  set_json(tmp_path / 'a' / name, **fields)
  chat = chat_of(folder)
  assert chat.codec.end_ids[0] == END and 265 in chat.codec.end_ids
  assert f'265 ({place}' in ' '.join(chat.notes)


@pytest.mark.parametrize('name, declared, message', [
    ('config.json', 'x', "config.json: eos_token_id is 'x'; allowed: a token"),
    ('config.json', [True], r'eos_token_id is \[True\]'),
    ('generation_config.json', -1, 'generation_config.json: eos_token_id is'),
    ('generation_config.json', 280,
     r'generation_config.json eos_token_id is \(280,\); \[280\] are no tok')])
def test_an_end_that_is_no_token_is_refused(tmp_path, name, declared, message):
  """Naming file, field and value: fault A1."""
  folder = hub_builders.write(tmp_path / 'a')
  set_json(tmp_path / 'a' / name, eos_token_id=declared)
  with pytest.raises(ValueError, match=message):
    chat_of(folder)


def drawn_to(folder, token: int):
  """The folder's rollouts with every logit of a token raised."""
  found = pretrained.load(str(folder))
  params = {**found.params}
  if 'head' in params:
    params['head'] = np.asarray(params['head']).copy()
    params['head'][:, token] *= 40
  else:
    params['embed'] = np.asarray(params['embed']).copy()
    params['embed'][token] *= 40
  chat = chat_of(folder)
  mesh = sample.sharding.make_mesh(sample.sharding.MeshConfig())
  sampler = collect.make_sampler(
      model=sample.models.on_mesh(found.model, mesh), mesh=mesh, chat=chat,
      grader=sample._UNGRADED, decoding=Decoding(24), num_rollouts=4,
      prompt_buckets=(32,), patch_buckets=(), group_buckets=(2,))
  prompts = [sample.Prompt(
      sample.Question(f'q{i}', 'the end?', '', '', ()),
      sample.PromptKind.PLAIN, chat.plain('the end?').tokens, None)
      for i in range(2)]
  groups = collect.collect(
      sampler, weight_sync.place_copy(params, found.model, mesh), prompts,
      seed=0, step=0, purpose=sample.Purpose.EVALUATION)
  return [r for g in groups for r in g.rollouts]


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('token', [END, TEXT_END])
def test_either_end_ends_a_rollout(folders, form, token):
  """It is the last token, the reason is END, and the text is without it:
  fault A1."""
  found = drawn_to(folders[form], token)
  ended = [r for r in found if r.stop == StopReason.END]
  assert any(r.tokens[-1] == token for r in ended)
  for r in found:
    ends = [t for t in r.tokens if t in (END, TEXT_END)]
    assert len(ends) == (r.stop == StopReason.END)
    assert not ends or r.tokens[-1] == ends[0]
    assert '<|endoftext|>' not in r.text and '<|im_end|>' not in r.text


@pytest.mark.parametrize('form', FORMS)
def test_published_folders_are_sampled_and_described(folders, form, capsys):
  """By the command line; both say what ends a turn: fault A1."""
  main.main(['sample', f'--model={folders[form]}', '--prompt=the end?',
             '--max-tokens=4'])
  assert 'end tokens: <|im_end|> 263' in capsys.readouterr().out
  main.main(['models', folders[form]])
  out = capsys.readouterr().out
  assert 'end tokens: <|im_end|> 263 (chat template' in out
  assert 'num_layers 2' in out and 'chat template: ' in out
  assert ('vision tower: 2 layers' in out) == (form == 'qwen3_5')


@LONG
@pytest.mark.parametrize('form', [
    long(form) if form == 'qwen3_5' else form for form in FORMS])
def test_published_folders_train(folders, form, tmp_path, monkeypatch, capsys):
  """With themselves as the teacher; the run and its export keep the ends:
  faults A1 and A6, that is fault A1 and fault A6."""
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  folder = folders[form]
  loop.main(make_config(folder, folder), tmp_path / 'run')
  out = capsys.readouterr().out
  assert f'{folder}: end tokens: <|im_end|> 263' in out
  main.main(['export', f'--checkpoint={tmp_path}/run',
             f'--to={tmp_path}/out'])
  for path in (tmp_path / 'run', tmp_path / 'out'):
    assert chat_of(path).codec.end_ids == (END, TEXT_END)


@LONG
def test_both_ends_through_the_server(folders):
  """A chat completion of the published form stops by itself: fault A1."""
  pytest.importorskip('uvicorn')
  pytest.importorskip('openai')
  from tests.serve.test_app import running
  from zppo_jax import serve
  found = pretrained.load(folders['qwen3_5'])
  params = {**found.params, 'head': np.asarray(found.params['head']).copy()}
  params['head'][:, TEXT_END] *= 40
  chat = chat_of(folders['qwen3_5'])
  worker = serve.start(found._replace(params=params), chat, context=128,
                       slots=8, top=5)
  with running(worker=worker, chat=chat, context=128,
               max_bytes=1 << 20) as (ask, *_):
    status, reply = ask('/v1/chat/completions', {
        'model': 'm', 'n': 8, 'max_tokens': 32, 'seed': 1,
        'messages': [{'role': 'user', 'content': 'the end?'}]})
  worker.close()
  assert status == 200, reply
  stopped = [c for c in reply['choices'] if c['finish_reason'] == 'stop']
  assert stopped
  for choice in stopped:
    assert '<|endoftext|>' not in choice['message']['content']


def test_a_teacher_with_other_ends_is_taken(folders, tmp_path, monkeypatch):
  """Same words: it stops at its own ends and at those of the student's
  template: fault A1."""
  from zppo_jax.train import build
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  made = hub_builders.tokenizer(template=None)
  made.eos_token = '<|endoftext|>'
  student = hub_builders.write(tmp_path / 'student', made)
  (tmp_path / 'student' / 'generation_config.json').unlink()
  run = build.build(make_config(student, folders['base']))
  assert run.sampler.chat.codec.end_ids == (TEXT_END,)
  assert set(run.teacher.answers.chat.codec.end_ids) == {END, TEXT_END}
  assert set(run.teacher.answers.engine._end_E) == {END, TEXT_END}


def test_no_end_at_all(bare):
  """The message names the files that were read and the fields that set one:
  fault A1."""
  with pytest.raises(ValueError, match=(
      r'no end token.*generation_config.json \(eos_token_id\), config.json '
      r'\(eos_token_id\), config.json \(text_config.eos_token_id\).*'
      'student.end_tokens.*--end-tokens')):
    chat_of(bare)
  chat = chat_of(bare, end_tokens=('<|endoftext|>', END))
  assert chat.codec.end_ids == (TEXT_END, END)


@pytest.mark.parametrize('given, message', [
    (('<|over|>',), "end_tokens holds '<|over|>', which is no token of the"),
    ((999,), 'end_tokens holds 999, which is no token'),
    ((1.5,), 'student.end_tokens holds 1.5; allowed: tokens as text or ids'),
    ('<|im_end|>', "student.end_tokens is '<|im_end|>'; it must be a tuple")])
def test_end_tokens_of_a_user_are_checked(bare, given, message):
  """Each by name: fault A1."""
  import re
  with pytest.raises(ValueError, match=re.escape(message)):
    chat_of(bare, end_tokens=given, who='student.')


@LONG
def test_end_tokens_reach_commands_runs_and_exports(
    bare, tmp_path, monkeypatch, capsys):
  """A flag, a config field, and what the run keeps of it: fault A1."""
  argv = ['sample', f'--model={bare}', '--prompt=the', '--max-tokens=4']
  with pytest.raises(SystemExit) as e:
    main.main(argv)
  assert 'no end token' in e.value.code
  main.main([*argv, '--end-tokens=<|im_end|>,261'])
  assert 'end tokens: <|im_end|> 263 (end_tokens of the user), <|endoftext|>' \
      in capsys.readouterr().out
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  loop.main(make_config(str(bare), str(bare), **{
      'student.end_tokens': ('<|im_end|>',),
      'teacher.end_tokens': (TEXT_END,)}), tmp_path / 'run')
  again = pretrained.load(str(tmp_path / 'run'))
  assert again.end_tokens == ('<|im_end|>',)
  assert pretrained.chat(again).codec.end_ids == (END,)
  main.main(['export', f'--checkpoint={tmp_path}/run', f'--to={tmp_path}/out'])
  assert hub_folder.end_ids(tmp_path / 'out') == (END,)


def test_without_a_template_prompts_are_plain(bare, capsys):
  """The words, a line break, and whatever the tokenizer itself puts in
  front; the log says so: fault A5."""
  set_json(bare / 'config.json', eos_token_id=TEXT_END)
  chat = chat_of(bare)
  assert chat.codec.end_ids == (TEXT_END,)
  assert chat.codec.decode(chat.plain('the end?').tokens) == 'the end?\n'
  assert 'none is there, so prompts have the plain form' in chat.notes[0]
  main.main(['sample', f'--model={bare}', '--prompt=the', '--max-tokens=4'])
  assert 'plain form' in capsys.readouterr().out
  from zppo_jax.chat import conversation
  encoded = conversation.encode([
      conversation.Message('user', ('the?',)),
      conversation.Message('assistant', ('b',)),
      conversation.Message('user', ('c',))], chat, None)
  assert chat.codec.decode(encoded.tokens) == 'the?\nb<|endoftext|>\nc\n'


def test_the_plain_form_begins_as_the_tokenizer_does():
  """A token that it puts before every text stands there once: fault A5."""
  from tokenizers.processors import TemplateProcessing
  made = hub_builders.tokenizer(template=None)
  made.backend_tokenizer.post_processor = TemplateProcessing(
      single='<|im_start|> $A <|im_end|>', pair='<|im_start|> $A $B',
      special_tokens=[('<|im_start|>', 262), ('<|im_end|>', 263)])
  made.chat_template = hub_chat.plain_template(made, TEXT_END)
  chat = hub_chat.chat(made, hub_builders.ROWS, (TEXT_END,), wording.BARE)
  assert chat.plain('a').tokens[0] == 262
  assert chat.codec.decode(chat.plain('a').tokens) == '<|im_start|>a\n'
  assert chat.codec.end_id == TEXT_END


@LONG
def test_a_template_file(bare, tmp_path, monkeypatch, capsys):
  """In a config and by a flag; a run keeps it, an export writes it: fault
  A5."""
  file = tmp_path / 'mine.jinja'
  file.write_text("{% for m in messages %}[{{ m.content }}<|im_end|>]"
                  "{% endfor %}")
  argv = ['sample', f'--model={bare}', '--prompt=the', '--max-tokens=4']
  main.main([*argv, f'--chat-template={file}'])
  assert 'chat template: of the user' in capsys.readouterr().out
  monkeypatch.setitem(tasks.TASKS, 'coin', COIN)
  loop.main(make_config(str(bare), str(bare), **{
      'student.chat_template': str(file),
      'teacher.end_tokens': (END,)}), tmp_path / 'run')
  file.unlink()
  main.main(['export', f'--checkpoint={tmp_path}/run', f'--to={tmp_path}/out'])
  for path in (tmp_path / 'run', tmp_path / 'out'):
    chat = chat_of(path)
    assert chat.codec.decode(chat.plain('a').tokens) == '[a<|im_end|>]'
    assert chat.codec.end_id == END


def test_a_template_file_that_does_not_work(bare, tmp_path):
  """Named with its line; one that is not there; one without words: fault
  A5."""
  file = tmp_path / 'bad.jinja'
  file.write_text('a\n{% for %}')
  with pytest.raises(ValueError, match='chat_template, line 2: '):
    chat_of(bare, chat_template=str(file), end_tokens=(END,))
  with pytest.raises(FileNotFoundError, match="chat_template is 'no.jinja'"):
    chat_of(bare, chat_template='no.jinja')
  for text, message in ((b'', "'.*bad.jinja', which is empty"),
                        (b' \n', 'which is empty'),
                        (b'\xff{{ 1 }}', 'which is no UTF-8'),
                        (b"\n\n{{ 1 + 'a' }}", 'line 3: TypeError'),
                        (b'{{ 1 / 0 }}', 'line 1: ZeroDivisionError'),
                        (b"{% include 'x' %}", 'chat_template.*: TypeError')):
    file.write_bytes(text)
    with pytest.raises(ValueError, match=message):
      chat_of(bare, chat_template=str(file), end_tokens=(END,))
  model, params = hub_builders.checkpoint()
  hub_checkpoint.save(tmp_path / 'wordless', params, model)
  with pytest.raises(ValueError, match='came without a tokenizer'):
    chat_of(tmp_path / 'wordless', chat_template=str(file))


def test_a_template_file_that_tells_the_date(bare, tmp_path):
  """Faults A5 and A11 together: it was refused, as if no date were given."""
  file = tmp_path / 'dated.jinja'
  file.write_text("{{ strftime_now('%Y') }}{% for m in messages %}"
                  "[{{ m.content }}<|im_end|>]{% endfor %}")
  made = pretrained.with_words(pretrained.load(str(bare)),
                               chat_template=str(file))
  day = rendering.parse_day('2031-05-01', 'a')
  chat = pretrained.chat(made, wording.BARE, day=day)
  assert chat.codec.decode(chat.plain('a').tokens) == '2031[a<|im_end|>]'


@pytest.mark.parametrize('name, content, message', [
    ('tokenizer.json', b'{', 'its tokenizer cannot be read'),
    ('chat_template.jinja', b'\xff', 'its tokenizer cannot be read'),
    ('generation_config.json', b'[' * 10**5, 'is not JSON'),
    ('config.json', {'text_config': 'a'}, "text_config is 'a'"),
    ('config.json', {'rope_scaling': 'yarn'}, "rope_scaling is 'yarn'"),
    ('config.json', {'vision_config': []}, 'vision_config is')])
def test_damaged_files_are_named(tmp_path, name, content, message):
  """What a library raised told neither folder nor file."""
  folder = pathlib.Path(hub_builders.write(tmp_path / 'a'))
  if isinstance(content, dict):
    set_json(folder / name, **content)
  else:
    (folder / name).write_bytes(content)
  with pytest.raises(ValueError, match=f'{folder}.*{message}'):
    chat_of(folder)


def test_export_keeps_nested_ends(folders, tmp_path):
  """Where the source has no generation config; transformers reads them:
  fault A6."""
  transformers = pytest.importorskip('transformers')
  pytest.importorskip('torch')
  main.main(['export', f'--checkpoint={folders["qwen3_5"]}',
             f'--to={tmp_path}/out'])
  held = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert held['text_config']['eos_token_id'] == TEXT_END
  assert 'eos_token_id' not in held
  config = transformers.AutoConfig.from_pretrained(tmp_path / 'out')
  assert config.text_config.eos_token_id == TEXT_END
  generation = transformers.GenerationConfig.from_pretrained(tmp_path / 'out')
  assert generation.eos_token_id == [END, TEXT_END]
  assert chat_of(tmp_path / 'out').codec.end_ids == (END, TEXT_END)
  # The library alone, without the chat: what the files declare.
  found = pretrained.load(folders['qwen3_5'])
  hub_checkpoint.save(tmp_path / 'plain', found.params, found.model,
           tokenizer=folders['qwen3_5'])
  assert hub_folder.end_ids(tmp_path / 'plain') == (TEXT_END,)


def test_names_that_are_no_folder_have_a_hint(tmp_path, monkeypatch):
  """A hub id, one that is in the cache, a page of the hub: fault A10."""
  monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path))
  for name in ('Qwen/Qwen3-0.6B', 'https://huggingface.co/Qwen/Qwen3-0.6B'):
    with pytest.raises(FileNotFoundError, match=(
        'hf download Qwen/Qwen3-0.6B --local-dir FOLDER')):
      pretrained.load(name)
  (tmp_path / 'models--Qwen--Qwen3-0.6B').mkdir()
  with pytest.raises(FileNotFoundError, match='models--Qwen--Qwen3-0.6B; nam'):
    pretrained.load('Qwen/Qwen3-0.6B')
  with pytest.raises(SystemExit) as e:
    main.main(['models', 'Qwen/Qwen3-1.7B'])
  assert 'hf download' in e.value.code


def test_a_local_folder_that_is_missing_is_no_hub_id(tmp_path, monkeypatch):
  """Its hint is a command that works once the publisher is filled in."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine').mkdir()
  for folder in ('models', 'mine'):
    with pytest.raises(FileNotFoundError, match=(
        'hf download OWNER/Qwen3.5-0.8B --local-dir '
        f'{folder}/Qwen3.5-0.8B`')):
      pretrained.load(f'{folder}/Qwen3.5-0.8B')


def test_a_root_of_the_cache(tmp_path):
  """Its only snapshot is taken, or that of refs/main; else they are listed:
  fault A10."""
  root = tmp_path / 'hub' / 'models--Org--Name'
  first = root / 'snapshots' / 'aaa'
  first.mkdir(parents=True)
  first.rmdir()
  hub_builders.write(first)
  for path in (root, root / 'snapshots'):
    found = pretrained.load(str(path))
    assert found.tokenizer == str(first)
  shutil.copytree(first, root / 'snapshots' / 'bbb')
  with pytest.raises(FileNotFoundError, match='2 snapshots; name one of.*aaa'):
    pretrained.load(str(root))
  (root / 'refs').mkdir()
  (root / 'refs' / 'main').write_text('bbb\n')
  assert pretrained.load(str(root)).tokenizer.endswith('bbb')
  with pytest.raises(FileNotFoundError, match='cache.*models--Org--Name'):
    pretrained.load(str(tmp_path / 'hub'))
  shutil.rmtree(root / 'snapshots')
  (root / 'snapshots').mkdir()
  with pytest.raises(FileNotFoundError, match='0 snapshots.*there is none'):
    pretrained.load(str(root))


@pytest.mark.parametrize('config', [False, True])
def test_an_adapter(tmp_path, config):
  """With or without a config.json beside it: fault A10."""
  (tmp_path / 'adapter_config.json').write_text(json.dumps(
      {'base_model_name_or_path': 'Qwen/Qwen3-4B', 'peft_type': 'LORA'}))
  (tmp_path / 'adapter_model.safetensors').write_bytes(b'')
  if config:
    (tmp_path / 'config.json').write_text('{"model_type": "qwen3"}')
  with pytest.raises(FileNotFoundError, match=(
      "adapter .*'Qwen/Qwen3-4B'.*zppo import --from=")):
    pretrained.load(str(tmp_path))


def test_a_file_of_a_folder(tmp_path):
  """The shard's own name: the folder is what is wanted; fault A10."""
  folder = hub_builders.write(tmp_path / 'a')
  with pytest.raises(ValueError, match=f'name the folder, {folder}'):
    pretrained.load(f'{folder}/model.safetensors')


def test_placed_values_are_those_of_the_folder(folders):
  """What the notes speak of is also what is loaded: nothing is lost."""
  found = pretrained.load(folders['qwen3_5'])
  jax.tree.map(np.testing.assert_array_equal, found.params,
               hub_builders.seeing('qwen3_5')[1])


def test_the_tail_of_a_teachers_trace_has_no_end_of_its_own():
  """What replaces a summary: a teacher's end is no text, even where it ends
  nothing of the student's: fault A1."""
  from tests.builders import rollout
  from zppo_jax.algorithms import compression
  from zppo_jax.records import Verdict
  made = hub_builders.tokenizer()
  made.chat_template = hub_chat.plain_template(made, TEXT_END)
  chat = hub_chat.chat(made, hub_builders.ROWS, (TEXT_END,))
  assert chat.codec.end_ids == (TEXT_END,)
  words, _ = chat.codec.encode_content('the a b')
  for end in (TEXT_END, END):
    trace = rollout('1', Verdict.WRONG)
    trace = dataclasses.replace(
        trace, tokens=(*words, end), stop=StopReason.END)
    assert compression.tail(trace, 99, chat) == 'the a b'
