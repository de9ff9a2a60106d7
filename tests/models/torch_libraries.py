"""torchvision and timm, where they are installed: the networks that exported weights must fit."""

from types import ModuleType

import pytest


def torch_libraries() -> tuple[ModuleType, ModuleType, ModuleType]:
    """torch, torchvision and timm; the test is skipped where one of them is missing.

    PyPI's torchvision is built for CUDA. Beside a torch without it none of its own operators are loaded, and importing
    it fails for two that it describes all the same, and that no network here uses: they are declared before.
    """
    torch = pytest.importorskip("torch")
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch_libraries.kept = library  # type: ignore[attr-defined]  # or it is undefined again
    return torch, pytest.importorskip("torchvision"), pytest.importorskip("timm")
