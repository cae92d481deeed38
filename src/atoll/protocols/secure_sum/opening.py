"""What the hub of a sum that survives drop-outs adds up, and how it takes the masks off; no messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError
from atoll.crypto import secret_shares, sum_tags
from atoll.crypto.word_ring import WordRing
from atoll.protocols.secure_sum import round_keys
from atoll.protocols.secure_sum.agreement import differ, elsewhere
from atoll.protocols.secure_sum.dropout_steps import Rules, purposes
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.round_keys import Roster
from atoll.protocols.secure_sum.star import Masked

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

_WIDE = WordRing(192)


@dataclass
class Summed:
    """What the hub adds up in one round.

    Attributes:
        rules: What all sites agree on.
        number: Of the sum.
        question: What is added; None until the first vector says so, where the hub has none of its own.
        x: The hub's own vector, if it has one.
        trouble: Why the round ends, if members add different things.
    """

    rules: Rules
    number: int
    question: Question | None
    x: Words | None
    trouble: ProtocolError | None = None
    first: str = ""

    def __post_init__(self) -> None:
        """Begin with the hub's own vector."""
        self.total = np.empty(0, np.uint64) if self.x is None else self.x.copy()
        self.tags = np.zeros(sum_tags.WORDS if self.rules.checked else 0, np.uint64)

    def fits(self, name: str, question: Question, piece: Masked) -> bool:
        """Whether a member adds what the others add; if not, the round is in trouble."""
        if self.question is None:
            self.question, self.first = question, name
            self.total = np.zeros(question.words, np.uint64)
        if question != self.question:
            self.trouble = differ(name, question, self.first or self.rules.hub, self.question)
        elif piece.bound != question.bound(self.rules.whole, self.rules.members, self.number):
            self.trouble = elsewhere(name, self.rules.hub)
        return self.trouble is None

    def take(self, name: str, question: Question, pieces: Sequence[Masked]) -> None:
        """Add a member's vector.

        Raises:
            ProtocolError: A piece has another size; nothing was added.
        """
        sizes = [place.stop - place.start for place in question.pieces]
        tags = [0] * (len(sizes) - 1) + [self.tags.size]
        if [piece.words.size for piece in pieces] != sizes or [piece.tags.size for piece in pieces] != tags:
            raise ProtocolError(f"{name} sent a vector of another size")
        for place, piece in zip(question.pieces, pieces, strict=True):
            question.ring.add(self.total[place], piece.words)
        _WIDE.add(self.tags, pieces[-1].tags)


@dataclass(frozen=True)
class Opening:
    """What the hub has to take the masks off a sum.

    Attributes:
        rules: What all sites agree on.
        roster: Who took part.
        sharing: Who sent shares.
        survivors: Whose vectors are in the sum.
        shares: What each member that answered has revealed, (holders that sent shares, 32), by name.
    """

    rules: Rules
    roster: Roster
    sharing: frozenset[str]
    survivors: Sequence[str]
    shares: Mapping[str, Bytes]

    def apply(self, summed: Summed) -> None:
        """Take all masks off.

        Raises:
            ProtocolError: Too few shares are left, or they do not fit.
        """
        question = summed.question
        if question is None:
            return
        bound = question.bound(self.rules.whole, self.rules.members, summed.number)
        alive = set(self.survivors)
        seeds = [self._secret(name) for name in self.survivors]
        vectors = ((summed.total, question.ring), (summed.tags, _WIDE))
        for (vector, ring), purpose in zip(vectors, purposes(bound), strict=True):
            ring.mask(vector, round_keys.own_masks(seeds, self.roster, purpose, negative=True))
        for name in sorted(self.sharing - alive):
            secret = self._secret(name)
            if not round_keys.belongs(secret, name, self.roster):
                raise ProtocolError(f"the shares of the key of {name} do not fit: a site sent a wrong one")
            near = [other for other in self.rules.near(name, self.roster) if other in alive]
            masks = round_keys.pair_masks(secret, name, near, self.roster, purposes(bound))
            for (vector, ring), mask in zip(vectors, masks, strict=True):
                ring.mask(vector, mask)

    def _secret(self, name: str) -> Bytes:
        """Put a member's seed or key together from the shares of those that answered."""
        holders = self.rules.holders(name, self.roster)
        t = self.rules.shape(len(self.roster.names)).t
        there = [(place + 1, holder) for place, holder in enumerate(holders) if holder in self.shares][:t]
        if len(there) < t:
            raise ProtocolError(
                f"the sum cannot be opened: of the shares of {name} {len(there)} are left, and {t} are needed",
                cure="Too many sites dropped out at once; start the job again with those that are there.",
            )
        rows = [self.shares[holder][self._row(holder, name)] for _, holder in there]
        return secret_shares.combine(np.array([point for point, _ in there]), np.stack(rows))

    def _row(self, holder: str, name: str) -> int:
        return [other for other in self.rules.holders(holder, self.roster) if other in self.sharing].index(name)
