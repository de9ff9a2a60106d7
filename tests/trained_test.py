"""A trained encoder out of a run: without its data, proved, from the run or from a checkpoint alone."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest
from absl import flags

from care_jax import trained
from care_jax.command_line import UsageError
from care_jax.configs import digits
from care_jax.storage import PathError
from care_jax.train.checkpoint_files import CheckpointError

pytestmark = pytest.mark.slow  # a run is made for all of them


def test_what_was_saved_is_read_and_no_data(saved_run, monkeypatch):
    monkeypatch.setattr("care_jax.data.load", None)
    found = trained.load(saved_run.workdir)
    assert (found.step, found.workdir, found.config.data.name) == (3, saved_run.workdir, "image_folder")
    jax.tree.map(np.testing.assert_array_equal, found.variables, jax.device_get(saved_run.states[3].variables))
    assert found.encoder_variables["params"].keys() == {"backbone", "head"}
    older = trained.load(saved_run.workdir, "0")
    assert older.step == 0 and older.info["params_sha256"] != found.info["params_sha256"]


def test_a_place_is_a_string_or_a_path(saved_run, monkeypatch):
    monkeypatch.setenv("HOME", str(saved_run.workdir.parent))
    for place in (saved_run.workdir, str(saved_run.workdir), f"~/{saved_run.workdir.name}"):
        assert trained.load(place, "0").step == 0
        assert trained.config_of(place).data.name == "image_folder"
    with pytest.raises(PathError, match=r"^place=gs://bucket/run is an address; a local or mounted folder is needed"):
        trained.load("gs://bucket/run")


def test_a_checkpoint_that_lies_elsewhere_has_its_settings(saved_run, tmp_path):
    shutil.copytree(saved_run.workdir / "checkpoints" / "3", tmp_path / "3")
    found = trained.load(tmp_path / "3")
    assert (found.step, found.config.to_dict()) == (3, trained.load(saved_run.workdir).config.to_dict())


def test_the_best_is_the_one_with_the_best_monitor(saved_run):
    assert trained.load(saved_run.workdir, "best").step == 0


def test_a_damaged_one_is_passed_over_and_said(saved_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved_run.workdir, run)
    info = run / "checkpoints" / "3" / "info" / "metadata"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"seconds": 2.0}))
    told = []
    assert trained.load(run, warn=told.append).step == 0
    assert len(told) == 1 and "bytes have changed; an older one is taken" in told[0]
    with pytest.raises(CheckpointError, match="checkpoints/3 can't be used: its SHA-256 is not"):
        trained.load(run, "3")


@pytest.mark.parametrize(
    ("place", "step", "message"),
    [
        ("none", "", "none is not the folder of a run"),
        ("run", "x", "--step=x: give a step"),
        ("run", "7", r"no checkpoint of step 7 in .*; there are \[0, 3\]"),
        ("run/checkpoints/3", "0", "is one checkpoint: leave --step=0 out"),
        ("unsaved", "", "unsaved holds no checkpoint yet"),
        ("file", "", "file is not the folder of a run"),
    ],
)
def test_what_holds_no_encoder_is_one_line(saved_run, tmp_path, place, step, message):
    (tmp_path / "run").symlink_to(saved_run.workdir)
    (tmp_path / "unsaved").mkdir()
    (tmp_path / "unsaved" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=message):
        trained.load(tmp_path / place, step)


@pytest.fixture
def parsed(monkeypatch):
    def parse(*argv: str, **options: int) -> tuple[list[str], flags.FlagValues]:
        values = flags.FlagValues()
        monkeypatch.setattr(sys, "argv", ["embed", *argv])  # where ml_collections looks for settings
        flags.DEFINE_string("out", None, "", flag_values=values)
        return trained.parse(["embed", *argv], "care-jax embed runs/x", values, **options), values

    return parse


def test_the_settings_of_the_run_are_flags(saved_run, parsed):
    words, values = parsed("--out", "x.npy", str(saved_run.workdir), "--config.evaluate.batch_size=7", "b.jpg", most=2)
    assert words == [str(saved_run.workdir), "b.jpg"]
    assert (values["out"].value, values["config"].value.evaluate.batch_size) == ("x.npy", 7)
    assert values["config"].value.train.batch_size == 16


@pytest.mark.parametrize("words", [["--step=0"], ["--step", "0"], ["-step", "0"], ["--step=3", "--step", "0"]])
def test_the_settings_are_those_of_the_checkpoint_that_a_flag_names(monkeypatch, words):
    """However the flag is written: the weights are of that checkpoint too."""
    asked = []
    monkeypatch.setattr(trained, "config_of", lambda place, step: asked.append(step) or digits.get_config())
    values = flags.FlagValues()
    flags.DEFINE_string("step", "", "", flag_values=values)
    argv = ["embed", "runs/x", *words]
    monkeypatch.setattr(sys, "argv", argv)
    assert trained.parse(argv, "care-jax embed runs/x", values) == ["runs/x"]
    assert asked == [values["step"].value] == ["0"]


def test_no_flag_for_a_step_is_the_newest():
    assert trained.step_flag(["embed", "runs/x", "--steps=3", "step"]) == trained.step_flag(["embed", "--step"]) == ""


def test_images_and_a_part_of_the_data_are_not_both_given(tmp_path):
    values = flags.FlagValues()
    flags.DEFINE_string("images", None, "", flag_values=values)
    flags.DEFINE_string("part", "test", "", flag_values=values)
    values(["embed"])
    assert trained.images_flag(values) is None
    values(["embed", f"--images={tmp_path}"])
    assert trained.images_flag(values) == str(tmp_path)
    values(["embed", f"--images={tmp_path}", "--part=train"])
    with pytest.raises(UsageError, match=r"^--part=train is of a data set, and --images=.* is a folder: leave one"):
        trained.images_flag(values)


def test_settings_of_the_data_that_it_lacks_are_refused(parsed, capsys, monkeypatch):
    monkeypatch.setattr(trained, "config_of", lambda *_: digits.get_config())
    with pytest.raises(SystemExit) as ended:
        parsed("runs/x", "--config.data.root=photos")
    assert ended.value.code == 2
    assert "config.data.root is given, and digits has none; fashion, image_folder" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["runs/x", "-h"]])
def test_help_is_no_mistake(parsed, capsys, argv, monkeypatch):
    monkeypatch.setattr(trained, "config_of", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        parsed(*argv)
    assert ended.value.code == 0 and "--config.SECTION.SETTING=VALUE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the folder of a run is missing: care-jax embed runs/x for instance"),
        (["RUN", "b", "c"], "'b' is one word too many"),
        (["RUN", "--config.evaluate.batchsize=7"], "did you mean 'batch_size'"),
        (["no_run"], "no_run is not the folder of a run"),
    ],
)
def test_mistakes_are_one_line(saved_run, parsed, capsys, argv, message):
    with pytest.raises(SystemExit) as left:
        parsed(*(str(saved_run.workdir) if word == "RUN" else word for word in argv))
    assert left.value.code == 2 and message in capsys.readouterr().err


def test_settings_of_the_training_stay(saved_run):
    now = saved_run.config.copy_and_resolve_references()
    now.evaluate.batch_size, now.data.root = 7, "elsewhere"
    trained.check_only(saved_run.config, now, "config.evaluate.", "config.data.")
    now.seed = 5
    with pytest.raises(
        UsageError, match=r"only config\.evaluate\.\* and config\.data\.\* may be changed, not config\.seed"
    ):
        trained.check_only(saved_run.config, now, "config.evaluate.", "config.data.")
