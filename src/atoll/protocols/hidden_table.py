"""A bit of a table that one side holds, at an index that the other side holds; both get a share of it, and no more.

Chooser, indices c_j of four bits                          Owner, tables T_j of 16 bits
(0) silent transfers with choices of four bits: random a_j and pad bit P_j(a_j); the owner has all 16 pad bits P_j
(1) sends d_j = c_j ⊕ a_j
                                                           (2) draws share s_j, sends T_j(u ⊕ d_j) ⊕ P_j(u) ⊕ s_j
                                                               for all u
has T_j(c_j) ⊕ s_j, at u = a_j

Any function of four bits that are shared by XOR is such a table: the owner puts in its own shares.  On it stand
equality, order and sign of hidden words (`equal_…`, `less_…`, `negative_…`), which send nothing else.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import table_pads
from atoll.crypto.random import Rng
from atoll.crypto.table_pads import WIDTH, nibbles, quads
from atoll.protocols import silent_transfer
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

Bits = NDArray[np.uint8]
Tables = NDArray[np.uint16]
U64 = NDArray[np.uint64]

_LOW = np.uint64((1 << 63) - 1)

LESS_OR_HIGH_EQUAL = (0, 1, 0, 1, 0, 1, 1, 1) * 2
"""less = less_high ∨ equal_high ∧ less_low, at less_high + 2 equal_high + 4 less_low + 8 equal_low."""

BOTH_EQUAL = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1)
"""equal = equal_high ∧ equal_low, at the same index."""


class Indices(Message, frozen=True):
    """(1) chooser → owner: indices under random choices, two in a byte."""

    indices: U8


class Masked(Message, frozen=True):
    """(2) owner → chooser: tables under pads and the owner's shares, two bytes each."""

    tables: U8


class _Stock:
    """What is made in advance and handed out once."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("pads cannot be copied or stored: they would be used twice")


class Owner(_Stock):
    """The owner's pads.

    Args:
        ot: Transfers in which this site is the sender.
        rng: Secret randomness.
    """

    def __init__(self, ot: OtSender, rng: Rng) -> None:
        self.ot, self.rng = ot, rng
        self._pads = np.empty(0, np.uint16)

    async def prepare(self, peer: Channel, n: int) -> None:
        """Have pads for n tables at hand; the chooser does the same."""
        found = [self._pads]
        for piece in silent_transfer.pieces(n - len(self._pads)):
            sent = await silent_transfer.sender(
                peer, piece.stop - piece.start, width=WIDTH, ot=self.ot, rng=self.rng.spawn()
            )
            found.append(await offload(table_pads.all_bits, sent.q, sent.delta, sent.first))
        self._pads = np.concatenate(found)

    def take(self, n: int) -> Tables:
        """Hand out pads for n tables."""
        taken, self._pads = self._pads[:n], self._pads[n:]
        return taken


class Chooser(_Stock):
    """The chooser's random choices and their pad bits; arguments as of `Owner`, the site being the receiver."""

    def __init__(self, ot: OtReceiver, rng: Rng) -> None:
        self.ot, self.rng = ot, rng
        self._choices, self._pads = np.empty(0, np.uint8), np.empty(0, np.uint8)

    async def prepare(self, peer: Channel, n: int) -> None:
        """Have choices for n tables at hand; the owner does the same."""
        choices, pads = [self._choices], [self._pads]
        for piece in silent_transfer.pieces(n - len(self._pads)):
            got = await silent_transfer.receiver(
                peer, piece.stop - piece.start, width=WIDTH, ot=self.ot, rng=self.rng.spawn()
            )
            choices.append(got.choices)
            pads.append(await offload(table_pads.one_bit, got.t, got.first))
        self._choices, self._pads = np.concatenate(choices), np.concatenate(pads)

    def take(self, n: int) -> tuple[Bits, Bits]:
        """Hand out choices and pad bits for n tables."""
        taken = self._choices[:n], self._pads[:n]
        self._choices, self._pads = self._choices[n:], self._pads[n:]
        return taken


async def owner(peer: Channel, tables: Tables, *, stock: Owner) -> Bits:
    """Share each table's bit at the chooser's index.

    Args:
        peer: Channel to the chooser.
        tables: (n,) uint16, bit v of each is its value at v.
        stock: This side's pads; more are made where they are too few.

    Returns:
        This side's shares, (n,) uint8, each 0 or 1; XOR with the chooser's gives the bits.

    Raises:
        ProtocolError: As the card says.
    """
    n = len(tables)
    await stock.prepare(peer, n)
    pads, shares = stock.take(n), stock.rng.bits(n)
    masked = (await peer.recv(Indices, indices=(-(-n // 2),))).indices  # (1)
    await peer.send(Masked(await offload(table_pads.masked_tables, tables, masked, pads, shares)))  # (2)
    return shares


async def chooser(peer: Channel, indices: Bits, *, stock: Chooser) -> Bits:
    """Share each of the owner's tables' bit at one's own index.

    Args:
        peer: Channel to the owner.
        indices: (n,) uint8 below 16.
        stock: This side's choices.

    Returns:
        This side's shares, (n,) uint8.

    Raises:
        ProtocolError: As the card says.
        ValueError: An index is 16 or more.
    """
    n = len(indices)
    if indices.max(initial=0) >= table_pads.VALUES:
        raise ValueError("an index has four bits")
    await stock.prepare(peer, n)
    choices, pads = stock.take(n)
    await peer.send(Indices(await offload(table_pads.masked_indices, indices, choices)))  # (1)
    message = (await peer.recv(Masked, tables=(2 * n,))).tables  # (2)
    return await offload(table_pads.opened, message, choices, pads)


def lookups_for_equality(n: int) -> int:
    """Tables that the equality of n words takes: 16 for their digits, then four bits become one, twice."""
    return 21 * n


async def equal_owner(peer: Channel, words: U64, *, stock: Owner) -> Bits:
    """Share whether each word equals the chooser's.

    Args:
        peer: Channel to the chooser, which calls `equal_chooser`.
        words: (n,) uint64.
        stock: This side's pads.

    Returns:
        This side's shares, (n,) uint8: XOR with the chooser's gives 1 where the words are equal.

    Raises:
        ProtocolError: As the card says.
    """
    bits = await owner(peer, _only(nibbles(words)), stock=stock)
    for _ in range(2):  # four bits are all set where the chooser's are the complement of this side's
        bits = await owner(peer, _only(quads(bits) ^ np.uint8(15)), stock=stock)
    return bits


async def equal_chooser(peer: Channel, words: U64, *, stock: Chooser) -> Bits:
    """Share whether each word equals the owner's; arguments, result and errors as of `equal_owner`."""
    bits = await chooser(peer, nibbles(words), stock=stock)
    for _ in range(2):
        bits = await chooser(peer, quads(bits), stock=stock)
    return bits


async def less_owner(peer: Channel, words: U64, *, stock: Owner) -> Bits:
    """Share whether the chooser's word is less than this side's; arguments, result and errors as of `equal_owner`."""
    digits = nibbles(words)
    below = ((np.uint32(1) << digits.astype(np.uint32)) - np.uint32(1)).astype(np.uint16)
    shares = await owner(peer, np.concatenate((below, _only(digits))), stock=stock)
    less, equal = shares.reshape(2, -1)
    while len(less) > len(words):
        mine = _pairs(less, equal)
        tables = [_shifted(table, mine) for table in (LESS_OR_HIGH_EQUAL, BOTH_EQUAL)]
        less, equal = (await owner(peer, np.concatenate(tables), stock=stock)).reshape(2, -1)
    return less


async def less_chooser(peer: Channel, words: U64, *, stock: Chooser) -> Bits:
    """Share whether this side's word is less than the owner's; arguments, result and errors as of `equal_owner`."""
    digits = nibbles(words)
    shares = await chooser(peer, np.concatenate((digits, digits)), stock=stock)
    less, equal = shares.reshape(2, -1)
    while len(less) > len(words):
        mine = _pairs(less, equal)
        less, equal = (await chooser(peer, np.concatenate((mine, mine)), stock=stock)).reshape(2, -1)
    return less


async def negative_owner(peer: Channel, halves: U64, *, stock: Owner) -> Bits:
    """Share whether each integer is below zero, the sum of both sides' halves modulo 2^64 being its two's complement.

    Args:
        peer: Channel to the chooser, which calls `negative_chooser`.
        halves: (n,) uint64.
        stock: This side's pads.

    Returns:
        This side's shares, (n,) uint8.

    Raises:
        ProtocolError: As the card says.
    """
    carried = await less_owner(peer, halves & _LOW, stock=stock)
    return carried ^ (halves >> np.uint64(63)).astype(np.uint8)


async def negative_chooser(peer: Channel, halves: U64, *, stock: Chooser) -> Bits:
    """Share whether each integer is below zero; arguments, result and errors as of `negative_owner`.

    The sign is the top bit of the sum: both top bits and the carry, which is [2^63 − 1 − x < y] for lower bits x, y.
    """
    carried = await less_chooser(peer, _LOW - (halves & _LOW), stock=stock)
    return carried ^ (halves >> np.uint64(63)).astype(np.uint8)


def _only(values: Bits) -> Tables:
    """Return tables that are 1 at one value each."""
    return np.left_shift(np.uint16(1), values, dtype=np.uint16)


def _pairs(less: Bits, equal: Bits) -> Bits:
    """Put what is known of two neighbouring digits, the lower one first, into one index."""
    four = np.stack((less[1::2], equal[1::2], less[0::2], equal[0::2]), axis=1)
    return np.packbits(four, axis=1, bitorder="little")[:, 0]


def _shifted(table: tuple[int, ...], mine: Bits) -> Tables:
    """Return, for each of this side's shares of an index, the table over the other side's shares."""
    at = np.arange(16)[:, np.newaxis] ^ np.arange(16)  # (own share, other share)
    words: Tables = (np.array(table)[at] << np.arange(16)).sum(axis=1).astype(np.uint16)
    return words[mine]


PROTOCOL = Protocol(
    name="hidden-table",
    version=1,
    title="A bit of one side's table at the other side's index, shared between both",
    card=Card(
        source="Naor and Pinkas, STOC 1999 (one of 16); Kolesnikov and Kumaresan, CRYPTO 2013 (random transfers, "
        "turned to chosen ones); digits and their joining: Rathee et al., CrypTFlow2, ACM CCS 2020, section 3, with "
        "tables in place of AND.",
        security="Semi-honest, 2 parties, computational 128 bits, as `silent-transfer`; fixed-key AES as a tweakable "
        "correlation-robust hash (Guo, Katz, Wang, Yu, IEEE S&P 2020) for the pads.",
        inputs="owner: n tables of 16 bits. chooser: n indices of four bits.",
        reveals={
            "owner": ("n, and nothing of the indices.",),
            "chooser": ("n, and nothing of the tables: its shares are random bits.",),
        },
        cost="2.5 bytes a table in 2 messages, and what `silent-transfer` takes. Equality of 64-bit words: 21 tables a "
        "word, 53 bytes, 3 rounds; order: 62 tables a word, 5 rounds. 36 blocks of AES a table at the owner.",
        fails="ProtocolError on wrong sizes and as `silent-transfer`; ValueError on an own index out of range.",
        assurance="tested",
        notes=(
            "AND by silent transfers would take 120 strings and 30 bytes for the equality of 61 bits, where this takes "
            "21 strings and 53 bytes: strings are what costs time.",
        ),
    ),
    roles={"owner": owner, "chooser": chooser},
    messages=(Indices, Masked),
    uses=(silent_transfer.PROTOCOL,),
)
