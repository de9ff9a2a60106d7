"""EquiMod, E-SSL and AugSelf against PyTorch programs written here from their published formulas, in float64.

One batch each: the losses, and their gradient with respect to the features and to all parameters of all heads. Batch
norm takes each view, or each order of a pair, by itself, as everywhere here; docs/methods.md has where theirs does not.
"""

import jax
import numpy as np
import pytest
from flax import linen, traverse_util

from care_jax import models
from care_jax.augment import Augmentation, AugmentSpec
from care_jax.methods import ESSL, AugSelf, EquiMod, Objective, SimCLR, Views, equimod

B, WIDTH, HIDDEN, D, SIDE = 7, 6, 8, 5, 16
# Ranges and draws of few bits: what is drawn is float32, and so these are exact.
SPEC = AugmentSpec(size=8, mean=(0.5,) * 3, std=(0.25,) * 3, brightness=0.5, contrast=0.25, saturation=0.5, hue=0.125)
MEAN, STD = np.float32(np.arange(15) / 8), np.float32([0.25, 0.5, 1, 2, 4] * 3)
HEAD = models.ProjectionHead((HIDDEN,), D, dtype=np.float64)
# EquiMod's, both: two hidden layers, all three normalised, the last without scale and bias.
NORMALISED = models.ProjectionHead((HIDDEN, HIDDEN), D, dtype=np.float64, output_batch_norm=True)
SHAPES = {"invariance": (2, B, WIDTH), "plain": (1, B, WIDTH), "rotated": (1, 4 * B, WIDTH)}


class Features(linen.Module):
    """A backbone whose features are its images."""

    @linen.compact
    def __call__(self, images, train=False, num_views=1):
        return images.reshape(len(images), -1)


@pytest.fixture
def torch():
    """On one core: for arrays as small as these its threads take longer to meet than to compute."""
    module = pytest.importorskip("torch")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


def _drawn():
    rng = np.random.default_rng(0)
    height, width = rng.integers(4, SIDE + 1, (2, 2, B))
    jittered = rng.integers(0, 2, (2, B))
    off = np.zeros((2, B), np.float32)
    excess = jittered * rng.integers(-32, 33, (4, 2, B)) / 64  # of the strength 0.5; the others' are parts of it
    assert len(np.unique(jittered)) == 2
    return Augmentation(
        top=rng.integers(0, SIDE - height + 1),
        left=rng.integers(0, SIDE - width + 1),
        height=height,
        width=width,
        flip=rng.integers(0, 2, (2, B)),
        jittered=jittered,
        order=rng.permuted(np.tile(np.arange(4), (2, B, 1)), axis=-1),
        brightness=1 + excess[0],
        contrast=1 + excess[1] / 2,
        saturation=1 + excess[2],
        hue=excess[3] / 4,
        grayscale=rng.integers(0, 2, (2, B)),
        blur_sigma=off,
        solarize=off,
        angle=off,
        shift_y=off,
        shift_x=off,
        further=off[..., None][..., :0],
    )


def _ours(objective, head):
    """Features and parameters, drawn; the terms; the gradient of the total with respect to both."""
    rng = np.random.default_rng(1)
    kinds = {"invariance", *(objective.term.needs if objective.term else ())} & set(SHAPES)
    features = {kind: rng.normal(size=SHAPES[kind]) for kind in sorted(kinds)}

    def views_of(features):
        images = {kind: x[..., None, None, :] for kind, x in features.items()}
        return Views(**images, drawn=_drawn(), image_size=(SIDE, SIDE))

    with jax.enable_x64(True):
        encoder = models.Encoder(Features(), head)
        networks = models.Networks.of(encoder, objective.heads)

        def embed(bound, features):
            return objective.embed(bound, views_of(features), {})

        def initial(features):
            created = encoder.init(jax.random.key(0), views_of(features).invariance[0], train=True)
            return models.init_heads(networks, created, jax.random.key(1), lambda bound: embed(bound, features))

        shapes = jax.eval_shape(initial, features)
        params = jax.tree.map(lambda x: 0.5 * rng.normal(size=x.shape), shapes["params"])
        stats = jax.tree.map(lambda x: np.ones(x.shape), shapes["batch_stats"])

        @jax.jit
        def differentiated(features, params):
            def total(features, params):
                variables = {"params": params, "batch_stats": stats}
                outputs, _ = networks.apply(variables, features, method=embed, mutable=["batch_stats"])
                return objective(outputs, {})

            (_, terms), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(features, params)
            return terms, gradients

        terms, gradients = jax.device_get(differentiated(features, params))
    named = {f"features.{kind}": x for kind, x in features.items()} | _flat(params)
    of_features, of_params = gradients
    return named, terms, {f"features.{kind}": x for kind, x in of_features.items()} | _flat(of_params)


def _flat(params):
    return {".".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(params).items()}


class Layers:
    """PyTorch's, with parameters by the names of ours."""

    def __init__(self, torch, named):
        self.torch, self.functional = torch, torch.nn.functional
        self.leaves = {name: torch.tensor(x, requires_grad=True) for name, x in named.items()}

    def linear(self, x, name, bias):
        y = x @ self.leaves[f"{name}.kernel"]
        return y + self.leaves[f"{name}.bias"] if bias else y

    def batch_norm(self, x, name, affine=True):
        scale, bias = (self.leaves[f"{name}.{part}"] if affine else None for part in ("scale", "bias"))
        return self.functional.batch_norm(x, None, None, scale, bias, training=True)

    def layer_norm(self, x, name):
        return self.functional.layer_norm(
            x, x.shape[-1:], *(self.leaves[f"{name}.{part}"] for part in ("scale", "bias"))
        )

    def mlp(self, x, name, hidden, last_norm=False):
        for i in range(hidden):
            x = self.batch_norm(self.linear(x, f"{name}.linear{i}", bias=False), f"{name}.bn{i}").relu()
        x = self.linear(x, f"{name}.linear{hidden}", bias=not last_norm)
        return self.batch_norm(x, "", affine=False) if last_norm else x

    def nt_xent(self, first, second, temperature):
        """Of each row the other of its pair is to be told from all others of both."""
        z = self.functional.normalize(self.torch.cat([first, second]))
        similarity = (z @ z.T / temperature).fill_diagonal_(-self.torch.inf)
        return self.functional.cross_entropy(similarity, self.torch.arange(len(z)).roll(len(first)))

    def check(self, losses, weights, terms, gradients):
        """Each of the losses, and the gradient of their weighted sum."""
        assert losses.keys() == terms.keys() - {"loss"}
        for name, loss in losses.items():
            np.testing.assert_allclose(terms[name], loss.item(), rtol=1e-10)
        total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        np.testing.assert_allclose(terms["loss"], total.item(), rtol=1e-10)
        total.backward()
        assert self.leaves.keys() == gradients.keys()
        for name, leaf in self.leaves.items():
            np.testing.assert_allclose(gradients[name], leaf.grad.numpy(), rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.slow
def test_equimod(torch, monkeypatch):
    monkeypatch.setattr(equimod, "equimod_standardisation", lambda spec: (MEAN, STD))
    term = EquiMod(spec=SPEC, equivariance_head=NORMALISED, batch_norm=True)
    named, terms, gradients = _ours(Objective(SimCLR(temperature=0.5), term, 1.0), NORMALISED)
    layers, drawn = Layers(torch, named), _drawn()
    h0, (h1, h2) = layers.leaves["features.plain"][0], layers.leaves["features.invariance"]
    z1, z2 = (layers.mlp(h, "head", 2, last_norm=True) for h in (h1, h2))
    y0, y1, y2 = (layers.mlp(h, "equivariance_head", 2, last_norm=True) for h in (h0, h1, h2))
    predicted = []
    for t in range(2):
        rows = []
        for i in range(B):
            box = [getattr(drawn, side)[t, i] / SIDE for side in ("top", "left", "height", "width")]
            slots = drawn.order[t, i] if drawn.jittered[t, i] else range(4)
            factors = [getattr(drawn, name)[t, i] for name in ("brightness", "contrast", "saturation", "hue")]
            rows.append([*box, drawn.flip[t, i], drawn.jittered[t, i], *slots, *factors, drawn.grayscale[t, i]])
        parameters = torch.tensor((np.array(rows, np.float64) - MEAN) / STD)
        predictor = "equivariance_predictor"
        p = layers.linear(parameters, f"{predictor}.parameter_linear", bias=False)
        p = layers.batch_norm(p, f"{predictor}.parameter_bn")
        joint = layers.linear(torch.cat([y0, p], 1), f"{predictor}.linear", bias=False)
        predicted.append(layers.batch_norm(joint, "", affine=False))
    losses = {
        "info_nce": layers.nt_xent(z1, z2, 0.5),
        "equimod": layers.nt_xent(torch.cat([y1, y2]), torch.cat(predicted), 0.2),
    }
    layers.check(losses, {}, terms, gradients)


@pytest.mark.slow
def test_essl(torch):
    """The base is SimCLR's NT-Xent: the original's InfoNCE, of negatives in the other view alone, is no method here."""
    term = ESSL(hidden_size=HIDDEN, dtype=np.float64)
    named, terms, gradients = _ours(Objective(SimCLR(temperature=0.5), term, 0.4), HEAD)
    layers = Layers(torch, named)
    z1, z2 = (layers.mlp(h, "head", 1) for h in layers.leaves["features.invariance"])
    small = layers.leaves["features.rotated"].reshape(B, 4, WIDTH)
    x = torch.cat([small[:, turns] for turns in range(4)])  # as there: all images, then all turned by a quarter, ...
    for i in range(2):
        x = layers.layer_norm(layers.linear(x, f"rotation_head.linear{i}", bias=True), f"rotation_head.ln{i}").relu()
    logits = layers.linear(x, "rotation_head.linear2", bias=True)
    labels = torch.arange(4).repeat_interleave(B)
    losses = {
        "info_nce": layers.nt_xent(z1, z2, 0.5),
        "rotation": torch.nn.functional.cross_entropy(logits, labels),
    }
    layers.check(losses, {"rotation": 0.4}, terms, gradients)


def _crop_difference(drawn, first, second):
    """Of the centres as the first view's flip shows them, and of the sizes; the height first."""
    y, x = ((start + size / 2) / SIDE for start, size in ((drawn.top, drawn.height), (drawn.left, drawn.width)))
    x = np.where(drawn.flip[first], 1 - x, x)
    columns = (y, x, drawn.height / SIDE, drawn.width / SIDE)
    return np.stack([column[first] - column[second] for column in columns], 1)


def _color_difference(drawn, first, second):
    """Over the width of the range; nothing where a view was not jittered."""
    of_view = [
        drawn.jittered * (getattr(drawn, name) - neutral) / (2 * getattr(SPEC, name))
        for name, neutral in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0))
    ]
    return np.stack([column[first] - column[second] for column in of_view], 1)


@pytest.mark.slow
def test_augself(torch):
    term = AugSelf(spec=SPEC, hidden_size=HIDDEN, batch_norm=True, dtype=np.float64)
    named, terms, gradients = _ours(Objective(SimCLR(temperature=0.2), term, 0.5), HEAD)
    layers, drawn = Layers(torch, named), _drawn()
    y1, y2 = layers.leaves["features.invariance"]
    losses = {"info_nce": layers.nt_xent(*(layers.mlp(y, "head", 1) for y in (y1, y2)), 0.2)}
    for kind, difference in (("crop", _crop_difference), ("color", _color_difference)):
        predictions = [layers.mlp(torch.cat(pair, 1), f"{kind}_predictor", 2).tanh() for pair in ((y1, y2), (y2, y1))]
        targets = np.concatenate([difference(drawn, 0, 1), difference(drawn, 1, 0)])
        assert np.abs(targets).max() <= 1
        losses[kind] = torch.nn.functional.mse_loss(torch.cat(predictions), torch.tensor(targets))
    layers.check(losses, {"crop": 0.5, "color": 0.5}, terms, gradients)
