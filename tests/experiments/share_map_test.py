"""The map of the share explained: which runs it is made of, that each trains on its own draws, and its picture."""

import math

import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits, image_folder
from care_jax.sweep.table import configured
from experiments import command, share_map

SETTINGS = {"images": [4, 64], "weights": [0.0, 0.1], "dimensions": [16, 64], "num_steps": 7}


def test_a_row_a_group_size_and_one_without_groups():
    table = share_map.make_table(digits.get_config(), kinds=["color"], **SETTINGS)
    plain, four, many = list(table.rows)[:3]
    assert [plain, four, many] == [
        "color_d16_lambda_0",
        "color_d16_lambda_0.1_images_4",
        "color_d16_lambda_0.1_images_64",
    ]
    assert len(table.rows) == 6 and table.rows[plain].against == "" and table.rows[many].against == plain
    made = {name: configured(digits.get_config(), row.settings, 0) for name, row in table.rows.items()}
    assert made[plain].equivariance.weight == 0 and made[plain].model.head_size == 16
    assert (made[four].equivariance.num_groups, made[many].equivariance.num_groups) == (32, 2)
    assert made["color_d64_lambda_0.1_images_4"].model.head_size == 64 and made[four].train.num_steps == 7
    without = share_map.make_table(digits.get_config(), kinds=["color"], **SETTINGS | {"weights": [0.1]})
    assert {row.against for row in without.rows.values()} == {""}


def test_each_kind_draws_what_it_is_called():
    drawn = {}
    for kind in share_map.KINDS:
        table = share_map.make_table(digits.get_config(), kinds=[kind], **SETTINGS)
        drawn[kind] = configured(digits.get_config(), next(iter(table.rows.values())).settings, 0).augment.equivariance
    moves = {
        kind: {
            *(["crop"] if draws.crop == "random_resized" else []),
            *(["hue"] if draws.jitter_probability and draws.hue else []),
            *(name for name in ("grayscale", "blur", "flip", "solarize") if draws[f"{name}_probability"]),
            *(name for name in ("rotation_degrees", "translation") if draws[name]),
        }
        for kind, draws in drawn.items()
    }
    assert moves == {
        "color": {"hue"},
        "turn": {"rotation_degrees"},
        "crop": {"crop"},
        "gray": {"hue", "grayscale"},
        "all": {"hue", "grayscale", "crop", "blur"},
    }


def test_mistakes_are_one_line():
    config = digits.get_config()
    with pytest.raises(UsageError, match="--kinds=hue is no kind; there are color, turn, crop, gray, all"):
        share_map.make_table(config, kinds=["hue"], **SETTINGS)
    for size in (1, 3, 256):
        with pytest.raises(UsageError, match=f"--images={size}: give numbers from 2 on that divide the batch of 128"):
            share_map.make_table(config, kinds=["color"], **SETTINGS | {"images": [size]})
    for flag in ("kinds", "images", "weights", "dimensions"):
        with pytest.raises(UsageError, match=f"^--{flag}= is empty, and rows are made of its values: give some"):
            share_map.make_table(config, **{"kinds": ["color"], **SETTINGS} | {flag: []})
    with pytest.raises(UsageError, match=r"^--kinds=color,crop,color: color is there twice"):
        share_map.make_table(config, kinds=["color", "crop", "color"], **SETTINGS)
    assert command.whole_numbers("--images", ["4", "16"]) == [4, 16]
    for wrong in ("", "a", "-1", "0", "1.5", "²"):
        with pytest.raises(UsageError, match=f"--images={wrong}: give whole numbers from 1 on"):
            command.whole_numbers("--images", ["4", wrong])


def test_the_picture_has_a_curve_a_weight_over_images_by_dimension():
    table = share_map.make_table(digits.get_config(), kinds=["color", "crop"], **SETTINGS | {"dimensions": [16]})
    results = {
        name: [{share_map.SHARE: 0.1 * place + seed, share_map.NULL: 0.01, share_map.CLASSES: 50.0} for seed in (0, 1)]
        for place, name in enumerate(table.rows)
    }
    results["crop_d16_lambda_0.1_images_64"] = [{}]  # not measured
    figure = share_map.picture(table, results)
    color, crop, color_classes, _ = figure.axes
    assert [axis.get_title() for axis in (color, crop)] == ["color", "crop"]
    level, curve, nulls = color.lines
    assert list(level.get_ydata()) == [0.5, 0.5] and level.get_label() == "d = 16, lambda 0"
    assert list(curve.get_xdata()) == [0.25, 4.0] and list(curve.get_ydata()) == pytest.approx([0.6, 0.7])
    assert list(nulls.get_ydata()) == [0.01, 0.01] and len(color_classes.lines) == 2
    assert math.isnan(crop.lines[1].get_ydata()[1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["d = 16, lambda 0", "d = 16, lambda 0.1"]


def test_what_a_seed_lacks_is_drawn_nowhere_and_a_batch_that_is_chosen_is_refused():
    assert math.isnan(share_map._mean([{"knn_top1": 90.0}, {"knn_top1": None}], "knn_top1"))
    assert share_map._mean([{"knn_top1": 90.0}, {"knn_top1": 80.0}], "knn_top1") == 85.0
    with pytest.raises(UsageError, match=r"^config.train.batch_size has no value: give one"):
        share_map.make_table(image_folder.get_config(), kinds=["color"], **SETTINGS)
