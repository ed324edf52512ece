"""Collectives and products are read off HLO texts, with the trip counts of
their loops."""

import pytest

from zppo_jax.plan import hlo
from zppo_jax.plan.hlo import Collective

LOOPS = """
HloModule jit_f, is_scheduled=true

%add.clone (x.1: f32[], y.1: f32[]) -> f32[] {
  %x.1 = f32[] parameter(0)
  %y.1 = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%x.1, %y.1)
}

%inner_condition (p: (s32[], f32[8])) -> pred[] {
  %p = (s32[], f32[8]{0}) parameter(0)
  %bound = s32[]{:T(128)} constant(3)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %bound), direction=LT, metadata={op_name="a (b)"}
}

%inner_body (p.2: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.2 = (s32[], f32[8]{0}) parameter(0)
  %x.2 = f32[8]{0} get-tuple-element(%p.2), index=1
  %all-reduce.3 = f32[8]{0:T(128)S(1)} all-reduce(%x.2), channel_id=5, replica_groups=[2,4]<=[8], to_apply=%add.clone
  ROOT %out.2 = (s32[], f32[8]{0}) tuple(%p.2, %all-reduce.3)
}

%body (p.3: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.3 = (s32[], f32[8]{0}) parameter(0)
  %gather = bf16[16,4]{1,0} all-gather(%p.3), channel_id=6, replica_groups={{0,1},{2,3},{4,5},{6,7}}, dimensions={0}
  ROOT %while.2 = (s32[], f32[8]{0}) while(%p.3), condition=%inner_condition, body=%inner_body
}

%condition (p.4: (s32[], f32[8])) -> pred[] {
  %p.4 = (s32[], f32[8]{0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

%wrapped (q: f32[8]) -> bf16[2,6] {
  %q = f32[8]{0} parameter(0)
  ROOT %async.1 = bf16[2,6]{1,0} all-gather(%q), channel_id=7, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, dimensions={0}
}

%wrapped_again (q.1: f32[8]) -> bf16[2,6] {
  %q.1 = f32[8]{0} parameter(0)
  ROOT %async.2 = bf16[2,6]{1,0} all-gather(%q.1), channel_id=7, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, dimensions={0}
}

ENTRY %main (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  %start = bf16[2,6]{1,0} fusion(%a), kind=kCustom, calls=%wrapped
  %done = bf16[2,6]{1,0} fusion(%a), kind=kCustom, calls=%wrapped_again
  %scatter = (f32[4]{0}, f32[2]{0}) reduce-scatter(%a, %a), channel_id=8, replica_groups=[4,2]<=[8], to_apply=%add.clone
  %moved = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%a), channel_id=9, source_target_pairs={{0,1},{1,0}}
  %alone = f32[8]{0} all-reduce(%a), channel_id=10, replica_groups={{0}}, to_apply=%add.clone
  ROOT %while.1 = (s32[], f32[8]{0}) while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""  # noqa: E501
KERNEL = """  %kernel = (f32[8]{0}, f32[8]{0}) custom-call(%p.3), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 512}"
}}, metadata={op_name="a"}
"""  # noqa: E501


def test_kinds_bytes_groups_and_trip_counts():
  found = sorted(hlo.collectives(LOOPS, 8))
  assert found == [
      Collective('all-gather', 1, 24, 4),  # one channel, in two fusions
      Collective('all-gather', 5, 128, 2),
      Collective('all-reduce', 15, 32, 4),  # 5 times 3
      Collective('collective-permute', 1, 32, 2),
      Collective('reduce-scatter', 1, 48, 2)]


def test_bytes_that_rings_move():
  moved = {c.kind: c.moved for c in (
      Collective('all-gather', 3, 80, 4), Collective('all-reduce', 1, 80, 4),
      Collective('reduce-scatter', 1, 80, 4),
      Collective('all-to-all', 1, 80, 4),
      Collective('collective-permute', 2, 80, 2))}
  assert moved == {'all-gather': 180, 'all-reduce': 120, 'reduce-scatter': 60,
                   'all-to-all': 60, 'collective-permute': 160}


def test_totals_are_by_kind():
  totals = hlo.totals(hlo.collectives(LOOPS, 8))
  assert list(totals) == ['all-gather', 'all-reduce', 'reduce-scatter',
                          'collective-permute']
  assert totals['all-gather'] == {
      'count': 6, 'bytes': 664, 'moved': 24 * 0.75 + 5 * 64}
  assert totals['all-reduce'] == {
      'count': 15, 'bytes': 480, 'moved': 15 * 32 * 1.5}


def test_a_loop_that_ends_by_its_data_counts_once():
  found = hlo.collectives(
      LOOPS.replace('{"known_trip_count":{"n":"5"}}', '{}'), 8)
  assert Collective('all-gather', 1, 128, 2) in found
  assert Collective('all-reduce', 3, 32, 4) in found


def test_a_pallas_kernels_metadata_ends_no_computation():
  """It holds line breaks, and a line of it begins with braces."""
  at = '  %gather = bf16[16,4]'
  text = LOOPS.replace(at, KERNEL + at)
  assert text != LOOPS
  assert hlo.collectives(text, 8) == hlo.collectives(LOOPS, 8)
  known, _ = hlo.computations(text)
  assert [i.name for i in known['body']] == ['p.3', 'kernel', 'gather',
                                             'while.2']
  assert 'op_name="a"' in known['body'][1].line


@pytest.mark.parametrize('types, size', [
    ('bf16[2,6]{1,0:T(8,128)(2,1)}', 24), ('pred[3]', 3), ('s4[3]{0}', 2),
    ('f32[]', 4), ('f8e4m3fn[5]', 5), ('token[]', 0)])
def test_bytes_of_types(types, size):
  assert [n for n, _ in hlo.tensors(types)] == [size]


def test_the_largest_tensors_are_results_in_memory():
  found = hlo.largest(LOOPS, 3)
  assert found[0] == (128, 'bf16[16,4] of all-gather')
  assert all(size <= 128 for size, _ in found) and len(found) == 3


PRODUCTS = """HloModule m

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %w = f32[8,8]{1,0} all-gather(%x), dimensions={0}, metadata={op_name="here"}
  %d = f32[4,8]{1,0} dot(%x, %w), lhs_contracting_dims={1}, more={0}
}

%condition (p: (s32[], f32[4,8])) -> pred[] {
  %c = pred[] constant(true)
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %t = (s32[], f32[4,8]{1,0}) tuple(%a)
  %l = (s32[], f32[4,8]{1,0}) while(%t), condition=%condition, body=%body%KNOWN
  %r = (f32[4]{0}, bf16[2]{0}) all-reduce(%a), to_apply=%sum
}
"""


@pytest.mark.parametrize('known, others, runs', [
    (', backend_config={"known_trip_count":{"n":"3"}}', 7, 3), ('', 7, 7)])
def test_products_places_and_loops_of_unknown_length(known, others, runs):
  text = PRODUCTS.replace('%KNOWN', known)
  assert sorted(hlo.collectives(text, 4, others)) == [
      Collective('all-gather', runs, 8 * 8 * 4, 4, 'here'),
      Collective('all-reduce', 1, 4 * 4 + 2 * 2, 4)]
  assert hlo.flops(text, others) == runs * 2 * 4 * 8 * 8


@pytest.mark.parametrize('of_one, pairs', [
    # Heads that the weight alone has, a batch, a sum, a convolution.
    ('window={size=1x16 pad=0_0x15_15 rhs_reversal=0x1}', (1, 1, 16, 16)),
    ('window={size=8x2 stride=7x1 lhs_dilate=8x2}', (1, 2, 2, 2)),
    ('window={size=1x4}', (1, 4, 4, 1)),
    ('window={size=1x4 pad=0_0x3_0}', (1, 10, 4, 10))])
def test_taps_beside_the_inputs_are_no_products(of_one, pairs):
  axis, size, taps, made = pairs
  assert hlo.window_pairs(f'f(), {of_one}, dim_labels=x', axis, size, taps,
                          made) == {16: 16, 2: 2, 1: 4, 10: 34}[made]
