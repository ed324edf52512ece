"""fault F3: a run's own question is the same prompt wherever it is asked."""

import json
import types

import pytest

from zppo_jax import configs, main, tasks
from zppo_jax.chat import hub_chat
from zppo_jax.commands import evaluate, sample
from zppo_jax.commands.prompting import asked, show
from zppo_jax.records import Grader, Question
from zppo_jax.runs import same_config, workdir
from zppo_jax.serve import prepared
from zppo_jax.teachers import endpoint
from zppo_jax.train import build, loop
from zppo_jax.train.shapes import tables
from zppo_jax.weights import pretrained, safetensors_file

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402
from tests.train.test_hub_training import make_config  # noqa: E402

SYSTEM, CLOSING = 'Be exact.', '\n\nEnd with one number.'
SUMS = tasks.Task(
    pool=lambda size: [Question(f'q{i}', f'the {i}?', '1', 'all')
                       for i in range(size)],
    evaluation=lambda split, size: [Question('e', 'the?', '1', split)],
    grader=Grader(lambda text: '1', lambda answer, question: True),
    prompts={'closing': CLOSING, 'system': 'Of the task.'})
WANTED = (f'<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nthe 0?'
          f'{CLOSING}<|im_end|>\n<|im_start|>assistant\n')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return hub_builders.write(tmp_path_factory.mktemp('model') / 'hub')


@pytest.fixture
def config(folder, monkeypatch):
  monkeypatch.setitem(tasks.TASKS, 'coin', SUMS)
  c = make_config(folder, folder)
  c.prompts.system = SYSTEM
  return c


@pytest.fixture
def run(config, folder, tmp_path, monkeypatch):
  """The directory of a complete run, as far as a prompt depends on it."""
  monkeypatch.setattr(loop, '_work', lambda run, config, out, *_: {})
  path = tmp_path / 'run'
  loop.main(config, path)
  loaded = pretrained.load(folder)
  safetensors_file.save(path / pretrained.FINAL, loaded.params,
                        loaded.description)
  (path / 'summary.json').write_text('{}')
  return path


def test_training_asks_with_the_words_of_config_and_task(config):
  chat = build.build(config).sampler.chat
  assert chat.codec.decode(chat.plain('the 0?').tokens) == WANTED
  config.prompts.closing = ''
  chat = build.build(config).sampler.chat
  assert chat.codec.decode(chat.plain('the 0?').tokens) == WANTED.replace(
      CLOSING, '')
  config.prompts.plain = '{{qestion}}'
  with pytest.raises(ValueError, match='prompts.plain has the unknown place'):
    build.build(config)


def test_a_teacher_behind_a_chat_endpoint_is_asked_the_same(config):
  run = build.build(config)
  chat = run.sampler.chat
  words = endpoint.Words(
      asked.prompts.wording(build.BOXED, chat.prompts), chat)
  prompt = types.SimpleNamespace(question=Question('q', 'the 0?', '1', ''))
  assert words.question(prompt) == [
      {'role': 'system', 'content': SYSTEM},
      {'role': 'user', 'content': f'the 0?{CLOSING}'}]


def test_a_run_keeps_its_words(run, config, monkeypatch):
  """Without its task, whose module may be elsewhere."""
  monkeypatch.delitem(tasks.TASKS, 'coin')
  stored = json.loads((run / 'config.json').read_text())
  assert stored['prompts'] == {'closing': CLOSING, 'system': SYSTEM}
  whose = asked.of(str(run), None, bare=False)
  assert whose.texts == stored['prompts'] and 'of the run run' in whose.note
  assert asked.of(str(run), None, bare=True).texts is None


def test_a_run_does_not_go_on_with_other_words_of_its_task(
    run, config, monkeypatch):
  """Its config is the same, and there may be no checkpoint yet."""
  (run / 'summary.json').unlink()
  loop.main(config, run)
  with open(run / 'metrics.jsonl', 'a') as log:  # or the directory is given up
    log.write('{"step": 0}\n')
  monkeypatch.setitem(tasks.TASKS, 'coin', SUMS._replace(
      prompts={'closing': 'other'}))
  with pytest.raises(ValueError, match=r"prompts.closing is '\\n\\nEnd with "
                     "one number.' there and 'other' here. Put back Task"):
    loop.main(config, run)


def test_a_run_without_words_of_its_own_stores_none(config, tmp_path):
  described = workdir.describe(config, None, None, {})
  assert 'prompts' not in described
  assert 'prompts' in workdir.describe(config, None, None, {'closing': ''})


def test_sample_and_serve_ask_what_training_asks(run, config, monkeypatch):
  want = build.build(config).sampler.chat.plain('the 0?').tokens
  whose = asked.of(str(run), None, bare=False)
  loaded = pretrained.load(str(run))
  seen = []
  monkeypatch.setattr(sample.collect, 'collect',
                      lambda sampler, params, asked, **_: seen.extend(asked)
                      or [])
  monkeypatch.setattr(sample.weight_sync, 'place_copy', lambda *_: None)
  sample.respond(
      loaded, ['the 0?'], sample.Decoding(4), num=1, seed=0, thinking=None,
      words=whose.texts)
  assert seen[0].tokens == want
  server = types.SimpleNamespace(
      name='m', context=2000, chat=pretrained.asking_chat(loaded, whose.texts))
  body = json.dumps({'model': 'm', 'max_tokens': 4, 'messages': [
      {'role': 'user', 'content': 'the 0?'}]}).encode()
  assert prepared.chat(body, server)[1][0].tokens == want
  server.chat = pretrained.bare_chat(loaded)
  bare = server.chat.codec.decode(prepared.chat(body, server)[1][0].tokens)
  assert bare == ('<|im_start|>user\nthe 0?<|im_end|>\n'
                  '<|im_start|>assistant\n')


def test_the_words_of_a_config_for_any_model(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text(
      'from zppo_jax.configs import base\n\ndef get_config():\n'
      '  c = base.get_config()\n  c.prompts.closing = "!"\n'
      '  c.student.thinking = "off"\n  c.student.date = "2026-03-01"\n'
      '  return c\n')
  whose = asked.of(folder, 'mine', bare=False)
  assert (whose.texts, whose.thinking) == ({'closing': '!'}, False)
  assert whose.day.date.isoformat() == '2026-03-01'
  with pytest.raises(ValueError, match="--config is 'mine' with --bare"):
    asked.of(folder, 'mine', bare=True)
  assert asked.of(folder, 'micro_sft', bare=False).texts == {}
  assert asked.of(folder, None, bare=False) == (None, None, None, '', None, 0)


def test_eval_takes_the_config_of_a_run(run, monkeypatch, tmp_path, capsys):
  """Without --config; fields may be changed, and have their types."""
  taken = []
  monkeypatch.setattr(
      evaluate, 'main', lambda config, *_, **__: taken.append(config)
      or {'reasons': [], 'splits': {}})
  monkeypatch.setattr(evaluate, 'table', lambda _: '')
  main.main(['eval', f'--checkpoint={run}', f'--to={tmp_path}/to',
             '--config.eval.size=7', '--config.prompts.closing= A'])
  (config,) = taken
  assert config.prompts.system == SYSTEM and config.prompts.closing == ' A'
  assert config.eval.size == 7 and config.eval.splits == ('some',)
  with pytest.raises(SystemExit, match='one --config=NAME is needed'):
    main.main(['eval', f'--checkpoint={tmp_path}', '--to=x'])


@pytest.mark.parametrize('name', ['micro', 'files', 'pod_9b', 'uni_opd_4b'])
def test_a_stored_config_comes_back(name):
  config = configs.load(name)
  back = configs.of_values(same_config.config_values(config))
  assert same_config.config_values(back) == same_config.config_values(config)
  assert back.shapes.to_dict() == config.shapes.to_dict()
  with pytest.raises(ValueError, match='a run of `zppo sft` asks no quest'):
    configs.of_values({'method': 'sft'})


def shown(capsys, *argv):
  main.main(['prompts', *argv])
  return capsys.readouterr().out


def test_prompts_shows_what_a_method_asks(folder, capsys, monkeypatch):
  question = Question('q0', 'the <|im_end|> 0?', '1', 'all',
                      responses=('so \\boxed{1}',))
  monkeypatch.setitem(tasks.TASKS, 'coin', SUMS._replace(
      pool=lambda size: [question]))
  monkeypatch.setattr(configs, 'load',
                      lambda name: make_config(folder, folder))
  out = shown(capsys, '--config=coin', f'--config.prompts.system={SYSTEM}')
  head, plain, bcq, ncq, compression = out.split('\n== ')
  assert 'prompts.closing: of the task coin' in head
  assert 'prompts.system: of the config' in head
  count = len(hub_builders.tokenizer().encode(WANTED)) + len(
      '<|im_end|> ')  # its letters
  assert plain.startswith(f'plain: {count} tokens, bucket 704\n')
  assert plain.split('\n', 1)[1] == (
      f'⟦<|im_start|>⟧system\n{SYSTEM}⟦<|im_end|>⟧\n⟦<|im_start|>⟧user\n'
      f'the <|im_end|> 0?{CLOSING}⟦<|im_end|>⟧\n⟦<|im_start|>⟧assistant\n\n')
  assert bcq.count('<candidate>\n') == 2 and 'so \\boxed{1}' in bcq
  assert 'wrong response of the student]' in bcq
  assert 'wrong: \\boxed{[its answer]}, \\boxed{[its other answer]}' in ncq
  assert compression.startswith('compression, which the teacher is asked for a')
  assert '<response>\nso \\boxed{1}\n</response>' in compression
  out = shown(capsys, '--config=coin', '--config.method=prefix')
  # 0.4 of the 12 tokens of the response, whose end token does not count.
  assert ', 4 of them begin the response, bucket 704' in out
  out = shown(capsys, '--config=coin', '--config.method=hint',
              '--config.shapes.prompt_buckets=(64,)')
  assert '[a hint]' in out and 'beyond the largest bucket, 64' in out
  assert '== hint, which the teacher is asked for: ' in out
  # Buckets that were set by hand win, so those of the base stand here.
  out = shown(capsys, '--config=coin', '--config.shapes.auto=True',
              '--config.shapes.prompt_buckets='
              f'{tables.DEFAULTS["prompt_buckets"]}')
  assert 'tokens, its bucket is proposed when a run begins' in out
  assert ', bucket ' not in out


def test_prompts_of_the_embedded_world_and_its_pictures(capsys):
  out = shown(capsys, '--config=micro')
  assert '\n== plain: 6 tokens, bucket 8\nV j h k 7 ⟦:⟧\n' in out
  context = shown(capsys, '--config=micro', '--config.method=opsd')
  assert ("== context 'reference', which the teacher reads: 11 tokens, bucket "
          '40\nV j h k 7 ⟦<candidate>⟧ 2 3 7 ⟦</candidate>⟧ ⟦:⟧\n') in context
  other = shown(capsys, '--config=micro', '--config.method=opsd',
                '--config.distil.context_of=another')
  assert "== context 'reference' of another question, which the" in other
  assert '\nV j h k 7 ⟦<candidate>⟧ ' in other
  assert '⟦<candidate>⟧ 2 3 7 ⟦</candidate>⟧' not in other
  with pytest.raises(SystemExit, match="method is 'sft', which asks no"):
    main.main(['prompts', '--config=sft'])


def test_equal_control_tokens_are_counted():
  chat = hub_chat.chat(hub_builders.tokenizer(), hub_builders.ROWS)
  pad = chat.codec.ids['<|image_pad|>']
  ids = chat.codec.encode_template('a<|im_end|>')
  assert show.spelt([*ids, pad, pad, pad, *ids], chat) == (
      'a⟦<|im_end|>⟧⟦<|image_pad|> x 3⟧a⟦<|im_end|>⟧')
