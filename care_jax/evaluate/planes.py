"""Planes in which embeddings are looked at: those of their principal components, and those that a rotation turns."""

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from care_jax import extras

_MANY = 1000  # dimensions or points, whose matrix of products takes a second to be taken apart

_NEIGHBOURS = 15  # UMAP's default


class Planes(NamedTuple):
    """The planes that a rotation of d dimensions turns, p = d // 2, the largest angle first.

    Attributes:
      angles: [p] in radians, from 0 to pi.
      bases: [p, d, 2] orthonormal, so that the turn goes from the first direction to the second.
    """

    angles: np.ndarray
    bases: np.ndarray


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along the two directions in which points vary most.

        points - mean = U S V'   ->   U S, its first two columns

    Of more than 1,000 dimensions the directions are those of a part of the points, 1,000 at most.

    Args:
      points: [n, d].

    Returns:
      Coordinates [n, 2], and the share of the variance [2] that each direction has; zeros where there are not as many.
    """
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    if centred.shape[1] <= _MANY:
        vectors = np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    else:
        few = centred[:: -(-len(centred) // _MANY)]
        vectors = np.linalg.qr(few.T @ np.linalg.eigh(few @ few.T)[1][:, :-3:-1])[0]
    coordinates = centred @ vectors
    shares = np.square(coordinates).sum(0) / max(float(np.square(centred).sum()), np.finfo(float).tiny)
    missing = 2 - len(shares)
    return np.pad(coordinates, ((0, 0), (0, missing))), np.pad(shares, (0, missing))


def neighbour_plane(points: np.ndarray) -> np.ndarray | None:
    """Coordinates in which neighbours, by cosine, stay neighbours: UMAP's (arXiv:1802.03426), with its defaults.

    Args:
      points: [n, d].

    Returns:
      [n, 2]; None where `umap-learn` is not installed, or can make nothing of the points: of fewer than 16, or all one.
    """
    if find_spec("umap") is None or len(points) <= _NEIGHBOURS or not np.ptp(points, axis=0).any():
        return None
    with extras.hidden("torch", "torchvision", "tensorflow", "keras"):  # for a class of it that is not used here
        from umap import UMAP

    # One thread: with several the picture would differ from time to time.
    chosen = UMAP(n_neighbors=_NEIGHBOURS, metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(chosen.fit_transform(np.asarray(points, np.float32)))


def planes(rotation: np.ndarray) -> Planes:
    """The planes that a rotation turns, and by how much.

        (R + R') v = 2 cos(theta) v   ->   the plane of v and R v, by theta

    Args:
      rotation: [d, d] float64, orthogonal and of determinant 1.
    """
    rotation = np.asarray(rotation, np.float64)
    size = len(rotation)
    cosines, vectors = np.linalg.eigh((rotation + rotation.T) / 2)
    taken = np.zeros((size, 0))
    found: list[tuple[float, np.ndarray]] = []
    fixed: dict[float, list[np.ndarray]] = {0.0: [], np.pi: []}  # directions that are kept or reversed
    for cosine, vector in zip(cosines, vectors.T, strict=True):
        vector = vector - taken @ (taken.T @ vector)
        length = np.linalg.norm(vector)
        if length < 1e-3:  # lies in a plane that is found already: eigenvalues come in pairs
            continue
        first = vector / length
        second = rotation @ first - cosine * first
        sine = float(np.linalg.norm(second))
        if sine < 1e-6:
            fixed[0.0 if cosine > 0 else np.pi].append(first)
            taken = np.column_stack([taken, first])
            continue
        second = second - taken @ (taken.T @ second)
        second = second / np.linalg.norm(second)
        found.append((float(np.arctan2(sine, cosine)), np.column_stack([first, second])))
        taken = np.column_stack([taken, first, second])
    for angle, directions in fixed.items():
        pairs = zip(directions[::2], directions[1::2], strict=False)
        found += [(angle, np.column_stack(pair)) for pair in pairs]
    found.sort(key=lambda plane: -plane[0])
    angles, bases = np.asarray([angle for angle, _ in found]), [basis for _, basis in found]
    return Planes(angles, np.stack(bases) if bases else np.zeros((0, size, 2)))


def energies(points: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """Share of the squared length of points [n, d] that lies in each plane, [p]."""
    points = np.asarray(points, np.float64)
    inside = np.square(np.einsum("nd,pdk->pnk", points, bases)).sum((1, 2))
    return inside / max(float(np.square(points).sum()), np.finfo(float).tiny)


def most_moving(found: Planes, points: np.ndarray) -> int:
    """Which of the planes carries most of the motion of points [n, d]: of their length times (1 - cos theta).

    Not simply that of the largest angle: a fitted rotation turns directions in which no point lies as noise has it.
    """
    return int(np.argmax(energies(points, found.bases) * (1.0 - np.cos(found.angles))))


def fitted(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Wahba's rotation of embeddings [n, d] before and after an augmentation, [d, d] float64.

    That of `metrics.wahba`, on the host: its compilation would take longer than all rotations of a report.
    """
    u, _, vt = np.linalg.svd(np.asarray(after, np.float64).T @ np.asarray(before, np.float64))
    u[:, -1] *= np.linalg.slogdet(u)[0] * np.linalg.slogdet(vt)[0]
    return np.asarray(u @ vt)


def halves(count: int) -> tuple[slice, slice]:
    """Rows that a rotation is fitted to, and those that it is judged on: every other one of `count`."""
    return slice(0, count, 2), slice(1, count, 2)


def share_explained(before: np.ndarray, after: np.ndarray, rotation: np.ndarray) -> float:
    """1 - (what a rotation leaves of a motion) / (the motion), squared lengths summed over embeddings.

        1 - |F R' - Fa|^2 / |F - Fa|^2

    Args:
      before: [n, d].
      after: [n, d].
      rotation: [d, d].

    Returns:
      At most 1; below 0 where the rotation does harm. NaN where nothing moves.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    moved = float(np.square(before - after).sum())
    return 1.0 - float(np.square(before @ rotation.T - after).sum()) / moved if moved > 0 else float("nan")
