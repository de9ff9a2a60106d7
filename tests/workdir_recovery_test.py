"""Settings of a run that are damaged or missing: made again from a checkpoint, or refused, and never lost."""

import errno
import json
import os
from pathlib import Path

import pytest

from care_jax.experiment import config as config_room
from care_jax.experiment.config import ConfigError, read_config
from care_jax.workdir import claim, plain, recover_config


def _checkpoint(workdir: Path, step: int, info: object) -> None:
    folder = workdir / "checkpoints" / str(step) / "info"
    folder.mkdir(parents=True)
    (folder / "metadata").write_text(json.dumps(info))


def test_of_several_checkpoints_the_newest_tells_the_settings(tmp_path, tiny_config):
    """By number, not by name; one that is being written is none."""
    for step in (9, 10):
        _checkpoint(tmp_path, step, {"params_sha256": "0" * 64, "config": plain(tiny_config(train__log_every=step))})
    (tmp_path / "checkpoints" / "11.orbax-checkpoint-tmp").mkdir()
    said = []
    assert recover_config(tmp_path, said.append)
    assert len(said) == 1 and "was missing: it was made again with the settings in checkpoint 10" in said[0]
    assert read_config(tmp_path).train.log_every == 10


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
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match="was missing, and no checkpoint beside it"):
        recover_config(tmp_path)


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


def test_a_link_that_leads_nowhere_now_is_left_alone(tmp_path, tiny_config):
    """What it leads to may be whole, on a disk that is to be mounted."""
    _checkpoint(tmp_path, 9, {"params_sha256": "0" * 64, "config": plain(tiny_config())})
    (tmp_path / "config.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="No such file"):
        recover_config(tmp_path)
    assert (tmp_path / "config.json").is_symlink()
