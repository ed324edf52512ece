"""`zppo export --push`: by a stand-in of HfApi, because nothing is sent."""

import types

import pytest

from zppo_jax import main
from zppo_jax.commands import convert

hub = pytest.importorskip('huggingface_hub')
from tests import hub_builders  # noqa: E402

TOKEN = 'hf_secretsecretsecret'


class Api:
  """HfApi as far as it is used, with what it was asked."""

  def __init__(self, there=None, fails=''):
    self.there, self.fails, self.calls = there, fails, []

  def repo_exists(self, repo_id):
    return self.there is not None

  def repo_info(self, repo_id):
    return types.SimpleNamespace(private=self.there == 'private')

  def create_repo(self, repo_id, *, private, exist_ok):
    self.calls.append(('create', repo_id, private, exist_ok))

  def upload_folder(self, *, repo_id, folder_path, commit_message):
    if self.fails:
      raise RuntimeError(f'403 Forbidden\nfor {self.fails}')
    self.calls.append(('upload', repo_id, folder_path))
    return types.SimpleNamespace(
        commit_url=f'https://hub.example/{repo_id}/commit/1')


@pytest.fixture
def api(monkeypatch):
  """(state of the repository, error) -> the stand-in that is used."""
  def use(*of, token=TOKEN):
    made = Api(*of)

    class Used(Api):
      def __init__(self):
        self.__dict__ = made.__dict__

    monkeypatch.setattr(hub, 'HfApi', Used)
    monkeypatch.setattr(hub, 'get_token', lambda: token)
    return made
  return use


def test_the_stand_in_has_the_arguments_of_the_real_one():
  import inspect
  for name in ('repo_exists', 'repo_info', 'create_repo', 'upload_folder'):
    takes = inspect.signature(getattr(hub.HfApi, name)).parameters
    for argument in inspect.signature(getattr(Api, name)).parameters:
      assert argument in takes, (name, argument)


@pytest.mark.parametrize('flags, private', [((), False),
                                            (('--private',), True)])
def test_an_export_is_pushed_when_asked(flags, private, api, tmp_path, capsys):
  of, to = api(), tmp_path / 'out'
  source = hub_builders.write(tmp_path / 'hub')
  main.main(['export', f'--checkpoint={source}', f'--to={to}',
             '--push=me/model', *flags])
  assert of.calls == [('create', 'me/model', private, True),
                      ('upload', 'me/model', str(to))]
  out = capsys.readouterr().out
  assert 'pushed to https://hub.example/me/model/commit/1' in out
  assert TOKEN not in out


def refused(tmp_path, *flags):
  with pytest.raises(SystemExit) as e:
    main.main(['export', '--checkpoint=micro/student', f'--to={tmp_path}/out',
               *flags])
  assert not (tmp_path / 'out').exists()  # before anything is written
  return str(e.value.code)


def test_what_cannot_be_pushed_is_refused_before_the_export(api, tmp_path):
  api()
  assert "--push is 'model'; it must be OWNER/NAME" in refused(
      tmp_path, '--push=model')
  assert '--private is set without --push' in refused(tmp_path, '--private')
  api('public')
  assert 'me/model is there and public; --private would not hide it' in (
      refused(tmp_path, '--push=me/model', '--private'))
  api(token=None)
  assert 'no token: `hf auth login`' in refused(tmp_path, '--push=me/model')


def test_an_error_of_the_hub_is_one_line_without_the_token(api):
  of = api('private', f'Bearer {TOKEN}')
  push = convert.Push('me/model', True)
  with pytest.raises(convert.PushError) as e:
    push.folder('somewhere')
  assert str(e.value) == ('cannot upload to me/model: 403 Forbidden for Bearer '
                          '***')
  assert e.value.__cause__ is None and e.value.__context__ is None
  assert [call[0] for call in of.calls] == ['create']
