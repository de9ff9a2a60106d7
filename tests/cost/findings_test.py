"""What is rarely meant is told, from programs that do it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.cost import findings
from care_jax.cost.traffic import moves
from care_jax.devices import hlo


def warnings(text: str, resident: int = 0) -> list[str]:
    program = hlo.read(text)
    executed = hlo.executed(program)
    return findings.warnings(program, executed, moves(program, executed), resident=resident)


def compiled(function, *arguments) -> str:
    return jax.jit(function).lower(*arguments).compile().as_text()


X = jax.ShapeDtypeStruct((64, 64), jnp.float32)


def test_nothing_is_said_of_a_plain_program():
    assert warnings(compiled(lambda x: jnp.sin(x @ x), X), resident=10**6) == []


def test_float64():
    with jax.enable_x64(True):
        (line,) = warnings(compiled(lambda x: (x.astype(jnp.float64) * np.pi).sum(), X))
    assert line.startswith("float64: ") and "instructions compute in it, first" in line


@pytest.mark.parametrize("name", ["debug_print", "pure_callback"])
def test_host_callbacks(name):
    def step(x):
        if name == "debug_print":
            jax.debug.print("{}", x.sum())
            return x
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    (line,) = warnings(compiled(step, X))
    assert line == f"host callbacks: every step waits for the host in {name}"


def test_host_callbacks_of_a_tpu():
    text = """
ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %t = token[] after-all()
  %s = (f32[8]{0}, u32[], token[]) send(%x, %t), channel_id=3, is_host_transfer=true, metadata={op_name="jit(step)/debug_print"}
  %d = token[] send-done(%s), channel_id=3, is_host_transfer=true
  ROOT %c = f32[8]{0} copy(%x)
}
"""  # noqa: E501
    assert warnings(text) == ["host callbacks: every step waits for the host in debug_print"]


def test_copies_of_resident_images():
    """As a step that took them whole before it chose rows would make."""
    images = jax.ShapeDtypeStruct((500, 8, 8, 3), jnp.uint8)
    rows = jax.ShapeDtypeStruct((16,), jnp.int32)
    size = 500 * 8 * 8 * 3
    assert warnings(compiled(lambda x, i: x[i].astype(jnp.float32) / 255, images, rows), size) == []
    copying = compiled(lambda x, i: jnp.sort(x, axis=0)[i].astype(jnp.float32) / 255, images, rows)
    (line,) = warnings(copying, size)
    assert line.startswith("resident examples are copied in every step: ")
    assert warnings(copying) == []  # none are resident


def test_padding():
    def text(channels: int) -> str:
        shape = f"f32[4096,{channels}]{{1,0:T(8,128)}}"
        return (
            f"ENTRY %main (x: {shape}) -> {shape} {{\n  %x = {shape} parameter(0)\n  ROOT %y = {shape} sine(%x)\n}}\n"
        )

    assert warnings(text(128)) == []
    (line,) = warnings(text(16))
    assert line == "padding: 88% of the bytes moved fill up tiles; f32[4096,16] takes 2.0 MiB for 0.2"
