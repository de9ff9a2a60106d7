"""What two processes must not do at once in one folder, where nobody knows which of them share it."""

import socket
from collections.abc import Callable

from care_jax.devices import agreement


def in_turn(what: str, do: Callable[[], None]) -> None:
    """Calls `do` in the first process, then in the others: one by one on each host, all hosts at the same time.

    In a folder that all share, those after the first find it done. In folders of their own, each host does it once.

    Args:
      what: it does, for those who wait; each only once a run.
      do: called by every process.
    """
    index, count = agreement.place()
    if count == 1:
        do()
        return
    key, host = f"turn/{what}", socket.gethostname()
    agreement.put(f"{key}/host/{index}", host)
    if index:
        hosts = [agreement.get(f"{key}/host/{i}", f"process {i} to come to {what}") for i in range(index)]
        before = max((i for i in range(index) if hosts[i] == host), default=0)
        agreement.get(f"{key}/done/{before}", f"process {before} to {what}")
    do()
    agreement.put(f"{key}/done/{index}", True)
