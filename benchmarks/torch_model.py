"""The network and the losses of the PyTorch side of `benchmarks.peer`; names and arithmetic are torchvision's."""

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import settings


class Block(nn.Module):
    """A residual block, basic or bottleneck with the stride on the 3x3 convolution."""

    def __init__(self, channels: int, features: int, stride: int, bottleneck: bool):
        super().__init__()
        out_features = 4 * features if bottleneck else features
        plan = (
            [(features, 1, 1), (features, 3, stride), (out_features, 1, 1)]
            if bottleneck
            else [(features, 3, stride), (features, 3, 1)]
        )
        self.depth = len(plan)
        size_in = channels
        for i, (size, kernel, step) in enumerate(plan, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(size_in, size, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(size))
            size_in = size
        self.downsample = None
        if stride != 1 or channels != out_features:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_features, 1, stride, bias=False), nn.BatchNorm2d(out_features)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.depth:
                y = F.relu(y, inplace=True)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
    """Images [b, 3, h, w] -> features [b, w]; CIFAR stem, no classifier."""

    def __init__(self, model: str, width: int):
        super().__init__()
        bottleneck = settings.BOTTLENECK[model]
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, size in enumerate(settings.STAGE_SIZES[model]):
            features = width * 2**stage
            blocks = []
            for index in range(size):
                blocks.append(Block(channels, features, 2 if stage > 0 and index == 0 else 1, bottleneck))
                channels = 4 * features if bottleneck else features
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_stages = len(settings.STAGE_SIZES[model])
        self.num_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for stage in range(1, self.num_stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x.mean((2, 3))


class Encoder(nn.Module):
    """Images -> embeddings [b, d], rows of norm 1."""

    def __init__(self, model: str, width: int):
        super().__init__()
        self.backbone = ResNet(model, width)
        (hidden_size,) = settings.HEAD_HIDDEN_SIZES
        self.head = nn.Sequential(
            nn.Linear(self.backbone.num_features, hidden_size, bias=False),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_size, settings.HEAD_SIZE),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.head(self.backbone(images)).float(), dim=-1)


def info_nce(z1: torch.Tensor, z2: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent over 2n unit rows, from the full matrix of exponentials, as the official code takes it."""
    z = torch.cat([z1, z2])
    similarities = torch.exp(z @ z.T / temperature)
    others = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    positives = torch.exp((z1 * z2).sum(-1) / temperature).repeat(2)
    return -torch.log(positives / (similarities * others).sum(-1)).mean()


def equivariance_loss(z1: torch.Tensor, z2: torch.Tensor, num_groups: int) -> torch.Tensor:
    """mean over groups of 2 mean_i sum_{j != i} (z1_i.z1_j - z2_i.z2_j)^2."""
    first, second = z1.view(num_groups, -1, z1.shape[1]), z2.view(num_groups, -1, z2.shape[1])
    change = first @ first.mT - second @ second.mT
    off_diagonal = ~torch.eye(change.shape[1], dtype=torch.bool, device=change.device)
    return 2.0 * (change**2 * off_diagonal).sum(-1).mean()


def objective(z1: torch.Tensor, z2: torch.Tensor, shared1: torch.Tensor, shared2: torch.Tensor) -> torch.Tensor:
    """The loss that a step descends; [b, d] each."""
    base = info_nce(z1, z2, settings.TEMPERATURE)
    return base + settings.EQUIVARIANCE_WEIGHT * equivariance_loss(shared1, shared2, settings.NUM_GROUPS)
