"""What speculative decoding by prompt look-up would save, from recorded runs.

  python -m benchmarks.look_up --runs=micro=runs/zppo \\
      --to=benchmarks/results/look_up.json

Prompt look-up (Saxena 2023; transformers' prompt_lookup_num_tokens) proposes
the tokens that followed the last tokens of a row where these stood before, in
the prompt or in the response. One call of the model then checks all proposals.
A proposal that is a fixed token is kept with its probability (Leviathan et al.
2023, Algorithm 1), which is how often the recorded draw equals it. So recorded
rollouts say, without the model, how many tokens a call would give. A call with
K proposals computes K + 1 positions per row in the place of one. CPU seconds:
a few.
"""

import argparse
import collections
import json
import pathlib
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown
from zppo_jax.train.models import load_model

PROPOSED = (1, 2, 4, 8)  # K
LONGEST = 3  # tokens that are looked up, the most first


def proposal(context: Sequence[int], number: int,
             longest: int = LONGEST) -> list[int]:
  """The tokens that followed the end of a context where it stood last before.

  Args:
    context: prompt and response so far.
    number: the most tokens.
    longest: the most tokens of the end that are looked up; if they stand
      nowhere else, one less is, down to one.
  """
  for size in range(min(longest, len(context) - 1), 0, -1):
    end = list(context[-size:])
    for start in range(len(context) - size - 1, -1, -1):
      if list(context[start:start + size]) == end:
        behind = start + size
        return list(context[behind:behind + number])
  return []


def calls(prompt: Sequence[int], response: Sequence[int], number: int) -> int:
  """Calls of the model that draw a response with `number` proposals each.

  A call keeps the proposals that the draw agrees with, and draws one more
  token.
  """
  done = count = 0
  while done < len(response):
    proposed = proposal([*prompt, *response[:done]], number)
    kept = 0
    while (kept < len(proposed) and done + kept < len(response)
           and proposed[kept] == response[done + kept]):
      kept += 1
    done, count = done + kept + 1, count + 1
  return count


def encoder(student) -> Callable[[str], Sequence]:
  """Text -> tokens of the model that a run trained.

  Args:
    student: the section of its config.
  """
  chat = load_model(student).chat
  return str.split if chat is None else chat.codec.encode_template


def measured(workdir: pathlib.Path) -> list[dict]:
  """A record per kind of prompt: rollouts, tokens, and tokens per call."""
  encode = encoder(ConfigDict(json.loads(
      (workdir / 'config.json').read_text())['config']['student']))
  counts: dict[str, collections.Counter] = {}
  for line in (workdir / 'samples.jsonl').read_text().splitlines():
    for group in json.loads(line)['groups']:
      of = counts.setdefault(group['kind'], collections.Counter())
      prompt = encode(group['prompt'])
      for rollout in group['rollouts']:
        response = encode(rollout['text'])
        of['rollouts'] += 1
        of['tokens'] += len(response)
        for number in PROPOSED:
          of[number] += calls(prompt, response, number)
  return [{'kind': kind, 'rollouts': of['rollouts'], 'tokens': of['tokens'],
           'per_call': {str(number): of['tokens'] / of[number]
                        for number in PROPOSED}}
          for kind, of in sorted(counts.items()) if of['tokens']]


def table(found: dict) -> str:
  """Markdown: a row per run and kind of prompt."""
  rows = [['run', 'kind', 'rollouts', 'tokens', *(
      f'tokens per call, K = {number}' for number in PROPOSED)]]
  for run in found['runs']:
    rows += [[run['what'], of['kind'], f'{of["rollouts"]:,}',
              f'{of["tokens"]:,}', *(f'{of["per_call"][str(number)]:.2f}'
                                     for number in PROPOSED)]
             for of in run['kinds']]
  return markdown(rows)


def main(argv=None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--runs', required=True,
                      help='WHAT=WORKDIR, several with commas')
  parser.add_argument('--to', type=pathlib.Path, required=True)
  flags = parser.parse_args(argv)
  runs = []
  for one in flags.runs.split(','):
    what, _, workdir = one.rpartition('=')
    runs.append({'what': what or pathlib.Path(workdir).name,
                 'kinds': measured(pathlib.Path(workdir))})
  found = {'machine': machine(), 'runs': runs}
  flags.to.write_text(json.dumps(found, indent=1) + '\n')
  print(table(found))


if __name__ == '__main__':
  main()
