"""From a configuration to the pieces it describes; every mistake in it is found here, before any work starts."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import optax
from jax.sharding import Mesh

from care_jax import data, loggers, methods, models
from care_jax.augment import ViewPlan, image_spec
from care_jax.data import DataSet
from care_jax.data.colors import colors
from care_jax.devices import sharding
from care_jax.experiment import choice, extensions
from care_jax.experiment.architecture import check_architecture, make_encoder
from care_jax.experiment.config import ConfigError, validate
from care_jax.experiment.inputs import augment_spec, check_embedded, evaluation_spec, stored_side
from care_jax.experiment.names import choices
from care_jax.experiment.objective import make_objective
from care_jax.experiment.settings import BRANCHES, MAX_COUNT, of_clouds
from care_jax.storage import is_url, local_path
from care_jax.train import optim
from care_jax.train.batches import stacked_batches
from care_jax.train.online_probe import OnlineProbe
from care_jax.train.placements import BATCH_AXES, Batch
from care_jax.train.state import TrainState, init_state
from care_jax.train.step import TrainStep, make_train_step


class Experiment(NamedTuple):
    """The pieces of one run.

    Attributes:
      config: as given, with what was chosen.
      mesh: the devices.
      dataset: loaded.
      encoder: `models.Encoder`.
      objective: what is minimised.
      optimizer, learning_rate: update rule, and rate by step.
      plan: the views of a step.
      steps_per_epoch, num_steps: derived from the data set's size.
      chosen: the settings that had no value, by their dotted names -> what was chosen.
    """

    config: ml_collections.ConfigDict
    mesh: Mesh
    dataset: DataSet
    encoder: models.Encoder
    objective: methods.Objective
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    plan: ViewPlan
    steps_per_epoch: int
    num_steps: int
    chosen: Mapping[str, Any] = {}


def check(config: ml_collections.ConfigDict, mesh: Mesh) -> None:
    """Everything about a configuration that can be known before the data is.

    Raises:
      ConfigError: one line that names the setting.
    """
    extensions.load(config)
    choice.open_colors(config)
    validate(config, choices())
    config = choice.filled(config, choice.choose(config, mesh, MAX_COUNT))  # whatever is chosen in the end
    validate(config, choices())
    try:
        loggers.chosen(config.train.loggers)
    except loggers.LoggerError as error:
        raise ConfigError(str(error)) from error
    specs = [augment_spec(config, branch) for branch in BRANCHES]
    check_architecture(config)
    make_objective(config, specs[0], num_steps=1)  # how many they are depends on the data
    parts = config.train.micro_batches
    try:
        sharding.check_divides(mesh, "config.train.batch_size", config.train.batch_size, parts)
        if config.equivariance.weight and config.equivariance.batch_size is not None:
            sharding.check_divides(mesh, "config.equivariance.batch_size", config.equivariance.batch_size, parts)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    model = config.model
    normalised = model.head_batch_norm or model.head_output_batch_norm or model.backbone.startswith("resnet")
    for name in ("train", "equivariance") if parts > 1 and normalised else ():
        size = config[name].batch_size
        if size is not None and size // parts < 2 and (name == "train" or config.equivariance.weight):
            raise ConfigError(
                f"config.train.micro_batches is {parts}: that leaves one image of config.{name}.batch_size={size} to a "
                "part: batch norm needs 2 at least, use fewer parts"
            )
    if config.data.name in data.IMAGE_DATA_SETS + data.CLOUD_DATA_SETS:  # of others it is known once they are loaded
        check_embedded(config, clouds=config.data.name in data.CLOUD_DATA_SETS)
    if config.data.name == "image_folder" and config.data.root is None:
        raise ConfigError("config.data.root has no value: give the folder of your images, --config.data.root=my_images")
    if config.augment.placement == "device" and config.data.name == "imagenet2012":
        raise ConfigError("config.augment.placement is 'device', but imagenet2012 does not fit a device; use 'decode'")


def load_data(config: ml_collections.ConfigDict) -> DataSet:
    """The data set that the configuration names.

    Raises:
      DataError: missing or unusable data, with what to do about it.
    """
    settings = config.data
    root, class_file = settings.root, settings.get("class_file")
    # TensorFlow Datasets reads whole splits from anywhere; single records and files are read where they lie.
    if root is not None and not (is_url(root) and settings.name in data.READ_BY_TFDS):
        root = local_path(root, "config.data.root")
    of_kind: dict[str, Any] = (
        {"window_lengths": tuple(settings.window_lengths), "window_stride": settings.window_stride}
        if of_clouds(config)
        else {
            "image_size": stored_side(config),
            "class_file": None if class_file is None else local_path(class_file, "config.data.class_file"),
            "download": settings.download,
        }
    )
    dataset = data.load(
        settings.name,
        root=root,
        resident=config.augment.placement == "device",
        test_fraction=settings.test_fraction,
        **of_kind,
    )
    check_embedded(config, clouds=dataset.clouds)
    return dataset


def build(config: ml_collections.ConfigDict, mesh: Mesh | None = None, dataset: DataSet | None = None) -> Experiment:
    """Checks the configuration, loads its data and makes the pieces of the run.

    Args:
      config: as configs/base.py builds it.
      mesh: the devices; None for all.
      dataset: used instead of the one that the configuration names.

    Raises:
      ConfigError, DataError: one line that says what to change.
    """
    mesh = sharding.make_mesh() if mesh is None else mesh
    check(config, mesh)
    if dataset is None:
        dataset = load_data(config)
    elif dataset.pretrain.resident:  # a stand-in is of neither
        check_embedded(config, clouds=dataset.clouds)
    chosen = choice.choose(
        config,
        mesh,
        len(dataset.pretrain),
        lambda config: colors(dataset.pretrain, image_spec(evaluation_spec(config)), dataset.skipped),
    )
    config = choice.filled(config, chosen)
    batch_size = config.train.batch_size
    count = len(dataset.pretrain)
    if batch_size > count:
        raise ConfigError(
            f"config.train.batch_size is {batch_size}, more than the {count} training {dataset.pretrain.noun} of "
            f"{config.data.name}; add some{choice.smaller(config, mesh, count)}"
        )
    steps_per_epoch = count // batch_size
    num_steps = config.train.num_steps
    if num_steps is None:
        num_steps = max(round(config.train.epochs * steps_per_epoch), 1)
    if num_steps >= 2**31:  # the step is an int32
        raise ConfigError(f"config.train.epochs is {config.train.epochs}: {num_steps} steps are more than 2147483647")
    try:
        learning_rate = optim.make_schedule(
            config.optimizer.schedule,
            config.optimizer.learning_rate,
            num_steps=num_steps,
            warmup_steps=round(config.optimizer.warmup_epochs * steps_per_epoch),
            boundaries=[round(epoch * steps_per_epoch) for epoch in config.optimizer.step_epochs],
            factor=config.optimizer.step_factor,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    optimizer = optim.make_optimizer(
        config.optimizer.name,
        learning_rate,
        weight_decay=config.optimizer.weight_decay,
        momentum=config.optimizer.momentum,
        decay=config.optimizer.decay,
    )
    spec = augment_spec(config, "invariance")
    objective = make_objective(config, spec, num_steps=num_steps)
    needs = objective.term.needs if objective.term else ()
    images = batch_size if config.equivariance.batch_size is None else config.equivariance.batch_size
    plan = ViewPlan(
        invariance=spec,
        equivariance=augment_spec(config, "equivariance"),
        seed=config.seed,
        batch_size=batch_size,
        equivariance_batch_size=images if "equivariance" in needs else 0,
        num_groups=config.equivariance.num_groups,
        draws=config.equivariance.draws,
        needs=needs,
    )
    if "rotated" in needs:
        try:
            plan.rotated()
        except ValueError as error:
            raise ConfigError(f"config.augment.invariance, at half the size for essl: {error}") from error
    return Experiment(
        config=config,
        mesh=mesh,
        dataset=dataset,
        encoder=make_encoder(config),
        objective=objective,
        optimizer=optimizer,
        learning_rate=learning_rate,
        plan=plan,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        chosen=chosen,
    )


def make_state(experiment: Experiment, backbone: Mapping[str, Any] | None = None) -> TrainState:
    """The state before the first step, on every device.

    Args:
      experiment: the pieces of the run.
      backbone: the variables of its backbone; None for those that the seed draws.
    """
    return _init(experiment)(backbone)


def abstract_state(experiment: Experiment) -> TrainState:
    """Its shapes, types and shardings alone."""
    return _init(experiment).eval_shape(None)


def _init(experiment: Experiment) -> Any:
    def init(backbone: Mapping[str, Any] | None) -> TrainState:
        return init_state(
            experiment.encoder,
            experiment.objective,
            experiment.optimizer,
            experiment.plan,
            seed=experiment.config.seed,
            backbone=backbone,
        )

    # Parameters are drawn once: on CPUs LLVM would spend 10 s and more on making that fast.
    on_cpu = experiment.mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    return jax.jit(init, out_shardings=sharding.replicated(experiment.mesh), compiler_options=options)


def make_step(experiment: Experiment, probe: OnlineProbe | None = None) -> TrainStep:
    """The update of `train.step`, not yet compiled; with a probe, of its state too."""
    config = experiment.config
    return make_train_step(
        experiment.encoder,
        experiment.objective,
        experiment.optimizer,
        experiment.learning_rate,
        experiment.plan,
        placement=config.augment.placement,
        mesh=experiment.mesh,
        remat=config.model.remat,
        micro_batches=config.train.micro_batches,
        probe=probe,
    )


def make_batches(experiment: Experiment, start_step: int) -> Iterator[Batch]:
    """The batch of each step from `start_step` to the end of the run, on the devices."""
    counts = itertools.repeat(1, experiment.num_steps - start_step)
    for batches in make_stacked_batches(experiment, start_step, counts):
        yield {name: x[0] if name in BATCH_AXES else x for name, x in batches.items()}


def make_stacked_batches(experiment: Experiment, start_step: int, counts: Iterable[int]) -> Iterator[Batch]:
    """The same, several at once: arrays of `count` batches stacked along a new first axis, for each of `counts`."""
    return stacked_batches(
        experiment.dataset,
        experiment.plan,
        experiment.mesh,
        placement=experiment.config.augment.placement,
        start_step=start_step,
        num_steps=experiment.num_steps,
        counts=counts,
        num_threads=experiment.config.augment.get("num_threads"),
        labelled=experiment.config.evaluate.online_probe,
    )
