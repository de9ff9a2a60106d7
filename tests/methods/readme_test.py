"""The README's own method is what it says: one short file, one line, and the rest comes with it."""

import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from care_jax import methods
from care_jax.devices import sharding
from care_jax.experiment import build

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_readmes_method_trains(tiny_config, small_encoder, monkeypatch):
    (code,) = re.findall(r"```python\n(\"\"\"Centered.*?)```", README.read_text(), re.DOTALL)
    assert len(code.splitlines()) + 1 < 40
    module = types.ModuleType("centered")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(methods.METHODS, "centered", module.centered)
    config = tiny_config(loss__method="centered", loss__momentum=0.95, augment__placement="host")
    build.check(config, sharding.make_mesh(jax.devices()[:1]))
    experiment = build.build(config, sharding.make_mesh(jax.devices()[:1]))._replace(encoder=small_encoder())
    views = np.random.default_rng(0).normal(size=(2, 32, 16, 16, 3)).astype(np.float32)
    state = build.make_state(experiment)
    np.testing.assert_array_equal(state.method_state["center"], np.zeros(8))
    after, metrics = jax.jit(build.make_step(experiment))(
        state, {"invariance_views": views, "equivariance_views": views}
    )
    assert np.isfinite(metrics["info_nce"]) and metrics["equivariance"] >= 0
    assert np.abs(after.method_state["center"]).max() > 0
