"""`zppo completion`: the words that a shell completes after `zppo`.

A script holds all commands, flags, packaged configs and fields of
configs/base.py as text, so that completing starts no Python.
"""

from collections.abc import Mapping
from typing import Any

from zppo_jax import allowed, configs

# Where each shell looks for it; the first comment of its script.
HOW = {
    'bash': 'eval "$(zppo completion bash)", in ~/.bashrc',
    'zsh': 'eval "$(zppo completion zsh)", in ~/.zshrc behind compinit',
    'fish': 'zppo completion fish | source, in config.fish'}

# The word is what stands behind the last blank, because bash cuts words at '='.
_BASH = r'''
_zppo() {
  local line="${COMP_LINE:0:COMP_POINT}"
  local word="${line##* }" before="" words="" command="${COMP_WORDS[1]}"
  local IFS=$'\n'
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    words="$_zppo_commands"
  elif [[ $word == --config=* ]]; then
    before="--config=" words="$_zppo_configs"
  elif [[ $word == --*=* ]]; then
    before="${word%%=*}="
    COMPREPLY=($(compgen -f -- "${word#*=}"))
    compopt -o filenames 2> /dev/null
  elif [[ $word == --config.* ]]; then
    words="$_zppo_fields"
  elif [[ $word == -* ]]; then
    case "$command" in
CASES
    esac
  else
    COMPREPLY=($(compgen -f -- "$word"))
    compopt -o filenames 2> /dev/null
  fi
  if [[ -n $words ]]; then
    COMPREPLY=($(IFS=' ' compgen -W "$words" -- "${word#"$before"}"))
  fi
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2> /dev/null
  return 0
}
complete -F _zppo zppo
'''

_ZSH = '''
_zppo() {
  local command=$words[2] word=$PREFIX
  local -a flags
  if (( CURRENT == 2 )); then
    compadd -- ${=_zppo_commands}
  elif [[ $word == --config=* ]]; then
    compset -P '*='
    compadd -- ${=_zppo_configs}
  elif [[ $word == --*=* ]]; then
    compset -P '*='
    _files
  elif [[ $word == --config.* ]]; then
    compadd -S '' -- ${=_zppo_fields}
  elif [[ $word == -* ]]; then
    case $command in
CASES
    esac
    compadd -S '' -- ${=words_of}
  else
    _files
  fi
}
compdef _zppo zppo
'''


def _fields(section: Any, prefix: str = '--config') -> list[str]:
  """The flags of all fields of a config that have a value of their own."""
  out = []
  for name in section:
    value, flag = section[name], f'{prefix}.{name}'
    out += _fields(value, flag) if hasattr(value, 'keys') else [f'{flag}=']
  return out


def flags(row: Any) -> list[str]:
  """The flags of a command, as they are spelt; one with a value ends in =.

  Args:
    row: of the table of commands.
  """
  spelt = lambda name: '--' + name.replace('_', '-')
  return [*(['--config='] if row.config else []),
          *(f'{spelt(name)}=' for name in row.wanted),
          *(spelt(name) + ('' if isinstance(default, bool) else '=')
            for name, (default, _) in row.optional.items()),
          '--help', '--traceback']


def _fish(commands: Mapping[str, Any]) -> str:
  quoted = lambda text: "'" + text.replace('\\', r'\\').replace(
      "'", r"\'") + "'"
  lines = ['complete -c zppo -n __fish_use_subcommand -f']
  for name, row in commands.items():
    lines.append(f'complete -c zppo -n __fish_use_subcommand -f -a {name} '
                 f'-d {quoted(row.text)}')
    texts = {**row.wanted, **{f: text for f, (_, text) in
                              row.optional.items()}}
    for flag in flags(row):
      word = flag.strip('-=')
      said = texts.get(word.replace('-', '_'), '')
      values = (f" -x -a {quoted(' '.join(configs.names()))}"
                if word == 'config' else ' -r' if flag.endswith('=') else '')
      lines.append(f"complete -c zppo -n '__fish_seen_subcommand_from {name}' "
                   f'-l {word}{values}' + (f' -d {quoted(said)}' if said
                                           else ''))
  whole = [name for name, row in commands.items() if row.config]
  lines += [f"complete -c zppo -n '__fish_seen_subcommand_from "
            f"{' '.join(whole)}' -l {flag.strip('-=')} -r"
            for flag in _fields(configs.load('base'))]
  return '\n'.join(lines) + '\n'


def script(shell: str, commands: Mapping[str, Any]) -> str:
  """The script of a shell.

  Args:
    shell: a key of HOW.
    commands: the table of commands.

  Raises:
    ValueError: for another shell.
  """
  allowed.one_of('SHELL', shell, tuple(HOW))
  head = f'# {HOW[shell]}\n'
  if shell == 'fish':
    return head + _fish(commands)
  texts = {'commands': commands, 'configs': configs.names(),
           'fields': _fields(configs.load('base'))}
  set_to = 'words' if shell == 'bash' else 'local words_of'
  cases = '\n'.join(f'      {name}) {set_to}="{" ".join(flags(row))}" ;;'
                    for name, row in commands.items())
  return (head + '\n'.join(f'_zppo_{name}="{" ".join(words)}"'
                           for name, words in texts.items())
          + (_BASH if shell == 'bash' else _ZSH).replace('CASES', cases))
