"""Every augmentation at every strength: inputs are augmented and embedded batch by batch, embeddings become numbers.

In memory are one batch of images or clouds, and the embeddings of one augmentation at all its strengths.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from care_jax.command_line import say
from care_jax.data import DataError
from care_jax.evaluate import strengths
from care_jax.measure import numbers
from care_jax.measure.encoders import Encoder
from care_jax.measure.images import Images
from care_jax.measure.numbers import SHARE, Numbers
from care_jax.metrics import motion
from care_jax.progress import progress


class _Pass(NamedTuple):
    """An augmentation of all images, or clouds.

    Attributes:
      name: of `strengths.sweeps_of`; empty for none.
      values: the strength of each, [n].
    """

    name: str
    values: np.ndarray


def measure(
    encoder: Encoder, images: Images, chosen: Mapping[str, Sequence[float]], *, batch_size: int = 128, seed: int = 0
) -> Numbers:
    """All numbers of an encoder.

    Args:
      encoder: what is measured.
      images: what it is measured on.
      chosen: augmentation -> strengths, as `strengths.chosen` gives them.
      batch_size: images, or clouds, that it embeds at a time.
      seed: of random strengths, halves and bootstraps.

    Raises:
      DataError: fewer than 4 could be read, or the encoder gives what it should not.
    """
    n = len(images.rows)
    clouds = encoder.clouds
    plan = _planned(chosen, n, seed, clouds=clouds)
    total = n * sum(map(len, plan.values()))
    found: dict[str, Numbers] = {}
    before = np.zeros((0, 0), np.float32)
    for done in progress(_embedded(encoder, images, plan, batch_size), total, "cloud" if clouds else "image"):
        if done is None:
            continue
        name, draws, rows = done
        if not all(np.isfinite(draw).all() for draw in draws):
            raise DataError(f"{encoder.name} gives numbers that are not finite, for {images.chosen.name}")
        if not name:
            (before,) = draws
            _check(before, images)
        else:
            random = plan[name][len(chosen[name])].values[rows]
            found[name] = _numbers(name, chosen[name], before, draws, random, seed, clouds=clouds)
    shares = {name: one[SHARE] for name, one in found.items()}
    if still := [name for name, share in shares.items() if share is None]:
        say(f"nothing moves under {', '.join(still)}: there is no motion to explain, and the mean is of the others")
    return {
        SHARE: numbers.over(shares.values()),
        "embeddings": {"n": len(before), "d": before.shape[1]},
        "augmentations": found,
    }


def _planned(
    chosen: Mapping[str, Sequence[float]], n: int, seed: int, *, clouds: bool = False
) -> dict[str, list[_Pass]]:
    """One pass of none; of each augmentation one a strength, one of random ones, one of a sum where it composes."""
    plan = {"": [_Pass("", np.zeros(n, np.float32))]}
    for name, values in chosen.items():
        passes = [_Pass(name, np.full(n, value, np.float32)) for value in values]
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))  # the same whatever else is chosen
        passes.append(_Pass(name, strengths.random_strengths(values, n, rng)))
        if pair := _composed(name, values, clouds=clouds):
            passes.append(_Pass(name, np.full(n, sum(pair), np.float32)))
        plan[name] = passes
    return plan


def _composed(name: str, values: Sequence[float], *, clouds: bool = False) -> tuple[float, float] | None:
    """Two strengths whose sum is a strength too, for the composition: small ones next to each other."""
    sweep = strengths.sweeps_of(clouds)[name]
    if not sweep.composes or len(values) < 2:
        return None
    first, second = values[len(values) // 2 - 1], values[len(values) // 2]
    return (first, second) if abs(first + second) <= sweep.high else None


def _embedded(
    encoder: Encoder, images: Images, plan: Mapping[str, Sequence[_Pass]], batch_size: int
) -> Iterator[tuple[int, tuple[str, list[np.ndarray], np.ndarray] | None]]:
    """How many inputs each batch was; after the last of an augmentation its name, embeddings [n, d] of each pass, rows.

    The batches of an augmentation are decoded once for all its strengths.
    """
    size = min(batch_size, len(images.rows))
    for name, passes in plan.items():
        largest = max(float(np.abs(one.values).max()) for one in passes)
        spec = strengths.spec_of(name, largest, size=encoder.image_size, center_fraction=encoder.center_fraction)
        parts: list[list[np.ndarray]] = [[] for _ in passes]
        rows = []
        for start, (inputs, kept) in zip(range(0, len(images.rows), size), images.batches(size), strict=True):
            real = start + np.flatnonzero(kept)
            rows.append(real)
            for part, one in zip(parts, passes, strict=True):
                values = np.zeros(size, np.float32)
                values[kept] = one.values[real]
                views = np.asarray(strengths.views(inputs, values, name=name, spec=spec))
                if len(real):
                    part.append(encoder.embed(views[kept]))
                yield len(real), None
        if parts[0]:
            yield 0, (name, [np.concatenate(part) for part in parts], np.concatenate(rows))
        elif not name:
            raise DataError(f"none of {images.chosen.name} could be read: {images.chosen.skipped.summary()}")


def _check(before: np.ndarray, images: Images) -> None:
    n, d = before.shape
    if n < 4:
        raise DataError(f"only {n} of {images.chosen.name} could be read: a measurement takes 4 at least")
    if n // 2 < d:
        say(
            f"maps are fitted on {n // 2} {images.chosen.examples.noun} in {d} dimensions: directions in which none "
            "lies stay as they are, and the shares are lower than more would show"
        )


def _numbers(
    name: str,
    values: Sequence[float],
    before: np.ndarray,
    draws: list[np.ndarray],
    random: np.ndarray,
    seed: int,
    *,
    clouds: bool,
) -> Numbers:
    """Of an augmentation: draws are at its strengths, at random ones, and, where it composes, at a sum of two."""
    at, (at_random, *both) = draws[: len(values)], draws[len(values) :]
    found: Numbers = {
        SHARE: numbers.pooled(before, at, seed=seed),
        "strength": strengths.sweeps_of(clouds)[name].meaning,
        "strengths": [
            {"strength": value} | numbers.of_pair(before, after, seed=seed)
            for value, after in zip(values, at, strict=True)
        ],
        "parameter_explained": numbers.parameter(before, at_random, random, seed=seed),
    }
    if both and (pair := _composed(name, values, clouds=clouds)):
        first, second = (at[list(values).index(value)] for value in pair)
        # Relative to the length of the embeddings; where all are zero there is none.
        error = motion.composition(before, first, second, both[0], seed=seed) if both[0].any() else None
        found["composition"] = {"strengths": list(pair), "error": numbers.estimate(error)}
    return found
