"""What the tests of hidden tables and of what stands on them share."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.protocols import hidden_table
from atoll.protocols import oblivious_transfer as ot
from atoll.testing import Frame, recorded_pair, run_pair, seeded_rng

Role = Callable[[Channel, Any, Rng], Awaitable[Any]]


def transfers(seed: int, odd: bool = False) -> tuple[ot.OtReceiver, ot.OtSender]:
    """Both sides of transfers without the base transfers, which have tests of their own and take long."""
    rng = seeded_rng(1_000_000 + seed)
    seeds, delta = rng.u8(2, ot.KAPPA, 16), rng.u64(2)
    delta[0] |= np.uint64(odd)
    bits = np.unpackbits(delta.view(np.uint8), bitorder="little")
    return ot.OtReceiver(seeds), ot.OtSender(seeds[bits, np.arange(ot.KAPPA)], delta)


def deal_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let set-ups deal transfers instead of running the base transfers."""

    def dealt(peer: Channel, receiving_site: str, odd: bool = False) -> tuple[ot.OtReceiver, ot.OtSender]:
        key = ("set-up", receiving_site, "")
        peer.gate.counts[key] = number = peer.gate.counts.get(key, 0) + 1
        return transfers(100 * ord(receiving_site) + number, odd)

    async def receiver(peer: Channel, *, rng: Rng) -> ot.OtReceiver:
        return dealt(peer, peer.gate.site)[0]

    async def sender(peer: Channel, *, rng: Rng, odd: bool = False) -> ot.OtSender:
        return dealt(peer, peer.peer, odd)[1]

    monkeypatch.setattr(ot, "setup_receiver", receiver)
    monkeypatch.setattr(ot, "setup_sender", sender)


def play(
    protocol: Protocol, chooser: Role, owner: Role, *cases: Any, seed: int = 1
) -> tuple[list[Any], list[Any], list[Frame]]:
    """Run cases one after the other on one set-up; the first side is the receiver of the transfers."""
    (receiving, sending), (a, b, transcript) = transfers(seed), recorded_pair(allowed=protocol.kinds)

    async def first() -> list[Any]:
        stock = hidden_table.Chooser(receiving, seeded_rng(seed + 1))
        return [await chooser(a, case, stock) for case in cases]  # type: ignore[arg-type]

    async def second() -> list[Any]:
        stock = hidden_table.Owner(sending, seeded_rng(seed + 3))
        return [await owner(b, case, stock) for case in cases]  # type: ignore[arg-type]

    got, had = run_pair(first(), second())
    return got, had, transcript


def balanced(bits: np.ndarray) -> bool:
    """Whether bits are as often 1 as 0, to five standard deviations."""
    return bool(abs(bits.astype(float).mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size))


def signed(values: np.ndarray) -> np.ndarray:
    """Integers modulo 2^64 as signed ones."""
    return values.astype(np.uint64).view(np.int64)
