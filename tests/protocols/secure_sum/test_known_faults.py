"""Faults that secure sums of other systems have, and messages that are damaged on their way.

Known faults: masks from a seed of 32 bits; masks that never take the top value; masked floats, which are no group; the
weight in the clear; keys without signatures; no recovery from drop-outs.  The last three have tests of their own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import AtollError
from atoll.crypto.word_ring import Masks, WordRing
from atoll.protocols.secure_sum import dropouts, round_keys, star
from atoll.protocols.secure_sum.round_keys import Roster, RoundKeys
from atoll.protocols.secure_sum.ties import Ties
from atoll.testing import FAULTS, seeded_rng
from tests.protocols.secure_sum.stars import play, totals
from tests.protocols.star import HUB, Star

PAIR = {"b": 0, "c": 1}


def star_mask(key: bytes, bits: int = 32, words: int = 2) -> np.ndarray:
    acc = np.zeros(words, np.uint64)
    WordRing(bits).mask(acc, Ties("b", ("b", "c"), {"c": key}, bytes(32)).masks(bytes(32), "numbers"))
    return acc


def test_every_bit_of_a_pair_s_key_matters() -> None:
    """A mask has 128 bits of secret behind it: no two of these keys fall together."""
    keys = [bytes(16), *((1 << bit).to_bytes(16, "little") for bit in range(128))]
    assert len({star_mask(key).tobytes() for key in keys}) == 129


def test_every_bit_of_a_member_s_seed_matters() -> None:
    roster = Roster.of([("b", *RoundKeys("b", seeded_rng(1)).public, b"")], bytes(32))
    seeds = [np.zeros(32, np.uint8), *(np.eye(32, dtype=np.uint8)[i // 8] << np.uint8(i % 8) for i in range(256))]
    found = set()
    for seed in seeds:
        acc = np.zeros(2, np.uint64)
        WordRing(32).mask(acc, round_keys.own_masks([seed], roster, "numbers"))
        found.add(acc.tobytes())
    assert len(found) == 257


@pytest.mark.parametrize("bits", [16, 32])
def test_a_mask_takes_every_value_the_top_one_too(bits: int) -> None:
    values = star_mask(bytes(range(16)), bits, 1 << 18).view(np.uint16)  # halves of words of 32 bits as well
    counts = np.bincount(values, minlength=1 << 16)
    assert counts.min() > 0
    assert counts[-1] > 0
    expected = values.size / (1 << 16)
    assert float(((counts - expected) ** 2 / expected).sum()) < 65_535 + 6 * np.sqrt(2 * 65_535)


def test_a_masked_number_says_nothing_of_its_size() -> None:
    """A float that is masked by adding a float keeps its order of magnitude; a masked integer is uniform."""
    keys = [seeded_rng(i).bytes(16) for i in range(400)]
    for number in (0, 1, (1 << 63) - 1):
        tops = []
        for key in keys:
            acc = np.array([0, 0, number], np.uint64)
            WordRing(192).mask(acc, Masks([key], [False]))
            tops.append(int(acc[2]) >> 60)
        counts = np.bincount(tops, minlength=16)
        assert float(((counts - 25) ** 2 / 25).sum()) < 15 + 6 * np.sqrt(30)


# --- damaged messages -------------------------------------------------------------------------------------------------

VALUES: Mapping[str, list[float]] = {HUB: [1.0, 0.5], "b": [2.0, 0.25], "c": [4.0, 0.125], "d": [8.0, 0.0625]}


def damaged(protocol: Any, number: int, fault: str, **at_hub: Any) -> dict[str, Any]:
    """Damage one message between the hub and c."""
    net = Star(["b", "c", "d"], protocol.PROTOCOL.kinds, 0.3)
    for channel in (net.peers["c"], net.hubs["c"]):
        channel.link.target, channel.link.fault = number, fault  # type: ignore[attr-defined]
    return play(totals(VALUES), protocol=protocol, net=net, at_hub=at_hub)[0]


def messages(protocol: Any) -> int:
    return len(play(totals(VALUES), protocol=protocol)[1].transcripts["c"])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_message_of_a_star_is_noticed(fault: str) -> None:
    for number in range(messages(star)):
        ends = damaged(star, number, fault)
        errors = [end for end in ends.values() if isinstance(end, BaseException)]
        assert errors, (number, fault)
        assert all(isinstance(error, AtollError) for error in errors), (number, fault, errors)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["lost", "wrong shape"])
def test_a_damaged_message_of_one_site_leaves_the_others_with_the_right_sum(fault: str) -> None:
    counted = []
    for number in range(messages(dropouts)):
        ends = damaged(dropouts, number, fault, patience=0.15)
        assert isinstance(ends["c"], AtollError), (number, fault, ends)
        assert ends[HUB].tolist() == ends["b"].tolist() == ends["d"].tolist(), (number, fault)
        counted.append(ends["b"][0])
        assert ends["b"].tolist() in ([15.0, 0.9375], [11.0, 0.8125]), (number, fault, ends)
    assert {11.0, 15.0} == set(counted)
