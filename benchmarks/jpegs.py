"""JPEG files of ImageNet's sizes whose content compresses as photographs do: noise of many octaves."""

from pathlib import Path

import numpy as np
from PIL import Image

QUALITY = 90
SHARDS = 8
DECAY = 0.9  # of the contrast, an octave
CONTRAST = 42.0  # of the first octave, levels
# Side ratios and sizes as they are met in ImageNet; 500 x 375 is the commonest by far.
SIZES = ((500, 375),) * 6 + ((375, 500), (500, 333), (500, 400), (640, 480))  # width, height


def picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Octaves of coloured noise, from a few blobs to single pixels, each with a little less contrast than the last."""
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(9):
        shape = (max(2, height >> (8 - octave)), max(2, width >> (8 - octave)), 3)
        noise = rng.normal(size=shape).astype(np.float32)
        noise = 0.8 * noise.mean(2, keepdims=True) * 3**0.5 + 0.35 * noise  # more light and dark than colour
        planes = [
            np.asarray(Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        total += DECAY**octave * np.stack(planes, -1)
    pixels = 127 + CONTRAST * total
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Writes `count` JPEG files into ten class folders of `folder`, and gives their paths."""
    rng = np.random.default_rng(seed)
    # A few pictures of each size, shifted around their edges, make any number that are as hard to decode.
    pictures = [[np.asarray(picture(rng, *size)) for _ in range(4)] for size in SIZES]
    paths = []
    for index in range(count):
        path = folder / f"class{index % 10}" / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = pictures[index % len(SIZES)][rng.integers(4)]
        shift = rng.integers(pixels.shape[0]), rng.integers(pixels.shape[1])
        Image.fromarray(np.roll(pixels, shift, axis=(0, 1))).save(path, quality=QUALITY)
        paths.append(path)
    return paths


def write_records(root: Path, paths: list[Path]) -> None:
    """Writes the files as the TFRecord files of a tiny `imagenet2012`, all of them for training, under `root`."""
    import tensorflow_datasets as tfds

    info = tfds.builder("imagenet2012", data_dir=root).info
    names = info.features["label"].names

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "imagenet2012"
        VERSION = tfds.core.Version(str(info.version))
        code_path = None  # or checksums of downloads are looked for beside this file

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=info.features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(paths), "validation": self._generate_examples(paths[:SHARDS])}

        def _generate_examples(self, paths):
            for index, path in enumerate(paths):
                yield index, {"file_name": path.name, "image": str(path), "label": names[index % 10]}

    config = tfds.download.DownloadConfig(num_shards=SHARDS)
    Tiny(data_dir=root, file_format="tfrecord").download_and_prepare(download_config=config)
