"""Packaged weights: a name, or a path, to a safetensors file."""

import pathlib

HOME = pathlib.Path(__file__).parent


def names() -> list[str]:
  """Names of the packaged weights, e.g. 'micro/student'."""
  return sorted(str(p.relative_to(HOME).with_suffix(''))
                for p in HOME.rglob('*.safetensors'))


def find(name: str) -> pathlib.Path:
  """The file of a packaged name or a path.

  Raises:
    FileNotFoundError: naming the packaged weights.
  """
  for path in (HOME / f'{name}.safetensors', pathlib.Path(name)):
    if path.is_file():
      return path
  raise FileNotFoundError(
      f'no weights {name!r}: neither a file nor a packaged name; packaged: '
      f'{", ".join(names())}')
