"""Sums over a star in one process."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import star
from atoll.protocols.secure_sum.sums import Sums
from atoll.testing import seeded_rng
from tests.protocols.star import HUB, Star

Use = Callable[[Sums], Awaitable[Any]]

VALUES: Mapping[str, Sequence[float]] = {
    HUB: [1.0, 0.1, -3.0, 1e20],
    "b": [2.0, 0.2, 3.0, 1.0],
    "c": [4.0, 0.3, 1e-20, -1e20],
    "d": [8.0, 0.4, 5e-324, 2.0**-96],
}
MEMBERS = ("b", "c", "d")


def seeds(names: Sequence[str], seed: int) -> dict[str, Any]:
    return {name: seeded_rng(1000 * seed + i) for i, name in enumerate(names)}


async def adding(setting_up: Awaitable[Any], use: Use, rng: Any) -> Any:
    """One site: set up, use the sums, and finish."""
    sums = Sums(await setting_up, rng)
    result = await use(sums)
    await sums.finish()
    return result


async def serving(setting_up: Awaitable[Any]) -> list[str]:
    """A hub without numbers: what it saw asked."""
    asked: list[str] = []
    await (await setting_up).serve(lambda question, *sites: asked.append(question.what))
    return asked


def play(
    use: Mapping[str, Use],
    *,
    protocol: Any = star,
    at_hub: Mapping[str, Any] | None = None,
    net: Star | None = None,
    seed: int = 1,
    seals: Mapping[str, Seal] | None = None,
    timeout: float = 5.0,
    roles: Mapping[str, Callable[[Star], Awaitable[Any]]] | None = None,
    **options: Any,
) -> tuple[dict[str, Any], Star]:
    """Run a star in which each named site uses its sums so; the hub is one of them or adds nothing.

    Args:
        use: What each site does.
        protocol: `star` or `dropouts`.
        at_hub: Further options of the hub.
        net: The star, where it is not a plain one.
        roles: Sites that do something of their own.
        options: Of hub and members.
    """
    members = [name for name in use if name != HUB]
    net = net or Star(members, protocol.PROTOCOL.kinds, timeout)
    rngs, adds = seeds([HUB, *members], seed), HUB in use
    options = {"context": ("job 1",), "adds": adds, **options}
    ready = protocol.hub(net.peers, **options, **(at_hub or {}))
    hub = adding(ready, use[HUB], rngs[HUB]) if adds else serving(ready)
    own = dict(roles or {})
    if HUB in own:
        hub.close()
        ready.close()
        hub = own.pop(HUB)(net)
    ends = {
        name: own[name](net) if name in own else adding(
            protocol.member(net.hubs[name], members, rng=rngs[name].spawn(), seal=(seals or {}).get(name), **options),
            use[name], rngs[name],
        )
        for name in members
    }  # fmt: skip
    return net.run(hub, ends), net


def totals(values: Mapping[str, Sequence[float]] = VALUES) -> dict[str, Use]:
    """Each site adds its own values once."""

    def one(mine: Sequence[float]) -> Use:
        return lambda sums: sums.total(np.array(mine, np.float64), what="means of a test")

    return {name: one(mine) for name, mine in values.items()}
