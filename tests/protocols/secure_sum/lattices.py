"""Sums under a key that nobody holds, in one process: some members break off, or the hub cheats."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError
from atoll.protocols.secure_sum import lattice
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.sums import Sums
from atoll.testing import seeded_rng
from tests.protocols.secure_sum.stars import play as play_star
from tests.protocols.secure_sum.test_dropouts import Quitting
from tests.protocols.star import HUB, Star, error_of

MEMBERS = ("b", "c", "d", "e", "f")
N = 11


def words(name: str, bits: int = 32, n: int = N) -> np.ndarray:
    """A site's words, the same in every test."""
    size = Question("words", bits, n).words
    return seeded_rng(sum(name.encode())).u64(size)


def total(names: Sequence[str], bits: int = 32, n: int = N) -> np.ndarray:
    """The sum of sites' words."""
    question = Question("words", bits, n)
    out = np.zeros(question.words, np.uint64)
    for name in names:
        question.ring.add(out, words(name, bits, n))
    return out


def adding_words(times: int = 1, bits: int = 32, n: int = N) -> Callable[[Sums], Any]:
    """Add this site's words some times; return the last sum, who is in it, and who was left out."""

    async def use(sums: Sums) -> Any:
        for _ in range(times):
            found = await sums.carrier.add(Question("words", bits, n), words(sums.site, bits, n))
        return found, sums.sites, getattr(sums.carrier, "dropped", {})

    return use


def play(
    use: Mapping[str, Any] | Sequence[str], quits: Mapping[str, tuple[Any, ...]] = {}, **options: Any
) -> tuple[dict[str, Any], Star]:
    """Run sites; each of those named in `quits` breaks off before its message of a kind, and of a number."""
    uses = use if isinstance(use, Mapping) else dict.fromkeys(use, adding_words())
    net = options.pop("net", None)
    if net is None:
        net = Star([name for name in uses if name != HUB], lattice.PROTOCOL.kinds, options.get("timeout", 5.0))
    for name, where in quits.items():
        net.hubs[name] = Channel(Quitting(net.hubs[name].link, *where), net.hubs[name].gate)
    return play_star(uses, protocol=lattice, net=net, **options)


def cheating(monkeypatch: pytest.MonkeyPatch, net: Star, change: Callable[[str, Any], Any]) -> None:
    """Let the hub send something else: change(name, message) → message."""
    real = Channel.send

    async def send(self: Channel, message: Any) -> None:
        at_hub = any(self is peer for peer in net.peers.values())
        await real(self, change(self.peer, message) if at_hub else message)

    monkeypatch.setattr(Channel, "send", send)


def caught(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[str, Any], Any], site: str = "b", times: int = 1, **options: Any
) -> str:
    """Say what a member noticed of a hub that cheats."""
    net = Star(MEMBERS, lattice.PROTOCOL.kinds, 0.7)
    cheating(monkeypatch, net, change)
    ends, _ = play(dict.fromkeys(MEMBERS, adding_words(times)), net=net, **options)
    return str(error_of(ends, site, AtollError))


def changed(message: Any, **fields: Any) -> Any:
    """The same message with other fields."""
    return type(message)(*(fields.get(name, getattr(message, name)) for name in message.__struct_fields__))
