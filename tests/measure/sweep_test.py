"""Which images are augmented how: passes over all of them."""

import numpy as np

from care_jax.measure import sweep


def test_an_augmentation_is_drawn_the_same_whatever_else_is_chosen():
    chosen = {"crop": (0.1, 0.2), "hue": (0.1, 0.2, 0.4)}
    plan, alone = sweep._planned(chosen, 7, 3), sweep._planned({"hue": chosen["hue"]}, 7, 3)
    assert list(plan) == ["", "crop", "hue"] and len(plan["crop"]) == 3 and len(plan["hue"]) == 5
    for one, other in zip(plan["hue"], alone["hue"], strict=True):
        assert one.name == "hue" and (one.values == other.values).all()
    constant = [one.values[0] for one in plan["hue"] if np.ptp(one.values) == 0]
    np.testing.assert_allclose(constant, [0.1, 0.2, 0.4, 0.3])  # the last: 0.1 and 0.2 together
    assert not (sweep._planned(chosen, 7, 4)["hue"][3].values == plan["hue"][3].values).any()


def test_what_can_not_be_composed_is_not():
    assert sweep._composed("crop", (0.1, 0.2)) is None and sweep._composed("hue", (0.1,)) is None
    assert sweep._composed("hue", (0.6, 0.7)) is None and sweep._composed("rotation", (5, 15, 30, 60)) == (15, 30)
