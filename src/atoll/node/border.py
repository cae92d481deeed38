"""Where a job begins: at its first step, or at the last border that all sites reached together before it was cut off.

Label holder                                               each feature holder
                                                           (1) says which run it holds a checkpoint of, and how far
(2) if all hold one of the same run: the least of them,
    else a new run from the first step                     does likewise
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng

NOBODY = bytes(16)
"""The run of a site that holds no checkpoint."""

MOST = 1 << 10


class Reached(Message, frozen=True):
    """(1) feature holder → label holder: the run that it holds a checkpoint of (zeros for none), and its steps."""

    run: U8
    steps: int


class Border(Message, frozen=True):
    """(2) label holder → feature holder: the run that goes on or begins, and the steps that are done."""

    run: U8
    steps: int


async def label_holder(peers: Mapping[str, Channel], run: bytes, steps: int, *, rng: Rng) -> tuple[bytes, int]:
    """Find the border at which all sites can go on.

    Args:
        peers: channels to the feature holders.
        run: id of the run that this site holds a checkpoint of, 16 bytes, or `NOBODY`.
        steps: how many steps are done here.
        rng: draws the id of a new run.

    Returns:
        The run, and how many steps are done at every site.
    """
    reached = {(run, steps)}
    for name, channel in peers.items():
        theirs = await channel.recv(Reached, run=(16,))  # (1)
        if not 0 <= theirs.steps <= MOST:
            raise ProtocolError(f"{name} says that it has done {theirs.steps} steps")
        reached.add((theirs.run.tobytes(), theirs.steps))
    least = min(done for _, done in reached)
    if run == NOBODY or not least or len({other for other, _ in reached}) > 1:
        run, least = rng.bytes(16), 0
    for channel in peers.values():
        await channel.send(Border(np.frombuffer(run, np.uint8), least))  # (2)
    return run, least


async def feature_holder(hub: Channel, run: bytes, steps: int) -> tuple[bytes, int]:
    """As `label_holder`, for a site that brings columns.

    Raises:
        ProtocolError: the label holder names a border that this site has not reached.
    """
    await hub.send(Reached(np.frombuffer(run, np.uint8), steps))  # (1)
    border = await hub.recv(Border, run=(16,))  # (2)
    chosen = border.run.tobytes()
    if chosen == NOBODY or not 0 <= border.steps <= (steps if chosen == run else 0):
        raise ProtocolError(f"{hub.peer} would go on after {border.steps} steps, which this site has not done")
    return chosen, border.steps


PROTOCOL = Protocol(
    name="job-border",
    version=1,
    title="All sites agree where a job that was cut off goes on",
    card=Card(
        source="Atoll.",
        security="Nothing is hidden: a random number and a count of steps are the messages.",
        inputs="Every site: the run of which it holds a checkpoint, 16 random bytes, and how many steps it has done.",
        reveals={
            "label_holder": ("How many steps of an earlier try each feature holder has done.",),
            "feature_holder": ("How many steps of an earlier try all sites have done.",),
        },
        cost="2 messages of under 100 bytes with each feature holder.",
        fails="ProtocolError if the label holder names a border that a site has not reached.",
        assurance="tested",
        notes=(
            "A checkpoint holds what a site knows after a step; keys, masks and transfers are made anew in every try.",
            "A site whose job, data or files are no longer those of its checkpoint says that it holds none.",
        ),
    ),
    roles={"label_holder": label_holder, "feature_holder": feature_holder},
    messages=(Reached, Border),
)
