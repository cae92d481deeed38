"""One call for all ways of adding: a job names its topology, and every site joins in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import aggregators as few
from atoll.protocols.secure_sum import direct, dropouts, lattice, ring, star
from atoll.protocols.secure_sum.sums import Sums

Topology = Literal["star", "dropouts", "ring", "direct", "leader", "lattice", "aggregators"]
"""How sites add: through a hub; through a hub, without those that drop out; along a ring; each with each; through a
leader that is drawn anew for each sum; encrypted, through a hub; through two or three of the sites."""

THROUGH_HUB = ("star", "dropouts", "lattice")
"""Where a site needs a link to the hub only."""


ASSUMED: Mapping[Topology, str] = MappingProxyType(
    {
        "star": "unless all other sites and the aggregator put together what they see",
        "dropouts": "unless the aggregator and more than half of the other sites put together what they see",
        "ring": "unless all other sites put together what they see",
        "direct": "unless all other sites put together what they see",
        "leader": "unless all other sites put together what they see",
        "lattice": "unless all other sites and the aggregator put together what they see",
        "aggregators": "unless the sites that add put together what they see",
    }
)
"""When the numbers of a single site show, where all sites are needed but over `dropouts`."""


def protocol_of(topology: Topology) -> Protocol:
    """Return what a step declares that adds over a topology."""
    found = {
        "star": star.PROTOCOL,
        "dropouts": dropouts.PROTOCOL,
        "ring": ring.PROTOCOL,
        "lattice": lattice.PROTOCOL,
        "aggregators": few.PROTOCOL,
    }
    return found.get(topology, direct.PROTOCOL)


async def join(
    topology: Topology,
    channels: Mapping[str, Channel],
    *,
    site: str,
    sites: Sequence[str],
    hub: str,
    rng: Rng,
    seal: Seal | None = None,
    context: Sequence[str] = (),
    patience: float = 60.0,
    least: int = 0,
    steady: bool = False,
    aggregators: Sequence[str] = (),
) -> Sums:
    """Come to keys with the other sites, and return the sums of this one.

    Args:
        topology: How sites add, the same at all of them.
        channels: Channels to other sites by name: to the hub or, at the hub, to all; without a hub to all.
        site: This site.
        sites: All sites whose numbers are added.
        hub: The hub of a star, one of the sites; if it is none of them, the others check every sum.
        rng: Secret randomness.
        seal: How keys are signed where they travel through a hub; see `pairwise_keys`.
        context: What the job is; what all sites must agree on.
        patience: Seconds that a site has for a step, where sums go on without late ones.
        least: Fewest sites in such a sum; without it more than a half over dropouts and ring, and all elsewhere.
        steady: Whether a sum through a hub is not opened over fewer sites than the one before; see `dropouts.hub`.
        aggregators: Two or three of the sites that add for all; the first two in the alphabet without it.

    Raises:
        InputError: There is no such topology, or a channel that it needs, or the aggregators cannot be.
        ProtocolError: As the topology's card says.
        IdentityError: A key is not signed by its site.
    """
    if topology not in get_args(Topology):
        raise InputError(f"there is no topology {topology!r}", cure=f"Choose one of {', '.join(get_args(Topology))}.")
    through_hub, others = topology in THROUGH_HUB, sorted(set(sites) - {site})
    aggregators = aggregators or sorted(sites)[:2]
    needed = [hub] if through_hub and site != hub else others
    if topology == "aggregators" and site not in aggregators:
        needed = sorted(set(aggregators))
    if missing := sorted(set(needed) - set(channels)):
        raise InputError(
            f"{site} has no link to {', '.join(missing)}, which sums over {topology} need",
            cure="Choose star, dropouts or lattice where sites are linked to the hub only.",
        )
    peers, members = {name: channels[name] for name in needed}, [name for name in sites if name != hub]
    if topology == "ring":
        return Sums(await ring.site(peers, rng=rng, least=least, patience=patience, context=context), rng)
    if topology == "aggregators":
        return Sums(
            await few.site(peers, sites, aggregators, rng=rng, least=least, patience=patience, context=context), rng
        )
    if not through_hub:
        return Sums(await direct.site(peers, rng=rng, leader=topology == "leader", context=context), rng)
    same: dict[str, Any] = {"adds": hub in sites, "context": context}
    if topology != "lattice":
        same["checked"] = hub not in sites
    if topology == "dropouts":
        same["steady"] = steady
    if topology != "star":
        same["least"] = max(least - (hub in sites), 0)  # of members, the hub apart
    way = {"star": star, "dropouts": dropouts, "lattice": lattice}[topology]
    if site == hub:
        late = {} if topology == "star" else {"patience": patience}
        return Sums(await way.hub(peers, **late, **same), rng)
    return Sums(await way.member(peers[hub], members, rng=rng, seal=seal, **same), rng)
