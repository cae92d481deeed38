"""How the tests of computing on shares run two parties and their source, over recorded channels."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from atoll.core.channel import Channel, Gate
from atoll.protocols.shares import Party, dealer, first, homomorphic, second
from atoll.testing import Frame, recorded_pair, seeded_rng
from atoll.transport.memory import memory_links

Program = Callable[[Party], Awaitable[Any]]


async def _with_dealer(a: Channel, b: Channel, programs: tuple[Program, Program], seed: int, fraction: int) -> Any:
    links = [memory_links(site, "dealer") for site in ("a", "b")]
    at_sites = [Channel(link, Gate(name, "test", None)) for name, (link, _) in zip("ab", links, strict=True)]
    at_dealer = [Channel(link, Gate("dealer", "test", None)) for _, link in links]

    async def party(number: int) -> Any:
        source = await dealer.source(at_sites[number], number)
        role, peer = ((first, a), (second, b))[number]
        p = await role(peer, source, rng=seeded_rng(seed + number), fraction=fraction)
        result = await programs[number](p)
        await source.close()
        return result

    return await _all(party(0), party(1), dealer.dealer(*at_dealer, rng=seeded_rng(seed + 2)))


async def _with_transfers(a: Channel, b: Channel, programs: tuple[Program, Program], seed: int, fraction: int) -> Any:
    from atoll.protocols.shares import transfers

    async def party(number: int) -> Any:
        role, peer = ((first, a), (second, b))[number]
        rng = seeded_rng(seed + number)
        source = await transfers.source(peer, number, rng=rng)
        return await programs[number](await role(peer, source, rng=rng, fraction=fraction))

    return await _all(party(0), party(1))


async def _homomorphic(a: Channel, b: Channel, programs: tuple[Program, Program], seed: int, fraction: int) -> Any:
    async def party(number: int) -> Any:
        role, peer = ((first, a), (second, b))[number]
        rng = seeded_rng(seed + number)
        source = await homomorphic.source(peer, number, rng=rng)
        return await programs[number](await role(peer, source, rng=rng, fraction=fraction))

    return await _all(party(0), party(1))


async def _all(*work: Any) -> Any:
    async with asyncio.timeout(30):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in work]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def play(
    *programs: Program, source: str = "dealer", seed: int = 1, fraction: int = 18, timeout: float = 5.0
) -> tuple[Any, Any, list[Frame]]:
    """Run one program at both parties, or one at each; return both results and what crossed between the two."""
    a, b, transcript = recorded_pair(timeout=timeout)
    run = {"dealer": _with_dealer, "transfers": _with_transfers, "homomorphic": _homomorphic}[source]
    results = asyncio.run(run(a, b, (programs[0], programs[-1]), seed, fraction))
    return results[0], results[1], transcript
