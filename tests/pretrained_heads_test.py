"""`model.init_from` of a Vision Transformer's bare state dict, which does not tell how many heads its attention has."""

import jax
import numpy as np
import pytest

from care_jax import pretrained
from care_jax.experiment.config import ConfigError
from care_jax.models import VisionTransformer, variables_to_torch

# Channels of a bare state dict of 12 blocks, the configuration, and what is told; None: it is read with width 64.
SIZES = {
    "ViT-B for vit_small": (768, {"backbone": "vit_small", "width": 64}, "vit_base of width 64 .*=vit_base, or take"),
    "ViT-S for vit_base of any width": (384, {"backbone": "vit_base"}, "vit_small of width 64 .*=vit_small, or take"),
    "ViT-S for vit_small of any width": (384, {"backbone": "vit_small"}, None),
    "ViT-S for a ResNet": (384, {"backbone": "resnet18", "width": 64}, "vit_small of width 64 .*backbone=vit_small"),
    "ViT-Tiny for vit_small": (192, {"backbone": "vit_small"}, "192 channels .* is no model.backbone; .*another file"),
    "no heads of 64": (96, {"backbone": "vit_small"}, "96 channels .* is no model.backbone"),
}


@pytest.mark.parametrize("case", SIZES)
def test_heads_of_another_size_are_neither_taken_nor_advised(case, tiny_config, tmp_path, monkeypatch):
    channels, settings, told = SIZES[case]
    (tmp_path / "x").touch()
    config = tiny_config(model__init_from=str(tmp_path / "x"), model__backbone=settings["backbone"])
    with config.ignore_type():
        config.model.width = settings.get("width")
    theirs = VisionTransformer(12, 1, channels, 16)
    shapes = jax.eval_shape(theirs.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    state = variables_to_torch(jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes))
    monkeypatch.setattr(pretrained.models, "read_torch_file", lambda path: state)
    if told is None:
        initial = pretrained.read(config)
        assert initial.chosen == {"model.width": 64}
        assert initial.told[1].endswith("number of attention heads: taken to be 6, of 64 channels each")
        return
    with pytest.raises(ConfigError, match=f"holds a .*{told}") as refused:
        pretrained.read(config)
    message = str(refused.value)
    assert "model.width=" not in message and "\n" not in message
    assert "a state dict does not tell the number of attention heads: taken to be" in message
