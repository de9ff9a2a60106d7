"""What gamma and the share explained are of embeddings that no map relates: the tables of docs/measures.md.

python -m benchmarks.null_values
"""

from collections.abc import Iterable

import numpy as np

from care_jax.metrics import motion

SEEDS = range(5)
DIMENSIONS = (16, 64, 128)
N = 1000


def unit_rows(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Independent directions, [n, d]."""
    rows = rng.standard_normal((n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fitted_share(f: np.ndarray, fa: np.ndarray) -> float:
    """The share that a rotation explains of the rows that it was fitted to."""
    left = np.square(f @ motion.best_map(f, fa).T - fa).sum()
    return float(1.0 - left / np.square(f - fa).sum())


def held_out_share(f: np.ndarray, fa: np.ndarray, kind: motion.Kind = "rotation") -> float:
    """The share on the rows of the other half."""
    share = motion.share_explained(f, fa, kind=kind, bootstraps=1)
    assert share is not None
    return share.mean


def unrelated(d: int, n: int = N) -> Iterable[list[float]]:
    """Of two independent sets: gamma's quartiles, the share fitted and held out, that of a linear map; a row a seed."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        f, fa = unit_rows(rng, n, d), unit_rows(rng, n, d)
        quartiles = motion.relative_equivariance_quantiles(f, fa).quantiles.values()
        yield [*quartiles, fitted_share(f, fa), held_out_share(f, fa), held_out_share(f, fa, "linear")]


def small_moves(step: float, d: int = 64) -> Iterable[list[float]]:
    """Each row moved by so much in a direction of its own, on the sphere: displacement, gamma, its null, the share."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        f = unit_rows(rng, N, d)
        fa = f + step * unit_rows(rng, N, d)
        fa /= np.linalg.norm(fa, axis=1, keepdims=True)
        gamma = motion.relative_equivariance_quantiles(f, fa)
        yield [gamma.displacement, gamma.quantiles[0.5], gamma.permuted[0.5], held_out_share(f, fa)]


def few_points(n: int, d: int = 64) -> Iterable[list[float]]:
    """n independent pairs of points: the share of a rotation fitted to them, on them and on 1,000 others."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        f, fa = unit_rows(rng, n, d), unit_rows(rng, n, d)
        others, moved = unit_rows(rng, N, d), unit_rows(rng, N, d)
        left = np.square(others @ motion.best_map(f, fa).T - moved).sum()
        yield [fitted_share(f, fa), 1.0 - left / np.square(others - moved).sum()]


def _print(name: str, columns: tuple[str, ...], rows: dict[float, Iterable[list[float]]]) -> None:
    print(f"| {name} | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
    for value, seeds in rows.items():
        print(f"| {value:,} | {' | '.join(f'{number:.4g}' for number in np.mean(list(seeds), axis=0))} |")
    print()


def main() -> None:
    """Prints the tables, means over the seeds."""
    quartiles = ("gamma, quarter", "median", "three quarters")
    shares = ("share fitted", "share held out", "linear map, held out")
    _print("d", quartiles + shares, {d: unrelated(d) for d in DIMENSIONS})
    steps = (1.0, 0.3, 0.1, 0.03, 0.01)
    _print("step", ("displacement", "gamma, median", "its null", "share"), {step: small_moves(step) for step in steps})
    _print("points", ("share on them", "share on others"), {n: few_points(n) for n in (4, 16, 32, 64, 128, 512, 4096)})


if __name__ == "__main__":
    main()
