"""The scripts of `zppo completion`, as a shell reads them."""

import subprocess

import pytest

from zppo_jax import configs
from zppo_jax.commands import completion
from zppo_jax.commands.table import COMMANDS

# What bash sets before it calls the function of `complete -F`.
ASK = r'''
ask() {
  COMP_LINE="$1" COMP_POINT=${#1}
  read -ra COMP_WORDS <<< "$1"
  [[ $1 == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _zppo
  printf '%s\n' "${COMPREPLY[@]}" ''
}
'''


def answers(lines, folder):
  """The words that bash offers behind each line."""
  script = completion.script('bash', COMMANDS) + ASK + '\n'.join(
      f"ask '{line}'" for line in lines)
  ran = subprocess.run(['bash', '--norc', '-c', script], cwd=folder,
                       capture_output=True, text=True)
  assert ran.returncode == 0 and ran.stderr == ''
  return [part.split('\n') for part in ran.stdout.rstrip('\n').split('\n\n')]


def test_bash_completes_commands_flags_configs_fields_and_files(tmp_path):
  (tmp_path / 'runs one').mkdir()
  (tmp_path / 'run_config.py').touch()
  found = answers(
      ['zppo tr', 'zppo ', 'zppo train --w', 'zppo serve --token',
       'zppo train --config=micro_p', 'zppo train --config.algorithm.nu',
       'zppo report run', 'zppo train --workdir=run', 'zppo init --pict'],
      tmp_path)
  files = ['run_config.py', 'runs one']
  assert [sorted(words) for words in found] == [
      ['train'], sorted(COMMANDS), ['--workdir='], ['--token-env='],
      ['micro_pictures', 'micro_pretrain'], ['--config.algorithm.num_new='],
      files, files, ['--pictures']]


def test_every_flag_of_every_command_is_in_each_script():
  """In fish a flag has no dashes, and a value is asked for by -r or -x."""
  scripts = {shell: completion.script(shell, COMMANDS)
             for shell in completion.HOW}
  for name, row in COMMANDS.items():
    flags = completion.flags(row)
    assert {'--help', '--traceback'} <= set(flags)
    assert ('--config=' in flags) == (row.config or 'config' in row.optional)
    for shell in ('bash', 'zsh'):
      assert f'{name}) ' in scripts[shell]
      assert f'="{" ".join(flags)}" ;;' in scripts[shell]
    for flag in flags:
      line = next(line for line in scripts['fish'].splitlines() if (
          f'_from {name}\' -l {flag.strip("-=")}' in line))
      assert (' -r' in line or ' -x' in line) == flag.endswith('=')
  for script in scripts.values():
    assert 'config.optimizer.learning_rate' in script
    assert all(config in script for config in configs.names())


def test_another_shell_is_refused():
  with pytest.raises(KeyError, match="unknown SHELL 'tcsh'; known: bash, zsh"):
    completion.script('tcsh', COMMANDS)
