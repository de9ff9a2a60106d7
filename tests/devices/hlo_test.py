"""Programs are read as XLA writes them: arrays with their padding, loops with their turns, what is executed."""

import jax
import jax.numpy as jnp
import pytest

from care_jax.devices import hlo
from care_jax.devices.hlo import Array


@pytest.mark.parametrize(
    ("text", "size", "padded", "space"),
    [
        ("f32[64]{0}", 256, 256, 0),
        ("f32[]{:T(128)}", 4, 512, 0),
        ("f32[1000,64]{1,0:T(8,128)S(1)}", 256_000, 1000 * 128 * 4, 1),
        ("f32[64,1000]{0,1:T(8,128)}", 256_000, 1000 * 128 * 4, 0),  # the first axis moves fastest
        ("bf16[8,56,56,64]{3,0,2,1:T(8,128)(2,1)}", 8 * 56 * 56 * 64 * 2, 8 * 56 * 56 * 128 * 2, 0),
        ("u8[10,4,5,3]{0,3,2,1:T(8,128)(4,1)}", 600, 4 * 5 * 8 * 128, 0),
        ("pred[3]{0}", 3, 3, 0),
        ("s4[7,2]{1,0}", 7, 7, 0),
        ("token[]", 0, 0, 0),
    ],
)
def test_an_array_takes_the_room_of_its_tiles(text, size, padded, space):
    program = hlo.read(f"ENTRY %main () -> f32[] {{\n  ROOT %a = {text} custom-call()\n}}\n")
    (array,) = program.computations["main"].instructions["a"].arrays
    assert (array.num_bytes, array.padded_bytes, array.space) == (size, padded, space)


def test_tuples_attributes_and_operands():
    program = hlo.read("""HloModule m

%body (p: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  ROOT %p = (s32[]{:T(128)}, /*index=1*/f32[2,3]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
}

ENTRY %main.1 (a: f32[2,3]) -> f32[2,3] {
  %a = f32[2,3]{1,0} parameter(0), metadata={op_name="batches[\\'a\\']"}
  %t = ((f32[2,3]{1,0}), f32[1,3]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:1], [0:3]}
  ROOT %f.2 = f32[2,3]{1,0} fusion(%a, /*index=1*/%a), kind=kLoop, calls=%body, metadata={op_name="x/y(z)"}
}
""")
    assert program.entry == "main.1" and program.computations["main.1"].root == "f.2"
    a, t, f = program.computations["main.1"].instructions.values()
    assert a.operands == ("0",) and a.value("op_name") == "batches[\\'a\\']"
    assert [str(array) for array in t.arrays] == ["f32[2,3]", "f32[1,3]", "s32[]"]
    assert [array.space for array in t.arrays] == [0, 1, 2]
    assert f.opcode == "fusion" and f.operands == ("a", "a") and f.called("calls") == ("body",)
    assert f.value("op_name") == "x/y(z)" and f.value("kind") == "kLoop" and f.value("none") == ""
    assert program.called(f).instructions["p"].arrays[1] == Array("f32", (2, 3), (1, 0), (8, 128), 1)


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.read("HloModule m\n")


def _loop(*, start: str = "0", limit: str = "constant(12)", direction: str = "LT", step: str = "constant(3)") -> str:
    return f"""
%body (p: (s32[], s32[], f32[8])) -> (s32[], s32[], f32[8]) {{
  %p = (s32[], s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  %x = f32[8] get-tuple-element(%p), index=2
  %step = s32[] {step}
  %next = s32[] add(%i, %step)
  %copied = s32[] copy(%next)
  %y = f32[8] add(%x, %x)
  ROOT %r = (s32[], s32[], f32[8]) tuple(%copied, %n, %y)
}}

%condition (q: (s32[], s32[], f32[8])) -> pred[] {{
  %q = (s32[], s32[], f32[8]) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %limit = s32[] {limit.replace("%p", "%q")}
  ROOT %c = pred[] compare(%j, %limit), direction={direction}
}}

ENTRY %main (x: f32[8], given: s32[]) -> f32[8] {{
  %x = f32[8] parameter(0)
  %given = s32[] parameter(1)
  %zero = s32[] constant({start})
  %twelve = s32[] constant(12)
  %t = (s32[], s32[], f32[8]) tuple(%zero, %twelve, %x)
  %w = (s32[], s32[], f32[8]) while(%t), condition=%condition, body=%body
  ROOT %out = f32[8] get-tuple-element(%w), index=2
}}
"""


@pytest.mark.parametrize(
    ("changes", "turns"),
    [
        ({}, 4),
        ({"start": "1"}, 4),
        ({"start": "-3"}, 5),
        ({"start": "12"}, 0),
        ({"direction": "LE"}, 5),
        ({"start": "24", "direction": "GT", "step": "constant(-3)"}, 4),
        ({"limit": "get-tuple-element(%p), index=1"}, 4),
        ({"step": "custom-call()"}, None),
        ({"limit": "custom-call()"}, None),
        ({"direction": "EQ"}, None),
    ],
)
def test_turns_of_a_loop_whose_length_is_not_written(changes, turns):
    program = hlo.read(_loop(**changes))
    entry = program.computations["main"]
    assert hlo.trip_count(program, entry, entry.instructions["w"]) == turns
    added = [one for one in hlo.executed(program) if one.instruction.name == "y"]
    assert [(one.times, one.known) for one in added] == [(1 if turns is None else turns, turns is not None)]


def test_loops_in_loops_calls_and_conditions_of_a_compiled_program():
    def inner(x):
        return jax.lax.fori_loop(0, 5, lambda _, x: jnp.sin(x @ x), x)

    def outer(x, flag):
        x = jax.lax.scan(lambda x, _: (inner(x), None), x, length=3)[0]
        return jax.lax.cond(flag, lambda x: x + 1.0, lambda x: jnp.sin(x @ x) @ x, x)

    x = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    compiled = jax.jit(outer).lower(x, jax.ShapeDtypeStruct((), jnp.bool_)).compile()
    program = hlo.read(compiled.as_text())

    def has_dot(one):
        return one.opcode == "dot" or (one.opcode == "fusion" and any(map(has_dot, _inside(program, one))))

    products = [one for one in hlo.executed(program) if has_dot(one.instruction)]
    assert sorted(one.times for one in products) == [1, 1, 15]
    assert all(one.known for one in products)


def _inside(program, one):
    return program.called(one).instructions.values()
