"""What is looked up beside an image, or a cloud of points, itself: the same with one thing changed."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from care_jax.augment import CloudSpec, apply_cloud, cloud_identity, color, geometry
from care_jax.augment.clouds import axis_rotation
from care_jax.command_line import UsageError
from care_jax.metrics.clouds import radius_of_gyration

# Name -> what it is in words.
OF_IMAGES = {
    "hue": "hue turned by a\nthird of the circle",
    "crop": "central half,\nenlarged",
    "gray": "without colour",
}
OF_CLOUDS = {
    "rotation": "turned by 90° in\nthe picture's plane",
    "jitter": "points moved at random,\n5 % of the radius",
}
_USUAL = {False: ("hue", "crop"), True: ("rotation", "jitter")}
_JITTER = 0.05  # standard deviation of a coordinate, of the radius of gyration
_SEED = 0  # the same noise in every call


def names(given: Sequence[str] | None, *, clouds: bool) -> tuple[str, ...]:
    """The changes of a command line, of clouds or of images; None for the usual ones.

    Raises:
      UsageError: one that is none of them.
    """
    known = OF_CLOUDS if clouds else OF_IMAGES
    for name in given or ():
        if name not in known:
            of = "clouds" if clouds else "images"
            raise UsageError(
                f"--changes={','.join(given or ())}: {name!r} is none of {', '.join(known)}, the changes of {of}"
            )
    return _USUAL[clouds] if given is None else tuple(given)


def words(change: str) -> str:
    """What a change is, for a heading."""
    return (OF_IMAGES | OF_CLOUDS)[change]


def changed(inputs: np.ndarray, change: str) -> np.ndarray:
    """Images [q, s, s, 3] uint8, or clouds [q, L, 4], after a change; as they are for ""."""
    if not change:
        return inputs
    return _changed_clouds(inputs, change) if change in OF_CLOUDS else _changed_images(inputs, change)


def _changed_images(images: np.ndarray, change: str) -> np.ndarray:
    side = images.shape[1]
    change_: Callable[[jax.Array], jax.Array] = {
        "hue": lambda x: color.adjust_hue(x, 1 / 3),
        "crop": lambda x: geometry.resized_crop(x, side / 4, side / 4, side / 2, side / 2, size=side),
        "gray": color.to_grayscale,
    }[change]
    made = np.asarray(jax.jit(change_)(images.astype(np.float32) / np.float32(255.0)))
    return np.round(np.clip(made, 0.0, 1.0) * 255.0).astype(np.uint8)


def _changed_clouds(clouds: np.ndarray, change: str) -> np.ndarray:
    drawn, number = cloud_identity((len(clouds),)), jnp.arange(len(clouds), dtype=jnp.uint32)
    if change == "rotation":  # about the axis that pictures look along: what is turned shows
        turned = axis_rotation(jnp.array([0.0, 0.0, 1.0]), jnp.float32(jnp.pi / 2))
        drawn = drawn._replace(rotation=jnp.broadcast_to(turned, drawn.rotation.shape))
        spec = CloudSpec(rotation=True)
    else:
        radius = radius_of_gyration(clouds[..., :3], clouds[..., 3] > 0)
        noise = jnp.stack([jnp.full_like(number, _SEED), number], axis=-1)
        drawn = drawn._replace(jitter=jnp.asarray(_JITTER * radius, jnp.float32), noise=noise)
        spec = CloudSpec(jitter=_JITTER)
    return np.asarray(apply_cloud(drawn, jnp.asarray(clouds), spec))
