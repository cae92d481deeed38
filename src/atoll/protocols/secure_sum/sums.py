"""Sums of real numbers over any topology: what algorithms call, on top of what carries words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.crypto import fixed_point
from atoll.crypto.fixed_point import Quantiser
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum.question import WHAT_LIMIT, Question

F64 = NDArray[np.float64]
Words = NDArray[np.uint64]
Reals = NDArray[Any]  # float32 or float64


class Carrier(Protocol):
    """Adds words over the sites: a member or hub of a star, or a site of a ring or of a mesh."""

    @property
    def site(self) -> str:
        """This site's name."""

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites whose numbers are in the next sum."""

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of all sites' words."""

    async def finish(self) -> None:
        """Say that no sum will follow."""


@dataclass(frozen=True)
class Told:
    """One sum that was told to this site: what, how many numbers, and of which sites."""

    what: str
    n: int
    sites: tuple[str, ...]


@dataclass
class Sums:
    """Sums of real numbers; the `Totals` of horizontal algorithms.

    Attributes:
        carrier: Adds words.
        rng: Secret randomness, for rounding.
        told: The record of all sums so far.
    """

    carrier: Carrier
    rng: Rng
    told: list[Told] = field(default_factory=list)

    @property
    def site(self) -> str:
        """This site's name."""
        return self.carrier.site

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites whose numbers are in the next sum, in alphabetical order."""
        return self.carrier.sites

    async def total(self, values: F64, *, what: str) -> F64:
        """Return the sum of all sites' values, added without error and rounded once; see `totals.Totals`."""
        values = self._checked(np.asarray(values, np.float64), what)
        most = fixed_point.largest_of(len(self.sites))
        if values.size and float(np.abs(values).max()) >= most:
            raise InputError(
                f"a value of {what} is too large to be added over {len(self.sites)} sites: sizes stay below {most:.3g}",
                site=self.site,
                cure="Scale the column, or look for a wrong value in it.",
            )
        words = await self._add(
            Question(what[:WHAT_LIMIT], 192, values.size), await offload(fixed_point.encode, values)
        )
        return await offload(fixed_point.decode, words)

    async def mean(
        self, values: Reals, *, weight: float, clip: float, what: str, bits: int = 32, model: bytes = b""
    ) -> F64:
        """Return the weighted mean of all sites' vectors, for networks: quantised, the weight inside the masked vector.

        Beside the mean all sites learn the sum of the weights.

        Args:
            values: (n,) float64 or float32, finite, the same n at every site; cut off at ±clip.
            weight: This site's weight as a part of the largest that a site may have, 0 to 1; with 0 it adds nothing.
            clip: Largest size of a value, the same at every site.
            what: What is averaged, in a few words.
            bits: 32 or 16 bits a number on the wire; with s sites steps of clip · s / 2^(bits − 1).
            model: Hash of the model that the values belong to, 32 bytes, the same at every site.

        Raises:
            InputError: A value is not finite, or a weight out of range.
            ProtocolError: A site did something else.
        """
        values = self._checked(values, what)
        if not 0 <= weight <= 1:
            raise InputError(f"the weight of {what} is {weight}, not between 0 and 1", site=self.site)
        quantiser = Quantiser(clip, len(self.sites), bits, stochastic=True)
        question = Question(what[:WHAT_LIMIT], bits, values.size + 1, model)
        mine = await offload(quantiser.encode, values, self.rng, weight=weight)
        sums = await offload(quantiser.decode, await self._add(question, mine), values.size + 1)
        if sums[-1] <= 0:
            raise InputError(f"the weights of {what} add up to nothing", cure="Give weights more than a step apart.")
        mean = sums[:-1]
        mean *= clip / sums[-1]
        return mean

    async def finish(self) -> None:
        """Say that no sum will follow, where an aggregator waits for one."""
        await self.carrier.finish()

    def _checked(self, values: Reals, what: str) -> Reals:
        if values.ndim != 1 or values.dtype not in (np.float64, np.float32):
            raise ValueError(f"a sum takes a vector of floats, got {values.dtype} of shape {values.shape}")
        values = np.ascontiguousarray(values)
        if bad := fixed_point.not_finite(values):
            raise InputError(
                f"{what} holds values that are not finite",
                site=self.site,
                detail=f"There are {bad:,} of {values.size:,}.",
                cure="Treat missing and infinite values before they are added up.",
            )
        return values

    async def _add(self, question: Question, words: Words) -> Words:
        total = await self.carrier.add(question, words)
        self.told.append(Told(question.what, question.n, self.carrier.sites))
        return total
