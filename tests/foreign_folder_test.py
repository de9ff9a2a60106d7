"""Files of others are not overwritten: a folder of theirs is no workdir."""

import json

import pytest

from care_jax import foreign_folder
from care_jax.foreign_folder import ForeignFolderError
from care_jax.workdir import claim, plain, recover_config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"architectures": ["ViTModel"], "hidden_size": 384}'),  # of a model from elsewhere
        ("config.json", "[1, 2]"),
        ("lock", "flock of another program"),
        ("summary.json", "{}"),
        ("report.html", "<html>"),
    ],
)
def test_what_is_of_no_run_is_refused_and_stays(tmp_path, tiny_config, name, text):
    (tmp_path / name).write_text(text)
    uses = [lambda: claim(tmp_path, tiny_config()).__enter__(), lambda: recover_config(tmp_path)]
    for use in uses[: 1 if name == "lock" else 2]:
        with pytest.raises(
            ForeignFolderError, match=rf"^--workdir=.* holds a {name} that is of no run .* give a folder"
        ):
            use()
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == text


@pytest.mark.parametrize("text", ["", "process 7 on host"])
def test_what_is_of_a_run_is_taken(tmp_path, tiny_config, text):
    (tmp_path / "lock").write_text(text)
    (tmp_path / "notes.txt").touch()  # that no run writes
    foreign_folder.check(tmp_path)
    foreign_folder.check_lock(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(plain(tiny_config())))
    (tmp_path / "summary.json").touch()
    foreign_folder.check(tmp_path)
    (tmp_path / "config.json").write_text('{"data": {')  # damaged: it is set aside, not overwritten
    foreign_folder.check(tmp_path)
    foreign_folder.check(tmp_path / "none")


def test_beside_checkpoints_all_is_of_a_run(tmp_path):
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    (tmp_path / "config.json").write_text("[1, 2]")
    foreign_folder.check(tmp_path)
