"""Check of correlated transfers: a receiver that used other choices in some column than in the others is caught.

Receiver, choices r and strings t                          Sender, strings q and Δ
(1) both have run one `extend`, whose last 128 transfers the check uses up
                                                           (2) draws a point χ
(3) hashes its choices and each of 128 columns at χ        checks hash(q_c) = hash(t_c) ⊕ Δ_c · hash(r) for every c

Without it a receiver that puts other choices into column c sees from what follows whether Δ_c is zero, and after 128
such columns it knows Δ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import gf128
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer
from atoll.protocols.oblivious_transfer import KAPPA, CorrelatedBlocks, ReceivedBlocks

USED_UP = KAPPA
"""Transfers with random choices at the end of a call: they hide the hashes, and must not be used for anything else."""

Words = NDArray[np.uint64]


class Point(Message, frozen=True):
    """(2) sender → receiver: where the columns are hashed, (2,) words."""

    point: U64


class Hashes(Message, frozen=True):
    """(3) receiver → sender: hash of the choices, (2,), and of each column of its strings, (128, 2)."""

    choices: U64
    columns: U64


async def receiver(peer: Channel, choices: NDArray[np.uint8], blocks: ReceivedBlocks) -> None:
    """Show that all columns used the same choices.

    Args:
        peer: Channel to the sender.
        choices: (n,) what the one call of `extend` chose, of which the last `USED_UP` were drawn for the check.
        blocks: What that call returned.

    Raises:
        ProtocolError: The sender sent another size.
    """
    point = (await peer.recv(Point, point=(2,))).point  # (2)
    padded = np.concatenate((np.zeros(-len(choices) % KAPPA, np.uint8), choices))
    packed = np.packbits(padded, bitorder="little").view(np.uint64).reshape(-1, 2)
    columns = await offload(column_hashes, blocks.t, point)
    await peer.send(Hashes(gf128.evaluate(point, packed), columns))  # (3)


async def sender(peer: Channel, blocks: CorrelatedBlocks, *, rng: Rng) -> None:
    """Check that the receiver used the same choices in all columns.

    Args:
        peer: Channel to the receiver.
        blocks: What the one call of `extend` returned.
        rng: Secret randomness; the point is drawn here, after the receiver's columns are known.

    Raises:
        ProtocolError: It did not.
    """
    point = rng.u64(2)
    await peer.send(Point(point))  # (2)
    theirs = await peer.recv(Hashes, choices=(2,), columns=(KAPPA, 2))  # (3)
    mine = await offload(column_hashes, blocks.q, point)
    bits = np.unpackbits(blocks.delta.view(np.uint8), bitorder="little").astype(np.uint64)
    if not np.array_equal(mine, theirs.columns ^ bits[:, np.newaxis] * theirs.choices):
        raise ProtocolError(
            f"{peer.peer} chose differently in different columns of its transfers",
            cure="It runs another program, or is dishonest: ask its operator.",
        )


def column_hashes(strings: Words, point: Words) -> Words:
    """Hash every column of n strings (n, 2), cut into elements of 128 rows and led by zeros; (128, 2)."""
    bits = np.unpackbits(strings.view(np.uint8).reshape(len(strings), 16), axis=1, bitorder="little")
    padded = np.concatenate((np.zeros((-len(strings) % KAPPA, KAPPA), np.uint8), bits))
    columns = np.packbits(np.ascontiguousarray(padded.T), axis=1, bitorder="little").view(np.uint64)
    return np.stack([gf128.evaluate(point, column.reshape(-1, 2)) for column in columns])


PROTOCOL = Protocol(
    name="transfer-check",
    version=1,
    title="A receiver of correlated transfers shows that it chose consistently",
    card=Card(
        source="Roy, SoftSpokenOT, CRYPTO 2022 (eprint 2022/192), consistency check by a universal hash of the "
        "columns, for the repetition code (the extension of Ishai, Kilian, Nissim and Petrank); the same check over "
        "bits: Orrù, Orsini and Scholl, CT-RSA 2017 (eprint 2016/933). The hash is a polynomial over GF(2^128).",
        security="Malicious receiver, with a malicious sender learning nothing. A receiver that deviates in k columns "
        "passes with probability 2^-k + n / 2^135, and then knows k bits of delta, whose other bits stay uniform. The "
        "base transfers of `oblivious-transfer` are endemic: a corrupt site may choose its own base strings.",
        inputs="Both sides the strings of one call of `extend`, the receiver its choices; the last 128 are random.",
        reveals={
            "receiver": ("Nothing: whether it passes depends on the bits of delta that it guessed by cheating.",),
            "sender": ("Nothing of the choices: their hash is hidden by 128 random ones that serve nothing else.",),
        },
        cost="2 messages, 2.1 kB, 128 transfers.",
        fails="ProtocolError at the sender when the choices are inconsistent, at both on another size.",
        assurance="sketch",
        notes=(
            "The proof is the sources'; that it holds for endemic base transfers in the place of uniform ones is taken "
            "from Masny and Rindal, ACM CCS 2019, section 5, and was not written out for this composition.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Point, Hashes),
    uses=(oblivious_transfer.PROTOCOL,),
)
