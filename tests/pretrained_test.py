"""`model.init_from`: what is read, what is refused, what is said; and a state that begins with it."""

import functools

import flax.traverse_util
import jax
import numpy as np
import pytest

from care_jax import pretrained
from care_jax.devices import agreement
from care_jax.experiment import build
from care_jax.experiment.architecture import make_encoder
from care_jax.experiment.config import ConfigError
from care_jax.experiment.continuation import check_goes_on
from care_jax.export import files
from care_jax.models import BACKBONES, CLOUD_BACKBONES, Encoder, ProjectionHead, VisionTransformer, variables_to_torch
from care_jax.train.state import params_sha256
from tests.models.torch_libraries import torch_libraries
from tests.saved_clouds import make_cloud_config

# The standard deviation is tiny_config's, the mean is not.
PREPROCESSING = {"image_size": 16, "mean": [0.5, 0.4, 0.3], "std": [0.196, 0.166, 0.207]}


@functools.cache
def _variables(name: str = "resnet10", width: int = 4, stem: str = "imagenet", side: int = 16) -> dict:
    """Of an encoder; far from where training starts."""
    encoder = Encoder(BACKBONES[name](stem=stem, width=width), ProjectionHead((3,), 2))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes)


def _backbone(variables: dict) -> dict:
    return {name: parts["backbone"] for name, parts in variables.items() if "backbone" in parts}


def _file(path, *, kind: str = "flax", head: bool = False, name: str = "resnet10", width: int = 4, **of) -> str:
    """An exported file."""
    settings = {"backbone": name, "stem": of.get("stem", "imagenet"), "width": width}
    variables = _variables(name, width, **of)
    files.write(path, kind, variables, head=head, preprocessing=PREPROCESSING, run=settings)
    return str(path)


@pytest.mark.slow
def test_a_resnet_of_torchvisions_begins_as_it_was(tiny_config, tmp_path):
    """A file as its users have it: with a classifier."""
    torch, torchvision, _ = torch_libraries()
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 1.5)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    name = str(tmp_path / "resnet18.pth")
    config = tiny_config(model__backbone="resnet18", model__width=64, model__init_from=name)
    initial = pretrained.read(config)
    said = "backbone 100 of 100 arrays; not used: fc.bias, fc.weight; the projection head starts at random"
    assert initial.told == (f"model.init_from={name}: {said}",)
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    features = jax.jit(make_encoder(config).backbone.apply)(initial.variables, images)
    model.fc = torch.nn.Identity()
    with torch.no_grad():
        theirs = model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(features, theirs, rtol=1e-4, atol=1e-4)


def test_a_state_begins_with_it_and_so_does_a_momentum_encoder(tiny_config, small_encoder, monkeypatch):
    monkeypatch.setattr(build, "make_encoder", lambda config: small_encoder())
    experiment = build.build(tiny_config(loss__method="moco", loss__queue_size=32))
    abstract = build.abstract_state(experiment)
    backbone = {
        name: jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), parts["backbone"])
        for name, parts in abstract.variables.items()
    }
    drawn, begun = (jax.device_get(build.make_state(experiment, x)) for x in (None, backbone))
    for variables in (begun.variables, begun.method_state["target"]):
        for collection, values in backbone.items():
            jax.tree.map(np.testing.assert_array_equal, variables[collection]["backbone"], values)
    for made in (begun.params["head"], begun.method_state["target"]["params"]["head"]):
        jax.tree.map(np.testing.assert_array_equal, made, drawn.params["head"])  # the seed's


@pytest.mark.parametrize(("kind", "head"), [("flax", False), ("flax", True), ("torch", True), ("safetensors", True)])
def test_every_kind_that_is_exported_is_read(kind, head, tiny_config, tmp_path):
    pytest.importorskip(kind)
    name = _file(tmp_path / "weights", kind=kind, head=head)
    initial = pretrained.read(tiny_config(model__init_from=name))
    jax.tree.map(np.testing.assert_array_equal, initial.variables, _backbone(_variables()))
    line, note = initial.lines(tiny_config().data)
    assert line.startswith(f"model.init_from={name}: backbone 60 of 60 arrays")
    assert note.endswith("its images were normalised otherwise: data.mean=(0.5, 0.4, 0.3)")


def test_weights_are_read_as_wide_as_the_run_has_them(tiny_config, tmp_path, monkeypatch):
    name = _file(tmp_path / "weights")
    with jax.enable_x64(True):
        config = tiny_config(model__init_from=name, model__dtype="float64")
        wide = pretrained.read(config).variables
        jax.tree.map(np.testing.assert_array_equal, wide, _backbone(_variables()))
        assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype(np.float64)}
    thirds = jax.tree.map(lambda leaf: leaf.astype(np.float64) / 3, _variables())
    monkeypatch.setitem(globals(), "_variables", lambda *_, **__: thirds)
    name = _file(tmp_path / "wide")
    with jax.enable_x64(True):
        wide = pretrained.read(tiny_config(model__init_from=name, model__dtype="float64")).variables
    jax.tree.map(np.testing.assert_array_equal, wide, _backbone(thirds))
    narrow = pretrained.read(tiny_config(model__init_from=name)).variables
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {np.dtype(np.float32)}


# What the configuration has beside what is in the file, and what to set.
MISFITS = {
    "another stem": ({"stem": "cifar"}, {}, "the cifar stem, .* the imagenet stem: give --config.model.stem=cifar, or"),
    "another width": ({"width": 8}, {}, "width 8 .*: give --config.model.width=8, or take another file"),
    "another depth": ({"name": "resnet18"}, {}, "resnet18 .*: give --config.model.backbone=resnet18, or"),
    "other blocks": (
        {"name": "resnet50"},
        {"backbone": "resnet34"},
        "resnet50 .* give --config.model.backbone=resnet50",
    ),
    "of another kind": (
        {"name": "vit_small"},
        {},
        "vit_small of width 4 with the imagenet stem, the configuration has a resnet10 of width 4 .*=vit_small",
    ),
    "no ViT": ({}, {"backbone": "vit_small"}, "resnet10 .* give --config.model.backbone=resnet10, or"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_another_architecture_is_named_with_what_to_set(case, tiny_config, tmp_path):
    of, settings, told = MISFITS[case]
    name = _file(tmp_path / "x", **of)
    config = tiny_config(model__init_from=name, **{f"model__{key}": value for key, value in settings.items()})
    with pytest.raises(ConfigError, match=rf"^config\.model\.init_from={name} holds a .*{told}") as refused:
        pretrained.read(config)
    assert "\n" not in str(refused.value)


def test_networks_that_no_setting_makes_are_described(tiny_config, tmp_path, monkeypatch):
    name = str(tmp_path / "x")
    (tmp_path / "x").touch()
    config = tiny_config(model__init_from=name)
    shapes = VisionTransformer(2, 3, 64, 4)
    variables = jax.eval_shape(shapes.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables)
    monkeypatch.setattr(pretrained.models, "read_torch_file", lambda path: variables_to_torch(zeros))
    told = (
        "holds a Vision Transformer of 2 blocks, 192 channels and patches of 4 pixels, which is no model.backbone; the"
    )
    with pytest.raises(ConfigError, match=told):
        pretrained.read(config)


def test_dinos_teacher_at_another_size(tiny_config, tmp_path, monkeypatch):
    """The file holds no size of images, and no number of heads."""
    state = variables_to_torch(_backbone(_variables("vit_small", side=32)))
    under = {"teacher": "backbone.", "student": "module.backbone."}
    checkpoint = {key: {prefix + name: x for name, x in state.items()} for key, prefix in under.items()}
    checkpoint["teacher"] |= {"head.mlp.0.weight": np.zeros((3, 3))}
    checkpoint["student"] = {name: 0 * x for name, x in checkpoint["student"].items()}
    (tmp_path / "dino.pth").touch()
    name = str(tmp_path / "dino.pth")
    monkeypatch.setattr(pretrained.models, "read_torch_file", lambda path: {"epoch": 3, **checkpoint})
    initial = pretrained.read(
        tiny_config(model__backbone="vit_small", model__init_from=name, data__image_size=48, model__stem="imagenet")
    )
    line, heads, positions = initial.told
    assert "arrays in ['teacher'] under the prefix 'backbone.'; not used: head.mlp.0.weight; the" in line
    assert heads.endswith("does not tell the number of attention heads: taken to be 6, of 4 channels each")
    assert positions.endswith("position embeddings of 2 x 2 patches are interpolated to 3 x 3")
    flat = flax.traverse_util.flatten_dict(_backbone(_variables("vit_small", side=32)))
    found = flax.traverse_util.flatten_dict(initial.variables)
    different = {path for path in flat if not np.array_equal(flat[path], found[path])}
    assert different == {("params", "position_embedding")}
    before, after = (tree["params", "position_embedding"] for tree in (flat, found))
    np.testing.assert_allclose(after[::2, ::2], before, rtol=1e-5)  # corners stay where they are


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", ""),
        (b"no weights", "without running code from it"),
        (b"\x82\xa1a\x01\xa1b\x02", "must be one that `care-jax export --to=flax` wrote"),
        (b"\x82\xa1a", "can't be read as Flax's msgpack"),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00{", "can't be read as safetensors"),
        ("folder", "is not the folder of a run"),
    ],
)
def test_what_holds_no_weights_is_a_line(content, told, tiny_config, tmp_path):
    path = tmp_path / "weights"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    if "code" in told:
        pytest.importorskip("torch")
    if "safetensors" in told:
        pytest.importorskip("safetensors")
    with pytest.raises(ConfigError, match=rf"^config\.model\.init_from={path}.*{told}"):
        pretrained.read(tiny_config(model__init_from=str(path)))


def test_a_run_that_goes_on_needs_no_file(tiny_config, tmp_path):
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    config = tiny_config(model__init_from="gone.pth")
    assert pretrained.for_run(config, tmp_path) is None
    with pytest.raises(ConfigError, match="gone"):
        pretrained.for_run(config, tmp_path / "another")
    assert pretrained.for_run(tiny_config(), tmp_path / "another") is None
    with pytest.raises(ConfigError, match=r"config.model.init_from: None -> 'gone.pth'"):
        check_goes_on(tiny_config(), config, tmp_path)


def test_processes_compare_what_they_read(tiny_config, tmp_path, monkeypatch):
    facts = []
    monkeypatch.setattr(agreement, "is_alone", lambda: False)
    monkeypatch.setattr(agreement, "agree", lambda what, said: facts.append((what, said)))
    initial = pretrained.for_run(tiny_config(model__init_from=_file(tmp_path / "x")), tmp_path)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    pretrained.for_run(tiny_config(model__init_from=str(tmp_path / "x")), tmp_path)
    name, sha256 = "config.model.init_from", params_sha256(initial.variables)
    assert facts == [
        ("initial weights", {name: f"weights {sha256}"}),
        ("initial weights", {name: "not read: there is a checkpoint"}),
    ]


def _cloud_file(path, **of) -> str:
    settings = {"backbone": "deep_set", "width": 4, "pooling": "mean", **of}
    backbone = CLOUD_BACKBONES["deep_set"](width=settings["width"], pooling=settings["pooling"])
    encoder = Encoder(backbone, ProjectionHead((3,), 2))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), np.zeros((1, 2, 4), np.float32))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)
    files.write(path, "flax", variables, head=True, preprocessing={"points": "of a test"}, run=settings)
    return str(path)


def test_clouds_begin_with_clouds_and_another_pooling_is_said(tmp_path):
    name = _cloud_file(tmp_path / "x")
    initial = pretrained.read(make_cloud_config(tmp_path, model__init_from=name))
    assert initial.told[0].endswith("backbone 10 of 10 arrays; not used: head; the projection head starts at random")
    assert {float(leaf.mean()) for leaf in jax.tree.leaves(initial.variables)} == {0.5}
    config = make_cloud_config(tmp_path, model__init_from=_cloud_file(tmp_path / "wide", width=6))
    told = (
        "a deep_set of width 6 with mean pooling, the configuration has a deep_set of width 4 with mean pooling: give"
    )
    with pytest.raises(ConfigError, match=rf"{told} --config.model.width=6, or take another file$"):
        pretrained.read(config)
    with config.ignore_type():
        config.model.width = None
    assert pretrained.read(config).chosen == {"model.width": 6}


@pytest.mark.slow
def test_images_and_clouds_do_not_begin_with_each_other(tiny_config, saved_run, saved_clouds, tmp_path):
    clouds, images = _cloud_file(tmp_path / "clouds"), _file(tmp_path / "images")
    for name in (images, str(saved_run.workdir)):
        told = rf"^config\.model\.init_from={name} holds a resnet10 .*, which embeds images, and config.model.backbone="
        told += "deep_set embeds clouds of points: give weights that were trained on clouds of points$"
        with pytest.raises(ConfigError, match=told):
            pretrained.read(make_cloud_config(tmp_path, model__init_from=name))
    for name in (clouds, str(saved_clouds.workdir)):
        told = (
            "holds a deep_set of width 4 with mean pooling, which embeds clouds of points, and config.model.backbone="
        )
        told += "resnet10 embeds images: give weights that were trained on images$"
        with pytest.raises(ConfigError, match=told):
            pretrained.read(tiny_config(model__init_from=name))
    for pooling, told in (("mean", 1), ("max", 2)):
        lines = pretrained.read(make_cloud_config(tmp_path, model__init_from=clouds, model__pooling=pooling)).told
        assert len(lines) == told
    assert lines[1] == "model.init_from: its points were pooled by their mean, here by their max"
