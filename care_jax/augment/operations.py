"""Operations of one's own, drawn and applied beside the built-in ones: by both branches, in both placements.

One in a dozen lines (docs/extending.md trains with it), in a module that the setting `extensions` names:

    from care_jax.augment import OPERATIONS, Operation, namespace, to_float

    def draw(uniforms, settings):
        xp = namespace(uniforms)  # jax.numpy on the device, tensorflow.experimental.numpy in tf.data
        happens = to_float(xp, uniforms[..., 0] < settings["posterize_probability"])
        return xp.stack([happens, 2.0 + 6.0 * uniforms[..., 1]], axis=-1)

    def apply(images, drawn, settings):
        xp = namespace(images)
        happens, levels = drawn[..., 0, None, None, None], drawn[..., 1, None, None, None]
        return xp.where(happens > 0.5, xp.floor(images * levels) / levels, images)

    OPERATIONS["posterize"] = Operation({"posterize_probability": 0.0}, 2, draw, apply)
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from care_jax.augment.namespace import Array

Settings = Mapping[str, Any]


class Operation(NamedTuple):
    """What can happen to an image after the built-in operations, before it is normalised.

    Attributes:
      off: its settings, `augment.<branch>.<name>` of the configuration, with values of which none makes it happen; a
        number, a string, a bool or a pair of numbers. While all are these nothing is drawn or compiled.
      size: k, numbers that one draw takes and gives.
      draw: (uniforms [..., k] in [0, 1), settings) -> what is drawn, [..., k] float32.
      apply: (images [..., h, w, 3] in [0, 1], what was drawn [..., k], settings) -> images, of the same shape. Written
        for `namespace(images)`, it runs on the device and in tf.data.
    """

    off: Settings
    size: int
    draw: Callable[[Array, Settings], Array]
    apply: Callable[[Array, Array, Settings], Array]


# Name -> operation; applied in this order. Names of settings are of one operation alone.
OPERATIONS: dict[str, Operation] = {}


class Chosen(NamedTuple):
    """An operation that can happen, with its settings; static and hashable."""

    name: str
    settings: tuple[tuple[str, Any], ...]

    @property
    def size(self) -> int:
        """k, numbers that one draw takes and gives."""
        return OPERATIONS[self.name].size

    def draw(self, uniforms: Array) -> Array:
        """[..., k] -> [..., k]."""
        return OPERATIONS[self.name].draw(uniforms, dict(self.settings))

    def apply(self, images: Array, drawn: Array) -> Array:
        """[..., h, w, 3] and what was drawn for them, [..., k] -> [..., h, w, 3]."""
        return OPERATIONS[self.name].apply(images, drawn, dict(self.settings))


def settings_of_operations() -> dict[str, Any]:
    """All settings of the registered operations, with the values that leave them off.

    Raises:
      ValueError: two operations have one of the same name.
    """
    found: dict[str, Any] = {}
    for operation, (off, *_) in OPERATIONS.items():
        for name in off.keys() & found.keys():
            raise ValueError(f"the operation {operation!r} has a setting {name!r}, and so has another: rename it")
        found |= _pairs(off)
    return found


def _pairs(settings: Settings) -> dict[str, Any]:
    """With tuples for lists, which a configuration has none of."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def choose(settings: Settings) -> tuple[Chosen, ...]:
    """Those of the registered operations that the settings turn on."""
    settings, off = _pairs(settings), {name: _pairs(operation.off) for name, operation in OPERATIONS.items()}
    return tuple(
        Chosen(name, tuple((key, settings.get(key, value)) for key, value in of.items()))
        for name, of in off.items()
        if any(settings.get(key, value) != value for key, value in of.items())
    )
