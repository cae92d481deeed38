"""What the members of a sum share with each other and with nobody else: keys, and the masks that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from atoll.core.errors import ProtocolError
from atoll.crypto import neighbours
from atoll.crypto.word_ring import Masks

COMMON = 32
"""Bytes of the secret that all members have."""

SEALED = COMMON + 16
"""Bytes of the same secret, sealed for one member."""


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


def seal_common(common: bytes, key: bytes, receiver: str) -> bytes:
    """Seal the common secret for one member, under the key of the pair, which seals nothing else."""
    return AESGCM(derived(key, "common", receiver.encode())).encrypt(bytes(12), common, None)


def open_common(box: bytes, key: bytes, me: str) -> bytes:
    """Open what `seal_common` sealed.

    Raises:
        ProtocolError: It was changed on its way, or sealed by somebody else.
    """
    try:
        return AESGCM(derived(key, "common", me.encode())).decrypt(bytes(12), box, None)
    except InvalidTag:
        raise ProtocolError("the members' common secret was changed on its way") from None
