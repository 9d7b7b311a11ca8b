"""The ranks of one node talk to each other on the loopback interface, which no other machine reaches."""

from __future__ import annotations

import os
import socket

from kmax.machine import Plan

INTERFACES = ("lo", "lo0")  # of Linux, of macOS
VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def stay_on_this_machine(plan: Plan) -> None:
    """Have gloo and NCCL use the loopback interface if all ranks of the plan are on this machine.

    An interface that the environment names is kept. Ranks of several nodes must reach each other: gloo uses
    the interface of the host name, NCCL the first one that is up.
    """
    if plan.nodes > 1:
        return
    existing = [name for _, name in socket.if_nameindex() if name in INTERFACES]
    for variable in VARIABLES:
        if existing:
            os.environ.setdefault(variable, existing[0])
