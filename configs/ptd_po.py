"""What the recipes of PTD-PO share (2606.07000): Qwen3-VL on ViRL39K.

Published (the scripts of its repository): 8 rollouts of 384 questions, three
updates of 128, one hint per question for a frozen copy of the initial student,
JSD on the student's 100 likeliest ids and the rest, in groups with a failure
(tau 1), times 0.05 (2B, 8B) or 0.5 (4B); 0.01 times the KL to the initial
student, in groups that are not taught; clip 0.2, 0.3, dual 3; AdamW with
learning rate 1e-6, weight decay 0.01, bfloat16, gradient norm 1, no warm-up;
temperature 1, top-p 0.99; prompts of 8,192 and responses of 4,096 tokens; two
passes; validation on MMK12; Qwen3-VL-Thinking.

Ours: hints, because the paper's are not released (`zppo hints` writes the file,
or a column of the data has them); group-normalised advantages, the default of
the framework that the paper uses; the KL as k3 of the standard direction
(docs/neighbours.md); the teacher's prompt, hint included, in
the same 8,192 tokens, where longer ones are skipped and counted; the mesh, the
shapes and how often is evaluated.

The run starts after the folders of weights and data and the file of hints are
there. `--config=configs/ptd_po_2b.py:v5p:2x2x2` takes the row of a slice, and
without a name the first one.
"""

from zppo_jax.configs import base, pod

Slice = pod.Slice
QUESTIONS = 38870  # of ViRL39K


def _on(student: str, coefficient: float, of):
  """The recipe for a size on a slice."""
  c = base.get_config()
  c.method = 'ptd_po'
  c.student.weights = f'models/{student}'
  c.student.rollout_weights = of.weights
  c.teacher.kind = 'own'
  c.teacher.own.weights = 'frozen'
  c.distil.update(top=100, coefficient=coefficient, material='data/hints.jsonl')

  a, s = c.algorithm, c.shapes
  a.update(num_new=384, rollouts=8, updates=3, temperature=1.0, top_p=0.99,
           max_tokens=4096, teacher_max_tokens=4096, normaliser='group')
  a.clip.update(low=0.2, high=0.3, dual=3.0)
  a.reference.update(kind='k3', coefficient=0.01, route='not taught')
  c.optimizer.update(learning_rate=1e-6, weight_decay=1e-2, clip_norm=1.0)

  c.data.update(task='files', fit='drop', repeat=True)
  c.data.pool.sources = dict(virl39k=dict(
      format='parquet', path='data/ViRL39K', mapping='virl39k'))
  c.steps = 2 * (QUESTIONS // a.num_new)
  c.eval.sources.mmk12 = dict(
      format='parquet', path='data/MMK12/test', kind='math', images='image',
      columns=dict(text='question', answer='answer'))
  c.eval.update(every=10, size=512, splits=('mmk12',))

  s.prompt_buckets = (2048, 8192)
  s.row_buckets = (6144, 12288)
  s.response_buckets = (1024, 2048, a.max_tokens)
  s.patch_buckets = (8192, 32768)  # four patches make a token
  shards = of.devices // of.tensor
  c.mesh.update(data=1, fsdp=shards, tensor=of.tensor)
  s.slots = a.rollouts * shards
  s.group_buckets = (shards, shards * a.rollouts)
  s.prefill_tokens = max(s.prompt_buckets)  # a prompt has up to 32,768 patches
  s.micro_tokens = max(s.prompt_buckets) + of.rows * a.max_tokens
  if of.weights == 'int8':
    a.correction.kind = 'token_truncate'
  return c


def chosen(student: str, coefficient: float, slices: dict, name: str):
  """The config of a size on the slice of a name; '' takes the first slice.

  Raises:
    KeyError: for a slice without a row; it names those that have one.
  """
  name = name or next(iter(slices))
  if name not in slices:
    raise KeyError(f'unknown slice {name!r}; known: {", ".join(slices)}')
  return _on(student, coefficient, slices[name])
