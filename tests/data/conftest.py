"""Lets the tests of this folder import what they share, whichever way pytest is started."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from care_jax.data import decode
from care_jax.data.pixel_budget import PixelBudget

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten images of each of two classes."""
    root = tmp_path / "images"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8 + i, 8), (i, 0, 0)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def most_at_once(monkeypatch) -> Iterator[list[int]]:
    """Room for two images of 20 x 20, and [the most pixels that were decoded at once, number of decodes]."""
    budget = PixelBudget(800)
    monkeypatch.setattr(decode, "DECODING", budget)
    original, lock, running, most = decode.SourceImage._decoded, threading.Lock(), [0], [0, 0]

    def decoded(image, reduction):
        with lock:
            running[0] += image.width * image.height
            most[0] = max(most[0], running[0])
            most[1] += 1
        time.sleep(0.002)  # lets others in
        try:
            return original(image, reduction)
        finally:
            with lock:
                running[0] -= image.width * image.height

    monkeypatch.setattr(decode.SourceImage, "_decoded", decoded)
    yield most
    assert budget.used == 0
