"""Where a job begins: the sites agree on a border, and nobody is led past what it has done."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.node import border
from atoll.node.border import NOBODY, Border, Reached
from atoll.testing import check_card, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

ONE, TWO = bytes(15) + b"\1", bytes(15) + b"\2"


def agree(hub: tuple[bytes, int], *others: tuple[bytes, int]) -> list[tuple[bytes, int]]:
    """All sites' results for what each holds."""
    links = [memory_pair("bank", f"site{i}", timeout=1.0) for i in range(len(others))]
    roles = [
        border.label_holder({f"site{i}": ends[0] for i, ends in enumerate(links)}, *hub, rng=seeded_rng(1)),
        *(border.feature_holder(ends[1], *held) for ends, held in zip(links, others, strict=True)),
    ]

    async def run() -> list[tuple[bytes, int]]:
        async with asyncio.timeout(5):
            return list(await asyncio.gather(*roles))

    return asyncio.run(run())


@given(
    held=st.lists(st.tuples(st.sampled_from([NOBODY, ONE, TWO]), st.integers(0, 5)), min_size=2, max_size=4).map(
        lambda held: [(run, 0 if run == NOBODY else steps) for run, steps in held]
    )
)
def test_all_sites_agree_on_the_least_border_of_one_run(held: list[tuple[bytes, int]]) -> None:
    found = agree(*held)
    assert len(set(found)) == 1
    run, steps = found[0]
    least = min(steps for _, steps in held)
    if len({run for run, _ in held}) == 1 and held[0][0] != NOBODY and least:
        assert (run, steps) == (held[0][0], least)
    else:
        assert run not in (NOBODY, ONE, TWO)
        assert steps == 0


@pytest.mark.parametrize("named", [(NOBODY, 0), (ONE, 4), (TWO, 1), (ONE, -1)])
def test_a_site_is_not_led_past_what_it_has_done(named: tuple[bytes, int]) -> None:
    a, b = memory_pair("bank", "shop", timeout=1.0)

    async def liar(peer: Channel) -> None:
        await peer.recv(Reached, run=(16,))
        await peer.send(Border(np.frombuffer(named[0], np.uint8), named[1]))

    with pytest.raises(ProtocolError, match="has not done"):
        run_pair(liar(a), border.feature_holder(b, ONE, 3))


@pytest.mark.parametrize("steps", [-1, 1 << 40])
def test_a_site_that_says_nonsense(steps: int) -> None:
    a, b = memory_pair("bank", "shop", timeout=1.0)
    with pytest.raises(ProtocolError, match="steps"):
        run_pair(border.label_holder({"shop": a}, ONE, 3, rng=seeded_rng(1)), border.feature_holder(b, ONE, steps))


def test_the_card_is_complete() -> None:
    check_card(border.PROTOCOL)
