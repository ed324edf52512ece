"""What the compiler says of the update: FLOPs against the count, and memory.

  python -m benchmarks.distillation.compiled \\
      --to=benchmarks/results/distillation_compiled.json

Nothing is run and no weights exist. The FLOPs are those of one micro-batch of
the comparison. XLA counts the body of a loop once; at that size the positions
are one block and the vocabulary is one part, and no loop over layers is left.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.distillation import work
from benchmarks.side_by_side import work as shared
from zppo_jax import models
from zppo_jax.algorithms import distillation_losses
from zppo_jax.arrays import Beside, MicroBatch, PromptBatch
from zppo_jax.bench import counting
from zppo_jax.learner import update
from zppo_jax.objectives import losses, whole_vocabulary
from zppo_jax.objectives.divergences import Divergence
from zppo_jax.study.launch import machine
from zppo_jax.study.tables import markdown

CHUNK = 512  # positions whose logits exist at a time
PROMPTS = shared.MICRO_ROWS // shared.GROUP
# Memory of the divergence alone: [4, 512] positions of width 1,024.
BATCH, LENGTH, WIDTH = 4, 512, 1024
VOCABULARIES = (16384, 32768, 65536, 151936, 248320)
UNROLL = shared.SHAPE['num_layers']


def _batch(targets: dict) -> MicroBatch:
  """Abstract rows of one micro-batch of the comparison, prompts shared."""
  int32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  P, B, T = PROMPTS, shared.MICRO_ROWS, shared.RESPONSE
  return MicroBatch(
      tokens_BT=int32(B, T), positions_BTA=int32(B, T, 1),
      segment_BT=int32(B, T), mask_BT=f32(B, T), prompts=PromptBatch(
          tokens_PT=int32(P, shared.PROMPT),
          positions_PTA=int32(P, shared.PROMPT, 1), length_P=int32(P),
          next_P=int32(P), media=None),
      targets={name: f32(B, T) for name in targets})


def _loss(kind: str | None):
  if kind is None:
    return functools.partial(losses.clipped_surrogate, clip=losses.ClipBounds(
        low=shared.RATIO_CLIP, high=shared.RATIO_CLIP, dual=10.0))
  return functools.partial(
      distillation_losses.whole_vocabulary_divergence,
      divergence=Divergence(kind), vocab=shared.SHAPE['vocab_size'],
      student_temperature=1.0, teacher_temperature=1.0, chunk=CHUNK)


def flops(kind: str | None, teacher_shape: dict) -> dict[str, float]:
  """FLOPs of a micro-batch's gradient by XLA, and by the count.

  Args:
    kind: the divergence; None: the clipped surrogate, without a teacher.
    teacher_shape: the fields of the teacher's model.
  """
  build = lambda shape: models.build(
      'qwen3', remat='none', unroll=UNROLL, **shape)
  student, teacher = build(shared.SHAPE), build(teacher_shape)
  params_of = lambda model: jax.eval_shape(model.init, jax.random.key(0))
  loss_fn = functools.partial(
      update.policy_loss, model=student, loss=_loss(kind), temperature=1.0,
      chunk=CHUNK, frozen={'teacher': teacher} if kind else None,
      old_logps=update.recorded_old_logps if kind else update.own_old_logps)
  params = params_of(student)
  beside = (Beside(frozen={'teacher': params_of(teacher)}, done=None),)
  compiled = jax.jit(
      functools.partial(update.accumulate, loss_fn=loss_fn),
      donate_argnums=0).lower(
          params, params, _batch({} if kind else {'advantage': None}),
          *(beside if kind else ())).compile()
  c, t = counting.count(student), counting.count(teacher)
  sizes = PROMPTS, shared.PROMPT, shared.GROUP, shared.RESPONSE
  rows = PROMPTS * shared.GROUP
  counted = counting.train_flops(c, *sizes, shared=True)
  if kind:
    counted += counting.forward_flops(t, PROMPTS, shared.PROMPT, logits=0)
    counted += counting.forward_flops(t, rows, shared.RESPONSE,
                                      start=shared.PROMPT)
  return {'xla': compiled.cost_analysis()['flops'], 'counted': counted}


def temporaries(kind: str, vocab: int, dense: bool) -> int:
  """Bytes of the temporaries of a divergence and its gradient.

  Args:
    kind: the divergence.
    vocab: V, of student and teacher, whose widths are WIDTH.
    dense: whether the logits of both exist whole.
  """
  divergence = Divergence(kind)

  def of(hidden_BTD, head_DV, teacher_hidden_BTD, teacher_head_DV, tokens_BT):
    if dense:
      logps = lambda h, w: jax.nn.log_softmax(h[:, :-1] @ w)
      t = jax.lax.stop_gradient(logps(teacher_hidden_BTD, teacher_head_DV))
      return divergence(logps(hidden_BTD, head_DV), t).sum()
    return whole_vocabulary.over_vocabulary(
        whole_vocabulary.Head(hidden_BTD=hidden_BTD, head_DV=head_DV),
        whole_vocabulary.Head(hidden_BTD=teacher_hidden_BTD,
                              head_DV=teacher_head_DV),
        tokens_BT, vocab=vocab, student_temperature=1.0,
        teacher_temperature=1.0, divergence=divergence,
        chunk=CHUNK)[0].sum()

  hidden = jax.ShapeDtypeStruct((BATCH, LENGTH, WIDTH), np.float32)
  head = jax.ShapeDtypeStruct((WIDTH, vocab), np.float32)
  tokens = jax.ShapeDtypeStruct((BATCH, LENGTH), np.int32)
  return jax.jit(jax.grad(of, argnums=(0, 1))).lower(
      hidden, head, hidden, head, tokens
      ).compile().memory_analysis().temp_size_in_bytes


def measure() -> dict:
  teachers = {'same shape': shared.SHAPE, 'twice as wide': work.WIDE_SHAPE}
  return {
      'machine': machine(),
      'flops': [{'loss': 'clipped surrogate', 'teacher': '-',
                 **flops(None, shared.SHAPE)}] + [
          {'loss': kind, 'teacher': name, **flops(kind, shape)}
          for kind in work.BETAS for name, shape in teachers.items()],
      'temporaries': [
          {'vocab': vocab, 'dense': temporaries('reverse', vocab, True), **{
              kind: temporaries(kind, vocab, False) for kind in work.BETAS}}
          for vocab in VOCABULARIES]}


def table(found: dict) -> str:
  """Markdown of `measure`'s result."""
  rows = [['loss', 'teacher', 'counted GFLOP', 'compiled GFLOP', 'ratio']]
  for f in found['flops']:
    rows.append([f['loss'], f['teacher'], f'{f["counted"] / 1e9:.2f}',
                 f'{f["xla"] / 1e9:.2f}', f'{f["xla"] / f["counted"]:.3f}'])
  memory = [['V', 'a head', *(f'{name}{more}' for name in work.BETAS
                             for more in ('', ', beyond two heads')),
             'dense reverse']]
  mib = lambda size: f'{size / 2**20:.0f} MiB'
  for m in found['temporaries']:
    head = 4 * WIDTH * m['vocab']
    memory.append([f'{m["vocab"]:,}', mib(head), *(
        mib(m[name] - taken) for name in work.BETAS
        for taken in (0, 2 * head)), mib(m['dense'])])
  return '\n\n'.join([markdown(rows), markdown(memory)])


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  to = parser.parse_args().to
  result = measure()
  to.write_text(json.dumps(result, indent=1) + '\n')
  print(table(result))
