"""Images a second of the whole step: gather, augment four views, embed, both losses, backward, update.

    python -m benchmarks.throughput                # configs/digits.py, and ResNet-18 at batch 128
    python -m benchmarks.throughput --only=digits  # one of them

Every time is that of a step which has finished on the device; the first steps (compilation) are left out.
"""

import os
import platform
import time

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging

from care_jax import data
from care_jax.configs import base, digits
from care_jax.devices import cores, sharding
from care_jax.experiment import build, choice

FLAGS = flags.FLAGS
flags.DEFINE_enum("only", None, ["digits", "resnet18"], "One of the cases.")
flags.DEFINE_integer("steps", 7, "Steps timed.", lower_bound=5)


def resnet18() -> ml_collections.ConfigDict:
    """ResNet-18 of full width with the CIFAR stem and CIFAR10's augmentations, batch 128."""
    config = base.get_config()
    config.model.backbone = "resnet18"
    config.train.batch_size = 128
    config.train.num_steps = 1000
    config.equivariance.num_groups = 8
    return config


CASES = {"digits": digits.get_config, "resnet18": resnet18}


def step_times(config: ml_collections.ConfigDict, steps: int) -> tuple[np.ndarray, float]:
    """Seconds of each of `steps` steps, and of the compilation; images are noise, of the size the config asks for.

    Args:
      config: the run whose step is timed.
      steps: how many.
    """
    side = config.data.image_size
    noise = np.random.default_rng(0).integers(0, 256, (1024, side, side, 3), np.uint8)
    examples = data.Examples(images=noise)
    dataset = data.DataSet(name="noise", pretrain=examples, train=examples, test=examples, num_classes={})
    experiment = build.build(config, sharding.make_mesh(), dataset)
    state, batches = build.make_state(experiment), build.make_batches(experiment, 0)
    step = jax.jit(build.make_step(experiment), donate_argnums=0)
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, next(batches)))
    compilation = time.perf_counter() - began
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, next(batches)))
        times.append(time.perf_counter() - began)
    assert np.isfinite(metrics["loss"])
    return np.asarray(times[1:]), compilation


def main(argv: list[str]) -> None:
    """Prints a row a case."""
    del argv
    logging.set_verbosity(logging.ERROR)
    configs = {name: CASES[name]() for name in ([FLAGS.only] if FLAGS.only else CASES)}
    cores.share_out(size for config in configs.values() for size in choice.cut_batches(config))
    print(
        f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores ({platform.machine()}), ",
        end="",
    )
    print(f"jax {jax.__version__}, {time.strftime('%Y-%m-%d')}")
    print("| case | batch | seconds a step, median | fastest – slowest | images/s | compilation s |")
    print("|---|---|---|---|---|---|")
    for name, config in configs.items():
        times, compilation = step_times(config, FLAGS.steps)
        median = float(np.median(times))
        print(
            f"| {name} | {config.train.batch_size} | {median:.3f} | {times.min():.3f} – {times.max():.3f} "
            f"| {config.train.batch_size / median:.0f} | {compilation:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
