"""The PyTorch steps that `benchmarks.peer` times ours against."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from benchmarks import settings, torch_augment
from benchmarks.settings import Case
from benchmarks.torch_model import Encoder, objective


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _noise(case: Case) -> np.ndarray:
    side = settings.IMAGE_SIZE
    return np.random.default_rng(0).integers(0, 256, (case.num_images, side, side, 3), np.uint8)


class TwoViews(torch.utils.data.Dataset):
    """Item i: two views of image i, and the image itself for the shared views; [3, s, s] float32 each."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        image = Image.fromarray(self._images[index])
        views = [torch_augment.augment_image(image) for _ in range(2)]
        return *views, torch_augment.to_tensor(image)


class Official:
    """As the official code goes about it, in float32.

    Two views an image by Pillow, one image after the other, in DataLoader workers (as many as cores) next to a GPU and
    in the main process on a CPU, where no core is idle; two views by one draw a batch, made from a tensor in the main
    process on the CPU; four forward passes; Adam.
    """

    def __init__(self, case: Case):
        self._device = _device()
        on_gpu = self._device.type == "cuda"
        torch.backends.cudnn.benchmark = True
        self._encoder = Encoder(case.model, case.width).to(self._device).train()
        self._optimizer = torch.optim.Adam(
            self._encoder.parameters(), lr=settings.LEARNING_RATE, weight_decay=settings.WEIGHT_DECAY
        )
        self._loader = torch.utils.data.DataLoader(
            TwoViews(_noise(case)),
            batch_size=case.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=settings.available_cores() if on_gpu else 0,
            pin_memory=on_gpu,
            persistent_workers=on_gpu,
        )
        self._batches = self._endless()

    def step(self) -> float:
        """Seconds of one step, waiting for its batch included."""
        _synchronize(self._device)
        began = time.perf_counter()
        view1, view2, images = next(self._batches)
        shared = [torch_augment.augment_alike(images) for _ in range(2)]
        embeddings = [self._encoder(x.to(self._device, non_blocking=True)) for x in (view1, view2, *shared)]
        loss = objective(*embeddings)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        value = loss.item()
        _synchronize(self._device)
        seconds = time.perf_counter() - began
        assert np.isfinite(value)
        return seconds

    def _endless(self) -> Iterator[list[torch.Tensor]]:
        while True:
            yield from self._loader


class Tuned:
    """PyTorch made as fast as we know how: for a GPU; bfloat16 autocast, TF32, channels last, compiled.

    Images resident on the device and augmented there in one batch, fused Adam. "tuned_one" puts the four views through
    the encoder in one pass, with one set of batch statistics for all of them, which asks less of batch norm than four
    passes do; "tuned_four" in four.

    Attributes:
      compiled: False where torch.compile failed on this machine and the step runs without.
    """

    def __init__(self, case: Case):
        self._device, self._case = _device(), case
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
        images = torch.from_numpy(_noise(case)).permute(0, 3, 1, 2).contiguous()
        self._images = images.to(self._device)
        self._encoder = Encoder(case.model, case.width).to(self._device, memory_format=torch.channels_last).train()
        self._optimizer = torch.optim.Adam(
            self._encoder.parameters(),
            lr=settings.LEARNING_RATE,
            weight_decay=settings.WEIGHT_DECAY,
            fused=self._device.type == "cuda",
        )
        self.compiled = True
        self._views, self._embed = torch.compile(self._make_views), torch.compile(self._encoder)

    def step(self) -> float:
        """Seconds of one step; the first one compiles."""
        try:
            return self._timed()
        except Exception as error:
            if not self.compiled or isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            # Triton and a C compiler are not everywhere.
            self.compiled = False
            self._views, self._embed = self._make_views, self._encoder
            return self._timed()

    def _timed(self) -> float:
        _synchronize(self._device)
        began = time.perf_counter()
        b = self._case.batch_size
        indices = torch.randint(len(self._images), (b,), device=self._device)
        with torch.no_grad():
            views = self._views(indices)
        with torch.autocast(self._device.type, torch.bfloat16):
            if self._case.kind == "tuned_one":
                embeddings = self._embed(views).split(b)
            else:
                embeddings = [self._embed(x) for x in views.split(b)]
        loss = objective(*embeddings)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        _synchronize(self._device)
        seconds = time.perf_counter() - began
        assert np.isfinite(loss.item())
        return seconds

    def _make_views(self, indices: torch.Tensor) -> torch.Tensor:
        """[b] -> [4 b, 3, s, s], channels last: two draws an image, then two draws a group."""
        images = self._images[indices]
        b, side = len(indices), images.shape[-1]
        own = torch_augment.draw(2 * b, side, self._device)
        shared = torch_augment.draw(2 * settings.NUM_GROUPS, side, self._device)
        shared = [x.repeat_interleave(b // settings.NUM_GROUPS) for x in shared]
        draws = torch_augment.Draws(*(torch.cat(pair) for pair in zip(own, shared, strict=True)))
        views = torch_augment.augment_batch(images.repeat(4, 1, 1, 1), draws)
        return views.contiguous(memory_format=torch.channels_last)
