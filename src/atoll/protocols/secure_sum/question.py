"""What is added up: the same words at every site, bound into every mask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.core.errors import ProtocolError
from atoll.crypto.word_ring import WordRing
from atoll.protocols.intersection_result import context_hash

WHAT_LIMIT = 200
"""Longest description of a sum, in characters; more is cut off."""

PIECE = 3 << 16
"""Words of 64 bits in one message; longer vectors travel in pieces, so that masking and sending overlap."""


@dataclass(frozen=True)
class Question:
    """One sum.

    Attributes:
        what: What is added up, for people.
        bits: Width of the numbers, 16, 32 or 192; see `crypto.word_ring`.
        n: How many numbers.
        model: Hash of the model that the numbers belong to, 32 bytes; empty where there is none.
    """

    what: str
    bits: int
    n: int
    model: bytes = b""

    @property
    def ring(self) -> WordRing:
        """Where the numbers are added."""
        return WordRing(self.bits)

    @property
    def words(self) -> int:
        """Words of 64 bits of the whole vector."""
        return self.ring.words(self.n)

    @property
    def pieces(self) -> list[slice]:
        """Where the pieces lie in the vector; one empty piece if there is nothing to add."""
        return [slice(at, min(at + PIECE, self.words)) for at in range(0, max(self.words, 1), PIECE)]

    def bound(self, context: Sequence[str], sites: Sequence[str], number: int) -> bytes:
        """Return 32 bytes that stand for this sum, in this job, among these sites, and no other.

        Args:
            context: What the job and its options are.
            sites: All sites that add.
            number: Of this sum within the job.
        """
        own = (self.what, str(self.bits), str(self.n), self.model.hex(), str(number))
        return context_hash(("atoll/secure-sum/v1", str(len(sites)), *sites, *own, *context))


def bound_to(digest: str, what: str) -> str:
    """Return a description that is bound to a SHA-256, in hexadecimal; it comes first, since long texts are cut off."""
    return f"{digest}: {what}"


def said(what: str) -> str:
    """Return a description for people, without the hash that it is bound to."""
    return re.sub("^[0-9a-f]{64}: ", "", what)


def question_of(peer: str, what: str, bits: int, n: int, model: bytes, largest: int) -> Question:
    """Return a peer's question, checked.

    Raises:
        ProtocolError: It is not one that a site may ask.
    """
    if len(what) > WHAT_LIMIT or bits not in (16, 32, 192) or len(model) not in (0, 32):
        raise ProtocolError(f"{peer} asks for a sum of a kind that does not exist")
    if not 0 <= n * bits // 8 <= largest:
        raise ProtocolError(f"{peer} asks for a sum of {n:,} numbers, more than {largest:,} bytes")
    return Question(what, bits, n, model)
