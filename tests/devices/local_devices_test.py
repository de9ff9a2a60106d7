"""Of the GPUs that a task sees, those that it takes: all that are its own, and none that is another's."""

import doctest

import pytest

from care_jax.devices import local_devices
from care_jax.devices.rendezvous import DistributedError

EIGHT = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7", "SLURM_GPUS_ON_NODE": "8"}


@pytest.mark.parametrize(
    ("tasks", "local", "more", "taken"),
    [
        # The recipes of docs/scaling.md: a task a node with all of its GPUs, and a task a GPU.
        ("1(x4)", 0, EIGHT, []),
        ("8(x4)", 5, {"CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_ON_NODE": "8", "SLURM_GPUS_PER_TASK": "1"}, []),
        ("8(x4)", 5, {"CUDA_VISIBLE_DEVICES": "GPU-5a", "SLURM_GPUS_PER_TASK": "h100:1"}, []),
        # All tasks see all GPUs of the node (--gpus-per-node=8, or --gpu-bind=none).
        ("8(x4)", 5, EIGHT, [5]),
        ("2(x4)", 1, EIGHT, [4, 5, 6, 7]),
        ("3,1", 1, EIGHT | {"SLURM_NODEID": "0"}, [1]),
        ("3,1", 0, EIGHT | {"SLURM_NODEID": "1"}, []),
        # Two GPUs of its own.
        ("4(x2)", 3, {"CUDA_VISIBLE_DEVICES": "6,7", "SLURM_GPUS_ON_NODE": "8"}, []),
        ("2(x2)", 1, {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_PER_TASK": "2"}, []),
        # What it sees is not told: as JAX.
        ("8(x4)", 5, {}, [5]),
        ("", 0, {"SLURM_NTASKS_PER_NODE": "1"}, []),
        ("", 0, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, []),
        ("", 0, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}, [0]),
        # Whoever names them is obeyed.
        ("1(x4)", 0, EIGHT | {"JAX_LOCAL_DEVICE_IDS": "2, 3"}, [2, 3]),
        ("8(x4)", 5, {"CUDA_VISIBLE_DEVICES": "0", "JAX_LOCAL_DEVICE_IDS": "0"}, [0]),
    ],
)
def test_a_task_of_slurm(tasks, local, more, taken):
    environment = {"SLURM_LOCALID": str(local), "SLURM_STEP_TASKS_PER_NODE": tasks, **more}
    assert local_devices.of_task(environment, "slurm") == taken


@pytest.mark.parametrize(
    ("tasks", "more", "taken"),
    [("1", EIGHT, []), ("8", EIGHT, [5]), ("8", {"ROCR_VISIBLE_DEVICES": "3"}, []), ("", EIGHT, [5])],
)
def test_a_task_of_open_mpi(tasks, more, taken):
    local = "0" if tasks == "1" else "5"
    environment = {"OMPI_COMM_WORLD_LOCAL_RANK": local, "OMPI_COMM_WORLD_LOCAL_SIZE": tasks, **more}
    assert local_devices.of_task(environment, "ompi") == taken


def test_numbers_of_devices_are_checked():
    with pytest.raises(DistributedError, match="JAX_LOCAL_DEVICE_IDS=all: give numbers of devices, by commas"):
        local_devices.of_task({"JAX_LOCAL_DEVICE_IDS": "all"}, "slurm")


def test_the_example_runs():
    assert doctest.testmod(local_devices).failed == 0
