"""A site leaves a running job, and the others go on without it: who, in which step, when and why.

Aggregator                                                 each site that is left
(1) says who has left since it last said so                keeps it for its report and its log
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ConnectionLost, ProtocolError
from atoll.core.message import Message
from atoll.core.protocol import Card, Protocol
from atoll.core.session import Session

LONGEST = 500
"""Characters of a reason."""

STREAM = "departures"


class Departure(msgspec.Struct, frozen=True):
    """A site that left.

    Attributes:
        site: its name.
        step: the step in which it was missed.
        time: when the aggregator gave it up, ISO 8601 (UTC) by the aggregator's clock.
        why: in words.
    """

    site: str
    step: str
    time: str
    why: str

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.site} left in step {self.step} at {self.time}: {self.why}"


class Left(Message, frozen=True):
    """(1) aggregator → site that is left: names, steps, times and reasons of those that left."""

    lines: list[tuple[str, str, str, str]]


async def tell(peers: Mapping[str, Channel], gone: Iterable[str], why: Mapping[str, str], step: str) -> list[Departure]:
    """Say who has left.

    Args:
        peers: channels to the sites that are left.
        gone: who has left.
        why: reasons by site.
        step: the running step.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = [Departure(site, step, now, _plain(why.get(site, "it was missed"))) for site in sorted(gone)]
    lines = Left([msgspec.structs.astuple(one) for one in found])
    for channel in peers.values():
        try:
            await channel.send(lines)  # (1)
        except AtollError:
            continue  # it is going, too, which the next sum shows
    return found


async def learn(hub: Channel, gone: Iterable[str]) -> list[Departure]:
    """Learn why sites have left that this one has missed.

    Args:
        hub: channel to the aggregator.
        gone: who has left, as the sum showed.

    Raises:
        ProtocolError: the aggregator speaks of other sites, or says more than fits.
    """
    lines = (await hub.recv(Left)).lines
    if [line[0] for line in lines] != sorted(gone):
        raise ProtocolError(f"{hub.peer} says that other sites have left than the sum has shown")
    if any(len(text) > LONGEST for line in lines for text in line):
        raise ProtocolError(f"{hub.peer} gave a reason of more than {LONGEST} characters")
    return [Departure(*(_plain(text) for text in line)) for line in lines]


async def part(session: Session, dropped: dict[str, str]) -> None:
    """Go on without sites that a sum has dropped, and tell them so, in case that they can still hear.

    Args:
        session: the running session.
        dropped: reasons by site, to which those are added that only the link knows.

    Raises:
        ConnectionLost: the aggregator is among them, and no job goes on without it.
    """
    if session.hub in dropped and session.hub != session.site:
        raise ConnectionLost(
            f"the aggregator, {session.hub}, is gone: {_plain(dropped[session.hub])}",
            cure=f"See that {session.hub}'s process runs and the network is up, then start the job again everywhere.",
        )
    for site in [name for name in dropped if name in session.peers]:
        if site in session.lost and session.lost[site].what not in dropped[site]:
            dropped[site] = f"{session.lost[site].what}, {dropped[site]}"
        what = f"the job goes on without {site}: {_plain(dropped[site])}"
        cure = "Its rows are in no total any more. Mend the cause; the next job can have it again."
        await session.leave(site, ConnectionLost(what, cure=cure))


def _plain(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:LONGEST]


PROTOCOL = Protocol(
    name="job-departures",
    version=1,
    title="Who has left a running job, told to those that go on",
    card=Card(
        source="Atoll.",
        security="Nothing is hidden: names, times and reasons are the messages. Who has left is what the sum has shown "
        "to every site, and the aggregator cannot say otherwise; it can lie about when and why.",
        inputs="The aggregator: why each of these sites was given up.",
        reveals={
            "aggregator": ("Nothing.",),
            "site": ("Of each site that has left: in which step, when by the aggregator's clock, and why.",),
        },
        cost="1 message of about 200 bytes to each site that is left, whenever sites have left.",
        fails="ProtocolError if the aggregator speaks of other sites than those that the sum has shown.",
        assurance="tested",
        notes=(
            "Totals with a site and the same ones without it differ by the totals of that site alone.",
            "The aggregator says who was late: one that lies can give a site up to see such totals, and every report "
            "names it.",
            "A reason may hold what the site that left said itself when it failed.",
        ),
    ),
    roles={"aggregator": tell, "site": learn},
    messages=(Left,),
)
