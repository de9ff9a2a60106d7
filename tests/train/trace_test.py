"""Steps recorded by JAX's profiler: so many, after the first call; a recording that fails costs no step."""

import os

import jax
import jax.numpy as jnp
import pytest

from care_jax.train.trace import traced


def _step(state, batch):
    return state + 1, {"loss": jnp.zeros(batch)}


@pytest.fixture
def profiler(monkeypatch):
    """What the profiler was asked, in order."""
    asked = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: asked.append(folder))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: asked.append("stop"))
    return asked


def test_so_many_steps_are_recorded_after_the_first_call(profiler, tmp_path):
    told, state, seen = [], 0, []
    with traced(_step, 5, tmp_path, told.append) as step:
        for count in (3, 3, 1, 1, 1):
            state, _ = step(state, count)
            seen.append(list(profiler))
    assert state == 5
    assert seen == [[], [tmp_path], [tmp_path], [tmp_path, "stop"], [tmp_path, "stop"]]
    (line,) = told
    assert line.startswith(f"{tmp_path} has 5 recorded steps")


def test_a_run_that_ends_before_leaves_what_there_is(profiler, tmp_path):
    told = []
    with pytest.raises(KeyError), traced(_step, 9, tmp_path, told.append) as step:
        for count in (1, 2):
            step(0, count)
        raise KeyError
    assert profiler == [tmp_path, "stop"] and "has 2 recorded steps" in told[0]


def test_none_are_recorded_where_none_are_asked_for(profiler, tmp_path):
    with traced(_step, 0, tmp_path, print) as step:
        assert step is _step
    told = []
    with traced(_step, 5, tmp_path, told.append):
        pass  # of a finished run there is nothing to say
    assert told == []
    with traced(_step, 5, tmp_path, told.append) as step:
        step(0, 1)
    assert profiler == [] and "made one call of the step" in told[0]


def test_a_recording_that_fails_is_told_and_costs_no_step(tmp_path):
    """A file in the place of the folder."""
    (tmp_path / "trace").write_text("")
    told, state = [], 0
    with traced(_step, 1, tmp_path / "trace", told.append) as step:
        for _ in range(3):
            state, _ = step(state, 1)
    assert state == 3 and len(told) == 1 and told[0].startswith("train.trace_steps: nothing is recorded (")


def test_a_folder_whose_name_is_no_text(tmp_path):
    told, state = [], 0
    with traced(_step, 1, tmp_path / os.fsdecode(b"caf\xe9"), told.append) as step:
        for _ in range(3):
            state, _ = step(state, 1)
    assert state == 3 and len(told) == 1 and "name is not UTF-8" in told[0]


def test_a_recording_is_files_that_viewers_open(tmp_path):
    told = []
    with traced(_step, 1, tmp_path, told.append) as step:
        for _ in range(2):
            step(0, 1)
    assert "has 1 recorded steps" in told[0]
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert any(name.endswith(".trace.json.gz") for name in names) and any(name.endswith(".xplane.pb") for name in names)
