"""One call for all ways of adding: a job names its topology, and every site joins in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import direct, dropouts, ring, star
from atoll.protocols.secure_sum.sums import Sums

Topology = Literal["star", "dropouts", "ring", "direct", "leader"]
"""How sites add: through a hub; through a hub, without those that drop out; along a ring; each with each; through a
leader that is drawn anew for each sum."""


def protocol_of(topology: Topology) -> Protocol:
    """Return what a step declares that adds over a topology."""
    found = {"star": star.PROTOCOL, "dropouts": dropouts.PROTOCOL, "ring": ring.PROTOCOL}
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
        least: Fewest sites in such a sum; more than a half without it.
        steady: Whether a sum through a hub is not opened over fewer sites than the one before; see `dropouts.hub`.

    Raises:
        InputError: There is no such topology, or a channel that it needs.
        ProtocolError: As the topology's card says.
        IdentityError: A key is not signed by its site.
    """
    if topology not in get_args(Topology):
        raise InputError(f"there is no topology {topology!r}", cure=f"Choose one of {', '.join(get_args(Topology))}.")
    through_hub, others = topology in ("star", "dropouts"), sorted(set(sites) - {site})
    needed = [hub] if through_hub and site != hub else others
    if missing := sorted(set(needed) - set(channels)):
        raise InputError(
            f"{site} has no link to {', '.join(missing)}, which sums over {topology} need",
            cure="Choose star or dropouts where sites are linked to the hub only.",
        )
    peers, members = {name: channels[name] for name in needed}, [name for name in sites if name != hub]
    if topology == "ring":
        return Sums(await ring.site(peers, rng=rng, least=least, patience=patience, context=context), rng)
    if not through_hub:
        return Sums(await direct.site(peers, rng=rng, leader=topology == "leader", context=context), rng)
    adds, checked = hub in sites, hub not in sites
    if topology == "star":
        if site == hub:
            return Sums(await star.hub(peers, adds=adds, checked=checked, context=context), rng)
        star_member = star.member(peers[hub], members, rng=rng, seal=seal, adds=adds, checked=checked, context=context)
        return Sums(await star_member, rng)
    fewest = max(least - adds, 0)  # of members, the hub apart
    if site == hub:
        added = dropouts.hub(
            peers, adds=adds, checked=checked, least=fewest, steady=steady, patience=patience, context=context
        )
        return Sums(await added, rng)
    member = dropouts.member(
        peers[hub],
        members,
        rng=rng,
        seal=seal,
        adds=adds,
        checked=checked,
        least=fewest,
        steady=steady,
        context=context,
    )
    return Sums(await member, rng)
