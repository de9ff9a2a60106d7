"""The optimisers against torch.optim's formulas written as NumPy loops, and the schedules against their definitions."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from care_jax import models
from care_jax.train import optim

STEPS = 5


def _problem() -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 4), "bias": (4,)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    gradients = [{name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(STEPS)]
    return params, gradients


def _run(name: str, **settings) -> dict[str, np.ndarray]:
    params, gradients = _problem()
    schedule = optim.make_schedule("step", 0.1, num_steps=STEPS, boundaries=[3], factor=0.5)
    optimizer = optim.make_optimizer(name, schedule, **settings)
    params = {key: jnp.asarray(value, jnp.float32) for key, value in params.items()}
    state = optimizer.init(params)
    for gradient in gradients:
        gradient = {key: jnp.asarray(value, jnp.float32) for key, value in gradient.items()}
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return {key: np.asarray(value) for key, value in params.items()}


def _rate(step: int) -> float:
    return 0.1 if step < 3 else 0.05


def _expect(found: dict[str, np.ndarray], update) -> None:
    """`update(key, parameter, gradient, step, memory)` -> new parameter; memory is a dict of the key's own."""
    params, gradients = _problem()
    for key in params:
        memory: dict[str, np.ndarray] = {}
        for step, gradient in enumerate(gradients):
            params[key] = update(key, params[key], gradient[key], step, memory)
        np.testing.assert_allclose(found[key], params[key], rtol=2e-5, atol=2e-6, err_msg=key)


def _adam(parameter, gradient, step, memory, decoupled=0.0):
    memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * gradient
    memory["v"] = 0.999 * memory.get("v", 0.0) + 0.001 * gradient**2
    m, v = memory["m"] / (1 - 0.9 ** (step + 1)), memory["v"] / (1 - 0.999 ** (step + 1))
    return parameter - _rate(step) * (m / (np.sqrt(v) + 1e-8) + decoupled * parameter)


@pytest.mark.parametrize("decay", ["all", "kernels"])
def test_adam_adds_the_decay_to_the_gradient(decay):
    def update(key, parameter, gradient, step, memory):
        coefficient = 0.3 if decay == "all" or key == "kernel" else 0.0
        return _adam(parameter, gradient + coefficient * parameter, step, memory)

    _expect(_run("adam", weight_decay=0.3, decay=decay), update)


def test_adamw_decays_the_parameter():
    def update(key, parameter, gradient, step, memory):
        return _adam(parameter, gradient, step, memory, decoupled=0.3)

    _expect(_run("adamw", weight_decay=0.3), update)


def test_sgd_is_torchs():
    def update(key, parameter, gradient, step, memory):
        memory["b"] = 0.9 * memory.get("b", 0.0) + gradient + 0.3 * parameter
        return parameter - _rate(step) * memory["b"]

    _expect(_run("sgd", weight_decay=0.3, momentum=0.9), update)


def test_lars_scales_kernels_alone():
    def update(key, parameter, gradient, step, memory):
        gradient = gradient + 0.3 * parameter if key == "kernel" else gradient
        trust = 0.001 * np.linalg.norm(parameter) / np.linalg.norm(gradient) if key == "kernel" else 1.0
        memory["b"] = 0.9 * memory.get("b", 0.0) + _rate(step) * trust * gradient
        return parameter - memory["b"]

    _expect(_run("lars", weight_decay=0.3, momentum=0.9, decay="kernels"), update)


def test_cosine_with_warmup():
    schedule = optim.make_schedule("cosine", 2.0, num_steps=110, warmup_steps=10)
    steps = np.arange(111)
    expected = np.where(steps < 10, 2.0 * steps / 10, 1.0 + np.cos(np.pi * (steps - 10) / 100))
    np.testing.assert_allclose([float(schedule(step)) for step in steps], expected, atol=1e-6)


def test_step_schedule_counts_from_the_start_of_the_run():
    schedule = optim.make_schedule("step", 1.0, num_steps=50, warmup_steps=5, boundaries=[20, 40], factor=0.1)
    found = [float(schedule(step)) for step in (5, 19, 21, 39, 41)]
    np.testing.assert_allclose(found, [1.0, 1.0, 0.1, 0.1, 0.01], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.make_schedule("linear", 1.0, num_steps=5), "'linear'"),
        (lambda: optim.make_schedule("cosine", 1.0, num_steps=5, warmup_steps=5), "warm-up of 5"),
        (lambda: optim.make_optimizer("rmsprop", optax.constant_schedule(1.0)), "'rmsprop'"),
        (lambda: optim.make_optimizer("adam", optax.constant_schedule(1.0), decay="some"), "'some'"),
    ],
)
def test_wrong_names_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_two_boundaries_on_one_step_are_both_kept():
    """Of a run of few steps an epoch; and before the end of a warm-up."""
    rates = optim.make_schedule("step", 1.0, num_steps=10, boundaries=[2, 2, 5], factor=0.5)
    assert [float(rates(step)) for step in (0, 3, 6)] == [1.0, 0.25, 0.125]
    rates = optim.make_schedule("step", 1.0, num_steps=10, warmup_steps=3, boundaries=[1, 2], factor=0.5)
    assert float(rates(9)) == 0.25


def test_biases_of_attention_and_positions_are_no_kernels():
    """Of a Vision Transformer: they have two axes and three."""
    module = models.VisionTransformer(depth=1, num_heads=2, width=4, patch_size=4)
    vit = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    flat = flax.traverse_util.flatten_dict(vit["params"], sep="/")
    kernels = flax.traverse_util.flatten_dict(optim.is_kernel(vit["params"]), sep="/")
    assert any(leaf.ndim > 1 for name, leaf in flat.items() if name.endswith("bias"))
    assert flat["position_embedding"].ndim == 3
    assert {name for name, kernel in kernels.items() if kernel} == {name for name in flat if name.endswith("kernel")}
