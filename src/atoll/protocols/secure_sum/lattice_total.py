"""A sum of ciphertexts at the hub of `lattice`, and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.message import U32
from atoll.crypto import lattice_sum
from atoll.crypto.lattice_sum import Lattice
from atoll.protocols.secure_sum.lattice_steps import TAGS, Ciphertext, Partial, add_tags

Words = NDArray[np.uint64]


@dataclass
class Encrypted:
    """A sum of ciphertexts at the hub.

    Attributes:
        lattice: The parameters.
        count: How many numbers there are.
        c1: Σ c₁ of each piece.
        phase: Σ c₀ of each piece, and of what opens it.
        tags: Σ of the tags of c1 and of phase, of each piece.
    """

    lattice: Lattice
    count: int
    c1: list[U32]
    phase: list[U32]
    tags: list[tuple[Words, Words]]

    @classmethod
    def nothing(cls, lattice: Lattice, count: int) -> Encrypted:
        """Begin with zeros."""
        sizes = [piece.stop - piece.start for piece in lattice.pieces(count)]
        c1 = [np.zeros((lattice.primes, lattice.polynomials(size), lattice.chain.N), np.uint32) for size in sizes]
        phase = [np.zeros((lattice.chain.kept, size), np.uint32) for size in sizes]
        return cls(lattice, count, c1, phase, [(np.zeros(TAGS, np.uint64), np.zeros(TAGS, np.uint64)) for _ in sizes])

    def plus(self, ciphertexts: Sequence[Sequence[Ciphertext]]) -> Encrypted:
        """Return the sum with further ciphertexts, each in pieces."""
        tags = [(one.copy(), two.copy()) for one, two in self.tags]
        out = Encrypted(
            self.lattice, self.count, [one.copy() for one in self.c1], [one.copy() for one in self.phase], tags
        )
        for pieces in ciphertexts:
            for i, piece in enumerate(pieces):
                lattice_sum.add_packed(out.c1[i], piece.c1)
                lattice_sum.add_packed(out.phase[i], piece.c0)
                add_tags(out.tags[i][0], piece.tags[:TAGS])
                if piece.tags.size > TAGS:
                    add_tags(out.tags[i][1], piece.tags[TAGS:])
        return out

    def opened(self, bits: int, partials: Sequence[Sequence[Partial]]) -> Words:
        """Add what opens it, in pieces from each opener, and return the words."""
        limbs = np.empty((self.count, self.lattice.bits // 32), np.uint32)
        for i, piece in enumerate(self.lattice.pieces(self.count)):
            for parts in partials:
                lattice_sum.add_packed(self.phase[i], parts[i].h)
                if parts[i].tags.size:
                    add_tags(self.tags[i][1], parts[i].tags)
            limbs[piece] = lattice_sum.opened(self.lattice, self.phase[i])
        return lattice_sum.words_of(bits, limbs)
