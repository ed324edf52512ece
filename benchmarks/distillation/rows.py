"""No row of distillation holds [B, T, V]: the update of each, compiled.

  python -m benchmarks.distillation.rows \\
      --to=benchmarks/results/distillation_rows.json

Each method with a teacher, and each support and divergence of the free ones, at
V = 151,936 with a small network (one block of width 64), so that the head is
small beside logits: 8 responses of 512 tokens behind 2 prompts of 64, logits of
64 positions at a time. Of the update's gradient program, and of the programs
that score, the result holds the bytes of temporaries (XLA's memory analysis)
and the largest array of the compiled text. Nothing is run, and what is in the
file already is not compiled again: --only=NAME does so.
"""

import argparse
import json
import math
import pathlib
import runpy
import tempfile

import jax

from zppo_jax import models
from zppo_jax.algorithms import distillation, methods
from zppo_jax.plan import abstract, hlo, programs, topologies
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown
from zppo_jax.train import build

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
VOCAB = 151_936
ROLLOUTS, RESPONSE, PROMPT, CHUNK = 8, 512, 64, 64
LOGITS = 4 * ROLLOUTS * RESPONSE * VOCAB  # bytes of [B, T, V] in float32
MATERIAL = '{"id": "*", "document": "a", "slice": "b"}\n'
# Free choices of `opd_jsd` and its siblings, which pin their divergence alone.
CHOICES = {
    **{f'{name}, {support}': (name, {'distil.support': support})
       for name in ('opd_reverse', 'opd_forward', 'opd_jsd')
       for support in ('student', 'teacher', 'sampled')},
    **{f'opd_reverse, student, {rest}': ('opd_reverse', {
        'distil.support': 'student', 'distil.rest': rest})
       for rest in ('renormalised', 'dropped')},
    **{f'opd_reverse, {target}': ('opd_reverse', {'distil.target': target})
       for target in ('geometric(0.5)', 'mixture(0.1)')}}


def network(spec, place=None, thinking='default', day=None, who='student'):
  """As train.models.load_model, with the shapes of a small network."""
  del spec, thinking, day, who
  return abstract.loaded(models.build(
      'qwen3', vocab_size=VOCAB, width=64, num_layers=1, num_heads=2,
      num_kv_heads=1, head_dim=32, mlp_width=64, max_positions=1024,
      dtype='float32', remat='none'), place, VOCAB)


def rows() -> dict[str, tuple[str, dict]]:
  """Every method with a teacher, and CHOICES: name -> (method, fields)."""
  named = {name: (name, {}) for name, method in methods.METHODS.items()
           if method.distils}
  return named | CHOICES


def run_of(method: str, changes: dict):
  """The run of a method, of shapes."""
  c = runpy.run_path(str(CONFIGS / 'base.py'))['get_config']()
  c.method = method
  c.update_from_flattened_dict(changes)
  c.algorithm.update(num_new=2, rollouts=ROLLOUTS, teacher_rollouts=ROLLOUTS,
                     updates=1, max_tokens=RESPONSE,
                     teacher_max_tokens=RESPONSE)
  c.shapes.update(prompt_buckets=(PROMPT,), row_buckets=(PROMPT + RESPONSE,),
                  group_buckets=(2,), slots=None, logprob_chunk=CHUNK,
                  micro_tokens=PROMPT + ROLLOUTS * RESPONSE)
  for field, value in methods.get(method).pinned.items():
    if field.startswith('algorithm.'):
      c.update_from_flattened_dict({field: value})
  row = methods.get(method)
  if distillation.settings(method, row.pinned, c,
                           row.usual).context != 'same':
    c.teacher.kind = 'own'
  with tempfile.NamedTemporaryFile('w', suffix='.jsonl') as material:
    material.write(MATERIAL)
    material.flush()
    c.distil.material = material.name
    return build.build(c, outside=abstract.outside(
        topologies.parse('cpu:1'), network)), c


def measured(program: programs.Program) -> dict:
  """Bytes of the temporaries, and the largest array, of a program."""
  compiled = program.lower().compile()
  largest = max(hlo.arrays(compiled.as_text()), key=lambda a: math.prod(a[1]))
  return {'temporaries': compiled.memory_analysis().temp_size_in_bytes,
          'largest': f'{largest[0]}[{",".join(map(str, largest[1]))}]',
          'elements': math.prod(largest[1])}


def measure(name: str) -> dict:
  """What `measured` says of the programs of a row that read logits."""
  run, config = run_of(*rows()[name])
  of = {p.name: p for p in programs.of_run(run, config)
        if p.name == 'update' or p.name.endswith('scoring')}
  return {which: measured(program) for which, program in of.items()}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  parser.add_argument('--only', action='append', default=[],
                      choices=list(rows()))
  args = parser.parse_args(argv)
  result = {'rows': {}}
  if args.to.exists():
    result = json.loads(args.to.read_text())
  for name in args.only or rows():
    if name in result['rows'] and name not in args.only:
      continue
    jax.clear_caches()
    result |= {'machine': machine(), 'logits': LOGITS}
    result['rows'][name] = measure(name)
    print(name, result['rows'][name], flush=True)
    args.to.write_text(json.dumps(result, indent=1) + '\n')


def table(found: dict) -> str:
  """Markdown of the results: a row per method."""
  mib = lambda size: f'{size / 2**20:,.0f} MiB'
  lines = [['row', 'update, temporaries', 'of [B, T, V]', 'scores, temporaries',
            'largest array']]
  for name, of in found['rows'].items():
    update = of['update']
    scores = [x['temporaries'] for which, x in of.items() if which != 'update']
    lines.append([
        name, mib(update['temporaries']),
        f'{update["temporaries"] / found["logits"]:.0%}',
        mib(max(scores)) if scores else '-',
        max(of.values(), key=lambda x: x['elements'])['largest']])
  return markdown(lines)


if __name__ == '__main__':
  main()
