"""What the members of a sum share with each other and with nobody else: keys, and the masks that come of them.

Member i                                                   Hub
(1) `pairwise-keys`: k_ij with every other member j        passes the keys on
(2) the first member draws a secret, seals it for each     passes it on
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.crypto import neighbours
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import Masks
from atoll.protocols import pairwise_keys
from atoll.protocols.pairwise_keys import Seal

COMMON = 32
"""Bytes of the secret that all members have."""

SEALED = COMMON + 16
"""Bytes of the same secret, sealed for one member."""


class Sealed(Message, frozen=True):
    """(2) first member → hub: the members' secret, sealed for each of the others in alphabetical order."""

    boxes: U8


class Box(Message, frozen=True):
    """(2) hub → member: the members' secret, sealed for this one."""

    box: U8


@dataclass(frozen=True)
class Ties:
    """One member's keys.

    Attributes:
        me: This member's name.
        members: All members, in alphabetical order.
        keys: 16 secret bytes shared with each other member, by name.
        common: 32 secret bytes that all members share.
    """

    me: str
    members: tuple[str, ...]
    keys: Mapping[str, bytes]
    common: bytes

    def __repr__(self) -> str:
        return f"Ties({self.me})"  # the keys are secret

    def masks(self, bound: bytes, purpose: str) -> Masks:
        """Return this member's masks for one sum; those of all members add up to nothing.

        Args:
            bound: What the sum is, see `Question.bound`; other bytes give other masks.
            purpose: Which vector of the sum.
        """
        near = neighbours.near(self.me, self.members, derived(self.common, "graph", b"")) if self.keys else ()
        keys = [derived(self.keys[other], f"mask/{purpose}", bound) for other in near]
        return Masks(keys, [other < self.me for other in near])


def derived(key: bytes, purpose: str, bound: bytes, size: int = 16) -> bytes:
    """Return a key for one purpose, by HKDF-Expand."""
    return HKDFExpand(SHA256(), size, f"atoll/secure-sum/v1/{purpose}/".encode() + bound).derive(key)


async def relay(peers: Mapping[str, Channel]) -> None:
    """Be the hub: pass on what the members seal for each other.

    Args:
        peers: Channels to the members by name; each runs `tie`.

    Raises:
        ProtocolError: As the card of `pairwise-keys` says.
    """
    await pairwise_keys.relay(peers)  # (1)
    first, *others = sorted(peers)
    if others:
        boxes = (await peers[first].recv(Sealed, boxes=(len(others), SEALED))).boxes  # (2)
        await asyncio.gather(*(peers[name].send(Box(box)) for name, box in zip(others, boxes, strict=True)))


async def tie(hub: Channel, members: tuple[str, ...], *, rng: Rng, seal: Seal | None, context: Sequence[str]) -> Ties:
    """Be a member: come to keys with every other one, and to a secret of all.

    Args:
        hub: Channel to the hub.
        members: All members, in alphabetical order, this one among them.
        rng: Secret randomness.
        seal: How keys are signed and checked; see `pairwise_keys`.
        context: What the keys are for.

    Raises:
        ProtocolError: As the card of `pairwise-keys` says, or the secret was changed on its way.
        IdentityError: A member's key is not signed by that member.
    """
    me, first = hub.gate.site, members[0]
    keys = await pairwise_keys.agree(hub, members, rng=rng.spawn(), seal=seal, context=("secure-sum", *context))  # (1)
    common = rng.bytes(COMMON)
    if me == first and len(members) > 1:
        boxes = [np.frombuffer(_seal_common(common, keys[name], name), np.uint8) for name in members[1:]]
        await hub.send(Sealed(np.stack(boxes)))  # (2)
    elif me != first:
        box = (await hub.recv(Box, box=(SEALED,))).box  # (2)
        common = _open_common(box.tobytes(), keys[first], me)
    return Ties(me, members, keys, common)


def _seal_common(common: bytes, key: bytes, receiver: str) -> bytes:
    """Seal the common secret for one member, under the key of the pair, which seals nothing else."""
    return AESGCM(derived(key, "common", receiver.encode())).encrypt(bytes(12), common, None)


def _open_common(box: bytes, key: bytes, me: str) -> bytes:
    """Open what `_seal_common` sealed.

    Raises:
        ProtocolError: It was changed on its way, or sealed by somebody else.
    """
    try:
        return AESGCM(derived(key, "common", me.encode())).decrypt(bytes(12), box, None)
    except InvalidTag:
        raise ProtocolError("the members' common secret was changed on its way") from None
