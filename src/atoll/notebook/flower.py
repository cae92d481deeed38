"""A site that takes part in somebody's Flower training, if its policy allows that the server sees its updates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from atoll.core.channel import Gate
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import flower_client
from atoll.learn.horizontal.networks.fit import Plan
from atoll.learn.horizontal.networks.flower_node import serve_supernode
from atoll.learn.horizontal.networks.trainer import Trainer
from atoll.node.home import Home
from atoll.node.policy import require_protocol
from atoll.serving.audit import AuditFile

AUDIT = "flower/audit.jsonl"
"""In the site's folder: a line for everything that left for a Flower server."""


def join_superlink(
    trainer: Trainer,
    plan: Plan,
    supernode: str,
    *,
    home: Path | None = None,
    server: str = "superlink",
    tries: int = 8,
    over: Callable[[], bool] = lambda: False,
    on_message: Callable[[str], object] = lambda kind: None,
) -> None:
    """Train for a Flower server through a SuperNode on this machine, until it is over.

    Args:
        trainer: this site's network and rows.
        plan: epochs, batch, learning rate and schedule of local training.
        supernode: host:port of the Runtime API of a `flower-supernode --isolation process` on this machine.
        home: the site's folder; else the one that ATOLL_HOME names.
        server: what the audit file calls the server.
        tries: how often the SuperNode is asked before it counts as gone.
        over: asked between messages.
        on_message: called after each message with its type.

    Raises:
        ContractError: the site has not said `atoll site allow flower-updates`.
        InputError: as `serve_supernode`, or the disk is full.
        ConnectionLost: the SuperNode cannot be reached.
    """
    found = Home.find(home)
    site = found.site().name
    require_protocol(found.policy(), site, flower_client.PROTOCOL.name)
    audit = AuditFile(found.folder / AUDIT)
    try:
        gate = Gate(
            site, flower_client.PROTOCOL.name, flower_client.PROTOCOL.kinds, flower_client.PROTOCOL.name, audit=audit
        )
        app = flower_client.superlink_app(trainer, plan, gate=gate, server=server, seed=Rng.system().bytes(16))
        serve_supernode(app, supernode, over=over, tries=tries, on_message=on_message)
    finally:
        audit.close()
