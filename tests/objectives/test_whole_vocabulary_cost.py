"""Memory, FLOPs and sharding of the compiled whole-vocabulary programs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tests.long import long
from zppo_jax.objectives import gathered_logps, token_logps, whole_vocabulary
from zppo_jax.objectives.divergences import Divergence, Target
from zppo_jax.objectives.whole_vocabulary import Head

TEMPERATURES = dict(student_temperature=1.0, teacher_temperature=1.0)
KINDS = pytest.mark.parametrize('divergence, target', [
    (Divergence('reverse'), Target()), (Divergence('forward'), Target()),
    (Divergence('jensen_shannon'), Target()),
    (Divergence('reverse'), Target('geometric', 0.5)),
    (Divergence('reverse'), Target('mixture', 0.5))],
    ids=['reverse', 'forward', 'jensen_shannon', 'geometric', 'mixture'])


def total(student, teacher, tokens, *, vocab, **fields):
  return whole_vocabulary.over_vocabulary(
      student, teacher, tokens, vocab=vocab, **TEMPERATURES, **fields)[0].sum()


def compiled(B, T, widths, V, function=total, **fields):
  """Value and gradient to the student; nothing is run."""
  shape = jax.ShapeDtypeStruct
  student, teacher = (Head(shape((B, T, D), jnp.float32),
                           shape((D, V), jnp.float32)) for D in widths)
  return jax.jit(jax.value_and_grad(functools.partial(
      function, vocab=V, **fields))).lower(
          student, teacher, shape((B, T), jnp.int32)).compile()


# HLO text: a computation is a header line, instructions, and a closing brace.
_HEADER = re.compile(r'^(?:ENTRY )?%?([\w.-]+) \(.*\) -> .*\{$')
_DOT = re.compile(r'= f\d+\[([\d,]*)\]\S* dot\(%?([\w.-]+)')
_CALLED = re.compile(r'(?:body|calls|to_apply)=%?([\w.-]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def product_flops(text: str) -> int:
  """FLOPs of all matrix products; those of a loop times its trips."""
  computations, entry, name = {}, None, None
  for line in text.splitlines():
    if header := _HEADER.match(line):
      name = header[1]
      computations[name] = []
      entry = name if line.startswith('ENTRY') else entry
    elif name and ' = ' in line:
      computations[name].append(line)

  @functools.cache
  def of(name):
    lines, flops = computations[name], 0
    shapes = {m[1]: [int(x) for x in m[2].split(',') if x] for line in lines
              if (m := re.match(r'\s*(?:ROOT )?%?([\w.-]+) = \w+\[([\d,]*)\]',
                                line))}
    for line in lines:
      if dot := _DOT.search(line):
        out = np.prod([int(x) for x in dot[1].split(',') if x], dtype=int)
        axis = int(re.search(r'lhs_contracting_dims=\{(\d+)\}', line)[1])
        flops += 2 * int(out) * shapes[dot[2]][axis]
      if called := _CALLED.search(line):
        trips = _TRIPS.search(line)
        assert trips or ' while(' not in line, line
        flops += int(trips[1] if trips else 1) * of(called[1])
    return flops
  return of(entry)


@KINDS
@pytest.mark.parametrize('overlap', [False, long(True)])
def test_flops_are_those_of_the_count(divergence, target, overlap):
  """Student: forward, remade, two products; teacher: forward, remade; a form
  of two passes has one more product of both. Per position and id 2 D each."""
  B, T, widths, V = 2, 65, (16, 24), 1024
  two = overlap or divergence.kind == 'jensen_shannon' or (
      target.kind == 'mixture')
  text = compiled(B, T, widths, V, divergence=divergence, target=target,
                  overlap=overlap, chunk=16, vocab_chunk=128).as_text()
  want = 2 * B * (T - 1) * V * (widths[0] * (4 + two) + widths[1] * (2 + two))
  np.testing.assert_allclose(product_flops(text), want, rtol=0.05)


def test_flops_of_one_part():
  """A vocabulary in one part is visited once, whatever the form; if all tiles
  are few, the backward pass makes none anew."""
  B, T, widths, V = 2, 65, (16, 24), 1024
  for kept, of_student, of_teacher in ((True, 3, 1), (False, 4, 2)):
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(token_logps, 'KEPT', token_logps.KEPT if kept else 0)
      text = compiled(B, T, widths, V, chunk=16,
                      divergence=Divergence('jensen_shannon')).as_text()
    want = 2 * B * (T - 1) * V * (
        widths[0] * of_student + widths[1] * of_teacher)
    np.testing.assert_allclose(product_flops(text), want, rtol=0.05)


def of_token_logps(student, teacher, tokens, *, vocab, **fields):
  del teacher, vocab
  return token_logps.token_logps(*student, tokens, **fields)[0].sum()


def test_the_counter_sees_token_logps():
  """Forward, remade, two products."""
  B, T, D, V = 2, 65, 16, 1024
  text = compiled(B, T, (D, D), V, of_token_logps, chunk=16,
                  vocab_chunk=128).as_text()
  np.testing.assert_allclose(product_flops(text), 8 * B * (T - 1) * V * D,
                             rtol=0.05)


@pytest.mark.parametrize('divergence', ['reverse', 'jensen_shannon'])
def test_peak_memory_is_independent_of_the_vocabulary(divergence):
  """[4, 512], width 256, parts of 4,748 ids (4,096 of 16,384): temporaries grow
  with V by at most three heads, which are the strided parts of both heads and
  of the gradient; logits of one model would be eight heads."""
  B, T, D = 4, 512, 256
  temporary = {V: compiled(
      B, T, (D, D), V, vocab_chunk=4_748, divergence=Divergence(divergence)
      ).memory_analysis().temp_size_in_bytes
      for V in (16_384, 18_992, 151_936)}
  head = lambda V: 4 * D * V
  for V in (16_384, 18_992):
    growth = temporary[151_936] - temporary[V]
    assert 0 < growth <= 3 * (head(151_936) - head(V))
  assert temporary[151_936] < 0.5 * 4 * B * T * 151_936


@pytest.fixture(scope='module')
def mesh():
  return jax.make_mesh((8,), ('tensor',), devices=jax.devices()[:8])


def gathered(student, teacher, tokens, *, vocab, **fields):
  del teacher
  ids = jnp.stack([tokens, (tokens + 1) % vocab], axis=-1)
  return gathered_logps.gathered_logps(
      *student, ids, vocab=vocab, rest=True, **fields)[:, 1:].sum()


@pytest.mark.parametrize('function, widths, fields', [
    (total, (4096, 4096), dict(overlap=True)),
    long(total, (4096, 4352), {}), long(total, (4352, 4096), {}),
    long(total, (4096, 4096), dict(divergence=Divergence('jensen_shannon'))),
    (gathered, (4096, 4096), {})],
    ids=['reverse', 'wider_teacher', 'wider_student', 'jensen_shannon',
         'gathered'])
def test_a_sharded_vocabulary_stays_sharded(mesh, function, widths, fields):
  """Eight devices hold an eighth of both heads each. No device gathers a head,
  its gradient or logits; value and gradients are those of one device."""
  rng = np.random.default_rng(0)
  B, T, vocab = 2, 17, 4000
  models = [Head(rng.standard_normal((B, T, D)).astype(np.float32),
                 0.2 * rng.standard_normal((D, V)).astype(np.float32))
            for D, V in zip((16, 24), widths, strict=True)]
  tokens = rng.integers(0, vocab, (B, T)).astype(np.int32)
  f = jax.value_and_grad(lambda student, teacher: function(
      student, teacher, tokens, vocab=vocab, chunk=8, vocab_chunk=600,
      **fields))
  whole, columns = (jax.NamedSharding(mesh, P(*axes)) for axes in (
      (), (None, 'tensor')))
  heads = Head(whole, columns)
  sharded = jax.jit(f, in_shardings=(heads, heads),
                    out_shardings=(whole, heads)).lower(*models).compile()
  text = sharded.as_text()
  assert 'all-gather' not in text and 'all-to-all' not in text
  assert 'all-reduce' in text
  got = sharded(*jax.device_put(models, [heads, heads]))
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(jax.jit(f)(*models)),
                  strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5 * np.abs(y).max())
