"""Evaluating again: of the run's own data, with the run's settings but for those of the evaluation."""

import json
import shutil
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import pytest
from absl import flags
from PIL import Image

from care_jax import data, run
from care_jax.command_line import UsageError
from care_jax.data import DataError, SkippedFiles
from care_jax.devices import sharding
from care_jax.evaluate import evaluation, evaluators, results
from care_jax.experiment import build
from care_jax.experiment.config import ConfigError, read_config
from care_jax.train.state import params_sha256
from care_jax.workdir import WorkdirError, claim, plain


def _parsed(command, monkeypatch, *arguments):
    values = flags.FlagValues()
    for name in ("workdir", "on", "step"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])  # where ml_collections looks for settings
    command.parse(sys.argv, values)
    return values["config"].value


def test_settings_of_the_run_are_flags(command, monkeypatch, tmp_path, tiny_config, capsys):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config().to_dict()))
    workdir = f"--workdir={tmp_path}"
    changed = ["--config.evaluate.knn_k=3", "--config.data.root=moved", "--config.evaluate.probe.epochs=7"]
    config = _parsed(command, monkeypatch, *changed, workdir)
    assert (config.evaluate.knn_k, config.data.root, config.evaluate.probe.epochs) == (3, "moved", 7)
    assert config.seed == 0 and config.data.class_file is None
    with pytest.raises(SystemExit) as left:
        _parsed(command, monkeypatch, workdir, "--config.evaluate.knnk=3")
    assert left.value.code == 2
    with pytest.raises(SystemExit):
        _parsed(command, monkeypatch, f"--workdir={tmp_path / 'none'}")
    mistyped, missing = capsys.readouterr().err.splitlines()
    assert "did you mean 'knn_k'?" in mistyped and "must be the folder of a run" in missing


def test_the_workdir_is_looked_for_at_home_and_mended(command, monkeypatch, tmp_path, tiny_config, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    info = tmp_path / "run" / "checkpoints" / "3" / "info"
    info.mkdir(parents=True)
    (info / "metadata").write_text(json.dumps({"params_sha256": "0" * 64, "config": plain(tiny_config(seed=5))}))
    assert _parsed(command, monkeypatch, "--workdir=~/run").seed == 5
    assert "config.json was missing: it was made again" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--workdir"], ["--workdir=gs://b"]])
def test_a_workdir_that_is_none_is_one_line(command, monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit) as left:
        _parsed(command, monkeypatch, *arguments)
    assert left.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "step"), [("", None), ("best", 4), ("12", 12), ("x", ""), ("-1", ""), ("²", ""), ("9" * 5000, "")]
)
def test_which_checkpoint_is_asked_for(command, text, step):
    checkpoints = Mock(best_step=lambda: 4)
    if step == "":
        with pytest.raises(UsageError, match="give a step, 'best', or leave it out"):
            command._step(text, checkpoints)
    else:
        assert command._step(text, checkpoints) == step
    with pytest.raises(UsageError, match="no checkpoint of this run was ranked"):
        command._step("best", Mock(best_step=lambda: None))


def test_the_flags_reach_the_evaluation(command, monkeypatch, tmp_path, capsys):
    given = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(command, "logging", Mock())
    monkeypatch.setattr(command, "compilation_cache", Mock())
    monkeypatch.setattr(command, "given_settings", list)
    monkeypatch.setattr(command, "evaluate_again", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(
        command,
        "FLAGS",
        SimpleNamespace(
            compilation_cache=False, workdir="~/run", config="settings", step="best", on=None, out=None, baseline=None
        ),
    )
    command.main([])
    command.FLAGS.baseline = "~/other"
    command.main([])
    assert given == [
        (tmp_path / "run", "settings", "best", None),
        (tmp_path / "run", "settings", "best", tmp_path / "other"),
    ]
    command.FLAGS.out = "x.json"
    with pytest.raises(SystemExit):
        command.main([])
    monkeypatch.setattr(command.transfer, "evaluate_on", lambda *arguments, **named: given.append((arguments, named)))
    command.FLAGS.on = "cifar10"
    with pytest.raises(SystemExit):
        command.main([])
    command.FLAGS.baseline = None
    command.main([])
    assert given[2:] == [((tmp_path / "run", "settings", "cifar10"), {"step": "best", "out": "x.json"})]
    command.FLAGS.workdir = ""
    with pytest.raises(SystemExit):
        command.main([])
    for_on, of_its_own, missing = capsys.readouterr().err.splitlines()
    assert (
        "--out=x.json is for --on" in for_on
        and "--baseline=~/other is for the report" in of_its_own
        and "--workdir is missing" in missing
    )


def test_the_folder_of_the_run_may_be_a_word_and_another_set_brings_its_settings(
    command, monkeypatch, tmp_path, tiny_config, capsys
):
    info = tmp_path / "run" / "checkpoints" / "3" / "info"
    info.mkdir(parents=True)
    (info / "metadata").write_text(json.dumps({"params_sha256": "0" * 64, "config": plain(tiny_config(seed=5))}))
    run = str(tmp_path / "run")
    config = _parsed(command, monkeypatch, "--on=cifar10", run, "--config.data.root=moved", "--step=3")
    assert (config.data.name, config.data.root, config.data.image_size, config.seed) == ("cifar10", "moved", 16, 5)
    assert _parsed(command, monkeypatch, "--config.evaluate.knn_k", "7", run).evaluate.knn_k == 7
    for wrong in ([run, "more"], [f"--workdir={run}", "more"], [run, "--on=cifar11"]):
        with pytest.raises(SystemExit) as left:
            _parsed(command, monkeypatch, *wrong)
        assert left.value.code == 2
    told = capsys.readouterr().err.splitlines()[-3:]
    assert "'more' is one word too many" in told[0] and "'more' is one word too many" in told[1]
    assert "--on=cifar11 is no data set" in told[2]


def test_what_is_written_is_of_the_checkpoint_and_its_folder(command, monkeypatch, tmp_path, tiny_config):
    """Not of the run's last step; and nothing is written in the place of a folder that is gone."""
    restored = []

    def restore(like, step):
        restored.append(step)
        return SimpleNamespace(step=4, variables={}), {"seconds": 7.0, "device": "2 x gpu"}

    def write(experiment, workdir, variables, *, step, seconds, device, check, beside):
        assert (step, seconds, device) == (4, 7.0, "2 x gpu")
        with pytest.raises(WorkdirError, match="in use"), claim(workdir, config):
            pass
        check()
        workdir.rename(tmp_path / "moved")
        check()

    workdir, config = tmp_path / "run", tiny_config()
    with claim(workdir, config):
        pass
    monkeypatch.setattr(command, "build", _build_of(SkippedFiles()))
    monkeypatch.setattr(command, "check_data", Mock())
    monkeypatch.setattr(command, "Checkpoints", lambda *given, **named: Mock(restore=restore))
    monkeypatch.setattr(command.results, "write", write)
    with pytest.raises(WorkdirError, match="is gone"):
        command.evaluate_again(workdir, config, "4")
    assert restored == [4]


def _build_of(skipped):
    """In the place of `build`: experiments whose data is missing these files."""
    made = Mock()
    made.build.return_value._replace.return_value.dataset.skipped = skipped
    return made


@pytest.mark.parametrize(("at_load", "later"), [((), ()), (("a.png",), ()), ((), ("b.png",)), (("a.png",), ("b.png",))])
def test_skipped_files_are_told_before_it_evaluates_and_after_where_there_are_more(
    command, monkeypatch, tmp_path, tiny_config, capsys, at_load, later
):
    workdir, config, skipped = tmp_path / "run", tiny_config(), SkippedFiles()
    with claim(workdir, config):
        pass
    for path in at_load:
        skipped.add(path, "not an image")
    state = SimpleNamespace(step=4, variables={}), {"seconds": 7.0}
    before = []

    def write(*given, **named):
        before.extend(capsys.readouterr().err.splitlines())
        for path in later:
            skipped.add(path, "not an image")

    monkeypatch.setattr(command, "build", _build_of(skipped))
    monkeypatch.setattr(command, "check_data", Mock())
    monkeypatch.setattr(command, "Checkpoints", lambda *given, **named: Mock(restore=lambda *_: state))
    monkeypatch.setattr(command.results, "write", write)
    command.evaluate_again(workdir, config)
    after = capsys.readouterr().err.splitlines()
    told = [[line for line in lines if "could not be used" in line] for lines in (before, after)]
    assert [len(lines) for lines in told] == [len(at_load), len(later)]
    assert all("skipped 1 image file" in line for line in told[0])
    assert all(f"skipped {len(at_load) + 1} image file" in line for line in told[1])


@pytest.mark.slow
def test_the_devices_need_not_divide_the_batch_of_training(command, saved_run, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(saved_run.workdir, workdir)
    whole = sharding.make_mesh
    monkeypatch.setattr(sharding, "make_mesh", lambda devices=None: whole(devices or jax.devices()[:3]))
    refused = r"batch_size is 16, which 3 devices do not divide; .*; or 2 of the devices \(JAX_NUM_CPU_DEVICES=2\)"
    with pytest.raises(ConfigError, match=refused):
        build.build(saved_run.config)
    evaluated, sizes = [], []

    def write(evaluation, _, variables, *, step, **__):
        embedded = evaluation.embedded(step, variables)
        settings = saved_run.config.evaluate
        evaluated.append([evaluators.EVALUATORS[name].numbers(embedded, settings) for name in ("knn", "linear_probe")])
        sizes.append(evaluation.experiment.mesh.size)

    monkeypatch.setattr(command.results, "write", write)
    command.evaluate_again(workdir, saved_run.config)
    monkeypatch.setattr(sharding, "make_mesh", lambda devices=None: whole(jax.devices()[:1]))
    command.evaluate_again(workdir, saved_run.config)
    assert sizes == [3, 1] and evaluated[0] == evaluated[1]


def _stub_measures(monkeypatch) -> None:
    """Which are tested elsewhere, and take long to compile."""

    def measure(self, step, variables):
        headline = [name for name, one in evaluators.measures(("class",)).items() if one.headline]
        numbers = dict.fromkeys(headline, 0.5)
        numbers["knn_top1"] = float(self.experiment.config.evaluate.knn_k)
        return evaluation.Measured(numbers)

    monkeypatch.setattr(evaluation.Evaluation, "measure", measure)
    monkeypatch.setattr(results, "_report", lambda *arguments: "")


@pytest.mark.slow
def test_a_run_is_evaluated_again_and_made_longer(command, monkeypatch, tmp_path, tiny_config, small_encoder):
    """On a folder of images, which may move but not change."""
    monkeypatch.setattr(build, "make_encoder", lambda config: small_encoder())
    _stub_measures(monkeypatch)
    root = tmp_path / "images"
    digits = data.load("digits", image_size=16).pretrain
    for i in range(40):
        folder = root / f"class_{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i]).save(folder / f"{i:02d}.png")
    config = tiny_config(
        data__name="image_folder",
        data__root=str(root),
        train__batch_size=16,
        train__num_steps=2,
        train__checkpoint_every_epochs=0.0,
        evaluate__num_augmentations=1,
    )
    workdir = tmp_path / "run"
    assert run.run(config, workdir)
    first = json.loads((workdir / "summary.json").read_text())
    moved = root.rename(tmp_path / "moved")
    again = read_config(workdir)
    again.data.root, again.evaluate.knn_k = str(moved), 1
    command.evaluate_again(workdir, again)
    second = json.loads((workdir / "summary.json").read_text())
    assert second["config"]["evaluate"]["knn_k"] == 1 and first["config"]["evaluate"]["knn_k"] == 5
    assert {name for name in first if first[name] != second[name]} == {"config", "knn_top1"}

    again.seed = 1
    with pytest.raises(UsageError, match=r"may change .* and config.data.root, not config.seed: 0 -> 1"):
        command.evaluate_again(workdir, again)
    again.seed = 0
    shutil.copy(moved / "class_0" / "00.png", moved / "class_0" / "40.png")
    with pytest.raises(DataError, match=r"changed since .*1 file added \(class_0/40.png\)"):
        command.evaluate_again(workdir, again)
    assert json.loads((workdir / "summary.json").read_text()) == second
    (moved / "class_0" / "40.png").unlink()

    config.data.root, config.train.num_steps = str(moved), 4
    assert run.run(config, workdir)  # longer
    longer = json.loads((workdir / "summary.json").read_text())
    (tmp_path / "whole").mkdir()
    whole = run.train(build.build(config), tmp_path / "whole").state
    assert longer["steps"] == 4
    assert longer["params_sha256"] == params_sha256(whole.params) != first["params_sha256"]
    config.train.num_steps = 2
    with pytest.raises(ConfigError, match=r"num_steps: 4 -> 2"):
        run.run(config, workdir)


@pytest.mark.slow
def test_no_steps_measure_the_encoder_as_it_was_drawn(tmp_path, tiny_config, small_encoder, monkeypatch):
    monkeypatch.setattr(build, "make_encoder", lambda config: small_encoder())
    _stub_measures(monkeypatch)
    config = tiny_config(train__num_steps=0, evaluate__num_augmentations=1)
    assert run.run(config, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    drawn = params_sha256(build.make_state(build.build(config)).params)
    assert summary["steps"] == 0 and summary["params_sha256"] == drawn
