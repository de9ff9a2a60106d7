"""What pairs of embeddings know of the augmentation between them."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike

from care_jax.metrics.heldout import Estimate, checked, halves, interval, on_few_threads

_HIDDEN = 256
# Few enough for several steps an epoch, and patient: with all of 200 rows in one batch two of four made-up sets stopped
# after 13 epochs at an R^2 of 0.00, where they reach 0.75; beside a parameter that is noise, at 0.33 and 0.43.
_BATCH, _PATIENCE = 64, 30
_EARLY = 200  # Rows from which a tenth can be spared to say when to stop.


@on_few_threads
def parameters_explained(
    before: ArrayLike,
    after: ArrayLike,
    parameters: Mapping[str, ArrayLike],
    *,
    inputs: ArrayLike | None = None,
    kind: Literal["linear", "mlp"] = "linear",
    seed: int = 0,
    bootstraps: int = 1000,
) -> dict[str, Estimate | None]:
    """How much of an augmentation's parameters can be read from f(x) and f(a(x)): R^2, on inputs not fitted to.

        1 - sum (y - g([f(x), f(a(x))]))^2 / sum (y - mean y)^2        held-out rows; the mean is of their half

    1: all; 0: no more than the mean; below 0: worse.

    Args:
      before: f(x), [n, d].
      after: f(a(x)), [n, d], another draw a in every row.
      parameters: by name what was drawn, each [n].
      inputs: which input x each row is of, [n]: the rows of one are in the same half; None: each of its own.
      kind: g: "linear" for ridge regression, "mlp" for one hidden layer; both of standardised columns.
      seed: of the halves, the network and the bootstrap.
      bootstraps: resamples behind the interval.

    Returns:
      By name; None for a parameter that is the same in all rows of a half.

    Raises:
      ValueError: another kind; no parameter; shapes that differ or are not [n, d] and [n]; n < 4, or fewer inputs than
        4; numbers that are not finite.
      ImportError: scikit-learn, of the extra `train`, is not installed.

    Source: Garrido, Najman and LeCun 2023 ("Self-supervised learning of split invariant equivariant representations").
    """
    name = "parameters_explained"
    if kind not in ("linear", "mlp"):
        raise ValueError(f"{name}: kind must be linear or mlp; got {kind!r}")
    if not parameters:
        raise ValueError(f"{name}: no parameters")
    f = checked(name, "before", before)
    pairs = np.concatenate([f, checked(name, "after", after, f.shape)], axis=1)
    columns = {what: np.asarray(column) for what, column in parameters.items()}
    for what, column in columns.items():
        if column.shape != (len(f),):
            raise ValueError(f"{name}: parameters[{what!r}] must be [n], n = {len(f)}; got {list(column.shape)}")
    targets = np.concatenate([checked(name, what, column[:, None]) for what, column in columns.items()], axis=1)
    of_rows = np.arange(len(f)) if inputs is None else np.asarray(inputs)
    if of_rows.shape != (len(f),):
        raise ValueError(f"{name}: inputs must be [n], n = {len(f)}; got {list(of_rows.shape)}")
    of_rows = np.unique(of_rows, return_inverse=True)[1]
    count = int(of_rows.max()) + 1
    if count < 4:
        raise ValueError(f"{name}: needs 4 inputs or more; got {count}")
    sums, constant = np.zeros((count, targets.shape[1], 2)), np.zeros(targets.shape[1], bool)
    folds = [np.flatnonzero(np.isin(of_rows, half)) for half in halves(count, seed)]
    for fitted, judged in (folds, folds[::-1]):
        left = np.square(targets[judged] - _predicted(pairs, targets, fitted, judged, kind, seed))
        spread = np.square(targets[judged] - targets[judged].mean(axis=0))
        np.add.at(sums, of_rows[judged], np.stack([left, spread], axis=-1))
        constant |= np.ptp(targets[judged], axis=0) == 0
    return {
        what: None
        if constant[column]
        else interval(sums[:, column], lambda left, spread: 1.0 - left / spread, seed=seed, bootstraps=bootstraps)
        for column, what in enumerate(columns)
    }


def _generator(seed: int) -> int | np.random.RandomState:
    """What scikit-learn takes: it refuses seeds of more than 32 bits."""
    return seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


def _predicted(
    pairs: np.ndarray, targets: np.ndarray, fitted: np.ndarray, judged: np.ndarray, kind: str, seed: int
) -> np.ndarray:
    """Parameters of the judged rows, [m, p]."""
    # scikit-learn is of the train extra, and slow to load.
    try:
        from sklearn.linear_model import Ridge
        from sklearn.neural_network import MLPRegressor
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError as error:
        raise ImportError(f"parameters_explained needs {error.name}: pip install 'care_jax[train]'") from error

    inputs, outputs = StandardScaler().fit(pairs[fitted]), StandardScaler().fit(targets[fitted])
    model: Any
    if kind == "linear":
        model = Ridge(alpha=1.0)
    else:
        early = len(fitted) >= _EARLY
        model = MLPRegressor(
            hidden_layer_sizes=(_HIDDEN,),
            alpha=1e-3,
            batch_size=min(_BATCH, len(fitted)),
            early_stopping=early,
            n_iter_no_change=_PATIENCE,
            max_iter=500,
            random_state=_generator(seed),
        )
    model.fit(inputs.transform(pairs[fitted]), outputs.transform(targets[fitted]))
    found = model.predict(inputs.transform(pairs[judged]))
    return outputs.inverse_transform(found.reshape(len(judged), targets.shape[1]))
