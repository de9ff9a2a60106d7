"""Augmentations for the PyTorch side of `benchmarks.peer`, three ways; the ranges are those of `settings.AUGMENTATION`.

* `augment_image`: one Pillow image at a time, as torchvision's transforms do in the workers of a DataLoader;
* `augment_alike`: a batch of tensors by one draw, as the official code makes its shared views;
* `augment_batch`: a batch by a draw a row, without a loop over images, for the GPU.
"""

import math
import random
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageFilter

from benchmarks import settings

A = settings.AUGMENTATION
SIZE = settings.IMAGE_SIZE
_LUMA = (0.2989, 0.587, 0.114)
_MEAN = np.asarray(settings.MEAN, np.float32)[:, None, None]
_STD = np.asarray(settings.STD, np.float32)[:, None, None]


def random_box(height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[int, ...]:
    """top, left, height, width in pixels: ten tries at an area and a ratio, else the central crop."""
    for _ in range(10):
        area = height * width * random.uniform(*scale)
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return random.randint(0, height - rows), random.randint(0, width - columns), rows, columns
    rows, columns = min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def resized_crop(image: Image.Image, box: tuple[int, ...], size: int) -> Image.Image:
    """Cut, then resize bilinearly, which in Pillow is antialiased."""
    top, left, rows, columns = box
    return image.crop((left, top, left + columns, top + rows)).resize((size, size), Image.Resampling.BILINEAR)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """[3, h, w] float32 in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255.0)


def augment_image(image: Image.Image) -> torch.Tensor:
    """One view of one image: [3, s, s], normalised."""
    image = resized_crop(image, random_box(image.height, image.width, A["crop_scale"], A["crop_ratio"]), SIZE)
    if random.random() < A["flip_probability"]:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < A["jitter_probability"]:
        operations = [_brightness, _contrast, _saturation, _hue]
        random.shuffle(operations)
        for operation in operations:
            image = operation(image)
    if random.random() < A["grayscale_probability"]:
        image = image.convert("L").convert("RGB")
    if random.random() < A["blur_probability"]:
        # Pillow's own blur: faster than the detour through a tensor that torchvision takes.
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(*A["blur_sigma"])))
    return to_tensor(image).sub_(torch.from_numpy(_MEAN)).div_(torch.from_numpy(_STD))


def _factor(name: str) -> float:
    return random.uniform(max(0.0, 1.0 - A[name]), 1.0 + A[name])


def _brightness(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(_factor("brightness"))


def _contrast(image: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(_factor("contrast"))


def _saturation(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(image).enhance(_factor("saturation"))


def _hue(image: Image.Image) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turn = round(random.uniform(-A["hue"], A["hue"]) * 255)
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def blend(images: torch.Tensor, other: torch.Tensor | float, factor: torch.Tensor | float) -> torch.Tensor:
    """clip(factor * images + (1 - factor) * other); factor one number, or [b, 1, 1, 1]."""
    return (factor * images + (1.0 - factor) * other).clamp(0.0, 1.0)


def gray(images: torch.Tensor) -> torch.Tensor:
    """[b, 3, h, w] -> [b, 1, h, w]."""
    red, green, blue = images.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(1)


def turn_hue(images: torch.Tensor, turns: torch.Tensor | float) -> torch.Tensor:
    """Adds to the hue of HSV; turns one number, or [b, 1, 1]."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    hue = torch.where(
        value == red,
        (green - blue) / chroma.clamp_min(1e-8),
        torch.where(
            value == green, 2.0 + (blue - red) / chroma.clamp_min(1e-8), 4.0 + (red - green) / chroma.clamp_min(1e-8)
        ),
    )
    hue = hue + 6.0 * turns

    def channel(phase: float) -> torch.Tensor:
        k = torch.remainder(hue + phase, 6.0)
        return value - chroma * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)

    return torch.stack([channel(5.0), channel(3.0), channel(1.0)], 1)


def gaussian_kernel(sigma: torch.Tensor) -> torch.Tensor:
    """[..., 1] -> [..., k], weights that sum to 1."""
    radius = A["blur_kernel_size"] // 2
    offsets = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum(-1, keepdim=True)


def augment_alike(images: torch.Tensor) -> torch.Tensor:
    """One draw for all: [b, 3, h, w] in [0, 1] -> [b, 3, s, s], normalised. What is not drawn is not computed."""
    top, left, rows, columns = random_box(*images.shape[2:], A["crop_scale"], A["crop_ratio"])
    images = images[:, :, top : top + rows, left : left + columns]
    images = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    if random.random() < A["flip_probability"]:
        images = images.flip(-1)
    if random.random() < A["jitter_probability"]:
        operations = [
            lambda x: blend(x, 0.0, _factor("brightness")),
            lambda x: blend(x, gray(x).mean((2, 3), keepdim=True), _factor("contrast")),
            lambda x: blend(x, gray(x), _factor("saturation")),
            lambda x: turn_hue(x, random.uniform(-A["hue"], A["hue"])),
        ]
        random.shuffle(operations)
        for operation in operations:
            images = operation(images)
    if random.random() < A["grayscale_probability"]:
        images = gray(images).expand(-1, 3, -1, -1)
    if random.random() < A["blur_probability"]:
        kernel = gaussian_kernel(torch.tensor([random.uniform(*A["blur_sigma"])]))
        radius = len(kernel) // 2
        padded = F.pad(images, (radius,) * 4, mode="reflect")
        weights = torch.outer(kernel, kernel).expand(3, 1, -1, -1)
        images = F.conv2d(padded, weights, groups=3)
    return (images - torch.from_numpy(_MEAN)) / torch.from_numpy(_STD)


class Draws(NamedTuple):
    """A row an image, on the device of the images; [b] each."""

    top: torch.Tensor  # pixels
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor
    flip: torch.Tensor  # bool
    brightness: torch.Tensor  # factors; 1 is off
    contrast: torch.Tensor
    saturation: torch.Tensor
    hue: torch.Tensor  # turns; 0 is off
    gray: torch.Tensor  # bool
    sigma: torch.Tensor  # pixels; tiny is off


def draw(rows: int, side: int, device: torch.device | str) -> Draws:
    """Draws for `rows` images of side x side pixels, all on the device."""
    area, aspect = torch.rand((2, rows, 10), device=device)
    low, high = A["crop_scale"]
    area = side * side * (low + (high - low) * area)
    low, high = (math.log(x) for x in A["crop_ratio"])
    aspect = torch.exp(low + (high - low) * aspect)
    heights, widths = torch.sqrt(area / aspect).round(), torch.sqrt(area * aspect).round()
    fits = (heights > 0) & (heights <= side) & (widths > 0) & (widths <= side)
    first = fits.float().argmax(1, keepdim=True)
    found = fits.any(1)  # else the central crop of a square image: all of it
    height = torch.where(found, heights.gather(1, first)[:, 0], torch.full_like(area[:, 0], side))
    width = torch.where(found, widths.gather(1, first)[:, 0], torch.full_like(area[:, 0], side))
    u = torch.rand((12, rows), device=device)
    jittered = u[0] < A["jitter_probability"]

    def factor(name: str, uniform: torch.Tensor) -> torch.Tensor:
        low, high = max(0.0, 1.0 - A[name]), 1.0 + A[name]
        return torch.where(jittered, low + (high - low) * uniform, torch.ones_like(uniform))

    sigma = A["blur_sigma"][0] + (A["blur_sigma"][1] - A["blur_sigma"][0]) * u[10]
    return Draws(
        top=torch.floor(u[1] * (side - height + 1)),
        left=torch.floor(u[2] * (side - width + 1)),
        height=height,
        width=width,
        flip=u[3] < A["flip_probability"],
        brightness=factor("brightness", u[4]),
        contrast=factor("contrast", u[5]),
        saturation=factor("saturation", u[6]),
        hue=torch.where(jittered, A["hue"] * (2 * u[7] - 1), torch.zeros_like(u[7])),
        gray=u[8] < A["grayscale_probability"],
        sigma=torch.where(u[9] < A["blur_probability"], sigma, torch.full_like(sigma, 1e-3)),
    )


def _resize_weights(start: torch.Tensor, extent: torch.Tensor, in_size: int, flip: torch.Tensor | None) -> torch.Tensor:
    """[b] -> [b, s, in_size]: the antialiased bilinear filter of one box a row, mirrored where `flip` says so."""
    scale = extent[:, None, None] / SIZE
    pixel = torch.arange(in_size, device=start.device, dtype=torch.float32) + 0.5 - start[:, None, None]
    position = torch.arange(SIZE, device=start.device, dtype=torch.float32)[:, None] + 0.5
    if flip is not None:
        position = torch.where(flip[:, None, None], SIZE - position, position)
    weights = (1.0 - (pixel - position * scale).abs() / scale.clamp_min(1.0)).clamp_min(0.0)
    weights = weights * ((pixel > 0) & (pixel < extent[:, None, None]))
    return weights / weights.sum(-1, keepdim=True)


def augment_batch(images: torch.Tensor, d: Draws) -> torch.Tensor:
    """A draw a row: uint8 [b, 3, h, w] -> [b, 3, s, s] float32, normalised.

    The jitter's four operations come in one fixed order, not in one an image: less work than every other side does.
    """
    images = images.float() / 255.0
    rows = _resize_weights(d.top, d.height, images.shape[2], None)
    columns = _resize_weights(d.left, d.width, images.shape[3], d.flip)
    images = rows[:, None] @ images @ columns[:, None].mT

    def each(x: torch.Tensor) -> torch.Tensor:
        return x[:, None, None, None]

    images = blend(images, 0.0, each(d.brightness))
    images = blend(images, gray(images).mean((2, 3), keepdim=True), each(d.contrast))
    images = blend(images, gray(images), each(d.saturation))
    images = turn_hue(images, d.hue[:, None, None])
    images = torch.where(each(d.gray), gray(images), images)
    kernel = gaussian_kernel(d.sigma[:, None])  # [b, k]
    radius = kernel.shape[1] // 2
    for axis in (2, 3):
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = F.pad(images, pad, mode="reflect")
        images = sum(each(kernel[:, i]) * padded.narrow(axis, i, images.shape[axis]) for i in range(kernel.shape[1]))
    mean = torch.tensor(settings.MEAN, device=images.device)[:, None, None]
    std = torch.tensor(settings.STD, device=images.device)[:, None, None]
    return (images - mean) / std
