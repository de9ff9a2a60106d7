"""The PyTorch side does the same work as ours: the same losses, the same network, the same pictures."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from benchmarks import settings, torch_augment, torch_model, torch_peer  # noqa: E402  # they import torch
from benchmarks.ours import make_objective, make_plan  # noqa: E402
from benchmarks.settings import Case  # noqa: E402
from care_jax import augment, losses, models  # noqa: E402


def unit_rows(n, seed):
    rows = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_losses_are_ours():
    embeddings = [unit_rows(64, seed) for seed in range(4)]
    tensors = [torch.from_numpy(z) for z in embeddings]
    expected = losses.info_nce(*embeddings[:2], temperature=0.5)
    assert float(torch_model.info_nce(*tensors[:2], 0.5)) == pytest.approx(float(expected), rel=1e-5)
    expected = losses.equivariance_loss(*embeddings[2:], num_groups=16)
    assert float(torch_model.equivariance_loss(*tensors[2:], 16)) == pytest.approx(float(expected), rel=1e-5)
    outputs = {"embeddings": jnp.stack(embeddings[:2]), "equivariance_outputs": jnp.stack(embeddings[2:])}
    expected, _ = make_objective()(outputs, {})
    assert float(torch_model.objective(*tensors)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_networks_are_ours(model, monkeypatch):
    monkeypatch.setitem(settings.STAGE_SIZES, model, (2, 1))  # every kind of block there is
    torch.manual_seed(0)
    theirs = torch_model.ResNet(model, width=4).train()
    variables = models.variables_from_torch(theirs.state_dict())
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    ours = models.resnet_from_torch(theirs.state_dict())
    assert (ours.bottleneck, ours.stem) == (settings.BOTTLENECK[model], settings.STEM)
    features, _ = jax.jit(lambda v, x: ours.apply(v, x, True, mutable=["batch_stats"]))(variables, images)
    with torch.no_grad():
        # In float64, because the rounding of a deep network's float32 is larger than the tolerance.
        expected = theirs.double()(torch.from_numpy(images).double().permute(0, 3, 1, 2))
    np.testing.assert_allclose(features, expected, atol=2e-4)


def test_the_batched_augmentation_is_ours():
    b, side = 6, settings.IMAGE_SIZE
    torch.manual_seed(0)
    draws = torch_augment.draw(b, side, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (b, side, side, 3), np.uint8)
    made = torch_augment.augment_batch(torch.from_numpy(images).permute(0, 3, 1, 2), draws)
    spec = make_plan(Case("ours")).invariance
    drawn = augment.identity(spec, height=side, width=side, leading_shape=(b,))
    names = ("top", "left", "height", "width", "flip", "brightness", "contrast", "saturation", "hue")
    drawn = drawn._replace(
        **{name: getattr(draws, name).float().numpy() for name in names},
        grayscale=draws.gray.float().numpy(),
        blur_sigma=draws.sigma.numpy(),
    )
    expected = jax.jit(functools.partial(augment.apply, spec=spec))(drawn, images)
    np.testing.assert_allclose(made.permute(0, 2, 3, 1), expected, atol=2e-4)


def test_draws_stay_in_their_ranges():
    torch.manual_seed(0)
    draws = torch_augment.draw(2000, 32, "cpu")
    assert (draws.top >= 0).all() and (draws.top + draws.height <= 32).all()
    assert (draws.left >= 0).all() and (draws.left + draws.width <= 32).all()
    area = draws.height * draws.width / 32**2
    assert area.min() > 0.05 and area.max() <= 1.0
    assert abs(draws.flip.float().mean() - 0.5) < 0.05 and abs(draws.gray.float().mean() - 0.2) < 0.05
    assert ((draws.brightness >= 0.6) & (draws.brightness <= 1.4)).all() and (draws.hue.abs() <= 0.1).all()


def test_one_image_and_one_draw_for_all_give_normalised_views():
    random.seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    limits = [(value - np.asarray(settings.MEAN)) / np.asarray(settings.STD) for value in (0.0, 1.0)]
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].repeat(3, 1, 1, 1).float() / 255
    for _ in range(20):
        view, shared = torch_augment.augment_image(Image.fromarray(pixels)), torch_augment.augment_alike(batch)
        assert view.shape == (3, 32, 32) and shared.shape == (3, 3, 32, 32)
        assert torch.equal(shared[0], shared[2])
        for x in (view, shared[0]):
            channels = x.flatten(1)
            assert (channels.amin(1).numpy() > limits[0] - 1e-4).all()
            assert (channels.amax(1).numpy() < limits[1] + 1e-4).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["official", "tuned_one", "tuned_four"])
def test_a_step_runs_and_moves_the_parameters(kind, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    make = torch_peer.Official if kind == "official" else torch_peer.Tuned
    side = make(Case(kind, "resnet18", batch_size=16, width=4, num_images=32))
    before = [p.detach().clone() for p in side._encoder.parameters()]
    assert side.step() > 0
    assert all(not torch.equal(old, new) for old, new in zip(before, side._encoder.parameters(), strict=True))
