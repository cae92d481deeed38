"""The malicious form: equals plain sets, and cheating parties are caught as often as the cards say."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import gf128, okvs, punctured_trees
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer as ot
from atoll.protocols import silent_vole as vole
from atoll.protocols import transfer_check as check
from atoll.protocols import vole_intersection as psi
from atoll.protocols import vole_oprf as oprf
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

Case = tuple[list[bytes], list[bytes]]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


@pytest.mark.slow
def test_conformance() -> None:
    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        found = await psi.receiver(peer, case[0], rng=rng, security="malicious")
        return {case[0][i] for i in found.mine}

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        return len((await psi.sender(peer, case[1], rng=rng, security="malicious")).order)

    check_protocol(
        ProtocolCheck(
            protocol=psi.PROTOCOL,
            cases=[(ids(0, 6), ids(3, 8)), ([], ids(0, 3)), (ids(0, 3), []), ([b"", b"\0"], ["顾客".encode(), b"\0"])],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]), len(case[1])),
            max_bytes=lambda case: 16 * (okvs.Shape(max(len(case[0]), 1)).words + len(case[1])) + 900_000,
        )
    )


def play(x: list[bytes], y: list[bytes], seed: int = 1, **options: Any) -> tuple[Any, Any, list[Any]]:
    a, b, transcript = recorded_pair(allowed=psi.PROTOCOL.kinds)
    found, shuffled = run_pair(
        psi.receiver(a, x, rng=seeded_rng(seed), security="malicious", **options),
        psi.sender(b, y, rng=seeded_rng(seed + 1), security="malicious", **options),
    )
    return found, shuffled, transcript


def test_several_bins_and_filled_up_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(okvs, "BIN", 256)
    x, y = ids(0, 900), ids(700, 1300)
    found, shuffled, transcript = play(x, y, size=1000)
    assert [x[i] for i in found.mine] == [y[i] for i in shuffled.order[found.theirs]]
    assert len(found.mine) == 200
    assert np.count_nonzero(shuffled.order < 0) == 400
    tags = np.frombuffer(transcript[-1].payload, np.uint8).reshape(-1, 16)
    assert len(np.unique(tags, axis=0)) == 1000


def test_hashed_ids_of_the_wrong_width_are_a_mistake() -> None:
    public, shape = oprf._Public.of(bytes(16), bytes(32)), okvs.Shape(1)
    for width, malicious in ((2, True), (4, False)):
        with pytest.raises(ValueError, match="hashed ids are"):
            oprf._placed(np.zeros((1, width), np.uint64), public, shape, malicious)


def test_duplicates_are_refused() -> None:
    with pytest.raises(InputError, match="duplicates"):
        play([b"a", b"b", b"a"], [b"a"])


def test_sites_must_agree_on_the_level() -> None:
    for one, other in (("malicious", "semi-honest"), ("semi-honest", "malicious")):
        a, b = memory_pair(timeout=5.0)
        with pytest.raises(ProtocolError, match="one to be malicious"):
            run_pair(
                psi.receiver(a, ids(0, 3), rng=seeded_rng(1), security=one),  # type: ignore[arg-type]
                psi.sender(b, ids(0, 3), rng=seeded_rng(2), security=other),  # type: ignore[arg-type]
            )


def test_two_worlds_look_alike() -> None:
    worlds = [play(x, ids(0, 50), seed)[2] for seed, x in ((1, ids(0, 300)), (7, ids(1000, 1300)))]
    assert [(f.sender, len(f.header), len(f.payload)) for f in worlds[0]] == [
        (f.sender, len(f.header), len(f.payload)) for f in worlds[1]
    ]
    for one, two in zip(*worlds, strict=True):
        if len(one.payload) >= 32:
            assert one.payload[:32] != two.payload[:32]


# --- transfers --------------------------------------------------------------------------------------------------------


def transfers(cheat: Callable[[np.ndarray], None], seed: int, n: int = 300) -> tuple[Any, np.ndarray]:
    """Run transfers whose receiver changes its columns before they leave; return the sender's end and its Δ."""
    deltas = []

    async def receiver(peer: Channel) -> None:
        transfer = await ot.setup_receiver(peer, rng=seeded_rng(seed))
        mask = transfer._mask

        def changed(r: np.ndarray, t: np.ndarray) -> np.ndarray:
            columns = mask(r, t)
            cheat(columns.reshape(ot.KAPPA, -1))
            return columns

        transfer._mask = changed  # type: ignore[method-assign]
        choices = seeded_rng(seed + 1).bits(n)
        await check.receiver(peer, choices, await transfer.extend(peer, choices))

    async def sender(peer: Channel) -> None:
        transfer = await ot.setup_sender(peer, rng=seeded_rng(seed + 2))
        blocks = await transfer.extend(peer, n)
        deltas.append(blocks.delta)
        await check.sender(peer, blocks, rng=seeded_rng(seed + 3))

    a, b = memory_pair(timeout=5.0)
    _, end = end_pair(receiver(a), sender(b))
    return end, np.unpackbits(deltas[0].view(np.uint8), bitorder="little")


@pytest.mark.parametrize("n", [128, 129, 300, 1000])
def test_honest_transfers_pass(n: int) -> None:
    assert transfers(lambda columns: None, 1, n)[0] is None


@pytest.mark.parametrize("seed", range(12))
def test_other_choices_in_one_column_are_caught_where_its_bit_of_delta_is_one(seed: int) -> None:
    """The card: k columns pass with probability 2^-k, when the bits of Δ are guessed."""

    def cheat(columns: np.ndarray) -> None:
        columns[5, 1] ^= np.uint64(4)

    end, delta = transfers(cheat, 10 * seed)
    assert isinstance(end, ProtocolError) == bool(delta[5])
    if end:
        assert "chose differently" in str(end)


def test_other_choices_in_many_columns_are_caught() -> None:
    def cheat(columns: np.ndarray) -> None:
        columns[::3, 0] ^= np.uint64(1)

    assert all(isinstance(transfers(cheat, seed)[0], ProtocolError) for seed in range(3))


def test_the_hashes_of_choices_and_columns_are_what_the_card_says() -> None:
    """Against a plain sum over Python's integers."""
    t, point = seeded_rng(1).u64(300, 2), seeded_rng(2).u64(2)
    found = check.column_hashes(t, point)
    bits = np.unpackbits(t.view(np.uint8).reshape(300, 16), axis=1, bitorder="little")
    for column in (0, 77):
        padded = np.concatenate((np.zeros(84, np.uint8), bits[:, column]))
        blocks = np.packbits(padded, bitorder="little").view(np.uint64).reshape(3, 2)
        total = np.zeros(2, np.uint64)
        for block in blocks:
            total = gf128.multiply(total, point) ^ block
        assert np.array_equal(found[column], total)


# --- trees ------------------------------------------------------------------------------------------------------------


def trees(cheat: Callable[[vole.Trees], vole.Trees], seed: int, checked: bool = True) -> Any:
    """Run a vector whose sender changes its trees before they leave; return the receiver's end."""

    async def receiver(peer: Channel) -> None:
        transfer = await ot.setup_receiver(peer, rng=seeded_rng(seed))
        await vole.receiver(peer, 2000, words=2, ot=transfer, rng=seeded_rng(seed + 1), checked=checked)

    async def sender(peer: Channel) -> None:
        transfer = await ot.setup_sender(peer, rng=seeded_rng(seed + 2))
        send = peer.send

        async def changed(message: Any) -> None:
            await send(cheat(message) if isinstance(message, vole.Trees) else message)

        peer.send = changed  # type: ignore[method-assign]
        await vole.sender(peer, 2000, words=2, ot=transfer, rng=seeded_rng(seed + 3), checked=checked)

    a, b = memory_pair(timeout=5.0)
    return end_pair(receiver(a), sender(b))[0]


def wrong_leaf(message: vole.Trees) -> vole.Trees:
    leaves = message.leaves.copy()
    leaves[17, 0] ^= np.uint64(1)
    return vole.Trees(message.sums, leaves)


def wrong_sums(message: vole.Trees) -> vole.Trees:
    sums = message.sums.copy()
    sums[3, 1, :, 1] ^= np.uint64(8)
    return vole.Trees(sums, message.leaves)


def wrong_left_sum(message: vole.Trees) -> vole.Trees:
    sums = message.sums.copy()
    sums[3, 0, 0, 0] ^= np.uint64(1)
    return vole.Trees(sums, message.leaves)


def test_honest_trees_pass() -> None:
    assert not isinstance(trees(lambda message: message, 1), BaseException)


@pytest.mark.parametrize("cheat", [wrong_leaf, wrong_sums])
@pytest.mark.parametrize("seed", range(4))
def test_wrong_trees_are_caught_always(cheat: Callable[[vole.Trees], vole.Trees], seed: int) -> None:
    end = trees(cheat, 10 * seed)
    assert isinstance(end, ProtocolError)
    assert "do not fit together" in str(end)


def test_one_wrong_side_is_a_guess_of_one_bit_and_is_caught_half_the_time() -> None:
    """The card: what the sender learns of the noise it pays for by the chance to be caught."""
    ends = [isinstance(trees(wrong_left_sum, 10 * seed), ProtocolError) for seed in range(8)]
    assert 1 <= sum(ends) <= 7


def test_without_the_check_wrong_trees_pass_unseen() -> None:
    """The mutant that the check is there for."""
    assert not isinstance(trees(wrong_sums, 1, checked=False), BaseException)


def test_a_sender_with_other_leaves_than_its_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    grow = punctured_trees.grow

    def changed(roots: np.ndarray, leaves: int) -> tuple[np.ndarray, np.ndarray]:
        grown, sums = grow(roots, leaves)
        grown[9, 2, 0] ^= np.uint64(1)  # after the sums were taken
        return grown, sums

    monkeypatch.setattr(punctured_trees, "grow", changed)
    assert isinstance(trees(lambda message: message, 1), ProtocolError)


# --- the function -----------------------------------------------------------------------------------------------------


def test_a_coin_that_is_not_the_one_committed_to() -> None:
    async def cheat(peer: Channel) -> None:
        send = peer.send

        async def changed(message: Any) -> None:
            await send(oprf.Coin(bytes(16)) if isinstance(message, oprf.Coin) else message)

        peer.send = changed  # type: ignore[method-assign]
        await psi.sender(peer, ids(0, 5), rng=seeded_rng(2), security="malicious")

    a, b = memory_pair(timeout=5.0)
    with pytest.raises(ProtocolError, match="another coin"):
        run_pair(psi.receiver(a, ids(0, 5), rng=seeded_rng(1), security="malicious"), cheat(b))


def test_a_coin_of_another_size() -> None:
    async def cheat(peer: Channel) -> None:
        send = peer.send

        async def changed(message: Any) -> None:
            await send(oprf.Coin(b"") if isinstance(message, oprf.Coin) else message)

        peer.send = changed  # type: ignore[method-assign]
        await psi.receiver(peer, ids(0, 5), rng=seeded_rng(2), security="malicious")

    a, b = memory_pair(timeout=5.0)
    with pytest.raises(ProtocolError, match="coin has 0 bytes"):
        run_pair(cheat(a), psi.sender(b, ids(0, 5), rng=seeded_rng(1), security="malicious"))


def test_the_coin_is_in_every_tag() -> None:
    """Same everything but the receiver's coin: no tag stays."""
    tags = []
    for coin in (b"\1" * 16, b"\2" * 16):

        async def swapped(peer: Channel, coin: bytes = coin) -> None:
            send = peer.send

            async def changed(message: Any) -> None:
                await send(oprf.Coin(coin) if isinstance(message, oprf.Coin) else message)

            peer.send = changed  # type: ignore[method-assign]
            await psi.receiver(peer, ids(0, 5), rng=seeded_rng(2), security="malicious")

        a, b, transcript = recorded_pair(allowed=psi.PROTOCOL.kinds)
        run_pair(swapped(a), psi.sender(b, ids(0, 50), rng=seeded_rng(1), security="malicious"))
        tags.append({row.tobytes() for row in np.frombuffer(transcript[-1].payload, np.uint8).reshape(-1, 16)})
    assert not tags[0] & tags[1]


def test_a_receiver_that_encodes_something_else_learns_nothing_of_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong P is not an attack: F of an id is known only where P holds the id's hash."""
    encoded = oprf._encoded

    def wrong(*args: Any) -> Any:
        found, words = encoded(*args)
        return found, words ^ seeded_rng(9).u64(*words.shape)

    monkeypatch.setattr(oprf, "_encoded", wrong)
    assert len(play(ids(0, 50), ids(0, 50))[0].mine) == 0


def test_frozen_vectors() -> None:
    found, shuffled, transcript = play(ids(0, 5), ids(3, 9))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript if frame.payload][-2:]
    assert (digests, found.theirs.tolist(), shuffled.order.tolist()) == FROZEN


FROZEN: Any = (["7b0aa0cdbbf008e3", "c5133325e7b90732"], [1, 0], [1, 0, 5, 2, 4, 3])
