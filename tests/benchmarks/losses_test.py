"""The plain forms equal the losses that they are compared with, and a measurement has all its numbers."""

import jax
import pytest

from benchmarks import losses


@pytest.mark.parametrize("name", [name for name, case in losses.CASES.items() if case.reference])
def test_plain_forms_have_the_same_value(name):
    case = losses.CASES[name]
    z1, z2 = losses.embeddings(200)
    expected, value = (float(jax.jit(loss)(z1, z2)) for loss in (losses.CASES[case.reference].loss, case.loss))
    assert value == pytest.approx(expected, rel=1e-5)


def test_a_measurement_and_its_row():
    result = losses.measure(losses.CASES["gram"], steps=3, shrink=64)
    assert len(result["times"]) == 3
    assert result["planned"] >= 2 * 128 * 128 * 4  # the gradients at least
    text = losses.report({"equivariance": {**result, "value": 2 * result["value"]}, "gram": result})
    assert "| 1.0e+00 |" in text and "| – |" in text
