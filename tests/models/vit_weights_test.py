"""Vision Transformers' weights to timm's names and back; torchvision's; what is another network."""

import re

import jax
import numpy as np
import pytest

from care_jax.models import VisionTransformer, pretrained_backbone, variables_to_torch
from tests.models.torch_libraries import torch_libraries

MODEL = VisionTransformer(depth=2, num_heads=3, width=4, patch_size=4)
IMAGES = np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables() -> dict:
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)


def test_round_trip_is_exact(variables):
    state = variables_to_torch(variables)
    assert len(state) == 2 + 2 + 2 * 12 + 2 and state["pos_embed"].shape == (1, 5, 12)
    assert all(value.flags.c_contiguous and value.flags.writeable for value in state.values())
    found = pretrained_backbone(state | {"head.weight": np.zeros((3, 12))}, num_heads=3)
    assert found.module == MODEL and found.unused == ("head.weight",)
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)


@pytest.mark.parametrize(
    ("layout", "unused"),
    [
        (lambda s: {"state_dict": _under("backbone.", s) | _under("momentum_backbone.", s)}, 30),  # solo-learn
        (lambda s: _under("module.base_encoder.", s | _HEAD) | _under("module.momentum_encoder.", s), 31),  # MoCo v3
        (lambda s: {"student": _under("module.backbone.", {}), "teacher": _under("backbone.", s) | _HEAD}, 1),  # DINO
    ],
)
def test_prefixes_and_averages(layout, unused, variables):
    found = pretrained_backbone(layout(variables_to_torch(variables)), num_heads=3)
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    assert len(found.unused) == unused and found.where


_HEAD = {"head.0.weight": np.zeros((3, 3))}


def _under(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.slow
def test_torchvisions_compute_the_same():
    torch, torchvision, _ = torch_libraries()
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(8, 4, 2, 3, 12, 48, num_classes=5)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.5)
    found = pretrained_backbone(model.state_dict(), num_heads=3)
    assert found.module == MODEL and found.unused == ("head.head.weight", "head.head.bias")
    model.heads = torch.nn.Identity()
    with torch.no_grad():
        theirs = model.eval()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    np.testing.assert_allclose(jax.jit(MODEL.apply)(found.variables, IMAGES), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.1.ls1.gamma": np.ones(12)}, "unexpected blocks.1.ls1.gamma"),
        ({"register_tokens": np.ones((1, 4, 12))}, "unexpected register_tokens"),
        ({"norm.weight": None, "fc_norm.weight": np.ones(12)}, "missing norm.weight; unexpected fc_norm.weight"),
        ({"pos_embed": np.ones((1, 4, 12))}, "of a class token and of a square of patches, 3 positions"),
        ({"pos_embed": None}, "of a square of patches, 0 positions"),
        ({"patch_embed.proj.weight": None}, "patch_embed.proj.weight is None"),
        ({"blocks.0.mlp.fc1.bias": np.ones(24)}, r"mlp.fc1.bias has shape \(24,\), expected \(48,\)"),
    ],
)
def test_another_network_is_named(change, message, variables):
    state = {name: x for name, x in {**variables_to_torch(variables), **change}.items() if x is not None}
    with pytest.raises(ValueError, match=message):
        pretrained_backbone(state, num_heads=3)


def test_heads_that_no_one_knows_have_64_channels(variables):
    wide = VisionTransformer(depth=1, num_heads=2, width=64, patch_size=4)
    shapes = jax.eval_shape(wide.init, jax.random.key(0), IMAGES)
    state = variables_to_torch(jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes))
    for num_heads in (None, 5):
        assert pretrained_backbone(state, num_heads=num_heads).module == wide


def test_what_is_neither_network_is_told():
    state = {"stages.0.blocks.0.conv_dw.weight": np.zeros((3, 3))}
    with pytest.raises(ValueError, match=re.escape("names in ['model'] are stages.0.blocks.0.conv_dw.weight")):
        pretrained_backbone({"model": state})
