"""A run that needs more memory than there is: one line, with settings that were compiled and fit."""

from unittest.mock import Mock

import jax
import pytest

from care_jax import fits, run
from care_jax.devices import memory, sharding
from care_jax.devices.memory import ProgramMemory
from care_jax.experiment import build
from care_jax.fits import DoesNotFitError

MIB = 2**20


@pytest.fixture
def compiled(monkeypatch):
    """The settings that are compiled; a program takes 10 MiB, and 8 an image embedded at once, with remat 3."""
    found = []

    def compile_(steps, count):
        config = steps.experiment.config
        found.append((config.train.batch_size, config.train.micro_batches, config.model.remat))
        an_image = 3 if config.model.remat else 8
        images = config.train.batch_size // config.train.micro_batches
        return ProgramMemory(10 * MIB, an_image * images * MIB // steps.experiment.mesh.size, 0, 0)

    monkeypatch.setattr(fits, "_compile", compile_)
    return found


def _refused(experiment, monkeypatch, available: int | None, **settings) -> str:
    monkeypatch.setattr(memory, "available", lambda mesh: available)
    with pytest.raises(DoesNotFitError) as caught:
        fits.compile_steps(experiment, {1}, **settings)
    return str(caught.value)


@pytest.fixture(scope="module")
def experiment(tiny_config):
    mesh = sharding.make_mesh(jax.devices()[:1])
    return build.build(tiny_config(train__batch_size=64, equivariance__num_groups=4), mesh)


@pytest.mark.parametrize("available", [522 * MIB, None])
def test_what_fits_is_compiled_once(experiment, compiled, monkeypatch, available):
    monkeypatch.setattr(memory, "available", lambda mesh: available)
    fits.compile_steps(experiment, {1, 3})
    assert compiled == [(64, 1, False)] * 2


@pytest.mark.parametrize(
    ("available", "fit", "tried"),
    [
        (521, ["model.remat=True (202.0 MiB", "train.micro_batches=2 (266.0 MiB", "train.batch_size=32 ("], 3),
        (201, ["train.micro_batches=4", "train.batch_size=16"], 3),  # halves that would be too much are passed over
        (42, ["train.micro_batches=16"], 2),  # so small a batch has no groups of two
        (17, ["train.micro_batches=32 --config.model.remat=True (16.0 MiB"], 2),  # neither would do
        (16, ["train.micro_batches=32 --config.model.remat=True (16.0 MiB"], 2),
    ],
)
def test_settings_that_fit_are_found_by_few_compilations(
    experiment, compiled, monkeypatch, capsys, available, fit, tried
):
    line = _refused(experiment, monkeypatch, available * MIB)
    assert line.startswith("a step of train.batch_size=64 needs 522.0 MiB of memory (10.0 MiB for the state, ")
    told = f"512.0 MiB while it runs), and this machine has {available}.0 MiB: it does not fit. Compiled, and fits: --c"
    assert told in line and len(line.splitlines()) == 1
    assert all(f"--config.{one}" in line for one in fit) and line.count("; or ") == len(fit) - 1
    assert len(compiled) == tried + 1
    said = capsys.readouterr().err
    assert said.count("care_jax: with ") == tried and "looking for settings that do" in said


@pytest.mark.parametrize(
    ("available", "told", "tried"),
    [(12, "makes it fit (tried: --config.model.remat=True (202.0 MiB", 1), (9, "makes it fit, whatever the batch", 0)],
)
def test_nothing_fits(experiment, compiled, monkeypatch, available, told, tried):
    line = _refused(experiment, monkeypatch, available * MIB)
    assert told in line and "data.image_size needs less, and augment.placement=decode keeps no images on" in line
    assert len(compiled) == tried + 1


@pytest.mark.parametrize(("available", "fits_alone"), [(265, True), (260, False)])
def test_one_cpu_device_needs_less_than_two(experiment, compiled, monkeypatch, available, fits_alone):
    config = experiment.config
    two = build.build(config, sharding.make_mesh(jax.devices()[:2]), experiment.dataset)
    line = _refused(two, monkeypatch, available * MIB, goes_on=True)
    assert f"and for each of 2 CPU devices there are {available}.0 MiB" in line
    alone = "Compiled, and fits: JAX_NUM_CPU_DEVICES=1 (522.0 MiB; the same numbers but for rounding, more time)"
    assert line.endswith(alone) == fits_alone and ("--config.model.remat=True" in line) != fits_alone


def test_a_run_that_goes_on_keeps_its_settings(experiment, compiled, monkeypatch):
    assert "goes on with another model.remat, for the others" in _refused(
        experiment, monkeypatch, 521 * MIB, goes_on=True
    )


def test_a_compiler_that_refuses_for_want_of_memory_is_an_answer(experiment, monkeypatch):
    errors = iter(["RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm"] * 2 + ["INTERNAL: no"])

    def compile_(self, count):
        raise jax.errors.JaxRuntimeError(next(errors))

    monkeypatch.setattr(fits.CompiledSteps, "compile", compile_)
    monkeypatch.setattr(memory, "available", lambda mesh: 5 * MIB)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fits.compile_steps(experiment, {1})
    assert next(errors, None) is None


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.\nx")])
@pytest.mark.parametrize(("during", "setting"), [("training", "train.batch_size"), ("evaluation", "evaluate.batch_si")])
def test_an_allocation_that_fails_all_the_same_is_one_line(experiment, error, during, setting):
    with pytest.raises(DoesNotFitError) as caught, fits.told(experiment.config, during):
        raise error
    line = str(caught.value)
    assert f"did not suffice for the {during}" in line and f"a smaller {setting}" in line
    assert len(line.splitlines()) == 1 and ("Out of memory" in line) == bool(str(error))


def test_other_errors_keep_their_own_words(experiment):
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), fits.told(experiment.config, "training"):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_a_run_ends_before_its_first_step_and_leaves_the_workdir_free(tiny_config, compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda mesh: 20 * MIB)
    config = tiny_config()
    with pytest.raises(DoesNotFitError):
        run.run(config, tmp_path)
    config.train.batch_size = 8  # other settings are taken, and the images are compared anew
    with pytest.raises(NotImplementedError):
        monkeypatch.setattr(build, "make_state", Mock(side_effect=NotImplementedError))
        run.run(config, tmp_path)
