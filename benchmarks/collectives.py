"""What the devices of a step send each other: the collectives of the compiled step, with their bytes.

    python -m benchmarks.collectives --config=configs/cifar10.py --num_devices=8

The devices are CPU devices that stand in for any others; the data set is noise of the size that the config asks for.
"""

from absl import app, flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", "configs/digits.py", "The configuration whose step is compiled.")
flags.DEFINE_integer("num_devices", 8, "CPU devices to compile for.", lower_bound=2)
flags.DEFINE_integer("show", 12, "Collectives listed by themselves, the largest ones.")


def main(argv: list[str]) -> None:
    """Prints a table, and the sums of each kind."""
    del argv
    import jax
    import numpy as np

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", FLAGS.num_devices)

    from care_jax import data
    from care_jax.devices import sharding
    from care_jax.devices.collectives import collectives
    from care_jax.experiment import build

    config = FLAGS.config
    side, count = config.data.image_size, max(config.train.batch_size, 1024)
    noise = data.Examples(images=np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8))
    dataset = data.DataSet(name="noise", pretrain=noise, train=noise, test=noise, num_classes={})
    experiment = build.build(config, sharding.make_mesh(), dataset)
    batch = next(build.make_batches(experiment, 0))
    state = build.abstract_state(experiment)
    step = jax.jit(build.make_step(experiment), donate_argnums=0)
    found = collectives(step.lower(state, batch).compile().as_text())
    parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    print(
        f"{FLAGS.num_devices} devices, batch {config.train.batch_size}, embeddings of {config.model.head_size}, "
        f"{parameters:,} bytes of parameters"
    )
    print("\n| collective | times | bytes a step | of |\n|---|---|---|---|")
    for one in found[: FLAGS.show]:
        shown = one.arrays if len(one.arrays) < 80 else f"{one.arrays[:76]} ..."
        print(f"| {one.kind} | {one.times} | {one.num_bytes:,} | {shown} |")
    print("\n| kind | instructions | bytes a step |\n|---|---|---|")
    for kind in sorted({one.kind for one in found}):
        of_kind = [one for one in found if one.kind == kind]
        print(f"| {kind} | {len(of_kind)} | {sum(one.num_bytes for one in of_kind):,} |")
    print(f"| all | {len(found)} | {sum(one.num_bytes for one in found):,} |")


if __name__ == "__main__":
    app.run(main)
