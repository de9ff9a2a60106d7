"""The fingerprint of the parameters."""

import jax.numpy as jnp
import numpy as np

from care_jax.train.state import params_sha256


def _params() -> dict:
    return {"b": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "a": jnp.ones(2)}


def test_does_not_depend_on_the_order_of_insertion():
    params = _params()
    assert params_sha256(params) == params_sha256(dict(reversed(params.items())))


def test_changes_with_one_bit_a_name_a_shape_or_a_type():
    params = _params()
    digests = {params_sha256(params)}
    nudged = params["b"]["kernel"].at[1, 2].set(np.nextafter(np.float32(5), np.float32(6)))
    digests.add(params_sha256({**params, "b": {"kernel": nudged}}))
    digests.add(params_sha256({**params, "b": {"weight": params["b"]["kernel"]}}))
    digests.add(params_sha256({**params, "b": {"kernel": params["b"]["kernel"].reshape(3, 2)}}))
    digests.add(params_sha256({**params, "a": jnp.ones(2, jnp.bfloat16)}))
    assert len(digests) == 5


def test_known_digest():
    # Over "['a'] float32 (1,)\n" and four zero bytes: the format may not drift between versions.
    assert (
        params_sha256({"a": np.zeros(1, np.float32)})
        == "83559c7cc0a96751d6a145e51fcfd1a988d03caca8daaf38b9d4f64474b40f6c"
    )
