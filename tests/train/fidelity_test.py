"""Twenty updates against a PyTorch program that is written here from the published formulas, both in float64."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from care_jax import models
from care_jax.augment import AugmentSpec, ViewPlan
from care_jax.devices import sharding
from care_jax.methods import Objective
from care_jax.methods.care import Care
from care_jax.methods.moco import MoCo
from care_jax.methods.simclr import SimCLR
from care_jax.train import optim
from care_jax.train.state import init_state
from care_jax.train.step import make_train_step

STEPS, IMAGES, SIZE = 20, 16, 8
# MoCo's 12 equivariance images are the first of the batch, and their groups larger than d, which has code of its own;
# batches wrap its queue.
CASES = {
    "simclr": (SimCLR(temperature=0.5), 0.03, IMAGES, 4),
    "moco": (MoCo(temperature=0.1, momentum=0.9, queue_size=40), 0.01, 12, 2),
}
D = 5
OPTIMIZER = {"weight_decay": 1e-2}  # much, so that it shows
RATE = 1e-3


@pytest.fixture
def torch():
    """On one core: for arrays as small as these its threads take longer to meet than to compute."""
    module = pytest.importorskip("torch")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


def _views(count):
    """Of a step: invariance views [2, b, s, s, 3] and equivariance views [2, e, s, s, 3]; there are 20."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield tuple(rng.standard_normal((2, n, SIZE, SIZE, 3)).astype(np.float32) for n in (IMAGES, count))


def _flat(variables):
    """Arrays of the encoder by "params.backbone.conv1.kernel" and so on."""
    return {".".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(variables).items()}


def _ours(case):
    """The state before, the losses of the updates, and the state after; as the program trains, but for the images."""
    method, weight, count, groups = CASES[case]
    backbone = models.ResNet((1,), width=4, dtype=np.float64)
    encoder = models.Encoder(backbone, models.ProjectionHead((8,), D, dtype=np.float64))
    objective = Objective(method, Care(num_groups=groups), weight)
    schedule = optim.make_schedule("constant", RATE, num_steps=STEPS)
    optimizer = optim.make_optimizer("adam", schedule, **OPTIMIZER)
    spec = AugmentSpec(size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    plan = ViewPlan(
        spec, spec, seed=0, batch_size=IMAGES, equivariance_batch_size=count, num_groups=groups, needs=Care.needs
    )
    mesh = sharding.make_mesh(jax.devices()[:1])
    step = jax.jit(make_train_step(encoder, objective, optimizer, schedule, plan, placement="host", mesh=mesh))
    init = jax.jit(
        lambda: init_state(encoder, objective, optimizer, plan, seed=0), out_shardings=sharding.replicated(mesh)
    )
    state = init()
    before, losses = jax.device_get(state), []
    for invariance, equivariance in _views(count):
        state, metrics = step(state, {"invariance_views": invariance, "equivariance_views": equivariance})
        losses.append(metrics["loss"])
    return before, np.asarray(losses), jax.device_get(state)


def _encode(functional, x, named, train=True):
    """The encoder in PyTorch: a convolution, a residual block, the mean over positions, a head of two layers."""

    def norm(x, name):
        statistics = (named[f"batch_stats.{name}.{part}"] for part in ("mean", "var"))
        return functional.batch_norm(
            x, *statistics, *(named[f"params.{name}.{part}"] for part in ("scale", "bias")), train
        )

    def conv(x, name):
        return functional.conv2d(x, named[f"params.backbone.{name}.kernel"].permute(3, 2, 0, 1), padding=1)

    x = norm(conv(x.permute(0, 3, 1, 2), "conv1"), "backbone.bn1").relu()
    y = norm(conv(x, "layer1_0.conv1"), "backbone.layer1_0.bn1").relu()
    x = (x + norm(conv(y, "layer1_0.conv2"), "backbone.layer1_0.bn2")).relu().mean((2, 3))
    x = norm(x @ named["params.head.linear0.kernel"], "head.bn0").relu()
    return functional.normalize(x @ named["params.head.linear1.kernel"] + named["params.head.linear1.bias"])


def _equivariance(torch, z1, z2, groups):
    """Twice the mean over i of the sum over the others j of (z1_i.z1_j - z2_i.z2_j)^2, mean over chunks."""
    of_chunks = []
    for one, other in zip(z1.chunk(groups), z2.chunk(groups), strict=True):
        others = 1 - torch.eye(len(one), dtype=one.dtype)
        of_chunks.append(2 * (others * (one @ one.T - other @ other.T) ** 2).sum(1).mean())
    return torch.stack(of_chunks).mean()


def _simclr(torch, z1, z2, temperature):
    """InfoNCE over the 2 b views: of each the other view of its image is to be told from all others."""
    z = torch.cat([z1, z2])
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return torch.nn.functional.cross_entropy(similarity, torch.arange(len(z)).roll(len(z1)))


def _theirs(torch, case, before):
    """Losses and, by name, all arrays after the updates from the state `before`."""
    method, weight, count, groups = CASES[case]
    named = {name: torch.from_numpy(x.copy()) for name, x in _flat(before.variables).items()}
    params = [x.requires_grad_() for name, x in named.items() if name.startswith("params.")]
    optimizer = torch.optim.Adam(params, lr=RATE, **OPTIMIZER)
    target = {name: x.detach().clone() for name, x in named.items()}
    queue = torch.from_numpy(before.method_state["queue"].copy()) if case == "moco" else torch.zeros(1)
    losses = []

    def encode(x, named=named, train=True):
        return _encode(torch.nn.functional, x, named, train)

    for step, views in enumerate(_views(count)):
        (x1, x2), equivariance = (torch.from_numpy(x).double() for x in views)
        z1 = encode(x1)
        if case == "simclr":
            loss = _simclr(torch, z1, encode(x2), method.temperature)
        else:
            with torch.no_grad():  # in evaluation mode: by running averages that follow, as the parameters do
                keys = encode(x2, target, train=False)
            logits = torch.cat([(z1 * keys).sum(1, keepdim=True), z1 @ queue.T], 1) / method.temperature
            loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(z1), dtype=torch.long))
        loss = loss + weight * _equivariance(torch, *map(encode, equivariance), groups)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if case == "moco":
            rows = (step * len(keys) + torch.arange(len(keys))) % len(queue)
            queue = queue.index_copy(0, rows, keys)
            for name, value in target.items():
                value.lerp_(named[name].detach(), 1 - method.momentum)
    after = {name: x.detach().numpy() for name, x in named.items()}
    if case == "moco":
        after |= {f"target.{name}": x.numpy() for name, x in target.items()} | {"queue": queue.numpy()}
    return np.asarray(losses), after


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_twenty_updates_are_those_of_the_formulas_in_pytorch(case, torch):
    with jax.enable_x64(True):
        before, losses, after = _ours(case)
    ours = _flat(after.variables)
    if case == "moco":
        ours |= {f"target.{name}": x for name, x in _flat(after.method_state["target"]).items()}
        ours["queue"] = after.method_state["queue"]
    assert {x.dtype for x in (losses, *ours.values())} == {np.dtype(np.float64)}
    assert all(np.abs(x - ours[name]).max() > 1e-4 for name, x in _flat(before.variables).items())
    expected_losses, expected = _theirs(torch, case, before)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=1e-10)
    assert ours.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_allclose(ours[name], x, rtol=0, atol=1e-10, err_msg=name)
