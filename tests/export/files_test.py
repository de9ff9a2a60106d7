"""Exported weights in torchvision, timm and Flax: the printed lines are run, and compute what our networks compute."""

import json
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import pytest
from PIL import Image

from care_jax.data.decode import SourceImage
from care_jax.export import files, lines
from care_jax.export.lines import ExportError
from care_jax.models import BACKBONES, Encoder, ProjectionHead, ResNet, VisionTransformer, variables_to_torch
from tests.data.image_bytes import chunk, encode, png, smooth
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


def _run(code: str) -> dict:
    """The printed lines, as a reader would paste them."""
    made: dict = {}
    exec(compile(code, "the printed lines", "exec"), made)
    return made


BOTTLENECKS = ResNet((1, 1, 1, 1), bottleneck=True, width=8, stem="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "kind", "head"),
    [
        (BACKBONES["resnet10"](stem="cifar", width=8), "torch", None),
        (BOTTLENECKS, "safetensors", HEAD),
        (VisionTransformer(depth=2, num_heads=6, width=4, patch_size=8), "torch", HEAD),
    ],
    ids=["basic blocks", "bottlenecks", "vit"],
)
def test_torchvision_and_timm_compute_the_same(backbone, kind, head, tmp_path, monkeypatch):
    torch, *_ = torch_libraries()
    if kind == "safetensors":
        pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    encoder = Encoder(backbone, HEAD)
    variables = _variables(encoder)
    features, embeddings = jax.device_get(jax.jit(encoder.apply)(variables, IMAGES))
    blocks = _written(backbone, variables, kind, head)
    others = {"files", "preprocessing"}
    assert set(blocks) == {"timm"} | others | ({"torchvision"} if isinstance(backbone, ResNet) else set())
    for library in blocks.keys() - others:
        made = _run(blocks[library])
        with torch.no_grad():
            theirs = made["model"](torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
            np.testing.assert_allclose(theirs, features, rtol=1e-4, atol=1e-4)
            if head:
                z = torch.nn.functional.normalize(made["head"](theirs))
                np.testing.assert_allclose(z, embeddings, rtol=1e-3, atol=1e-4)


def _written(backbone, variables: dict, kind: str, head: ProjectionHead | None) -> dict[str, str]:
    """The lines that load `x.y`, which holds the variables now."""
    files.write(Path("x.y"), kind, variables, head=head is not None, preprocessing=PREPROCESSING, run=RUN)
    return lines.torch_lines(backbone, PREPROCESSING, "x.y", safetensors=kind == "safetensors", head=head)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stem", "width"), [("resnet18", "cifar", 64), ("resnet10", "imagenet", 64)])
def test_the_networks_of_the_lines_take_every_array(name, stem, width, tmp_path, monkeypatch):
    """What they compute is tested above."""
    torch, *_ = torch_libraries()
    monkeypatch.chdir(tmp_path)
    backbone = BACKBONES[name](stem=stem, width=width)
    variables = _variables(Encoder(backbone, HEAD))
    expected = variables_to_torch({collection: parts["backbone"] for collection, parts in variables.items()})
    blocks = _written(backbone, variables, "torch", None)
    for library in ("torchvision", "timm"):
        model = _run(blocks[library])["model"]
        state = {key: x for key, x in model.state_dict().items() if not key.endswith("num_batches_tracked")}
        assert state.keys() == expected.keys()
        assert all(np.array_equal(x, expected[key]) for key, x in state.items())
        assert not model.training and isinstance(model.maxpool, torch.nn.Identity) == (stem == "cifar")
        assert model.conv1.stride == ((1, 1) if stem == "cifar" else (2, 2))


@pytest.mark.slow
def test_the_printed_transform_is_that_of_evaluation(tmp_path, monkeypatch):
    torch_libraries()
    backbone = VisionTransformer(depth=1, num_heads=2, width=4, patch_size=8)
    block = lines.torch_lines(backbone, PREPROCESSING, "x.y", safetensors=False, head=None)["preprocessing"]
    pixels = np.random.default_rng(0).integers(0, 256, (36, 54, 3), np.uint8)  # so that nothing is resized
    theirs = _run(block)["transform"](Image.fromarray(pixels)).permute(1, 2, 0)
    center = pixels[2:34, 11:43] / 255
    np.testing.assert_allclose(theirs, (center - PREPROCESSING["mean"]) / PREPROCESSING["std"], atol=1e-5)


def _with_exif(mode: str, kind: str, orientation: int) -> bytes:
    image, exif = smooth(20, 31).convert(mode), Image.Exif()
    exif[0x0112] = orientation
    if mode == "RGBA":
        image.putalpha(smooth(20, 31).getchannel(1))
    return encode(image, kind, exif=exif)


DEEP = np.random.default_rng(0).integers(0, 65536, (9, 13, 4))
DEEP[2, 3, 0] = 0x1234
FILES = {
    **{f"turned by {i}": _with_exif("RGB", "JPEG", i) for i in range(1, 9)},
    "turned, with alpha": _with_exif("RGBA", "PNG", 6),
    "turned TIFF": _with_exif("RGB", "TIFF", 8),
    "WebP with alpha": _with_exif("RGBA", "WEBP", 3),
    "gray with alpha": encode(Image.merge("LA", smooth(20, 31).split()[:2])),
    "palette with a transparent colour": encode(smooth(20, 31).quantize(16), transparency=3),
    "gray of 16 bits": png(DEEP[..., :1], 16, 0),
    "gray of 16 bits with a transparent level": png(DEEP[..., :1], 16, 0, chunk(b"tRNS", b"\x12\x34")),
    "gray TIFF of 16 bits": encode(Image.fromarray(DEEP[..., 0].astype("<u2")), "TIFF"),
    "colours of 16 bits": png(DEEP[..., :3], 16, 2),
    "colours of 16 bits with alpha": png(DEEP, 16, 6),
    "plain": encode(smooth(20, 31)),
}


@pytest.mark.parametrize("name", FILES)
def test_the_printed_loader_has_the_pixels_of_evaluation(name, tmp_path):
    block = lines.flax_lines("resnet10", {"stem": "imagenet", "width": 4}, (), "x.msgpack", None)["files"]
    (tmp_path / "image").write_bytes(FILES[name])
    theirs = _run(block)["load"](tmp_path / "image")
    assert theirs.mode == "RGB"
    np.testing.assert_array_equal(theirs, SourceImage.from_bytes(FILES[name]).pixels())


@pytest.mark.parametrize("head", [None, HEAD])
def test_flax_reads_its_file(head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = BACKBONES["resnet10"](stem="imagenet", width=4)
    variables = _variables(Encoder(backbone, HEAD))
    files.write(Path("x.msgpack"), "flax", variables, head=head is not None, preprocessing=PREPROCESSING, run=RUN)
    block = lines.flax_lines("resnet10", {"stem": "imagenet", "width": 4}, (), "x.msgpack", head)["Flax"]
    made = _run(block)
    assert made["module"] == (backbone if head is None else Encoder(backbone, HEAD))
    expected = variables if head else {name: parts["backbone"] for name, parts in variables.items()}
    jax.tree.map(np.testing.assert_array_equal, made["variables"], expected)


def test_what_an_image_went_through_lies_in_every_file(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors")
    variables = _variables(Encoder(BOTTLENECKS, HEAD))
    for kind in files.KINDS:
        files.write(tmp_path / kind, kind, variables, head=True, preprocessing=PREPROCESSING, run=RUN)
    read = {"torch": torch.load(tmp_path / "torch", weights_only=True)}
    read["flax"] = flax.serialization.msgpack_restore((tmp_path / "flax").read_bytes())
    with safetensors.safe_open(tmp_path / "safetensors", framework="numpy") as file:
        read["safetensors"] = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
    for content in read.values():
        assert content["preprocessing"] == PREPROCESSING and content["run"] == RUN


def test_what_no_library_has_is_refused():
    for backbone, told in ((ResNet((1, 1), width=4), "four stages, this one has 2"), (HEAD, "has a ProjectionHead")):
        with pytest.raises(ExportError, match=rf"{told}; --to=flax"):
            lines.torch_lines(backbone, PREPROCESSING, "x.y", safetensors=False, head=None)


def test_a_kind_that_cannot_be_written_is_a_line(monkeypatch):
    for kind, told in (("onnx", "--to=onnx: choose one of torch, "), ("", "--to is missing: choose one of torch, ")):
        with pytest.raises(ExportError, match=told):
            files.check_kind(kind)
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"needs torch: pip install 'care_jax\[torch\]'; or --to=safetensors"):
        files.check_kind("torch")
    with pytest.raises(ExportError, match=r"needs safetensors: pip install 'care_jax\[train\]'"):
        files.check_kind("safetensors")
    files.check_kind("flax")


def test_what_became_of_a_file_is_said(tiny_config):
    said = files.describe(tiny_config())
    assert said.keys() == {"orientation", "transparent", "sixteen_bits", *PREPROCESSING}
    assert json.loads(json.dumps(said)) == said


def test_clouds_are_said_as_they_are(saved_clouds):
    config = saved_clouds.config.copy_and_resolve_references()
    assert files.describe(config).keys() == {"points", "angstrom", "residues"}
    config.data.name = "of_my_own"
    (said,) = files.describe(config).values()
    assert "x, y, z, 1" in said and said.endswith("as data set of_my_own has them")
    with pytest.raises(ExportError, match="--to=torch: neither torchvision nor timm has a deep_set"):
        files.check_kind("torch", "deep_set")
    files.check_kind("flax", "deep_set")
