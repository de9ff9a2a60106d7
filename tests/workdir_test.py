"""A workdir is one run's while it is claimed; whatever a file system answers, the user reads one line."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from care_jax import storage
from care_jax.experiment import config as config_room
from care_jax.experiment.config import ConfigError, read_config
from care_jax.workdir import WorkdirError, claim, plain, recover_config, writing


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


def _checkpoint(workdir: Path, step: int, info: object) -> None:
    folder = workdir / "checkpoints" / str(step) / "info"
    folder.mkdir(parents=True)
    (folder / "metadata").write_text(json.dumps(info))


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\xff\0\xfe"),
    "no settings": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_settings_come_back_from_the_newest_checkpoint_that_has_them(tmp_path, tiny_config, damage):
    config = tiny_config(train__log_every=7)
    with claim(tmp_path, config):
        pass
    _checkpoint(tmp_path, 9, {"params_sha256": "0" * 64, "config": plain(config)})
    _checkpoint(tmp_path, 10, ["damaged"])
    DAMAGE[damage](tmp_path / "config.json")
    said = []
    with (
        pytest.raises(ConfigError, match=r"config\.seed: 0 -> 1"),
        claim(tmp_path, tiny_config(seed=1), warn=said.append),
    ):
        pass
    assert len(said) == 1 and "was made again with the settings in checkpoint 9" in said[0]
    assert (tmp_path / "config.json.damaged").exists() == (damage != "removed")
    assert plain(read_config(tmp_path)) == plain(config)
    with claim(tmp_path, tiny_config(), warn=said.append):
        pass
    assert len(said) == 1


def test_damaged_settings_without_a_checkpoint(tmp_path, tiny_config):
    """Nothing had been made of them."""
    (tmp_path / "config.json").write_text("{")
    said = []
    with claim(tmp_path, tiny_config(), warn=said.append):
        pass
    assert len(said) == 1 and "nothing was saved yet, the run begins anew" in said[0]
    assert read_config(tmp_path).seed == 0


def test_damaged_settings_that_no_checkpoint_has_are_refused_and_kept(tmp_path, tiny_config):
    (tmp_path / "config.json").write_text("{")
    _checkpoint(tmp_path, 3, {"params_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="was damaged, and no checkpoint beside it holds the settings: put it back"):
        recover_config(tmp_path)
    assert (tmp_path / "config.json").read_text() == "{"


def test_settings_that_cannot_be_read_now_are_left_alone(tmp_path, tiny_config, monkeypatch):
    with claim(tmp_path, tiny_config()):
        pass
    _checkpoint(tmp_path, 9, {"params_sha256": "0" * 64, "config": plain(tiny_config())})

    def refuse(workdir):
        raise ConfigError("Stale file handle") from OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("care_jax.workdir.read_config", refuse)
    with pytest.raises(ConfigError, match="Stale"), claim(tmp_path, tiny_config()):
        pass
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "config.json", "lock"]
    assert config_room.read_config(tmp_path).seed == 0
