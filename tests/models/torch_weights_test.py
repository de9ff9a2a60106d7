"""Weights to and from torch, and the official checkpoints, against small torch networks with the official names."""

import argparse
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models import (
    ResNet,
    encode_views,
    load_torch_checkpoint,
    resnet18,
    resnet34,
    resnet50,
    resnet_from_torch,
    variables_from_torch,
    variables_to_torch,
)

WIDTH, HIDDEN, SIZE = 4, 6, 5


def _random_variables(model: ResNet) -> dict:
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32), shapes)


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("make", [resnet18, resnet34, resnet50])
def test_round_trip_is_exact_and_finds_the_architecture(make, stem):
    model = make(stem=stem, width=8)
    variables = _random_variables(model)
    state = variables_to_torch(variables)
    assert resnet_from_torch(state) == model
    jax.tree.map(np.testing.assert_array_equal, variables_from_torch(state), variables)


def test_names_and_layouts_are_torchvisions():
    state = variables_to_torch(_random_variables(resnet50(stem="imagenet")))
    assert len(state) == 265  # torchvision's 320 entries, less 53 num_batches_tracked and fc.weight, fc.bias
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert state["layer3.5.bn2.running_var"].shape == (256,)
    assert all(
        value.dtype == np.float32 and value.flags.c_contiguous and value.flags.writeable for value in state.values()
    )


def test_classifier_and_counters_are_left_out():
    variables = _random_variables(ResNet((1,), width=4))
    extra = {"fc.weight": np.zeros((10, 4)), "fc.bias": np.zeros(10), "bn1.num_batches_tracked": np.array(3)}
    read = variables_from_torch({**variables_to_torch(variables), **extra})
    jax.tree.map(np.testing.assert_array_equal, read, variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.0.bn2.weight": None}, r"missing layer1\.0\.bn2\.weight; unexpected nothing"),
        ({"layer1.0.se.weight": np.zeros(3)}, r"missing nothing; unexpected layer1\.0\.se\.weight"),
        (
            {"layer1.0.conv2.weight": np.zeros((4, 8, 3, 3))},
            r"conv2\.weight has shape \(4, 8, 3, 3\), expected \(4, 4, 3, 3\)",
        ),
        ({"conv1.weight": None}, r"not a ResNet .* conv1\.weight is none"),
        ({"conv1.weight": np.zeros((4, 3, 5, 5))}, r"conv1\.weight is \(4, 3, 5, 5\)"),
        ({"layer3.0.conv1.weight": np.zeros((4, 4, 3, 3))}, "not a ResNet"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_named(change, message):
    state = {**variables_to_torch(_random_variables(ResNet((1,), width=4))), **change}
    with pytest.raises(ValueError, match=message):
        variables_from_torch({name: value for name, value in state.items() if value is not None})


def test_variables_that_are_not_a_resnets_are_refused():
    with pytest.raises(ValueError, match=r"its backbone's\), got \['backbone', 'head'\]"):
        variables_to_torch({"params": {"backbone": {"conv1": {"kernel": 0}}, "head": {"linear0": {"kernel": 0}}}})


def test_without_torch_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'care_jax\[torch\]'"):
        load_torch_checkpoint(tmp_path / "checkpoint.pth.tar")


# The oracle: what torchvision and the official code build, written again in a few lines.


def _torch_resnet(torch, stage_sizes, bottleneck, stem):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, features, stride):
            super().__init__()
            outputs = features * (4 if bottleneck else 1)
            if bottleneck:
                layers = [(inputs, features, 1, 1), (features, features, 3, stride), (features, outputs, 1, 1)]
            else:
                layers = [(inputs, features, 3, stride), (features, outputs, 3, 1)]
            self.depth = len(layers)
            for i, (n, m, size, s) in enumerate(layers, start=1):
                setattr(self, f"conv{i}", nn.Conv2d(n, m, size, s, size // 2, bias=False))
                setattr(self, f"bn{i}", nn.BatchNorm2d(m))
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            y = x
            for i in range(1, self.depth + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = torch.relu(y) if i < self.depth else y
            return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    class TorchResNet(nn.Sequential):
        def __init__(self):
            super().__init__()
            size, stride = (7, 2) if stem == "imagenet" else (3, 1)
            self.conv1 = nn.Conv2d(3, WIDTH, size, stride, size // 2, bias=False)
            self.bn1 = nn.BatchNorm2d(WIDTH)
            self.relu = nn.ReLU()
            if stem == "imagenet":
                self.maxpool = nn.MaxPool2d(3, 2, 1)
            inputs = WIDTH
            for stage, count in enumerate(stage_sizes):
                blocks = []
                for index in range(count):
                    features = WIDTH * 2**stage
                    blocks.append(Block(inputs, features, 2 if stage and not index else 1))
                    inputs = features * (4 if bottleneck else 1)
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.fc = nn.Linear(inputs, SIZE)

    return TorchResNet()


def _cifar_model(torch):
    """`f`: the children of a ResNet but its classifier; `g`: Linear, BN, ReLU, Linear."""
    resnet = _torch_resnet(torch, (1, 1, 1, 1), False, "cifar")
    model = torch.nn.Module()
    model.f = torch.nn.Sequential(*(child for name, child in resnet.named_children() if name != "fc"))
    model.g = torch.nn.Sequential(
        torch.nn.Linear(8 * WIDTH, HIDDEN, bias=False),
        torch.nn.BatchNorm1d(HIDDEN),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, SIZE),
    )
    model.encode = lambda x: (features := model.f(x), model.g(features))
    return model


def _imagenet100_model(torch):
    """MoCo's module: `encoder_q` with an MLP for `fc`, `encoder_k`, and a queue."""
    model = torch.nn.Module()
    for name in ("encoder_q", "encoder_k"):
        encoder = _torch_resnet(torch, (1, 1), True, "imagenet")
        inputs = encoder.fc.in_features
        encoder.fc = torch.nn.Sequential(torch.nn.Linear(inputs, inputs), torch.nn.ReLU(), encoder.fc)
        setattr(model, name, encoder)
    model.register_buffer("queue", torch.randn(SIZE, 16))
    model.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def encode(x):
        features = torch.nn.Sequential(*list(model.encoder_q.children())[:-1])(x)
        return features, model.encoder_q.fc(features)

    model.encode = encode
    return model


def _randomise(torch, model):
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim == 1 and value.is_floating_point():
                value.uniform_(-0.3, 0.3) if name.endswith(("bias", "mean")) else value.uniform_(0.5, 1.5)


def _saved(torch, model, path, **others):
    """As the official code saves it: from inside a parallel wrapper."""
    wrapper = torch.nn.Module()
    wrapper.module = model
    optimizer = torch.optim.Adam(wrapper.parameters())
    torch.save({"epoch": 7, "state_dict": wrapper.state_dict(), "optimizer": optimizer.state_dict(), **others}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["cifar", "imagenet100"])
def test_official_checkpoints_compute_what_torch_computes(layout, tmp_path):
    torch = pytest.importorskip("torch")
    if layout == "cifar":
        model, others = _cifar_model(torch), {"args": argparse.Namespace(model="resnet18", lr_decay_epochs=[120, 160])}
    else:
        model, others = _imagenet100_model(torch), {"arch": "resnet50"}
    _randomise(torch, model)
    checkpoint = load_torch_checkpoint(_saved(torch, model, tmp_path / "checkpoint.pth.tar", **others))

    encoder = checkpoint.encoder
    assert checkpoint.epoch == 7
    assert (encoder.backbone.stem, encoder.backbone.width) == ("cifar" if layout == "cifar" else "imagenet", WIDTH)
    assert encoder.head.hidden_sizes == ((HIDDEN,) if layout == "cifar" else (8 * WIDTH,))
    assert (encoder.head.size, encoder.head.batch_norm) == (SIZE, layout == "cifar")

    views = np.random.default_rng(0).standard_normal((3, 8, 32, 32, 3)).astype(np.float32)
    views *= np.array([1, 2, 0.5], np.float32)[:, None, None, None, None]
    model.train()
    with torch.no_grad():  # three forward passes, as the official training step makes them
        expected = [model.encode(torch.from_numpy(view).permute(0, 3, 1, 2)) for view in views]
    encode = jax.jit(partial(encoder.apply, method=encode_views, mutable=["batch_stats"]))
    (features, embeddings), updates = encode(checkpoint.variables, views)
    for i, (theirs, z) in enumerate(expected):
        np.testing.assert_allclose(features[i], theirs, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(embeddings[i], torch.nn.functional.normalize(z), rtol=1e-3, atol=1e-4)

    # Every running average has moved as torch's has.
    moved = load_torch_checkpoint(_saved(torch, model, tmp_path / "moved.pth.tar")).variables["batch_stats"]
    compare = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda ours, theirs: compare(ours, theirs), jax.device_get(updates["batch_stats"]), moved)


@pytest.mark.parametrize("layout", ["cifar", "imagenet100"])
def test_official_checkpoints_in_other_wrappers_are_the_same(layout, tmp_path):
    torch = pytest.importorskip("torch")
    model = _cifar_model(torch) if layout == "cifar" else _imagenet100_model(torch)
    expected = load_torch_checkpoint(_saved(torch, model, tmp_path / "checkpoint.pth.tar"))
    state = model.state_dict()
    for content in (state, {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}}):
        torch.save(content, tmp_path / "other.pth.tar")
        read = load_torch_checkpoint(tmp_path / "other.pth.tar")
        assert read.encoder == expected.encoder and read.epoch is None
        jax.tree.map(np.testing.assert_array_equal, read.variables, expected.variables)
    torch.save({"a": state, "b": dict(state)}, tmp_path / "two.pth.tar")
    with pytest.raises(ValueError, match=r"two\.pth\.tar.*holds 2 encoders: in \['a'\]; in \['b'\]"):
        load_torch_checkpoint(tmp_path / "two.pth.tar")


def test_torch_takes_the_weights_back(tmp_path):
    torch = pytest.importorskip("torch")
    source, target = (_torch_resnet(torch, (1, 1), True, "imagenet") for _ in range(2))
    _randomise(torch, source)
    state = variables_to_torch(variables_from_torch(source.state_dict()))
    report = target.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    assert set(report.missing_keys) == {"fc.weight", "fc.bias"}
    assert not report.unexpected_keys
    for name, value in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(value, target.state_dict()[name]), name


class _Payload:
    """Pickles to a call of `open(path, "w")`: harmless, and visible if it runs."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_file_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    path, trace = tmp_path / "checkpoint.pth.tar", tmp_path / "trace"
    torch.save({"epoch": 1, "state_dict": {}, "args": argparse.Namespace(model=_Payload(trace))}, path)
    with pytest.raises(ValueError, match="without running code"):
        load_torch_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}}, "neither official layout .* names are model"),
        ([1, 2], r"a state dict \(names to arrays\) is needed; got list"),
        (None, "is needed; got NoneType"),
        ({"state_dict": {3: 0}}, r"must be strings; got 3 in \['state_dict'\]"),
        ({"f.0.weight": [1.0], "g.0.weight": 0}, r"conv1\.weight \(list\) can't be read as an array"),
        ({"f": 0, "f.0.weight": 0}, "can't be read as an array: not an array"),
        (
            {"state_dict": {"conv1.weight": 0}},
            r"neither official .*: names .* conv1\.weight; variables_from_torch reads",
        ),
        ({"state_dict": {"f.0.weight": 0, "h.0.weight": 0}}, r"unexpected entry 'h\.0\.weight'"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    with pytest.raises(ValueError, match=message):
        load_torch_checkpoint(tmp_path / "checkpoint.pth.tar")


def test_a_checkpoint_without_its_head_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    model = _imagenet100_model(torch)
    del model.encoder_q.fc
    with pytest.raises(ValueError, match="no projection head"):
        load_torch_checkpoint(_saved(torch, model, tmp_path / "checkpoint.pth.tar"))


def test_a_file_that_is_not_torchs_is_refused_and_a_missing_one_is_missing(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint\.pth\.tar"):
        load_torch_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_torch_checkpoint(tmp_path / "absent.pth.tar")
