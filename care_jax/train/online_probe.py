"""A linear classifier trained beside the encoder, on the features of its steps: a first word on how a run goes.

It sees augmented views and the labels of training images, and chases an encoder that moves: its accuracy is no
`linear_probe_top1`, which is of a frozen encoder and held-out images. Nothing of it reaches the encoder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

NAME = "online_probe_top1"
_OPTIMIZER = optax.adam(1e-3)  # the rate of the paper's probe


class ProbeState(NamedTuple):
    """What is trained: {"kernel": [w, c], "bias": [c]}, float32; and the state of its optimiser."""

    params: Any
    optimizer_state: optax.OptState


class OnlineProbe(NamedTuple):
    """Softmax regression by Adam, a minibatch a step.

    Attributes:
      num_classes: c.
    """

    num_classes: int

    def init(self, width: int) -> ProbeState:
        """The state before the first step, zeros, for features of `width` numbers."""
        params = {"kernel": jnp.zeros((width, self.num_classes)), "bias": jnp.zeros(self.num_classes)}
        return ProbeState(params, _OPTIMIZER.init(params))

    def update(self, state: ProbeState, features: jax.Array, labels: jax.Array) -> tuple[ProbeState, jax.Array]:
        """The state after a step, and the accuracy before it: of features that the classifier has not been shown.

        Args:
          state: before.
          features: [v, b, w].
          labels: [b] int, of the images that they are views of.

        Returns:
          The state, and percent of the views.
        """
        features = features.astype(jnp.float32)
        labels = jnp.broadcast_to(labels, features.shape[:2])

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = features @ params["kernel"] + params["bias"]
            entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(entropy), 100.0 * jnp.mean(jnp.argmax(logits, axis=-1) == labels)

        gradients, top1 = jax.grad(loss, has_aux=True)(state.params)
        updates, optimizer_state = _OPTIMIZER.update(gradients, state.optimizer_state)
        return ProbeState(optax.apply_updates(state.params, updates), optimizer_state), top1

    def beside(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """A step of both: ((state, probe's state), batch) -> (both after it, metrics with `online_probe_top1`).

        Args:
          update: (state, batch) -> (state, metrics, outputs with "features" [v, b, w]); `batch` has "labels" [b].
        """

        def step(both: tuple[Any, ProbeState], batch: Any) -> tuple[tuple[Any, ProbeState], dict[str, jax.Array]]:
            state, probe = both
            state, metrics, outputs = update(state, batch)
            # The barrier keeps the compiler from merging what follows with the encoder's own work, and so its bits.
            features = jax.lax.optimization_barrier(jax.lax.stop_gradient(outputs["features"]))
            probe, top1 = self.update(probe, features, batch["labels"])
            return (state, probe), {**metrics, NAME: top1}

        return step


class Beside:
    """A step as the loop calls it. The probe's state is kept here and not saved: a run that goes on begins it anew.

    Args:
      step: of both, compiled.
      state: of the probe, on the devices; given up to the step.
    """

    def __init__(self, step: Callable[..., Any], state: ProbeState):
        self._step = step
        self._state = state

    def __call__(self, state: Any, batch: Any) -> tuple[Any, dict[str, jax.Array]]:
        """The run's state after the steps of a batch, and their metrics."""
        (state, self._state), metrics = self._step((state, self._state), batch)
        return state, metrics
