"""Wrappers and prefixes of real checkpoints, and what is no state dict: read, or a ValueError that says why."""

import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from care_jax.models import ResNet, resnet_from_torch, variables_from_torch, variables_to_torch


def _state_of(model: ResNet) -> dict[str, np.ndarray]:
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    return variables_to_torch(jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32), shapes))


SMALL = ResNet((1,), width=4)


@pytest.fixture(scope="module")
def small_state() -> dict[str, np.ndarray]:
    return _state_of(SMALL)


def _under(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


def _sequential(state: dict, first_stage: int) -> dict:
    """As `nn.Sequential(*list(resnet.children())[:-1])` names them."""
    indices = {"conv1": 0, "bn1": 1, "layer1": first_stage, "layer2": first_stage + 1}
    return {f"{indices[name.split('.')[0]]}.{name.split('.', 1)[1]}": value for name, value in state.items()}


OTHERS = {"projector.0.weight": np.zeros((2, 2)), "predictor.bias": np.zeros(2), "queue": np.zeros((2, 9))}
# What people's checkpoints look like, by who writes them.
LAYOUTS = {
    "parallel": lambda state: _under("module.", state),
    "compiled": lambda state: _under("_orig_mod.", state),
    "compiled, parallel, lightning": lambda state: {
        "state_dict": _under("model.module._orig_mod.backbone.", state),
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {0: {"step": 3}}}],
    },
    "torchvision's references": lambda state: {"model": state, "optimizer": {"state": {0: {}}}, "epoch": 90},
    "nested": lambda state: {"epoch": 3, "model": {"model_state_dict": _under("net.", state)}},
    "solo-learn": lambda state: {
        "state_dict": _under("backbone.", state) | _under("momentum_backbone.", state) | OTHERS,
    },
    "solo-learn before": lambda state: {"state_dict": _under("encoder.", state) | OTHERS},
    "lightly": lambda state: (
        _under("backbone.", _sequential(state, 4)) | _under("backbone_momentum.", _sequential(state, 4)) | OTHERS
    ),
    "moco": lambda state: {
        "arch": "resnet50",
        "state_dict": _under("module.encoder_q.", state | {"fc.0.weight": np.zeros((4, 4))})
        | _under("module.encoder_k.", state)
        | {"module.queue_ptr": np.zeros(1)},
    },
    "dino's student": lambda state: {"student": _under("module.backbone.", state), "epoch": 3},
    "CARE's own": lambda state: {
        "state_dict": _under("module.f.", _sequential(state, 3)) | {"module.g.0.weight": np.zeros((4, 4))}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_prefixes_and_wrappers_are_looked_through(layout, small_state):
    checkpoint = LAYOUTS[layout](small_state)
    assert resnet_from_torch(checkpoint) == SMALL
    read = flax.traverse_util.flatten_dict(variables_from_torch(checkpoint))
    expected = flax.traverse_util.flatten_dict(variables_from_torch(small_state))
    assert read.keys() == expected.keys()
    assert all(np.array_equal(read[path], expected[path]) for path in read)


def test_the_second_stage_of_a_sequential_is_no_second_backbone():
    model = ResNet((1, 1), width=4)
    assert resnet_from_torch(_under("f.", _sequential(_state_of(model), 3))) == model


def test_several_backbones_are_named_not_guessed(small_state):
    dino = {"student": _under("module.backbone.", small_state), "teacher": _under("backbone.", small_state)}
    where = r"in \['student'\] under the prefix 'module.backbone.'; in \['teacher'\] under the prefix 'backbone.'"
    for read in (variables_from_torch, resnet_from_torch):
        with pytest.raises(ValueError, match=rf"holds 2 backbones: {where}\. Pass the entries of one"):
            read(dino)
    with pytest.raises(ValueError, match=r"3 backbones: without a prefix; under the prefix 'a\.'; 1 more\. "):
        variables_from_torch(small_state | _under("a.", small_state) | _under("b.c.", small_state))


def test_what_a_prefixed_backbone_lacks_is_named_with_the_prefix(small_state):
    state = {"state_dict": _under("module.", small_state)}
    del state["state_dict"]["module.layer1.0.bn2.bias"]
    where = r"in \['state_dict'\] under the prefix 'module\.'"
    with pytest.raises(ValueError, match=rf"weights {where}: missing layer1\.0\.bn2\.bias; unexpected nothing"):
        variables_from_torch(state)
    del state["state_dict"]["module.conv1.weight"]
    with pytest.raises(ValueError, match=rf"conv1\.weight is none, names {where} are bn1\.bias, "):
        variables_from_torch(state)


@pytest.mark.parametrize("bad", [None, 3, [], ["conv1.weight"], "conv1.weight", np.zeros(3)])
def test_what_is_no_mapping_is_a_value_error(bad):
    for read in (variables_from_torch, resnet_from_torch):
        with pytest.raises(ValueError, match=f"a state dict .* is needed; got {type(bad).__name__}"):
            read(bad)


@pytest.mark.parametrize("key", [0, None, b"conv1.weight", ("conv1", "weight"), 1.5])
def test_names_that_are_no_strings_are_a_value_error(key, small_state):
    for state in (small_state | {key: np.zeros(3)}, {key: np.zeros(3)}, {"model": {key: np.zeros(3)}}):
        with pytest.raises(ValueError, match=f"must be strings; got {re.escape(repr(key))}"):
            variables_from_torch(state)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"\(NoneType\) .* not an array"),
        ([1.0, 2.0, 3.0, 4.0], r"\(list\) .* not an array"),
        (1.5, "not an array"),
        (np.zeros(4, complex), "an array of complex128"),
        (np.array([None] * 4), "an array of object"),
        (np.array(["1"] * 4), "an array of <U1"),
        (np.zeros((0, 3)), r"no values, shape \(0, 3\)"),
        (np.zeros(4, [("a", "f4")]), "can't be read as an array"),
    ],
)
def test_values_that_are_no_dense_real_arrays_are_a_value_error(value, message, small_state):
    with pytest.raises(ValueError, match=rf"layer1\.0\.bn1\.weight .*{message}"):
        variables_from_torch(small_state | {"layer1.0.bn1.weight": value})


def test_a_message_is_one_line_whatever_the_names(small_state):
    for value in (np.zeros(3), None):
        with pytest.raises(ValueError, match=r"a b") as caught:
            variables_from_torch(small_state | {"a\nb": value})
        assert "\n" not in str(caught.value)


def test_half_precision_is_read(small_state):
    for dtype in (np.float16, jnp.bfloat16):
        read = variables_from_torch({name: value.astype(dtype) for name, value in small_state.items()})
        np.testing.assert_allclose(read["params"]["bn1"]["scale"], small_state["bn1.weight"], rtol=1e-2)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", ["sparse", "quantized", "meta", "complex"])
def test_tensors_without_dense_real_values_are_a_value_error(kind, small_state):
    torch = pytest.importorskip("torch")
    weight = torch.from_numpy(small_state["conv1.weight"])
    value = {
        "sparse": lambda: weight.to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "meta": lambda: weight.to("meta"),
        "complex": lambda: weight.to(torch.complex64),
    }[kind]()
    with pytest.raises(ValueError, match=r"conv1\.weight \(Tensor\) can't be read as an array: "):
        variables_from_torch(small_state | {"conv1.weight": value})
