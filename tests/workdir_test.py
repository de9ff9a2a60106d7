"""A workdir is one run's while it is claimed; whatever a file system answers, the user reads one line."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from care_jax import data, foreign_folder, storage
from care_jax.experiment.choice import filled
from care_jax.experiment.config import ConfigError, read_config
from care_jax.workdir import WorkdirError, check_data, claim, recover_config, writing


def _one_line(caught) -> str:
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


ANSWERS = """
    ENOSPC EDQUOT EFBIG EIO EROFS EACCES EPERM ESTALE ENOLCK ETIMEDOUT ENOTCONN EHOSTDOWN EHOSTUNREACH EREMOTEIO
    ENAMETOOLONG ELOOP ENODEV EBUSY EINVAL EKEYEXPIRED EUCLEAN EMFILE ENOTEMPTY ENOTDIR EISDIR EEXIST
"""


@pytest.mark.parametrize("name", ANSWERS.split())
def test_whatever_a_file_system_answers_is_one_line(tmp_path, name):
    number = getattr(errno, name)
    for error in (OSError(number, os.strerror(number)), OSError(number, os.strerror(number), str(tmp_path / "a"))):
        with pytest.raises(WorkdirError) as caught, writing(tmp_path):
            raise error
        text = _one_line(caught)
        assert f"--workdir={tmp_path} can't be written: {os.strerror(number)} (" in text
        assert ("make room" in text) == (name in ("ENOSPC", "EDQUOT", "EFBIG"))


def test_what_no_file_system_says_keeps_its_traceback(tmp_path):
    with pytest.raises(ConnectionRefusedError), writing(tmp_path):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    with pytest.raises(FileNotFoundError), writing(tmp_path / "run"):
        (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(WorkdirError, match="No such file or directory"), writing(tmp_path):
        (tmp_path / "gone").read_bytes()


def test_a_folder_above_that_is_lost_is_the_workdirs(tmp_path):
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "gone"))
    with pytest.raises(WorkdirError, match="run can't be written: No such"), writing(tmp_path / "gone" / "run"):
        raise gone


def test_another_file_than_the_workdirs_is_named_as_such(tmp_path):
    with pytest.raises(WorkdirError, match=r"^/elsewhere/x can't be used: Stale file handle"), writing(tmp_path):
        raise OSError(errno.ESTALE, "Stale file handle", b"/elsewhere/x")


@pytest.mark.parametrize("where", ["mkdir", "fsync", "flock", "replace"])
@pytest.mark.parametrize("name", ["ESTALE", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO"])
def test_a_server_out_of_reach_is_one_line_wherever_it_is_met(tmp_path, tiny_config, monkeypatch, where, name):
    def fail(*arguments, **settings):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    module, attribute = {"mkdir": (Path, where), "flock": (fcntl, where)}.get(where, (os, where))
    monkeypatch.setattr(module, attribute, fail)
    with pytest.raises(WorkdirError, match="can't be written: ") as caught, claim(tmp_path / "run", tiny_config()):
        pass
    _one_line(caught)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("n" * 300, "File name too long"),
        ("/".join(["n" * 200] * 19), "is a path of .* bytes; at most .* leave room"),
        ("a\0b", "it has a null character"),
        ("\ud800", "can't be the name of a folder"),
        ("file", "it is a file; give the name of a folder"),
        ("file/below", "Not a directory"),
        ("loop/below", "Too many levels of symbolic links"),
        ("loop", "File exists|Too many levels"),
        ("dangling", "File exists"),
    ],
)
def test_a_name_that_cannot_be_a_workdir(tmp_path, tiny_config, name, told):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    with pytest.raises(WorkdirError, match=told), claim(tmp_path / name, tiny_config()):
        pass


@pytest.mark.parametrize("name", ["latin1\udce9", "line\nline", "gs:", "[0.2,1.0]"])
def test_other_names_are_workdirs(tmp_path, tiny_config, name):
    with claim(tmp_path / name, tiny_config()) as claimed:
        claimed.check()
    assert read_config(tmp_path / name)


def test_a_folder_without_right_to_list_its_parent(tmp_path, tiny_config, monkeypatch):
    """Then its name can't be flushed, and need not be."""
    real = os.open

    def refuse(path, *rest):
        if Path(path) == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    with claim(tmp_path / "run", tiny_config()):
        pass


def test_what_was_chosen_is_noted_and_kept_by_a_run_that_has_saved(tmp_path, tiny_config):
    config = filled(tiny_config(), {"train.batch_size": None})
    for saved in (False, True):
        with claim(tmp_path, config) as claimed:
            assert claimed.kept == {}  # also of what a start has noted that saved nothing
            claimed.note(filled(config, {"train.batch_size": 24}))
        (tmp_path / "checkpoints" / ("1" if saved else "tmp")).mkdir(parents=True)
    with claim(tmp_path, config) as claimed:
        assert claimed.kept == {"train.batch_size": 24}
    assert read_config(tmp_path).train.batch_size == 24
    with pytest.raises(ConfigError, match=r"config\.train\.batch_size: 24 -> 32"), claim(tmp_path, tiny_config()):
        pass


def test_one_run_at_a_time(tmp_path, tiny_config):
    (tmp_path / "lock").write_text("process 7 on a host with a name longer than any" * 3)
    holder = f"process {os.getpid()} on {os.uname().nodename}"
    for _ in range(2):
        with claim(tmp_path, tiny_config()):
            with pytest.raises(WorkdirError, match=f"in use: {holder} is running"), claim(tmp_path, tiny_config()):
                pass
            assert (tmp_path / "lock").read_text() == holder


def test_new_folders_are_made_and_there_after_a_power_cut(tmp_path, tiny_config, monkeypatch):
    flushed = []
    monkeypatch.setattr(storage, "flush_folder", flushed.append)
    with claim(tmp_path / "runs" / "mine", tiny_config()):
        assert tmp_path / "runs" in flushed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ENOSYS", "EOPNOTSUPP", "ENOLCK", "EINVAL"])
def test_without_flock_the_other_lock_is_taken(tmp_path, tiny_config, monkeypatch, name):
    def refuse(*_):
        raise OSError(getattr(errno, name), "no flock here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = []
    with claim(tmp_path, tiny_config(), warn=said.append):
        assert not said
        code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
        assert "BlockingIOError" in other.stderr  # such locks belong to processes


def test_who_holds_a_lock_does_not_open_it_again(tmp_path, tiny_config, monkeypatch):
    """Closing any descriptor of a file gives up the process's locks of the second kind."""
    opened = []
    monkeypatch.setattr(foreign_folder, "_is_lock", lambda path: opened.append(path) or True)
    with claim(tmp_path, tiny_config()) as claimed:
        before = len(opened)
        claimed.note(tiny_config())
        claimed.check()
        recover_config(tmp_path)
    assert before == len(opened) == 0  # there was none before it began
    with claim(tmp_path, tiny_config()):
        assert len(opened) == 1  # before it was taken


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_who_holds_the_other_lock_is_told(tmp_path, tiny_config, monkeypatch, number):
    def fail(with_number):
        def lock(*_):
            raise OSError(with_number, os.strerror(with_number))

        return lock

    (tmp_path / "lock").write_text("process 7 on there")
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOSYS))
    monkeypatch.setattr(fcntl, "lockf", fail(number))
    with pytest.raises(WorkdirError, match="in use: process 7 on there is running"), claim(tmp_path, tiny_config()):
        pass
    assert (tmp_path / "lock").read_text() == "process 7 on there"


def test_without_any_lock_it_goes_on_with_a_line(tmp_path, tiny_config, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    for name in ("flock", "lockf"):
        monkeypatch.setattr(fcntl, name, refuse)
    said = []
    with claim(tmp_path, tiny_config(), warn=said.append) as claimed:
        claimed.check()
    assert len(said) == 1 and "has no locks" in said[0] and "start none while" in said[0]


@pytest.mark.parametrize("then", ["removed", "renamed", "replaced", "replaced by a copy"])
def test_a_workdir_that_disappears_is_noticed(tmp_path, tiny_config, then):
    workdir = tmp_path / "run"
    with claim(workdir, tiny_config()) as claimed:
        claimed.check()
        workdir.rename(tmp_path / "moved")
        if then == "removed":
            shutil.rmtree(tmp_path / "moved")
        elif then == "replaced":
            workdir.mkdir()
        elif then == "replaced by a copy":
            shutil.copytree(tmp_path / "moved", workdir)
        with pytest.raises(WorkdirError, match="is gone, or another folder took its place") as caught:
            claimed.check()
        _one_line(caught)


def test_the_settings_are_flushed_before_their_rename(tmp_path, tiny_config, monkeypatch):
    replaced = []
    monkeypatch.setattr(storage, "replace_file", lambda path, content: replaced.append(Path(path).name))
    with claim(tmp_path, tiny_config()):
        pass
    assert replaced == ["config.json"]  # what it does is tested in storage_test


@pytest.mark.parametrize(
    ("left", "holds"),
    [
        ("lock", False),
        ("checkpoints/0.orbax-checkpoint-tmp", False),
        ("checkpoints/3", True),
        ("checkpoints/damaged-3", True),
        ("summary.json", True),
    ],
)
def test_what_failed_early_may_begin_anew_with_other_settings_and_data(tmp_path, tiny_config, monkeypatch, left, holds):
    """And what has been saved, or measured, is not spoiled."""
    checked = []
    monkeypatch.setattr(data, "check_unchanged", lambda dataset, record: checked.append(record.exists()))
    with claim(tmp_path, tiny_config()):
        check_data(tmp_path, None)
        (tmp_path / "data.json.gz").write_text("")
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).touch()
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
        check_data(tmp_path, None)
    assert checked == [False, holds]
    try:
        with claim(tmp_path, tiny_config(seed=1)):
            begun = 1
    except ConfigError as error:
        assert "config.seed: 0 -> 1" in str(error)
        begun = 0
    assert begun == read_config(tmp_path).seed == (not holds)


def test_the_settings_of_a_run_made_longer_are_the_longer_runs(tmp_path, tiny_config):
    for num_steps in (6, 12):
        with claim(tmp_path, tiny_config(train__num_steps=num_steps)):
            assert read_config(tmp_path).train.num_steps == num_steps
            (tmp_path / "summary.json").touch()
