"""Keys of one round of a sum that survives drop-outs: two key pairs a member, boxes for neighbours, seeds of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import Masks
from atoll.protocols.intersection_result import context_hash
from atoll.protocols.secure_sum.ties import derived

KEY = 32
"""Bytes of a key, of a seed, and of a share of either."""

BOX = 2 * KEY + 16
"""Bytes of two shares, sealed."""

SIGNATURE_LIMIT = 512

Line = tuple[str, bytes, bytes, bytes]
"""A member's name, its public keys for boxes and for masks, and its signature on them."""


@dataclass(frozen=True)
class Roster:
    """Who takes part in a round, as the hub has told it.

    Attributes:
        lines: One for each member, in alphabetical order.
        bound: What the round is, see `Question.bound`, and who takes part: 32 bytes in every key.
    """

    lines: dict[str, Line]
    bound: bytes

    @classmethod
    def of(cls, lines: Sequence[Line], bound: bytes) -> Roster:
        """Check lines, and bind them.

        Raises:
            ProtocolError: They are not sorted by name, or keys are repeated or of a wrong size.
        """
        names = [line[0] for line in lines]
        if names != sorted(set(names)):
            raise ProtocolError("the members of a round are not in alphabetical order, or stand twice")
        keys = [key for line in lines for key in line[1:3]]
        if any(len(key) != KEY for key in keys) or any(len(line[3]) > SIGNATURE_LIMIT for line in lines):
            raise ProtocolError("a member of the round sent keys or a signature of another size")
        if len(set(keys)) < len(keys):
            raise ProtocolError("two members of the round have the same key")
        parts = [part for name, c, s, _ in lines for part in (name, c.hex(), s.hex())]
        return cls({line[0]: line for line in lines}, context_hash(("atoll/sum-dropouts/v1", bound.hex(), *parts)))

    @property
    def names(self) -> tuple[str, ...]:
        """All members, in alphabetical order."""
        return tuple(self.lines)


class RoundKeys:
    """One member's secrets of one round; they are never stored, so that no restart can be made to open more.

    Args:
        me: The member.
        rng: Secret randomness.
    """

    def __init__(self, me: str, rng: Rng) -> None:
        self.me, self.seed, self.secret = me, rng.u8(KEY), rng.u8(KEY)
        self._boxes = X25519PrivateKey.from_private_bytes(rng.bytes(KEY))
        self._pairs: dict[tuple[str, bytes], bytes] = {}

    def __repr__(self) -> str:
        return f"RoundKeys({self.me})"

    @property
    def public(self) -> tuple[bytes, bytes]:
        """The public keys, for boxes and for masks."""
        masks = X25519PrivateKey.from_private_bytes(self.secret.tobytes())
        return self._boxes.public_key().public_bytes_raw(), masks.public_key().public_bytes_raw()

    def seal(self, shares: NDArray[np.uint8], receiver: str, roster: Roster) -> NDArray[np.uint8]:
        """Seal two shares, (64,), for a neighbour: (80,)."""
        box = self._cipher(receiver, self.me, receiver, roster).encrypt(bytes(12), shares.tobytes(), None)
        return np.frombuffer(box, np.uint8)

    def open(self, box: NDArray[np.uint8], sender: str, roster: Roster) -> NDArray[np.uint8]:
        """Open what a neighbour has sealed for this member, in this round.

        Raises:
            ProtocolError: It was changed on its way, or belongs elsewhere.
        """
        try:
            shares = self._cipher(sender, sender, self.me, roster).decrypt(bytes(12), box.tobytes(), None)
        except InvalidTag:
            raise ProtocolError(f"the shares of {sender} were changed on their way") from None
        return np.frombuffer(shares, np.uint8)

    def _cipher(self, other: str, sender: str, receiver: str, roster: Roster) -> AESGCM:
        pair = (other, roster.bound)  # a box goes each way
        if pair not in self._pairs:
            self._pairs[pair] = _agreed(self._boxes, other, roster.lines[other][1], b"box" + roster.bound)
        direction = sender.encode() + b"\0" + receiver.encode()  # names hold no control characters
        return AESGCM(derived(self._pairs[pair], "box", direction, KEY))


def own_masks(seeds: Sequence[NDArray[np.uint8]], roster: Roster, purpose: str, *, negative: bool = False) -> Masks:
    """Return the masks that members make from their own seeds, each (32,); the hub takes them off again."""
    keys = [derived(seed.tobytes(), f"self/{purpose}", roster.bound) for seed in seeds]
    return Masks(keys, [negative] * len(keys))


def pair_masks(
    secret: NDArray[np.uint8], me: str, others: Sequence[str], roster: Roster, purposes: Sequence[str]
) -> list[Masks]:
    """Return a member's masks with others, for each purpose; those of a pair cancel.

    Args:
        secret: The member's private key for masks, (32,).
        me: The member.
        others: Neighbours with whom masks are made.
        roster: Who takes part.
        purposes: Names of the vectors.

    Raises:
        ProtocolError: A neighbour's key has small order.
    """
    private = X25519PrivateKey.from_private_bytes(secret.tobytes())
    pairs = [_agreed(private, other, roster.lines[other][2], b"mask" + roster.bound) for other in others]
    signs = [other < me for other in others]
    return [Masks([derived(pair, f"pair/{purpose}", roster.bound) for pair in pairs], signs) for purpose in purposes]


def belongs(secret: NDArray[np.uint8], name: str, roster: Roster) -> bool:
    """Whether a private key that was put together from shares is the one of a member."""
    public = X25519PrivateKey.from_private_bytes(secret.tobytes()).public_key().public_bytes_raw()
    return public == roster.lines[name][2]


def _agreed(private: X25519PrivateKey, other: str, public: bytes, info: bytes) -> bytes:
    try:
        point = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ProtocolError(f"{other} sent a key of small order") from None
    return HKDF(SHA256(), KEY, None, info).derive(point)
