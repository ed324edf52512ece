"""`zppo import` and `zppo export` by the command line."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from zppo_jax import main
from zppo_jax.weights import pretrained

pytest.importorskip('transformers')
from tests import hub_builders  # noqa: E402


def refused(*argv):
  with pytest.raises(SystemExit) as e:
    main.main(list(map(str, argv)))
  return e.value.code


@pytest.fixture
def folder(tmp_path):
  return hub_builders.write(tmp_path / 'hub')


def test_import_then_export_is_the_folder(folder, tmp_path, capsys):
  """The same tensors and tokenizer; in bfloat16 the rounded ones."""
  file = tmp_path / 'ours.safetensors'
  main.main(['import', f'--from={folder}', f'--to={file}'])
  assert f'its tokenizer stays in {folder}' in capsys.readouterr().out
  main.main(['export', f'--checkpoint={file}', f'--to={tmp_path}/a'])
  main.main(['export', f'--checkpoint={file}', f'--to={tmp_path}/b',
             '--dtype=bfloat16', f'--tokenizer={folder}'])
  assert len({p.stat().st_mode for p in (tmp_path / 'a').iterdir()}) == 1
  want = load_file(f'{folder}/model.safetensors')
  same = load_file(tmp_path / 'a/model.safetensors')
  rounded = load_file(tmp_path / 'b/model.safetensors')
  assert want.keys() == same.keys() == rounded.keys()
  for name, x in want.items():
    np.testing.assert_array_equal(same[name], x)
    np.testing.assert_array_equal(
        rounded[name], x.astype(rounded[name].dtype))
    assert rounded[name].dtype.name == 'bfloat16'
  for name in 'ab':
    again = pretrained.load(str(tmp_path / name))
    assert pretrained.chat(again).codec.end_id == 263
  again = pretrained.load(str(tmp_path / 'a'))
  jax.tree.map(np.testing.assert_array_equal, again.params,
               hub_builders.checkpoint()[1])


def test_refusals(folder, tmp_path):
  file = tmp_path / 'ours.safetensors'
  assert 'must end in .safetensors' in refused(
      'import', f'--from={folder}', f'--to={tmp_path}/ours')
  assert 'checkpoint folder' in refused(
      'import', '--from=micro/student', f'--to={file}')
  assert '--from is needed' in refused('import', f'--to={file}')
  assert 'is there already' in refused(
      'export', f'--checkpoint={folder}', f'--to={folder}')
  assert "'decoder' family has no hub form" in refused(
      'export', '--checkpoint=micro/student', f'--to={tmp_path}/new')
  assert "dtype is 'int8'; allowed: float32, bfloat16" in refused(
      'export', f'--checkpoint={folder}', f'--to={tmp_path}/new',
      '--dtype=int8')
  assert not file.exists() and not (tmp_path / 'new').exists()
