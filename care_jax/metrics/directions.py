"""Directions without a sign, read from vectors by linear regression: NumPy in float64, on the host."""

import numpy as np

_PENALTY = 1.0
_ROUNDS = 50  # of choosing signs; each lowers the squared error, and a handful is enough


def ridge(inputs: np.ndarray, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Ridge regression of standardised columns: its predictions.

        argmin_W |Y - X W|^2 + |W|^2,    X and Y less their means, X over its standard deviations

    Args:
      inputs: [m, d] and their targets [m, k].
      others: [q, d], to predict of.

    Returns:
      [q, k] float64.
    """
    centre, spread = inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1.0)
    x, y = (inputs - centre) / scale, targets - targets.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + _PENALTY * np.eye(x.shape[1]), x.T @ y)
    found: np.ndarray = (others - centre) / scale @ weights + targets.mean(axis=0)
    return found


def predicted_axes(inputs: np.ndarray, directions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Directions of no sign, of a regression of their outer products.

        v^ = the first eigenvector of W' z,    W = argmin sum |v v' - W' z|^2 + the penalty

    v v' is the same for v and -v, so no sign is chosen.

    Args:
      inputs: z, [m, d], with unit vectors v, [m, 3].
      others: [q, d].

    Returns:
      Unit vectors [q, 3].
    """
    squares = directions[:, :, None] * directions[:, None, :]
    found = ridge(inputs, squares.reshape(len(squares), -1), others).reshape(-1, 3, 3)
    axes: np.ndarray = np.linalg.eigh((found + np.swapaxes(found, 1, 2)) / 2)[1][:, :, -1]
    return axes


def predicted_directions(inputs: np.ndarray, directions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The same of a regression of the directions themselves, whose signs are those that it is nearer to.

        min over W and signs s of sum |s v - W' z|^2 + the penalty, alternately

    Args:
      inputs, directions: as of `predicted_axes`; the signs are the first to be tried.
      others: [q, d].

    Returns:
      [q, 3], of any length.
    """
    signed = directions
    for _ in range(_ROUNDS):
        along = np.einsum("md,md->m", ridge(inputs, signed, inputs), signed)
        if not (along < 0).any():
            break
        signed = np.where(along[:, None] < 0, -signed, signed)
    return ridge(inputs, signed, others)


def direction_error(predicted: np.ndarray, directions: np.ndarray) -> float:
    """Mean angle between lines, degrees: 0 to 90, 57.3 (a radian) of lines that have nothing to do with each other.

    Args:
      predicted: [q, 3] of any length; of none the angle is 90 degrees.
      directions: unit vectors [q, 3]; the sign of neither counts.
    """
    lengths = np.linalg.norm(predicted, axis=1)
    cosines = np.abs(np.einsum("qd,qd->q", predicted, directions)) / np.where(lengths > 0, lengths, 1.0)
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))).mean())
