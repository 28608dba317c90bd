"""A Ray cluster of several nodes on one machine, in a process of its own, told what to do line by line.

python cluster_nodes.py FOLDER     prints the cluster's address, then `done` after each line
< add            start a worker node
< kill N         SIGKILL the processes of the N-th worker node
< (end)          stop everything
"""

import os
import sys
from typing import Any, Final

START_SECONDS: Final = 40
ATTEMPTS: Final = 4
"""On a loaded machine a node's agent can take longer than the 15 s after which Ray's raylet aborts."""
LIMITS: Final = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
HEAD: Final = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}


def add_node(cluster: Any, **settings: Any) -> Any:
    """A node that has joined; tried again where it aborts as it starts."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            node = cluster.add_node(wait=False, **LIMITS, **settings)
            cluster.wait_for_nodes(timeout=START_SECONDS)
            return node
        except Exception as error:  # Ray raises a bare one
            if attempt == ATTEMPTS:
                raise
            print(f"attempt {attempt}: {error}", file=sys.stderr)
    raise AssertionError("unreachable")


def main() -> None:
    # Ray notes a cluster's address in its folder, where any `ray.init()` on this machine would find and join it.
    # A lost node is noticed after some 5 s instead of 15; a slow one still has 10 s to answer.
    os.environ |= {
        "RAY_TMPDIR": sys.argv[1],
        "RAY_raylet_start_wait_time_s": str(START_SECONDS),
        "RAY_health_check_period_ms": "1000",
    }
    import ray._private.utils
    from ray.cluster_utils import Cluster

    # Without what the dashboard needs, a node's agent starts in a third of the time.
    vars(ray._private.utils)["get_dashboard_dependency_error"] = lambda: ImportError("not wanted here")
    cluster = Cluster()
    add_node(cluster, **HEAD)
    nodes = []
    print(cluster.address, flush=True)
    try:
        for line in sys.stdin:
            command, _, number = line.strip().partition(" ")
            if command == "add":
                nodes.append(add_node(cluster))
            elif command == "kill":
                cluster.remove_node(nodes[int(number)], allow_graceful=False)
            print("done", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
