"""Parts of the labelled training images: the same ones for every run on a data set, so that runs compare."""

import numpy as np

from care_jax.evaluate.measure import Measure


def percent(fraction: float) -> str:
    """A share of the labels as names of measures have it.

    >>> [percent(fraction) for fraction in (0.01, 0.07, 0.005)]
    ['1', '7', '0.5']
    """
    return f"{100 * fraction:g}"


def measures(name: str, meaning: str, over: str, heading: str) -> dict[str, Measure]:
    """What is measured on a share of the labels: the accuracy, its spread, and the number of images.

    Args:
      name: of the accuracy, without its `_top1`.
      meaning: of the accuracy.
      over: what the spread is over, one of them: "subset" or "seed".
      heading: of the accuracy, with the share in it.
    """
    return {
        f"{name}_top1": Measure(
            meaning,
            unit="%",
            better="higher",
            chance="share of the commonest class; 100 / number of classes, where they are of one size",
            heading=heading,
            decimals=1,
        ),
        f"{name}_top1_spread": Measure(f"standard deviation over these {over}s", unit="points", decimals=1),
        f"{name}_examples": Measure(f"training images of a {over}", unit="images"),
    }


def balanced(labels: np.ndarray, fraction: float, *, seed: int, draw: int) -> tuple[np.ndarray, str]:
    """As many drawn images of each class; a smaller share's are among a larger one's of the same draw.

    Args:
      labels: [n] int, classes.
      fraction: share of the n, in (0, 1]; 1 is all of them, whatever their classes.
      seed, draw: which draw it is, of the many there may be.

    Returns:
      Which images, [m] in ascending order; and in words what was taken otherwise than asked, empty for nothing.
    """
    if fraction == 1:
        return np.arange(len(labels)), ""
    classes = np.unique(labels)
    wanted = fraction * len(labels) / len(classes)
    count = max(round(wanted), 1)
    rng = np.random.default_rng([seed, draw])
    chosen, small = [], 0
    for label in classes:
        members = rng.permutation(np.flatnonzero(labels == label))
        small += len(members) < count
        chosen.append(members[:count])
    told = []
    if wanted < 0.5:
        told.append(
            f"{percent(fraction)} % of {len(labels)} images is none of each of {len(classes)} classes, one is taken"
        )
    if small:
        told.append(f"{small} of {len(classes)} classes have fewer than {count} images, all of theirs are taken")
    return np.sort(np.concatenate(chosen)), "; ".join(told)
