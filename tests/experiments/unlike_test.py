"""What moves the measures of a table's runs is compared: what is said of it, once, and what is refused."""

import json

import pytest

from care_jax.command_line import UsageError
from care_jax.configs import digits
from care_jax.workdir import plain
from experiments import unlike

SHARE, ALIGNMENT, ACCURACY = NAMES = ("rotation_share_explained", "alignment", "knn_top1")


@pytest.fixture
def table(tmp_path):
    """Rows `plain` and `care`, two seeds each; `change(folder, setting=...)` makes one of them unlike."""

    def change(folder, **settings):
        config = digits.get_config()
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in settings.items()})
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "summary.json").write_text(json.dumps({"steps": 1, "config": plain(config)}))

    folders = {row: {seed: tmp_path / f"{row}_seed_{seed}" for seed in "01"} for row in ("plain", "care")}
    for row in folders:
        for seed in "01":
            change(f"{row}_seed_{seed}", seed=int(seed), equivariance__weight=0.1 if row == "care" else 0.0)
    return tmp_path, folders, change


def test_what_rows_are_of_is_no_difference_of_how_they_are_judged(table):
    workdir, folders, change = table
    assert unlike.told(workdir, folders, NAMES) == []
    change("care_seed_1", evaluate__probe__epochs=3, evaluate__monitor=("knn",), train__log_every=7)
    assert unlike.told(workdir, folders, NAMES) == []  # none of these measures depends on it


@pytest.mark.parametrize(
    ("setting", "value", "moved"),
    [
        ("augment__equivariance__hue", 0.125, SHARE),
        ("augment__invariance__hue", 0.125, ALIGNMENT),
        ("evaluate__knn_k", 7, ACCURACY),
        ("evaluate__num_augmentations", 7, SHARE),
        ("evaluate__monitor_examples", 7, ", ".join(NAMES)),
        ("evaluate__seed", 7, ", ".join(NAMES)),
    ],
)
def test_what_moves_a_measure_is_said_once_for_all_runs_alike(table, setting, value, moved):
    workdir, folders, change = table
    for seed in "01":
        change(f"care_seed_{seed}", **{setting: value})
    (line,) = unlike.told(workdir, folders, NAMES)
    name = setting.replace("__", ".")
    begins = f"{workdir}: care_seed_0, care_seed_1 are judged otherwise than plain_seed_0: {name} is {value!r}, not "
    assert line.startswith(begins) and line.endswith(f"; {moved} of both are unlike things")


def test_rows_that_differ_on_purpose_are_said_to(table):
    workdir, folders, change = table
    change("care_seed_0", augment__equivariance__hue=0.125)
    change("care_seed_1", augment__equivariance__hue=0.125, evaluate__knn_k=7)
    rows = {"plain": {"settings": {}}, "care": {"settings": {"augment.equivariance.hue": 0.125}}}
    (workdir / "table.json").write_text(json.dumps({"rows": rows}))
    meant, other = unlike.told(workdir, folders, NAMES)
    assert meant == (
        f"{workdir}: by its table.json rows are meant to differ in augment.equivariance.hue: each has "
        f"{SHARE} by its own"
    )
    assert other.startswith(f"{workdir}: care_seed_1 is judged otherwise than plain_seed_0: evaluate.knn_k is 7, not ")
    assert "hue" not in other


def test_other_data_is_refused_and_what_is_not_known_is_said(table):
    workdir, folders, change = table
    (workdir / "plain_seed_0" / "summary.json").write_text("{}")
    (line,) = unlike.told(workdir, folders, NAMES)
    assert line == f"{workdir}: settings of plain_seed_0 are not known, and not compared with the others'"
    change("care_seed_0", data__test_fraction=0.5)
    with pytest.raises(UsageError, match=r"care_seed_0 is of other data than .*plain_seed_1; look at them apart$"):
        unlike.told(workdir, folders, NAMES)
