"""What a step costs: `python -m care_jax.cost --config=configs/imagenet.py --topology=v5e:16x16`.

The real step of a configuration is compiled, on any machine, for devices that need not be there; nothing is allocated
and no data is read (but a folder of images is listed and structures of proteins are read where --num_examples does not
say how many there are, and the file of model.init_from where the width is its to say). Printed, and written as JSON by
--json: docs/cost.md says what the numbers mean.

--topology: a TPU's version and its chips (v4:4x4x8, v5e:16x16, v5p:4x4x4, v6e:8x8, 7x:2x2x1), cpu (cpu:8: as many CPU
devices in place of any others), gpu, this machine's, or h100:8. --suggest finds the largest batch that fits.

Exit status: 0; 1 where the step does not compile for these devices, or does not fit them; 2 for a mistake in the
settings, with one line.
"""

from care_jax import extras, stops

if __name__ == "__main__":
    stops.install("nothing is lost; the same command starts anew")  # before what takes time
    extras.require_train()

import json
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from care_jax.command_line import UsageError, fail, parse_flags, say, user_errors
from care_jax.cost import topologies
from care_jax.errors import UserError
from care_jax.storage import check_writable, local_path, replace_file

_PROBE = "evaluate.online_probe: the classifier that it trains beside is not counted"
FLAGS = flags.FLAGS
flags.DEFINE_string("topology", None, "The devices: v5e:16x16, cpu:8, gpu, ...")
flags.DEFINE_string("json", None, "Write the figures to this file too; -: instead of the text.")
flags.DEFINE_bool("suggest", False, "Find the largest batch that fits.")
flags.DEFINE_float(
    "effort", 0.0, "Of the compiler; -1 is sooner, about twice, and the figures are pessimistic.", -1.0, 1.0
)
flags.DEFINE_integer(
    "num_examples", None, "Training images, or clouds, where they are not known by the data set's name.", 1
)
flags.DEFINE_bool("measure", False, "cpu and gpu: measure what this machine reaches, in seconds, for the floor.")
flags.DEFINE_float("peak_flops", None, "Operations a second of a device, 2e14 say, where they are not known.", 1.0)
flags.DEFINE_float("bandwidth", None, "Bytes a second to and from a device's memory, 8e11 say.", 1.0)
try:
    config_flags.DEFINE_config_file(
        "config", None, "The configuration, configs/digits.py for instance.", lock_config=True
    )
except flags.Error as error:  # a --flagfile that can't be read, which ml_collections opens here
    fail(str(error))


def main(argv: list[str]) -> None:
    """Wires the flags to an estimate."""
    del argv
    logging.set_verbosity(logging.FATAL)
    with user_errors():
        sys.exit(_cost(FLAGS.config))


def _cost(config: ml_collections.ConfigDict) -> int:
    """Prints what was asked for; the exit status."""
    import jax

    from care_jax import pretrained
    from care_jax.cost import hardware, measured, report, suggest
    from care_jax.cost.estimate import Report, estimate, needed_memory
    from care_jax.devices import cores, sharding
    from care_jax.experiment import build, choice, extensions, stand_in
    from care_jax.experiment.config import validate
    from care_jax.experiment.names import choices
    from care_jax.experiment.settings import COLORS, of_clouds

    jax.config.update("jax_enable_compilation_cache", False)  # the time of compiling is a figure
    json_file = _json_file()
    extensions.load(config)
    choice.open_colors(config)
    validate(config, choices())  # before a setting is read that may not be there
    if config.data.name in ("image_folder", "proteins") and config.data.root is not None:
        config.data.root = str(local_path(config.data.root, "--config.data.root"))
    images = stand_in.images(config, FLAGS.num_examples)
    if config.data.root is None:
        config.data.root = "not_read"  # which a run would ask for
    cores.share_out(choice.cut_batches(config))
    mesh = sharding.make_mesh(topologies.devices(FLAGS.topology))
    build.check(config, mesh)
    # The weights need not be here, and are read only where they say what the network is.
    if config.model.get("width") is None and (initial := pretrained.read(config)) and initial.chosen:
        say(f"chosen for config.model.init_from={config.model.init_from}: {choice.described(initial.chosen)}")
        config = choice.filled(config, initial.chosen)
    chosen = choice.choose(config, mesh, len(images))  # any colours: no image is read
    config = choice.filled(config, chosen)
    if chosen.keys() - COLORS:
        shown = {name: value for name, value in chosen.items() if name not in COLORS}
        noun = "clouds" if of_clouds(config) else "images"
        say(f"chosen for {len(images):,} training {noun}: {choice.described(shown)}")
    device = hardware.of_device(mesh.devices.flat[0], mesh.size)
    if FLAGS.measure:
        platform = mesh.devices.flat[0].platform
        if FLAGS.topology.partition(":")[0] not in ("cpu", "gpu"):
            raise UsageError(f"--measure: a {mesh.devices.flat[0].device_kind} is not in this machine; leave it out")
        device = measured.hardware(device, on_cpu=platform == "cpu", count=mesh.size if platform == "cpu" else 1)
    device = device._replace(
        operations=device.operations if FLAGS.peak_flops is None else {"": FLAGS.peak_flops},
        bandwidth=device.bandwidth if FLAGS.bandwidth is None else FLAGS.bandwidth,
    )

    def cost_of(batch_size: int) -> Report:
        config.train.batch_size = batch_size
        say(f"compiling for {FLAGS.topology}, batch {batch_size:,} ...")
        found = estimate(config, mesh, images, device, effort=FLAGS.effort)
        if config.evaluate.online_probe and found["compiles"]:  # of how many classes, no data tells
            found["warnings"] = [*found["warnings"], _PROBE]
        return {"topology": FLAGS.topology, **found}

    if not FLAGS.suggest:
        build.build(config, mesh, stand_in.dataset(config.data.name, images))  # mistakes are told first
        found = cost_of(config.train.batch_size)
        _write(found, report.text(found), json_file)
        return 0 if fits(found) else 1

    if device.memory is None:
        raise UsageError(f"--suggest: how much memory a {mesh.devices.flat[0].device_kind} has is not known")
    available, reports = device.memory, {}

    def try_batch(batch_size: int) -> suggest.Tried:
        found = reports[batch_size] = cost_of(batch_size)
        why = "" if found["compiles"] else found["reason"]
        if why and "RESOURCE_EXHAUSTED" not in why:
            raise UsageError(f"batch {batch_size} does not compile, and not for want of memory: {why}")
        peak = needed_memory(why) if why else found["memory"]["peak"]
        say(f"batch {batch_size:,}: {'peak ' + report.amount(peak) if peak else why}")
        return suggest.Tried(batch_size, fits(found), peak, why)

    tried = suggest.largest(
        try_batch,
        available,
        start=config.train.batch_size,
        unit=suggest.unit(config, mesh.size),
        least=suggest.least(config),
        most=len(images),
    )
    best = max((one.batch_size for one in tried if one.fits), default=None)
    found = reports[best] if best else reports[tried[-1].batch_size]
    found = {**found, "suggestion": best, "tried": [one._asdict() for one in tried]}
    _write(found, f"{report.text(found)}\n{report.suggestion(found['tried'], best)}", json_file)
    return 0 if best else 1


def fits(found: dict[str, Any]) -> bool:
    """Whether it compiles, and the peak is within the memory where that is known."""
    available = found["memory"]["available"]
    return bool(found["compiles"]) and found["memory"]["peak"] <= (math.inf if available is None else available)


def _json_file() -> Path | None:
    """Where to, which is known to work before anything is compiled; None for nowhere or standard output."""
    if FLAGS.json in (None, "-"):
        return None
    file = local_path(FLAGS.json, "--json")
    check_writable(file, "--json")
    return file


def _write(found: dict[str, Any], text: str, file: Path | None) -> None:
    as_json = json.dumps(found, indent=2)
    print(as_json if FLAGS.json == "-" else text, flush=True)
    if file is not None:
        replace_file(file, f"{as_json}\n")


def parse(argv: list[str]) -> list[str]:
    """The flags; what the topology asks for is set before a configuration, and with it JAX, is imported."""
    first = flags.FlagValues()
    flags.DEFINE_string("topology", None, "", flag_values=first)
    with suppress(flags.Error):  # which the parser proper will say
        first(argv, known_only=True)
    first.mark_as_parsed()  # also after an error
    if first.topology is not None:
        try:
            topologies.prepare(first.topology)
        except UserError as error:  # without `user_errors`, which imports JAX
            fail(str(error))
    rest = parse_flags(argv, "--config=configs/imagenet.py")
    if FLAGS.topology is None:
        fail(f"--topology is missing: the devices to compile for, {topologies.EXAMPLES}")
    return rest


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
