"""A run's encoder on another data set: which images and how they are seen, what is written, and what is left alone."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from care_jax import data, trained
from care_jax.command_line import UsageError
from care_jax.evaluate import evaluation, results, transfer
from care_jax.evaluate.evaluators import EVALUATORS
from care_jax.experiment import build
from care_jax.train.checkpoint import Checkpoints
from care_jax.workdir import plain
from tests.saved_clouds import PIECES, make_cloud_config, write_pdb, write_structures

SEEN = ("image_size", "mean", "std")


@pytest.mark.parametrize(
    ("on", "name", "placement", "stored_size"),
    [
        ("cifar10", "cifar10", "device", 18),
        ("configs/stl10.py", "stl10", "device", 18),
        ("imagenet100", "imagenet2012", "decode", None),
        ("image_folder", "image_folder", "decode", None),
        ("tests", "image_folder", "decode", None),
        ("imagenet2012", "imagenet2012", "decode", None),
    ],
)
def test_the_images_are_the_others_and_how_they_are_seen_is_the_encoders(
    tiny_config, on, name, placement, stored_size, monkeypatch
):
    monkeypatch.chdir(Path(__file__).parents[2])
    config = tiny_config(evaluate__center_fraction=0.875, data__root="mine", augment__placement="host")
    changed = transfer.config_on(config, on)
    assert (changed.data.name, changed.augment.placement, changed.data.stored_size) == (name, placement, stored_size)
    assert changed.data.root == ("tests" if on == "tests" else None)
    assert (changed.data.class_file is not None) == (on == "imagenet100")
    assert all(changed.data[of] == config.data[of] for of in SEEN) and config.data.name == "digits"
    del changed.data, changed.augment.placement, config.data, config.augment.placement
    assert changed == config


@pytest.mark.parametrize("on", ["imagenet2012", "configs/imagenet.py", "tests"])
def test_which_part_of_a_set_is_taken_is_not_the_runs_choice(tiny_config, on, monkeypatch):
    """A run on 100 classes is judged on all 1,000 where those are asked for."""
    monkeypatch.chdir(Path(__file__).parents[2])
    config = tiny_config(data__class_file="imagenet100.txt", data__download=True, data__test_fraction=0.3)
    taken = transfer.config_on(config, on).data
    assert (taken.class_file, taken.download, taken.test_fraction) == (None, False, 0.1)


@pytest.mark.parametrize(
    ("on", "told"),
    [
        ("cifar11", "is no data set, no configuration file and no folder of images; by name there are augself, "),
        ("README.md", "is no configuration file (SyntaxError"),
        ("care_jax/errors.py", "is no configuration file (KeyError: 'get_config')"),
        ("gs://bucket", "is an address"),
    ],
)
def test_what_is_no_data_set_is_one_line(tiny_config, on, told, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(ValueError, match="--on=") as caught:
        transfer.config_on(tiny_config(), on)
    assert told in str(caught.value)


def test_a_name_goes_before_a_folder_of_that_name(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    assert transfer.config_on(tiny_config(), "cifar10").data.name == "cifar10"
    assert capsys.readouterr().err == (
        "care_jax: --on=cifar10 is the data set of that name; write ./cifar10 for the folder or file\n"
    )
    assert transfer.config_on(tiny_config(), "./cifar10").data.root == "cifar10"


def _folder(root: Path, classes: int) -> Path:
    images = data.load("digits", image_size=16).test.images
    for i in range(20):
        file = root / (f"kind_{i % classes}" if classes else "") / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(file)
    return root


def test_the_table_has_the_spreads_beside_the_values():
    numbers = {"linear_probe_top1": 72.222, "linear_probe_top1_spread": 7.7, "knn_top1": None, "test_examples": 1234}
    assert results.table(numbers, ("class",)).splitlines() == [
        "measure            value  spread  unit    better",
        "linear_probe_top1   72.2     7.7  %       higher",
        "knn_top1               -          %       higher",
        "test_examples      1,234          images",
    ]


@pytest.mark.slow
def test_the_numbers_are_of_the_other_set_and_the_run_stays_as_it_is(
    tiny_config, small_encoder, tmp_path, monkeypatch, capsys
):
    for module in (build, trained):
        monkeypatch.setattr(module, "make_encoder", lambda config: small_encoder())
    monkeypatch.setattr(evaluation, "EVALUATORS", {"knn": EVALUATORS["knn"]})  # the others take long to compile
    config = tiny_config(evaluate__batch_size=8)
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "summary.json").write_text("of the run")
    checkpoints = Checkpoints(workdir / "checkpoints")
    experiment = build.build(config)
    checkpoints.save(build.make_state(experiment), info={"config": plain(config), "seconds": 1.0})
    checkpoints.close()
    photos, flat = _folder(tmp_path / "photos", 2), _folder(tmp_path / "other" / "photos", 0)
    of_the_run = data.DATA_SETS["digits"]
    monkeypatch.setitem(data.DATA_SETS, "digits", (lambda **_: pytest.fail("its own data is loaded"), of_the_run[1]))

    def evaluated(root, out=""):
        return transfer.evaluate_on(workdir, transfer.config_on(config, str(root)), str(root), out=out)

    file = evaluated(photos)
    report = json.loads(file.read_text())
    told = capsys.readouterr()
    assert file == workdir / "transfer" / "photos.json"
    assert (report["data"]["training_images"], report["test_examples"]) == (18, 2) and report["steps"] == 0
    assert report["data"]["num_classes"] == {"class": 2} and report["config"]["data"]["root"] == str(photos)
    assert 0 <= report["knn_top1"] <= 100 and report["measures"].keys() == {"knn_top1", "test_examples"}
    assert "transfer of step 0" in told.err and "seen at 16 x 16 pixels, normalised by mean (" in told.err
    assert told.out.splitlines()[1].split() == ["knn_top1", f"{report['knn_top1']:.1f}", "%", "higher"]

    monkeypatch.setattr(
        evaluation.Evaluation, "measure", lambda *_, **__: evaluation.Measured({"knn_top1": None, "test_examples": 2})
    )
    again = evaluated(flat)
    assert again.parent == file.parent and again.name.startswith("photos-") and json.loads(file.read_text()) == report
    assert "no labels: neighbours and probes are left out" in capsys.readouterr().err
    assert evaluated(photos) == file and evaluated(photos, str(tmp_path / "x.json")) == tmp_path / "x.json"
    shutil.copytree(workdir / "checkpoints" / "0", alone := tmp_path / "0")
    with pytest.raises(UsageError, match="lies in no run: say where the numbers go, --out=FILE"):
        transfer.evaluate_on(alone, transfer.config_on(config, str(photos)), str(photos))
    changed = transfer.config_on(config, str(photos))
    changed.model.width = 7
    with pytest.raises(UsageError, match=r"may be changed, not config.model.width"):
        transfer.evaluate_on(workdir, changed, str(photos))
    assert (workdir / "summary.json").read_text() == "of the run"


@pytest.mark.parametrize("on", ["proteins", "configs/proteins.py", "tests"])
def test_clouds_are_the_others_and_how_chains_are_cut_is_the_encoders(on, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    config = make_cloud_config(tmp_path, data__test_fraction=0.4)
    changed = transfer.config_on(config, on)
    assert (changed.data.name, changed.data.root) == ("proteins", "tests" if on == "tests" else None)
    assert (changed.data.window_lengths, changed.data.window_stride) == ((8, 12), 4)
    assert changed.data.test_fraction == 0.2
    del changed.data, config.data
    assert changed == config


@pytest.mark.parametrize("on", ["digits", "cifar10", "image_folder", "imagenet2012", "imagenet100", "configs/stl10.py"])
def test_images_are_refused_for_clouds_and_clouds_for_images(on, tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    told = (
        f"^--on={on} is of images, and the encoder embeds clouds of points: give a folder of protein structures, say$"
    )
    with pytest.raises(UsageError, match=told):
        transfer.config_on(make_cloud_config(tmp_path), on)
    for clouds in ("proteins", "configs/proteins.py"):
        told = f"^--on={clouds} is of clouds of points, and the encoder embeds images: give a folder of images, say$"
        with pytest.raises(UsageError, match=told):
            transfer.config_on(tiny_config(), clouds)
    with pytest.raises(UsageError, match="no configuration file and no folder of structures; by name there are"):
        transfer.config_on(make_cloud_config(tmp_path), "cifar11")


@pytest.mark.slow
def test_clouds_are_measured_on_a_folder_of_structures(saved_clouds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "EVALUATORS", {"clouds": EVALUATORS["clouds"]})
    workdir = shutil.copytree(saved_clouds.workdir, tmp_path / "run")
    others = write_structures(tmp_path / "others")
    write_pdb(others / "further.pdb", 30, seed=30)
    of_the_run = data.DATA_SETS["proteins"]
    on = transfer.config_on(trained.config_of(workdir), str(others))
    file = transfer.evaluate_on(workdir, on, str(others))
    report, told = json.loads(file.read_text()), capsys.readouterr()
    assert file == workdir / "transfer" / "others.json" and data.DATA_SETS["proteins"] is of_the_run
    counts = [report["data"][f"{part}_clouds"] for part in ("training", "test")]
    assert sum(counts) == PIECES + 7 + 6 and counts[1] == report["test_examples"]
    assert report["config"]["data"]["root"] == str(others) and "principal_component_error" in report
    assert "pieces of 8, 12 residues, every 4; 7 chains" in told.err and "seen at" not in told.err
    assert "no labels: neighbours and probes are left out" in told.err
    changed = on.copy_and_resolve_references()
    changed.augment.equivariance.jitter = 1.0
    with pytest.raises(
        UsageError, match=r"^only config.evaluate.\* and config.data.\* may be changed, not config.augment"
    ):
        transfer.evaluate_on(workdir, changed, str(others))
    images = _folder(tmp_path / "photos", 0)
    with pytest.raises(data.DataError, match=r"no protein structures .* only \.png 20"):
        transfer.evaluate_on(workdir, transfer.config_on(on, str(images)), str(images))
    assert [path.name for path in (workdir / "transfer").iterdir()] == ["others.json"]
