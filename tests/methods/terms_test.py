"""CARE's term where it may act, and its rivals' losses against direct sums, each with its gradient."""

import math
from functools import partial

import jax
import numpy as np
import pytest

from care_jax import augment, losses, methods, models
from care_jax.augment import Augmentation, AugmentSpec
from care_jax.methods import ESSL, AugSelf, Care, EquiMod, Views

SPEC = AugmentSpec(
    size=16,
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
B, D = 6, 8


HEAD = models.ProjectionHead((8,), D)
# Compiled whole: one operation at a time takes ten times as long.
normalize = jax.jit(models.normalize)
equivariance_loss = jax.jit(losses.equivariance_loss, static_argnames="num_groups")


def _loss(term, made):
    return jax.jit(term.loss)(made)


class FakeNetworks:
    """Networks that are known functions, and that write down how they were called."""

    def __init__(self):
        self.calls = {}

    def features(self, views):
        return views.reshape(*views.shape[:2], -1)[..., :5]

    def project(self, features):
        return 2.0 * features[..., :4]

    def through(self, name, *inputs):
        self.calls[name] = inputs
        return sum(x[..., :4] for x in inputs) / len(inputs)


def _normal(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _draws(seed=0) -> Augmentation:
    uniforms = np.random.default_rng(seed).random((2, B, augment.NUM_UNIFORMS), np.float32)
    return jax.jit(partial(augment.sample, spec=SPEC, height=20, width=20))(uniforms)


def _views(**others) -> Views:
    own = _normal(1, (2, B, 16, 16, 3))
    return Views(invariance=own, drawn=_draws(), plain=own[:1] * 0.5, image_size=(20, 20))._replace(**others)


@pytest.mark.parametrize("on", ["projection", "features", "head"])
def test_care_acts_where_it_is_told(on):
    networks, term = FakeNetworks(), Care(num_groups=2, on=on, equivariance_head=HEAD)
    features = _normal(0, (2, B, 5))
    made = term.embed(networks, _views(), {"equivariance_features": features})
    vectors = {"projection": 2 * features[..., :4], "features": features, "head": features[..., :4]}[on]
    assert set(networks.calls) == set(term.heads) == ({"equivariance_head"} if on == "head" else set())
    expected = equivariance_loss(*normalize(vectors), num_groups=2)
    np.testing.assert_allclose(_loss(term, made)["equivariance"], expected, rtol=1e-6)


def test_care_with_other_groups():
    x = _normal(0, (2, B, 4))
    z = np.asarray(normalize(x))
    found = _loss(Care(num_groups=2, group="symplectic"), {"equivariance_outputs": x})["equivariance"]
    expected = equivariance_loss(*z, num_groups=2, form=losses.symplectic_form(4))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    space = z * np.sqrt(1 + np.square(x).sum(-1, keepdims=True))
    lifted = np.concatenate([np.sqrt(1 + np.square(space).sum(-1, keepdims=True)), space], axis=-1)
    expected = equivariance_loss(*lifted, num_groups=2, form=losses.lorentz_form(5))
    found = _loss(Care(num_groups=2, group="lorentz"), {"equivariance_outputs": x})["equivariance"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lorentz_embeddings_cannot_escape_by_shrinking():
    """Halving the projections again and again makes the term of a pair of unrelated views no smaller than a bound."""
    x = _normal(0, (2, 12, 4))
    term = Care(num_groups=1, group="lorentz")
    loss = jax.jit(term.loss)
    values = [
        float(loss({"equivariance_outputs": x * np.float32(scale)})["equivariance"]) for scale in (1e-1, 1e-3, 1e-6)
    ]
    assert min(values) > 0.5 and values[1] == pytest.approx(values[2], rel=1e-3)


def _nt_xent_sum(rows, predicted, temperature):
    """EquiMod's loss as a double sum over 2n vectors, in float64."""
    z = [row / math.sqrt(float(row @ row)) for row in np.concatenate([rows, predicted]).astype(np.float64)]
    n, total = len(rows), 0.0
    for i in range(2 * n):
        positive = z[i] @ z[(i + n) % (2 * n)]
        others = sum(math.exp(z[i] @ z[j] / temperature) for j in range(2 * n) if j != i)
        total += math.log(others) - positive / temperature
    return total / (2 * n)


def test_equimod_is_a_direct_sum_with_its_gradient():
    term = EquiMod(spec=SPEC, equivariance_head=HEAD, batch_norm=True)
    rng = np.random.default_rng(0)
    y, predicted = rng.normal(size=(2, 2, 3, D))

    def loss(y, predicted):
        return term.loss({"view_embeddings": y, "predicted_embeddings": predicted})["equimod"]

    with jax.enable_x64(True):
        value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(y, predicted)
    direct = _nt_xent_sum(y.reshape(-1, D), predicted.reshape(-1, D), 0.2)
    assert float(value) == pytest.approx(direct, rel=1e-12)
    step = 1e-6
    for which, gradient in enumerate(gradients):
        for index in ((0, 0, 0), (1, 2, 5)):
            sides = []
            for sign in (1, -1):
                arrays = [y.copy(), predicted.copy()]
                arrays[which][index] += sign * step
                sides.append(_nt_xent_sum(*(x.reshape(-1, D) for x in arrays), 0.2))
            assert float(gradient[index]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)


@pytest.mark.slow
def test_equimod_predicts_each_view_from_the_plain_image_and_its_draw():
    term = EquiMod(spec=SPEC, equivariance_head=HEAD, batch_norm=True)
    assert set(term.needs) == {"plain", "drawn"}
    networks, views = FakeNetworks(), _views()
    features = networks.features(views.invariance)
    made = term.embed(networks, views, {"features": features})
    np.testing.assert_array_equal(made["view_embeddings"], features[..., :4])
    plain, parameters = networks.calls["equivariance_predictor"]
    for view in range(2):
        np.testing.assert_array_equal(plain[view], networks.features(views.plain)[0, :, :4])
    mean, std = methods.equimod_standardisation(SPEC)
    parameters_of = jax.jit(partial(methods.equimod_parameters, height=20, width=20))
    expected = (np.asarray(parameters_of(views.drawn)) - mean) / std
    np.testing.assert_allclose(parameters, expected, rtol=1e-6)
    # A method that encodes the first view alone has its draws alone.
    term.embed(networks, views, {"features": features[:1]})
    np.testing.assert_allclose(networks.calls["equivariance_predictor"][1], expected[:1], rtol=1e-6)


def test_essl_tells_the_turns_apart():
    term = ESSL(hidden_size=8)
    assert term.needs == ("rotated",)

    class Turns(FakeNetworks):
        def features(self, views):
            return views

        def through(self, name, rows):
            assert name == "rotation_head"
            return rows

    # Row 4i + k of the view is image i turned by k quarters: logits that say so, and for image 2 a wrong answer.
    logits = 5.0 * np.tile(np.eye(4), (B, 1))
    logits[8] = [0.0, 5.0, 0.0, 0.0]
    made = term.embed(Turns(), _views(rotated=logits[None].astype(np.float32)), {})
    assert made["rotation_logits"].shape == (4, B, 4)
    sum_of_exponentials = math.exp(5) + 3
    right, wrong = math.log(sum_of_exponentials) - 5, math.log(sum_of_exponentials)
    expected = ((4 * B - 1) * right + wrong) / (4 * B)
    assert float(_loss(term, made)["rotation"]) == pytest.approx(expected, rel=1e-5)


def test_augself_tells_the_differences():
    term = AugSelf(spec=SPEC, hidden_size=8, batch_norm=True)
    assert set(term.heads) == {"crop_predictor", "color_predictor"} and term.num_views == 2
    networks, views = FakeNetworks(), _views()
    features = networks.features(views.invariance)
    made = term.embed(networks, views, {"features": features})
    pairs = networks.calls["crop_predictor"][0]
    np.testing.assert_array_equal(pairs[0], np.concatenate([features[0], features[1]], axis=-1))
    np.testing.assert_array_equal(pairs[1], np.concatenate([features[1], features[0]], axis=-1))
    drawn = jax.tree.map(np.asarray, views.drawn)
    for order, (first, second) in enumerate(((0, 1), (1, 0))):
        for i in range(B):
            centers = {}
            for view in (first, second):
                x = (drawn.left[view, i] + drawn.width[view, i] / 2) / 20
                y = (drawn.top[view, i] + drawn.height[view, i] / 2) / 20
                centers[view] = (y, 1 - x if drawn.flip[first, i] else x)
            crop = [
                centers[first][0] - centers[second][0],
                centers[first][1] - centers[second][1],
                (drawn.height[first, i] - drawn.height[second, i]) / 20,
                (drawn.width[first, i] - drawn.width[second, i]) / 20,
            ]
            np.testing.assert_allclose(made["crop_differences"][order, i], crop, atol=1e-6)
            color = [
                (getattr(drawn, name)[first, i] - getattr(drawn, name)[second, i]) / (2 * strength)
                for name, strength in (("brightness", 0.4), ("contrast", 0.4), ("saturation", 0.4), ("hue", 0.1))
            ]
            np.testing.assert_allclose(made["color_differences"][order, i], color, atol=1e-6)
    assert drawn.flip.any() and not drawn.flip.all()
    found = _loss(term, made)
    for kind in ("crop", "color"):
        predictions = np.tanh(np.asarray(networks.calls[f"{kind}_predictor"][0])[..., :4])
        expected = np.mean((predictions - np.asarray(made[f"{kind}_differences"])) ** 2)
        np.testing.assert_allclose(found[kind], expected, rtol=1e-5)
