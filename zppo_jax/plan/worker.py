"""The process in which compiling.apart compiles one program."""

import json
import pathlib
import pickle
import sys

import jax

from zppo_jax.plan import abstract, programs, topologies


def main(request: str) -> None:
  """Compiles what a request names and dumps what the compiler makes of it.

  Args:
    request: the file of a request (compiling.apart).
  """
  config, topology, name, folder = pickle.loads(
      pathlib.Path(request).read_bytes())
  topologies.prepare(topology)
  run = abstract.run_of(config, topology)
  program = next(p for p in programs.of_run(run, config) if p.name == name)
  out = {}
  try:
    compiled = program.lower().compile(compiler_options={
        'xla_dump_to': folder, 'xla_dump_hlo_as_text': True})
    out['code'] = compiled.memory_analysis().generated_code_size_in_bytes
  except jax.errors.JaxRuntimeError as e:
    if not str(e).startswith('RESOURCE_EXHAUSTED'):
      raise
    out['refusal'] = str(e).splitlines()[0]
  pathlib.Path(folder, 'result').write_text(json.dumps(out))


if __name__ == '__main__':
  main(sys.argv[1])
