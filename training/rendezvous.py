"""Rendezvous of processes that train together.

Those of one machine that `launch.py` starts meet in a file of its private folder and talk over the loopback interface:
nobody else can join them, and no port is open to other machines. Those that torchrun starts meet as it says.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

_FILE: Final = "MMCORPUS_RENDEZVOUS"
"""The environment variable that names the file."""
_INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""What tells gloo and NCCL the network interface to listen on."""
_LOOPBACK: Final = ("lo", "lo0")
"""The loopback interface's name, on Linux and on macOS."""


def environments(count: int, folder: str) -> list[Mapping[str, str]]:
    """The environment of each of `count` processes on this machine that meet in an empty, private `folder`.

    Interfaces that the user has set stay as they are.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name in _LOOPBACK), None)
    interfaces = dict.fromkeys(_INTERFACES, loopback) if loopback else {}
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), _FILE: os.path.join(folder, "rendezvous")}
    return [{**interfaces, **os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def join(backend: str) -> None:
    """Join the other processes, as the environment says, and wait for them."""
    import torch.distributed as dist

    file = os.environ.get(_FILE)
    if file is None:
        dist.init_process_group(backend)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(backend, store=dist.FileStore(file, size), rank=rank, world_size=size)
