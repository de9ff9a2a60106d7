"""Whether a run fits the memory that there is: known before its first step, and said with settings that fit.

What is counted, on each device: the state, the images that are kept there, a batch, and what the compiled step needs
while it runs. What is not: the evaluation (evaluate.batch_size images a forward pass), and what the host decodes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import ml_collections

from care_jax.command_line import say
from care_jax.devices import memory, sharding
from care_jax.devices.distributed import is_first
from care_jax.devices.memory import ProgramMemory, amount
from care_jax.errors import UserError, wanting_memory
from care_jax.experiment import build
from care_jax.experiment.build import Experiment
from care_jax.experiment.config import ConfigError
from care_jax.experiment.programs import CompiledSteps, Probe
from care_jax.experiment.settings import of_clouds

_DEVICES = "JAX_NUM_CPU_DEVICES"
_TRIES = 3  # programs that are compiled for one kind of settings
_FACTORS = tuple(2**i for i in range(1, 16))
# What the settings that need less cost otherwise.
_PRICES = {
    _DEVICES: "the same numbers but for rounding, more time",
    "model.remat": "the same numbers, more time",
    "train.micro_batches": "the loss of the whole batch, batch norm sees one part at a time",
    "train.batch_size": "another loss, and the learning rate does not follow by itself",
}

Settings = dict[str, Any]


class DoesNotFitError(UserError, RuntimeError):
    """The memory does not suffice: one line with what is needed, what there is, and settings that need less."""


class Tried(NamedTuple):
    """One compilation with other settings.

    Attributes:
      settings: those that are other.
      needs: memory; None: the compiler refuses, for want of it.
    """

    settings: Settings
    needs: ProgramMemory | None

    def fits(self, available: int) -> bool:
        """Whether it compiles and needs no more than is there, bytes a device."""
        return self.needs is not None and self.needs.peak <= available

    def __str__(self) -> str:
        flags = " ".join(
            f"{'' if name == _DEVICES else '--config.'}{name}={value}" for name, value in self.settings.items()
        )
        needs = "too much to compile" if self.needs is None else amount(self.needs.peak)
        return f"{flags} ({'; '.join([needs, *(_PRICES[name] for name in self.settings)])})"


def compile_steps(
    experiment: Experiment, counts: Iterable[int], *, probe: Probe | None = None, goes_on: bool = False
) -> CompiledSteps:
    """Compiles the step and compares what it needs with what there is; call it before there is a state.

    Processes of one run call it together, and all come to the same answer.

    Args:
      experiment: of the run.
      counts: of steps that calls make.
      probe: trained beside, and its state.
      goes_on: whether there are checkpoints, which other settings can't go on from.

    Raises:
      DoesNotFitError: it needs more; settings that fit are looked for, which takes a compilation each.
    """
    steps = CompiledSteps(experiment, tell=_tell, probe=probe)
    for count in sorted(counts):
        needed = _compile(steps, count)
        available = memory.available(experiment.mesh)  # without what compiling took, of which CPUs keep a part
        if available is not None and (needed is None or needed.peak > available):
            line = _does_not_fit(experiment, needed, available)
            _tell(f"{line}; looking for settings that do, a compilation each")
            found = _fitting(experiment, count, needed, available)
            raise DoesNotFitError(f"{line}. {_advice(experiment, found, available, goes_on)}")
    return steps


@contextmanager
def told(config: ml_collections.ConfigDict, during: str) -> Iterator[None]:
    """An allocation that fails in this block becomes one line with the settings that it depends on.

    Args:
      config: of the run.
      during: "training" or "evaluation".

    Raises:
      DoesNotFitError: one has failed.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        reason = wanting_memory(error)
        if reason is None:
            raise
        settings = {
            "training": ("" if config.model.remat else "model.remat=True, with which this run goes on; or with ")
            + f"a smaller train.batch_size (it is {config.train.batch_size}) or more train.micro_batches "
            f"({config.train.micro_batches}), each in another --workdir",
            "evaluation": f"a smaller evaluate.batch_size (it is {config.evaluate.batch_size})",
        }
        raise DoesNotFitError(
            f"the memory did not suffice for the {during} ({reason}). What was saved before is kept: the same command "
            f"goes on from there where there is more memory. Less is needed with {settings[during]}"
        ) from error


def _compile(steps: CompiledSteps, count: int) -> ProgramMemory | None:
    """What the program needs; None where the compiler refuses for want of memory."""
    try:
        return memory.of_program(steps.compile(count))
    except jax.errors.JaxRuntimeError as error:
        if wanting_memory(error) is None:
            raise
        return None


def _fitting(experiment: Experiment, count: int, needed: ProgramMemory | None, available: int) -> list[Tried]:
    """Of each kind of settings what fits, or the last that was tried; of two together where neither does."""
    alone = _on_one_cpu_device(experiment, count, available)
    if alone:
        return [alone]
    if needed is not None and needed.peak - needed.temporaries > available:
        return []  # what none of them changes is too much already
    config = experiment.config
    remat = [] if config.model.remat else [{"model.remat": True}]
    parts = [{"train.micro_batches": config.train.micro_batches * factor} for factor in _FACTORS]
    batches = [{"train.batch_size": config.train.batch_size // factor} for factor in _FACTORS]
    # How much less remat needs is not known before.
    recomputed = _first_that_fits(experiment, remat, count, None, available)
    found = [recomputed, *(_first_that_fits(experiment, kind, count, needed, available) for kind in (parts, batches))]
    if remat and not any(one and one.fits(available) for one in found):
        both = [{**settings, "model.remat": True} for settings in parts]
        found.append(_first_that_fits(experiment, both, count, recomputed and recomputed.needs, available))
    return [one for one in found if one]


def _on_one_cpu_device(experiment: Experiment, count: int, available: int) -> Tried | None:
    """Without what each of several CPU devices has to itself; None where there is one, or it does not fit either."""
    devices = list(experiment.mesh.devices.flat)
    if devices[0].platform != "cpu" or len(devices) == 1 or jax.process_count() > 1:
        return None
    _tell(f"with {_DEVICES}=1:")
    alone = build.build(experiment.config, sharding.make_mesh(devices[:1]), experiment.dataset)
    tried = Tried({_DEVICES: 1}, _compile(CompiledSteps(alone, tell=_tell), count))
    return tried if tried.fits(available * len(devices)) else None


def _first_that_fits(
    experiment: Experiment, kind: Iterable[Settings], count: int, needed: ProgramMemory | None, available: int
) -> Tried | None:
    """The first settings of a kind that fit, or the last tried; None where the kind has none.

    Each takes about half of the temporaries of the one before, `needed` those of the one before the first: what would
    be too much is passed over.
    """
    tried: Tried | None = None
    tries = 0
    for settings in kind:
        changed = _with(experiment, settings)
        if changed is None or tries == _TRIES:
            break
        if needed is not None:
            needed = needed._replace(temporaries=needed.temporaries // 2)
            if needed.peak > available:
                continue
        tries += 1
        _tell(f"with {' '.join(f'{name}={value}' for name, value in settings.items())}:")
        tried = Tried(settings, _compile(CompiledSteps(changed, tell=_tell), count))
        if tried.fits(available):
            break
        needed = tried.needs or needed
    return tried


def _with(experiment: Experiment, settings: Settings) -> Experiment | None:
    """With other settings; None where the others do not go with them."""
    config = experiment.config.copy_and_resolve_references()
    config.update_from_flattened_dict(settings)
    try:
        return build.build(config, experiment.mesh, experiment.dataset)
    except ConfigError:
        return None


def _does_not_fit(experiment: Experiment, needed: ProgramMemory | None, available: int) -> str:
    what, noun = "more memory than there is", experiment.dataset.pretrain.noun
    if needed is not None:
        held = f"{amount(needed.arguments)} for the state, the {noun} kept on the device and a batch"
        what = f"{amount(needed.peak)} of memory ({held}, {amount(needed.temporaries)} while it runs)"
    devices = experiment.mesh.devices
    if devices.flat[0].platform == "cpu":
        where = "this machine has" if devices.size == 1 else f"for each of {devices.size} CPU devices there are"
    else:
        where = f"a {devices.flat[0].device_kind} has"
    batch = experiment.config.train.batch_size
    return f"a step of train.batch_size={batch} needs {what}, and {where} {amount(available)}: it does not fit"


def _advice(experiment: Experiment, tried: list[Tried], available: int, goes_on: bool) -> str:
    fit = [str(one) for one in tried if one.fits(available) or _DEVICES in one.settings]
    if fit:
        others = (
            "; the run in --workdir goes on with another model.remat, for the others use another"
            if goes_on and not any(_DEVICES in one.settings for one in tried)
            else ""
        )
        return f"Compiled, and fits: {'; or '.join(fit)}{others}"
    failed = f" (tried: {'; '.join(map(str, tried))})" if tried else ", whatever the batch"
    clouds = of_clouds(experiment.config)
    on_device = experiment.config.augment.placement == "device" and not clouds
    return (
        f"Nothing that train.batch_size, train.micro_batches and model.remat could do makes it fit{failed}: a smaller "
        f"model.width, {'or shorter data.window_lengths' if clouds else 'model.backbone or data.image_size'} needs less"
        + (", and augment.placement=decode keeps no images on the device" if on_device else "")
    )


def _tell(text: str) -> None:
    """One process speaks for all."""
    if is_first():
        say(text)
