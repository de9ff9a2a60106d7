"""Bytes move once an operand and a result, with padding; slices and updates in place move their part alone."""

import jax
import jax.numpy as jnp

from care_jax.cost.traffic import beyond, moves
from care_jax.devices import hlo


def moved(text: str) -> dict[str, tuple[int, int]]:
    """name -> bytes, of them padding."""
    program = hlo.read(text)
    found = moves(program, hlo.executed(program))
    return {move.executed.instruction.name: (move.num_bytes, move.padding) for move in found}


def total(function, *arguments, **options) -> int:
    text = jax.jit(function, **options).lower(*arguments).compile().as_text()
    return sum(num_bytes for num_bytes, _ in moved(text).values())


def array(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


MIB = 2**20


def test_each_operand_and_each_result_once():
    assert total(lambda x, y: jnp.sin(x) + y, array(MIB), array(MIB)) == 3 * 4 * MIB
    assert total(lambda x: jnp.sin(x), array(MIB, dtype=jnp.bfloat16)) <= 2 * 4 * MIB  # XLA:CPU may widen it on the way


def test_rows_that_are_gathered_are_what_is_read():
    found = total(lambda x, i: x[i] * 2.0, array(100_000, 64), array(8, dtype=jnp.int32))
    assert 2 * 8 * 64 * 4 <= found < 20 * 8 * 64 * 4


def test_a_scan_reads_and_writes_its_slices():
    """Not the whole stack in every turn."""
    turns, size = 50, 4096

    def scan(xs):
        return jax.lax.scan(lambda c, x: (c + x, jnp.sin(x) * c), jnp.zeros(size), xs)[1]

    found = total(scan, array(turns, size))
    assert 2 * turns * size * 4 <= found < 12 * turns * size * 4
    assert found < turns * turns * size * 4


def test_what_a_cache_can_hold_moves_nothing():
    compiled = jax.jit(lambda x, y: (jnp.sin(x), jnp.cos(y).sum())).lower(array(MIB), array(1000)).compile()
    program = hlo.read(compiled.as_text())

    def far(cache: int) -> int:
        program_beyond = beyond(program, cache)
        return sum(move.num_bytes for move in moves(program_beyond, hlo.executed(program_beyond)))

    assert far(4 * MIB) == 0
    assert far(4 * MIB - 1) == far(4000) == 2 * 4 * MIB < far(3999)


TPU = """
%sliced (p: u8[100,8,8,3], i: s32[]) -> u8[1,8,8,3] {
  %p = u8[100,8,8,3]{0,3,2,1:T(8,128)(4,1)} parameter(0)
  %view = u8[100,8,8,3]{0,3,2,1:T(8,128)(4,1)} bitcast(%p)
  %i = s32[] parameter(1)
  %o = s32[] constant(0)
  ROOT %slice = u8[1,8,8,3]{3,2,1,0:T(8,128)(4,1)} dynamic-slice(%view, %i, %o, %o, %o), dynamic_slice_sizes={1,8,8,3}
}

%named (q: f32[16,64]) -> f32[16,64] {
  %q = f32[16,64]{1,0:T(8,128)} parameter(0)
  ROOT %same = f32[16,64]{1,0:T(8,128)} bitcast(%q)
}

%updated (s: f32[10,16,64], u: f32[16,64], j: s32[]) -> f32[10,16,64] {
  %s = f32[10,16,64]{2,1,0:T(8,128)} parameter(0)
  %u = f32[16,64]{1,0:T(8,128)} parameter(1)
  %j = s32[] parameter(2)
  %z = s32[] constant(0)
  %inner = f32[16,64]{1,0:T(8,128)} fusion(%u), kind=kLoop, calls=%named
  %row = f32[1,16,64]{2,1,0:T(8,128)} bitcast(%inner)
  ROOT %update = f32[10,16,64]{2,1,0:T(8,128)} dynamic-update-slice(%s, %row, %j, %z, %z)
}

ENTRY %main (images: u8[100,8,8,3], k: s32[], stack: f32[10,16,64], x: f32[16,64]) -> f32[10,16,64] {
  %images = u8[100,8,8,3]{0,3,2,1:T(8,128)(4,1)} parameter(0)
  %k = s32[] parameter(1)
  %stack = f32[10,16,64]{2,1,0:T(8,128)} parameter(2)
  %x = f32[16,64]{1,0:T(8,128)} parameter(3)
  %taken = u8[1,8,8,3]{3,2,1,0:T(8,128)(4,1)} fusion(%images, %k), kind=kLoop, calls=%sliced
  %copy-start = (f32[16,64]{1,0:T(8,128)S(1)}, f32[16,64]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %copy-done = f32[16,64]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %near = f32[16,64]{1,0:T(8,128)S(1)} sine(%copy-done)
  %slice-start = ((f32[16,64]{1,0:T(8,128)}), f32[8,64]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:8], [0:64]}
  %slice-done = f32[8,64]{1,0:T(8,128)S(1)} slice-done(%slice-start)
  %room = f32[16,64]{1,0:T(8,128)} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %put = f32[10,16,64]{2,1,0:T(8,128)} fusion(%stack, %near, %k), kind=kLoop, calls=%updated
}
"""  # noqa: E501


def test_a_tpu_moves_whole_tiles_and_nothing_in_its_vector_memory():
    found = moved(TPU)
    row, image = 16 * 128 * 4, 8 * 8 * 128  # [8, 8, 3] in tiles of (8, 128)
    assert found.keys() == {"taken", "copy-start", "slice-start", "put"}
    assert found["copy-start"] == (row, row // 2)  # from main memory; it ends in vector memory
    assert found["slice-start"] == (row // 2, row // 4)
    assert found["put"] == (row + 4, row // 2)  # the stack stays where it is, the row was near
    assert found["taken"] == (2 * image + 4, 2 * (image - 8 * 8 * 3))
