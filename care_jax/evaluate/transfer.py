"""Transfer: a run's frozen encoder, judged on a data set that it was not trained on."""

import hashlib
import json
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from care_jax import data, storage, trained
from care_jax.command_line import UsageError, bundled_configs, say
from care_jax.configs import base
from care_jax.data import DataSet
from care_jax.devices import sharding
from care_jax.evaluate import evaluators, results
from care_jax.evaluate.evaluation import Evaluation
from care_jax.experiment import build, extensions
from care_jax.experiment.build import Experiment
from care_jax.experiment.settings import of_clouds, rules
from care_jax.trained import Trained
from care_jax.workdir import plain, writing

# Sets whose files are decoded when a batch needs them, however many there are.
_ENCODED = ("image_folder", "imagenet2012")
# Pixels a side of the images that TensorFlow Datasets has: they are kept no larger.
_SIDES = {"fashion": 28, "cifar10": 32, "cifar100": 32, "stl10": 96}
# Of a run's `data`, what its encoder sees: the rest says which images, or clouds, there are.
_OF_THE_ENCODER = ("image_size", "stored_size", "mean", "std", "window_lengths", "window_stride")
_SECONDS = 30.0  # between lines that say how far it has got


def config_on(
    config: ml_collections.ConfigDict, on: str, *, warn: Callable[[str], None] = say
) -> ml_collections.ConfigDict:
    """The settings of a run with another data set in the place of its own.

    Its `data.image_size`, `data.mean` and `data.std` stay: they are the encoder's; and so do, of a run on clouds of
    points, `data.window_lengths` and `data.window_stride`.

    Args:
      config: of the run.
      on: a bundled configuration or a data set by name, a configuration file, or a folder of images; for a run on
        clouds a folder of protein structures.
      warn: told of a name that is a folder's too.

    Raises:
      UsageError: there is none of these, or the file can't be used; images for a run on clouds, or clouds for images.
    """
    clouds = of_clouds(config)
    taken, modules = _data_of(on, warn, clouds)
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.extensions = tuple(dict.fromkeys((*config.extensions, *modules)))
        for name, value in taken.items():
            if name not in _OF_THE_ENCODER:
                _set(changed.data, name, value)
        if clouds:
            return changed
        seen = round(config.data.image_size / config.evaluate.center_fraction)
        encoded = changed.data.name in _ENCODED
        changed.augment.placement = "decode" if encoded else "device"
        _set(changed.data, "stored_size", None if encoded else min(seen, _SIDES.get(changed.data.name, seen)))
    return changed


def _set(section: ml_collections.ConfigDict, name: str, value: Any) -> None:
    """Without a value it can be given one still, of its type, by a flag."""
    with section.ignore_type():
        known = rules().get(f"data.{name}")
        section[name] = placeholder(known[0]) if value is None and known else value


def evaluate_on(place: Path, config: ml_collections.ConfigDict, on: str, *, step: str = "", out: str = "") -> Path:
    """Measures an encoder on the data set of `config`; prints a table and writes the numbers down.

    The run's training images are not loaded, and nothing of the run is written anew.

    Args:
      place: folder of the run, or of one of its checkpoints.
      config: of `config_on`, with settings of the evaluation and the data that may have been changed.
      on: as the flag.
      step: the checkpoint, as of `trained.load`.
      out: the JSON file; empty for `transfer/NAME.json` in the folder of the run.

    Returns:
      The JSON file.

    Raises:
      UserError: one line.
    """
    model = trained.load(place, step)
    begun = config_on(model.config, on, warn=lambda _: None)  # who asks has heard it
    threads = () if of_clouds(config) else ("config.augment.num_threads",)
    trained.check_only(begun, config, "config.evaluate.", "config.data.", *threads)
    file = _file(model, config, on, out)
    experiment = experiment_on(config)
    dataset = experiment.dataset
    say(f"transfer of step {model.step} of {model.workdir} to {_named(config)}: {dataset.description()}{_seen(config)}")
    if not dataset.num_classes:
        say("no labels: neighbours and probes are left out, what needs no label is measured")
    evaluation = Evaluation(experiment, _Clock(experiment))
    began = time.perf_counter()
    measured = evaluation.measure(model.step, model.variables, file=str(file))
    for note in (*measured.notes, *filter(None, [dataset.skipped.summary()])):
        say(note)
    named = evaluators.of_numbers(measured.numbers, dataset.num_classes)
    report = {
        **measured.numbers,
        "data": _described(dataset, config),
        "measures": {name: measure.meaning for name, measure in named.items()},
        "run": str(model.workdir),
        "steps": model.step,
        "params_sha256": model.info["params_sha256"],
        "trained_on": model.config.data.name,
        "evaluated_on": sharding.described(experiment.mesh),
        "evaluation_seconds": time.perf_counter() - began,
        "skipped_files": len(dataset.skipped),
        "config": plain(config),
    }
    with writing(file.parent):
        storage.replace_file(file, json.dumps(report, indent=2) + "\n")
    print(results.table(measured.numbers, dataset.num_classes), flush=True)
    say(f"{file} has these numbers, with what they mean and all settings")
    return file


def experiment_on(config: ml_collections.ConfigDict) -> Experiment:
    """A run's networks, on all devices, with the data set of `config`, of `config_on`.

    Raises:
      UserError: the data can't be used.
    """
    return trained.without_data(config)._replace(mesh=sharding.make_mesh(), dataset=build.load_data(config))


def _data_of(on: str, warn: Callable[[str], None], clouds: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of `data`, and extensions that bring the data set, which must be one of clouds, or of images."""
    bundled = bundled_configs()
    names = sorted({*bundled, *data.DATA_SETS} - {"base"})
    if on in names and Path(on).exists():
        warn(f"--on={on} is the data set of that name; write ./{on} for the folder or file")
    if on in bundled:
        return _data_of_file(bundled[on], on, clouds)
    if on in data.DATA_SETS:
        if on in data.IMAGE_DATA_SETS + data.CLOUD_DATA_SETS:  # of others it is known once they are loaded
            _check_kind(on, on in data.CLOUD_DATA_SETS, clouds)
        return {**_usual(clouds), "name": on}, ()
    path = storage.local_path(on, "--on")
    if path.is_dir():
        return {**_usual(clouds), "name": "proteins" if clouds else "image_folder", "root": str(path)}, ()
    if path.is_file():
        return _data_of_file(path, on, clouds)
    raise UsageError(
        f"--on={on} is no data set, no configuration file and no folder of {'structures' if clouds else 'images'}; "
        f"by name there are {', '.join(names)}"
    )


def _usual(clouds: bool) -> dict[str, Any]:
    """Which part of a set is taken is not the run's choice: its classes, say, are of the set it was trained on."""
    return dict((base.for_clouds() if clouds else base.get_config()).data)


def _check_kind(on: str, found: bool, wanted: bool) -> None:
    """Whether a data set is of clouds where the encoder embeds clouds, and of images where it embeds images."""
    if found != wanted:
        kinds = {False: "images", True: "clouds of points"}
        give = "a folder of protein structures" if wanted else "a folder of images"
        raise UsageError(f"--on={on} is of {kinds[found]}, and the encoder embeds {kinds[wanted]}: give {give}, say")


def _data_of_file(path: Path, on: str, clouds: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        config = runpy.run_path(str(path))["get_config"]()
        found = dict(config.data), tuple(config.extensions)
    except Exception as error:  # the file is code, and can raise anything
        raise UsageError(f"--on={on} is no configuration file ({type(error).__name__}: {error})") from error
    extensions.load(config)  # which may bring its backbone
    _check_kind(on, of_clouds(config), clouds)
    return found


def _named(config: ml_collections.ConfigDict) -> str:
    root = config.data.root
    return f"{config.data.name}{'' if root is None else f' {root}'}"


def _file(model: Trained, config: ml_collections.ConfigDict, on: str, out: str) -> Path:
    """Where the numbers go; nothing is measured that could not be written."""
    if out:
        file = storage.local_path(out, "--out")
    else:
        root = config.data.root if config.data.name in ("image_folder", "proteins") else None
        unnamed = "structures" if of_clouds(config) else "images"
        name = Path(on).stem if root is None else Path(root).expanduser().absolute().name or unnamed
        folder = model.workdir / "transfer"
        if (model.workdir / "info").is_dir():
            raise UsageError(
                f"{model.workdir} is a checkpoint that lies in no run: say where the numbers go, --out=FILE"
            )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"can't make {folder} ({error.strerror}): say where the numbers go, --out=FILE") from error
        file = folder / f"{name}.json"
        if root is not None and _is_of_another_folder(file, root):
            # Two folders may have one name.
            digest = hashlib.sha256(str(Path(root).absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:8]
            file = folder / f"{name}-{digest}.json"
    storage.check_writable(file, "--out")
    return file


def _is_of_another_folder(file: Path, root: str) -> bool:
    try:
        before = json.loads(file.read_text())["config"]["data"]["root"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return before is None or Path(before).expanduser().absolute() != Path(root).expanduser().absolute()


def _described(dataset: DataSet, config: ml_collections.ConfigDict) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "root": config.data.root,
        f"training_{dataset.train.noun}": len(dataset.train),
        f"test_{dataset.test.noun}": len(dataset.test),
        "num_classes": dict(dataset.num_classes),
        "class_names": {name: [*names] for name, names in dataset.class_names.items()},
        "notes": [*dataset.notes],
    }


def _seen(config: ml_collections.ConfigDict) -> str:
    """How images are; of clouds the description of the data says it."""
    if of_clouds(config):
        return ""
    side, mean, std = config.data.image_size, _numbers(config.data.mean), _numbers(config.data.std)
    return f"; seen at {side} x {side} pixels, normalised by mean {mean} and standard deviation {std}"


def _numbers(values: Any) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


class _Clock:
    """Called before each batch; says now and then how many are done, of about how many."""

    def __init__(self, experiment: Experiment):
        settings, dataset = experiment.config.evaluate, experiment.dataset
        # The test part again under each draw, and under two for alignment.
        tests = settings.num_augmentations + 3
        self._total = sum(
            -(-count // settings.batch_size) for count in (len(dataset.train), *tests * [len(dataset.test)])
        )
        self._done = 0
        self._began = self._told = time.perf_counter()

    def __call__(self) -> None:
        now = time.perf_counter()
        if now - self._told > _SECONDS and self._done < self._total:  # fine-tuning, which comes last, has its own lines
            say(f"{self._done:,} of about {self._total:,} batches embedded, {now - self._began:.0f} s so far")
            self._told = now
        self._done += 1
