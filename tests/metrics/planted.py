"""Rows and orthogonal maps that the tests of this room make, and then look for."""

import numpy as np


def unit_rows(seed: int, n: int, d: int) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def orthogonal(seed: int, d: int, determinant: int) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    q[:, 0] *= determinant * np.sign(np.linalg.det(q))
    return q
