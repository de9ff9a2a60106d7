"""Exported weights in torchvision, timm and Flax: the printed lines are run, and compute what our networks compute."""

import jax
import numpy as np
import pytest

from care_jax.export import files, lines
from care_jax.models import BACKBONES, Encoder, ProjectionHead, ResNet, VisionTransformer
from tests.models.torch_libraries import torch_libraries

SIDE = 32
IMAGES = np.random.default_rng(1).standard_normal((4, SIDE, SIDE, 3)).astype(np.float32)
PREPROCESSING = {
    "image_size": SIDE,
    "resize": 36,
    "interpolation": "bilinear",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.3],
}
RUN = {"step": 7, "backbone": "some"}
HEAD = ProjectionHead((6,), 5)


def _variables(encoder: Encoder) -> dict:
    """Running statistics, scales and biases far from where training starts; branches that do not grow."""
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(0)

    def value(path, leaf):
        if len(leaf.shape) > 1:
            return (rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32)
        low, high = (0.5, 1.5) if path[-1].key in ("scale", "var") else (-0.5, 0.5)
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(value, shapes)


def _expected(encoder: Encoder, variables: dict) -> tuple[np.ndarray, np.ndarray]:
    return jax.device_get(jax.jit(encoder.apply)(variables, IMAGES))


def _run(code: str) -> dict:
    """The printed lines, as a reader would paste them."""
    made: dict = {}
    exec(compile(code, "the printed lines", "exec"), made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize(
    "backbone",
    [
        BACKBONES["resnet10"](stem="cifar", width=8),
        BACKBONES["resnet10"](stem="imagenet", width=64),
        BACKBONES["resnet18"](stem="cifar", width=64),
        BACKBONES["resnet50"](stem="imagenet", width=16),
        VisionTransformer(depth=2, num_heads=6, width=4, patch_size=8),
    ],
    ids=["resnet10 of width 8", "resnet10", "resnet18", "resnet50 of width 16", "vit"],
)
def test_torchvision_and_timm_compute_the_same(backbone, kind, tmp_path, monkeypatch):
    torch, *_ = torch_libraries()
    if kind == "safetensors":
        pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    encoder = Encoder(backbone, HEAD)
    variables = _variables(encoder)
    features, embeddings = _expected(encoder, variables)
    with_head = kind == "safetensors" or isinstance(backbone, VisionTransformer)
    files.write(tmp_path / "x.y", kind, variables, head=with_head, preprocessing=PREPROCESSING, run=RUN)
    blocks = lines.torch_lines(
        backbone, PREPROCESSING, "x.y", safetensors=kind == "safetensors", head=HEAD if with_head else None
    )
    assert set(blocks) == {"timm", "preprocessing"} | ({"torchvision"} if isinstance(backbone, ResNet) else set())
    for library in blocks.keys() - {"preprocessing"}:
        made = _run(blocks[library])
        with torch.no_grad():
            theirs = made["model"](torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
            np.testing.assert_allclose(theirs, features, rtol=1e-4, atol=1e-4)
            if with_head:
                z = torch.nn.functional.normalize(made["head"](theirs))
                np.testing.assert_allclose(z, embeddings, rtol=1e-3, atol=1e-4)
