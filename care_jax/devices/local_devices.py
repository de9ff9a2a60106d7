"""Which of the GPUs that it sees a task of a cluster takes.

JAX's own start gives each task the one whose number is the task's on its node. That suits several tasks that all see
all GPUs. A single task would leave the node's others idle, and one to which the cluster shows its own GPUs alone would
ask for one that it does not see.
"""

import re
from collections.abc import Mapping

from care_jax.devices.rendezvous import DistributedError

GIVEN = "JAX_LOCAL_DEVICE_IDS"
# The number of this task on its node.
_LOCAL = {"slurm": "SLURM_LOCALID", "ompi": "OMPI_COMM_WORLD_LOCAL_RANK"}
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")  # SLURM's "4(x2),3": four on each of two nodes, three on another


def of_task(environment: Mapping[str, str], cluster: str) -> list[int]:
    """The numbers of a task's GPUs among those that it sees; none where it takes all that it sees.

    Args:
      environment: of the task.
      cluster: "slurm" or "ompi".

    Raises:
      DistributedError: JAX_LOCAL_DEVICE_IDS holds something else.

    >>> node = {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    >>> of_task(node, "slurm"), of_task(node | {"SLURM_STEP_TASKS_PER_NODE": "4(x4)"}, "slurm")
    ([], [0])
    """
    if given := environment.get(GIVEN):
        numbers = [text.strip() for text in given.split(",")]
        if not all(text.isdecimal() for text in numbers):
            raise DistributedError(f"{GIVEN}={given}: give numbers of devices, by commas")
        return [int(text) for text in numbers]
    local, tasks, visible = (
        _number(environment, _LOCAL[cluster]),
        tasks_here(environment, cluster),
        _visible(environment),
    )
    if local is None or tasks == 1 or _has_its_own(environment, tasks, visible):
        return []
    if visible and tasks and visible % tasks == 0:
        share = visible // tasks
        return list(range(local * share, (local + 1) * share))
    return [local]


def tasks_here(environment: Mapping[str, str], cluster: str) -> int | None:
    """Tasks of this step on this node; None where the cluster does not say."""
    if cluster == "ompi":
        return _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")
    nodes: list[int] = []
    for entry in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := _TASKS.fullmatch(entry.strip()):
            nodes += [int(found[1])] * int(found[2] or 1)
    node = _number(environment, "SLURM_NODEID")
    if nodes and len(set(nodes)) == 1:
        return nodes[0]
    if node is not None and node < len(nodes):
        return nodes[node]
    steps = _number(environment, "SLURM_STEP_NUM_TASKS"), _number(environment, "SLURM_STEP_NUM_NODES")
    if steps[0] is not None and steps[0] == steps[1]:
        return 1
    return None if nodes else _number(environment, "SLURM_NTASKS_PER_NODE")


def _has_its_own(environment: Mapping[str, str], tasks: int | None, visible: int | None) -> bool:
    """Whether the cluster shows this task other GPUs than the others on its node."""
    if visible is None:
        return False
    each = environment.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]  # "a100:2" too
    on_node = _number(environment, "SLURM_GPUS_ON_NODE")
    fewer = visible < (tasks or 1) or (on_node is not None and visible < on_node)
    return visible == 1 or fewer or each == str(visible)


def _visible(environment: Mapping[str, str]) -> int | None:
    lists = [environment[name] for name in _VISIBLE if environment.get(name, "").strip()]
    return len(lists[0].split(",")) if lists else None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
