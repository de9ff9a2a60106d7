"""Checkpoints prove themselves, survive damage, keep the last and the best, and fit any number of devices."""

import builtins
import contextlib
import errno
import json
import logging
import os
import pickle
import shutil
import sys
import tempfile
import types
import warnings
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging as absl_logging

from care_jax import storage
from care_jax.devices import sharding
from care_jax.train import checkpoint_files
from care_jax.train.checkpoint import CheckpointError, Checkpoints
from care_jax.train.state import TrainState, params_sha256
from care_jax.workdir import WorkdirError
from tests.full_disk import no_file_beyond


def _state(step: int, num_devices: int = 1) -> TrainState:
    rng = np.random.default_rng(step)
    state = TrainState(
        step=jnp.int32(step),
        params={"kernel": jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)},
        batch_stats={"mean": jnp.asarray(rng.normal(size=4), jnp.float32)},
        optimizer_state=(jnp.asarray(rng.normal(size=(8, 4)), jnp.float32),),
        method_state={"queue": jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)},
    )
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    return jax.device_put(state, sharding.replicated(mesh))


def test_restores_every_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    sha256 = checkpoints.save(_state(3), info={"seconds": 1.5})
    checkpoints.close()
    state, info = Checkpoints(tmp_path).restore(_state(0))
    chex.assert_trees_all_equal(state, _state(3))
    assert info == {"seconds": 1.5, "params_sha256": sha256}
    assert sha256 == params_sha256(state.params)


def test_restores_onto_another_number_of_devices(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(3, num_devices=8), info={})
    checkpoints.wait()
    state, _ = checkpoints.restore(_state(0, num_devices=2))
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(_state(3)))
    assert len(state.params["kernel"].devices()) == 2


def test_saving_compiles_nothing(tmp_path):
    """However many devices have a copy."""
    state, events = _state(3, num_devices=8), []

    def hear(event, *_, **__):
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(hear)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, info={})
    checkpoints.close()
    jax.monitoring.unregister_event_duration_listener(hear)
    assert events and not [event for event in events if "compile" in event]


def test_keeps_the_last_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for step, accuracy in ((1, 50.0), (2, 90.0), (3, 70.0), (4, 60.0), (5, None)):
        checkpoints.save(_state(step), info={}, metrics=accuracy and {"knn_top1": accuracy})
        checkpoints.wait()
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best_step() == 2


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(_state(step), info={})
    checkpoints.close()
    for file in (tmp_path / "2" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 100:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said: list[str] = []
    state, _ = Checkpoints(tmp_path, warn=said.append).restore(_state(0))
    assert int(state.step) == 1
    assert len(said) == 1 and "/2 can't be used" in said[0]


def test_parameters_that_are_not_those_saved_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()
    info = next((tmp_path / "1" / "info").rglob("*metadata*"), None) or next((tmp_path / "1" / "info").iterdir())
    info.write_text(info.read_text().replace(params_sha256(_state(1).params), "0" * 64))
    with pytest.raises(CheckpointError, match="params_sha256"):
        Checkpoints(tmp_path).restore(_state(0))


def test_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        Checkpoints(tmp_path).restore(_state(0))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()
    with pytest.raises(CheckpointError, match="no checkpoint of step 7"):
        checkpoints.restore(_state(0), step=7)


def _damage(kind: str, file: Path) -> None:
    content = bytearray(file.read_bytes())
    if kind == "missing":
        file.unlink()
    elif kind == "empty":
        file.write_bytes(b"")
    else:
        content[len(content) // 2 if kind == "flipped" else -1] ^= 0x10
        file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["missing", "empty", "flipped", "flipped at the end"])
def test_any_damaged_file_is_noticed_or_harmless(tmp_path, kind, capfd):
    """Every file of a checkpoint in turn: what is restored is what was saved, of this step or of the one before."""
    checkpoints = Checkpoints(tmp_path / "whole")
    for step in (1, 2):
        checkpoints.save(_state(step), info={"seconds": 1.5}, metrics={"knn_top1": 50.0})
    checkpoints.close()
    newest = tmp_path / "whole" / "2"
    files = sorted(file.relative_to(newest) for file in newest.rglob("*") if file.is_file())
    passed_over = 0
    for i, file in enumerate(files):
        copy = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", copy)
        _damage(kind, copy / "2" / file)
        said: list[str] = []
        checkpoints = Checkpoints(copy, warn=said.append)
        state, info = checkpoints.restore(_state(0))
        checkpoints.best_step()
        checkpoints.close()
        step = int(state.step)
        for line in said:  # a sentence, not the library's dump
            assert len(line.replace(str(copy), "")) < 120 and "{" not in line and "Error" not in line
        chex.assert_trees_all_equal(state, _state(step))
        assert info["seconds"] == 1.5
        assert step == 2 or said, file
        passed_over += step == 1
    assert passed_over >= 2
    assert "Traceback" not in capfd.readouterr().err


def test_every_array_and_the_info_are_proved(tmp_path):
    """Bytes that were changed together with the checksums of the files below: our own sum notices."""
    for name in ("batch_stats", "optimizer_state", "seconds"):
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(_state(1), info={"seconds": 1.5})
        checkpoints.close()
        file = next(file for file in (tmp_path / name / "1" / "info").rglob("metadata") if file.is_file())
        info = json.loads(file.read_text())
        if name == "seconds":
            info["seconds"] = 2.5
        else:
            other = _state(1).replace(**{name: jax.tree.map(lambda x: x + 1, getattr(_state(1), name))})
            info["sha256"] = checkpoint_files.sha256(other, {k: v for k, v in info.items() if k != "sha256"})
        file.write_text(json.dumps(info))
        with pytest.raises(CheckpointError, match="bytes have changed"):
            Checkpoints(tmp_path / name).restore(_state(0))


def test_a_write_that_is_cut_short_is_one_line_and_loses_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()
    with no_file_beyond(100):
        with pytest.raises(CheckpointError, match=r"can't be written to .*Those saved before are kept"):
            checkpoints.save(_state(2), info={})
            checkpoints.wait()
        with contextlib.suppress(CheckpointError):
            checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [1]
    chex.assert_trees_all_equal(checkpoints.restore(_state(0))[0], _state(1))
    checkpoints.save(_state(3), info={})
    checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [1, 3]


def test_restoring_runs_no_code_of_the_files(tmp_path, monkeypatch):
    """Neither pickle nor eval is ever asked."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()

    def refuse(*arguments, **settings):
        raise AssertionError("code of a file would run")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(builtins, "eval", refuse)
    state, _ = Checkpoints(tmp_path).restore(_state(0))
    chex.assert_trees_all_equal(state, _state(1))


@pytest.mark.parametrize(
    "name", ["scale=[0.2,1.0]", "a\\b", "[*]?", "gs:", "latin1\udce9", "line\nline", "{a}|$b;'\"&"]
)
def test_a_path_of_any_characters_holds_checkpoints(tmp_path, name):
    """A pattern, a protocol, an escape or no UTF-8 to one of the libraries: it wrote on, to where nothing was found."""
    directory = tmp_path / name / "checkpoints"
    (tmp_path / "seed=3").mkdir()  # what a pattern could match instead
    checkpoints = Checkpoints(directory, keep_last=1)
    for step in (1, 2):
        checkpoints.save(_state(step), info={})
    checkpoints.close()
    assert sorted(path.name for path in directory.iterdir() if path.name.isdigit()) == ["2"]
    chex.assert_trees_all_equal(Checkpoints(directory).restore(_state(0))[0], _state(2))


def test_a_path_that_cannot_be_made_safe_is_refused_before_any_step(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match=r"its path has '\[', and a link to it can't be made .*TMPDIR"):
        Checkpoints(tmp_path / "a[b")
    (tmp_path / "t*p").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t*p"))
    with pytest.raises(CheckpointError, match=r"its path has '\[', and a link to it would lie in .*TMPDIR"):
        Checkpoints(tmp_path / "a[b")
    assert not list((tmp_path / "t*p").iterdir())
    Checkpoints(tmp_path / "plain")  # needs none


def _arrays(folder: Path) -> Path:
    return max((folder / "state").rglob("d/*"), key=lambda file: file.stat().st_size)


def _swap_info(folder: Path) -> None:
    shutil.copy(folder.parent / "1" / "info" / "metadata", folder / "info" / "metadata")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "state" / "manifest.ocdbt").unlink(), "its arrays are missing"),
        (lambda folder: _damage("flipped", _arrays(folder)), "is missing, changed or cut short|params_sha256|SHA-256"),
        (lambda folder: _damage("empty", folder / "info" / "metadata"), "info/metadata has been changed"),
        (_swap_info, "info/metadata is not what was written"),
        (lambda folder: (folder / "metrics" / "metrics").write_text("{}"), "metrics/metrics is not what was written"),
    ],
    ids=["no arrays", "flipped", "cut short", "swapped", "other metrics"],
)
def test_what_cannot_be_read_back_does_not_take_the_place_of_the_one_before(tmp_path, monkeypatch, damage, told):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()

    def flush_and_damage(folder):
        assert not (tmp_path / "2").exists()  # it has no name yet
        damage(Path(folder))

    monkeypatch.setattr(storage, "flush_tree", flush_and_damage)
    checkpoints.save(_state(2), info={}, metrics={"knn_top1": 1.0})
    with pytest.raises(
        CheckpointError, match=rf"step 2 was written to .*({told}).* It is not kept, those saved before"
    ):
        checkpoints.wait()
    checkpoints.close()
    monkeypatch.undo()
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    assert checkpoints.steps() == [1]
    chex.assert_trees_all_equal(checkpoints.restore(_state(0))[0], _state(1))
    checkpoints.save(_state(2), info={})
    checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [2]


def test_all_files_of_a_checkpoint_are_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(storage, "flush", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()
    files = {str(path.relative_to(tmp_path / "1")) for path in (tmp_path / "1").rglob("*")}
    files.remove("commit_success.txt")  # written last, read by no one
    assert files <= {path.partition(".orbax-checkpoint-tmp/")[2] for path in flushed}
    assert str(tmp_path) == flushed[-1]


def test_what_the_libraries_warn_of_is_said_once(tmp_path, monkeypatch):
    """Whatever the level of what is printed; what others warn of is left to them."""
    level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.FATAL)
    logger = absl_logging.get_absl_logger()

    def warn(folder):
        for library in ("orbax", "orbax", "other"):
            assert logger.isEnabledFor(logging.WARNING)
            text = f"[process=0][thread=x] {library} merged nothing\nmore"
            logger.handle(logger.makeRecord("absl", logging.WARNING, f"/{library}/x.py", 1, text, (), None))
            warnings.warn_explicit(f"{library} guessed", UserWarning, f"/{library}/x.py", 1)
        try:
            exec(compile("raise RuntimeError('closed')", "/orbax/x.py", "exec"))
        except RuntimeError as error:
            event = {"exc_type": type(error), "exc_value": error, "exc_traceback": error.__traceback__}
            sys.unraisablehook(types.SimpleNamespace(**event, err_msg=None, object=None))

    monkeypatch.setattr(storage, "flush_tree", warn)
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    with pytest.warns(UserWarning, match="other guessed") as others:
        checkpoints.save(_state(1), info={})
        checkpoints.close()
    absl_logging.set_verbosity(level)
    warned = f"a library warned of {tmp_path}: orbax"
    assert said == [f"{warned} merged nothing", f"{warned} guessed", f"{warned[:-6]} RuntimeError: closed"]
    assert len(others) == 1
    assert not logger.filters


def test_a_good_save_says_nothing(tmp_path):
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, keep_last=1, warn=said.append)
    for step in (1, 2, 3):
        checkpoints.save(_state(step), info={}, metrics={"knn_top1": 1.0} if step == 2 else None)
    checkpoints.close()
    Checkpoints(tmp_path, warn=said.append).restore(_state(0))
    assert not said


def test_what_cannot_be_read_now_is_neither_passed_over_nor_renamed(tmp_path, monkeypatch):
    """A server that is out of reach says nothing about what it holds."""
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(_state(step), info={})
    checkpoints.wait()
    read = Path.read_bytes

    def stale(path):
        if path == tmp_path / "2" / "info" / "metadata":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", stale)
    with pytest.raises(CheckpointError, match="/2 can't be used: its file info/metadata can't be read: Stale"):
        checkpoints.restore(_state(0))
    checkpoints.close()
    assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("UNKNOWN: Error reading local file \"d/0\" [os_error_code='116']", "Stale file handle"),
        (
            "UNAVAILABLE: Error reading local file \"d/0\" [os_error_code='5'] [spec]",
            "Input/output error",
        ),
        ("RESOURCE_EXHAUSTED: Error allocating", "memory is short"),
    ],
)
def test_an_array_that_cannot_be_read_now_is_no_damage(tmp_path, monkeypatch, answer, told):
    class Refused:
        def result(self):
            raise ValueError(answer)

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()
    monkeypatch.setattr(checkpoint_files.tensorstore, "open", lambda *_, **__: Refused())
    with pytest.raises(CheckpointError, match=f"/1 can't be used: the array step can't be read: {told}"):
        checkpoints.restore(_state(0))
    assert (tmp_path / "1").is_dir()


def test_the_step_of_a_damaged_checkpoint_can_be_saved_again(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(_state(step), info={})
    checkpoints.close()
    shutil.rmtree(tmp_path / "2" / "state")
    checkpoints = Checkpoints(tmp_path, warn=lambda line: None)
    assert int(checkpoints.restore(_state(0))[0].step) == 1
    assert (tmp_path / "damaged-2").is_dir()
    checkpoints.save(_state(2), info={})
    checkpoints.close()
    assert int(Checkpoints(tmp_path).restore(_state(0))[0].step) == 2


def test_a_checkpoint_under_another_name_is_passed_over(tmp_path):
    """Else the run would go on from a step that it does not say."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()
    shutil.copytree(tmp_path / "1", tmp_path / "5")
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    assert int(checkpoints.restore(_state(0))[0].step) == 1
    assert len(said) == 1 and "it is that of step 1, under another name; it is damaged-5 now" in said[0]
    assert checkpoints.steps() == [1]


def test_what_else_lies_beside_checkpoints_is_left_alone(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.close()
    (tmp_path / "7").write_text("a file")
    (tmp_path / "8").symlink_to(tmp_path / "none")
    (tmp_path / "notes").mkdir()
    shutil.copytree(tmp_path / "1", tmp_path / "9.orbax-checkpoint-tmp")  # killed while it was written
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    assert int(checkpoints.restore(_state(0))[0].step) == 1
    assert not said
    assert sorted(os.listdir(tmp_path)) == ["1", "7", "8", "notes"]


@pytest.mark.parametrize("file", ["_CHECKPOINT_METADATA", "metrics/metrics"])
def test_a_damaged_description_loses_no_checkpoint(tmp_path, file):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    checkpoints.save(_state(1), info={}, metrics={"knn_top1": 1.0})
    checkpoints.close()
    (tmp_path / "1" / file).write_bytes(b"\0\0\0")
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    assert int(checkpoints.restore(_state(0))[0].step) == 1
    assert len(said) == 1 and f"{file} was damaged and is damaged-" in said[0]
    assert checkpoints.best_step() == (None if file == "metrics/metrics" else 1)


@pytest.mark.parametrize(
    ("like", "told"),
    [
        ({"kernel": jnp.zeros((8, 5))}, r"params\.kernel as it holds float32\[8, 4\], lacks float32\[8, 5\]"),
        ({"kernel": jnp.zeros((8, 4), jnp.bfloat16)}, r"lacks bfloat16\[8, 4\]"),
        ({"other": jnp.zeros((8, 4))}, r"of arrays it holds params\.kernel, lacks params\.other"),
    ],
)
def test_a_checkpoint_of_another_model_is_told_and_left_alone(tmp_path, like, told):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1), info={})
    checkpoints.wait()
    with pytest.raises(CheckpointError, match=f"written for another model or by another version: .*{told}"):
        checkpoints.restore(_state(0).replace(params=like))
    assert checkpoints.steps() == [1]


def test_a_folder_that_is_no_longer_the_runs_is_noticed_before_a_save(tmp_path):
    def gone():
        raise WorkdirError("gone")

    checkpoints = Checkpoints(tmp_path, check=gone)
    with pytest.raises(WorkdirError, match="gone"):
        checkpoints.save(_state(1), info={})
    checkpoints.close()
    assert checkpoints.steps() == []
