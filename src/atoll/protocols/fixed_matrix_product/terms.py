"""What both sides agree on before the first product, and every number that follows from it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ContractError, InputError
from atoll.crypto.lwe import ParameterSet, dropped_deviation, left_out, opening_sigma, output_noise_bits
from atoll.protocols.fixed_matrix_product.matrices import Facts

Output = Literal["asker", "owner", "shares"]

SMALLEST = 1_000
"""Fewest rows n of a product, unless the terms name the bigger reveal."""
ROWS_A_VECTOR = 100
"""To the asker: the owner answers at most one vector for so many rows (T ≤ n/100)."""
ROWS_AN_OPENING = 10
"""To the owner: the asker opens at most one number for so many rows (k·T ≤ n/10)."""

_TAIL = 8.0  # standard deviations that sums of e stay below; e′ is cut at 9.5
_OPENING_TAIL = 9.5


@dataclass(frozen=True)
class Terms:
    """The part of the contract that concerns one matrix.

    Attributes:
        job: Id of the job; with `matrix` it binds the public blocks of A.
        matrix: Name of the matrix within the job.
        output: Who gets M·v: `asker`, `owner`, or both as `shares`.
        structured: Whether vectors may be labels, counts, constants or one-hot, and not only real-valued gradients.
            Results are then finer, and messages longer: it sets the bits left out of corrections, and the range of the
            owner's output noise against both M·e and those bits.
        reveals_rows: The contract says "reveals: rows of M": no limit on vectors.
        reveals_vectors: The contract says "reveals: v": no limit on openings to the owner.
        planned: Vectors that the job may ask; up to so many, transfers are made in the background before they are
            asked, and both sides `end` what is left of them.
        largest_value: Public bound on |v|, used where the owner must know the scale (owner, shares).
        facts: Public bounds on the matrix; those of a matrix of zeros and ones if left out.
    """

    job: str = ""
    matrix: str = ""
    output: Output = "asker"
    structured: bool = True
    reveals_rows: bool = False
    reveals_vectors: bool = False
    planned: int = 0
    largest_value: float = 1.0
    facts: Facts | None = None


@dataclass(frozen=True)
class Agreement:
    """Terms, sizes and parameter set together; both sides build it and compare digests.

    Attributes:
        params: The parameter set.
        terms: The terms.
        k: Rows of M.
        n: Columns of M, entries of a vector.

    Raises:
        ContractError: The set does not serve this output, or n is too small for it.
    """

    params: ParameterSet
    terms: Terms
    k: int
    n: int

    def __post_init__(self) -> None:
        """Refuse combinations that the security argument does not cover."""
        terms, params = self.terms, self.params
        if self.k < 1 or self.n < 1 or not terms.largest_value > 0:
            raise ContractError(f"a product needs k, n and the bound on |v| above 0, not {self.k}, {self.n}")
        if terms.output != "asker" and not params.opens:
            raise ContractError(
                f"parameter set {params.name} serves output to the asker only (σ = {params.sigma:g})",
                cure="Use H40 for histograms, X64 for exact sums.",
            )
        named = {"asker": terms.reveals_rows, "owner": terms.reveals_vectors, "shares": True}[terms.output]
        if self.n < SMALLEST and not named:
            what = "rows of M" if terms.output == "asker" else "v"
            raise ContractError(
                f"a product over n = {self.n:,} rows is refused: below {SMALLEST:,} the results give the data away",
                cure=f'Use more rows, or let the contract say "reveals: {what}".',
            )

    def limit(self) -> int | None:
        """Return the largest number of vectors that may ever be asked, `None` where there is no limit."""
        if self.terms.output == "asker" and not self.terms.reveals_rows:
            return self.n // ROWS_A_VECTOR
        if self.terms.output == "owner" and not self.terms.reveals_vectors:
            return self.n // (ROWS_AN_OPENING * self.k)
        return None

    def check_count(self, used: int, count: int) -> None:
        """Refuse vectors beyond the limit.

        Raises:
            ContractError: `used` and `count` together exceed it.
        """
        limit = self.limit()
        if limit is not None and used + count > limit:
            rule = "T <= n/100" if self.terms.output == "asker" else "k·T <= n/10"
            what = "rows of M" if self.terms.output == "asker" else "v"
            raise ContractError(
                f"{used} vectors used and {count} more asked, the limit is {limit} ({rule}, n = {self.n:,})",
                cure=f'Ask fewer, use more rows, or let the contract say "reveals: {what}".',
            )

    @property
    def planned(self) -> int:
        """Vectors whose transfers may be made before they are asked: never more than may be asked."""
        limit = self.limit()
        return self.terms.planned if limit is None else min(self.terms.planned, limit)

    @cached_property
    def facts(self) -> Facts:
        """Bounds on the matrix."""
        return self.terms.facts or Facts.binary(self.k, self.n)

    @property
    def digest(self) -> bytes:
        """32 bytes that differ when anything agreed differs."""
        sizes = (self.params.name, self.dropped_bits, self.k, self.n)
        everything = (*astuple(self.terms)[:-1], *astuple(self.facts), *sizes)
        return hashlib.sha256(b"atoll/fixed-matrix-product/v2" + repr(everything).encode()).digest()

    @property
    def label(self) -> bytes:
        """What the blocks of A are bound to: job, matrix, parameter set."""
        return repr((self.terms.job, self.terms.matrix, self.params.name)).encode()

    @property
    def to_asker(self) -> bool:
        """Whether the output goes to the asker."""
        return self.terms.output == "asker"

    @property
    def dropped_bits(self) -> int:
        """t: never in owner or shares mode, where it would add a hint on s."""
        return left_out(self.params, self.terms.structured) if self.to_asker else 0

    @property
    def correction_bits(self) -> int:
        """Bits of a correction, and of an answer: 24, 32 or 64."""
        bits = self.params.q_bits - self.dropped_bits
        return next(size for size in (24, 32, 64) if bits <= size)

    @property
    def word(self) -> type[np.uint32] | type[np.uint64]:
        """Type of the words in which pads and corrections are computed."""
        return np.uint32 if self.correction_bits <= 32 else np.uint64

    @cached_property
    def noise_bits(self) -> int:
        """b of Q = 2^b, the range of the owner's output noise; to the asker only."""
        return output_noise_bits(self.params, self.facts.row_norm, self.terms.structured)

    @cached_property
    def opening_sigma(self) -> float:
        """σ′ of e′; owner and shares only."""
        return opening_sigma(self.params, self.facts.spectral)

    def private_scale(self, v: NDArray[np.float64], scale: float | None) -> float:
        """Return Δ for one vector such that nothing can wrap; to the asker only.

        Its 4 significant bits keep products and quotients of short numbers exact.

        Args:
            v: (n,) float64.
            scale: Δ to use instead of the largest one.

        Raises:
            InputError: The vector is not finite, or wraps at the scale given.
        """
        with np.errstate(over="ignore"):
            size = float(np.abs(v).sum())
        noise = _TAIL * self.params.sigma * self.facts.row_norm + 2.0**self.noise_bits / 2
        dropped = 2.0**self.dropped_bits * (self.params.N / 2 + 1) if self.dropped_bits else 0.0
        room = self.params.q / 2 - noise - dropped - self.facts.largest * np.count_nonzero(v) / 2
        largest = room / (self.facts.largest * max(size, 2.0**-950)) if math.isfinite(size) else 0.0
        if largest <= 0 or (scale is not None and not 0 < scale <= largest):
            raise InputError(
                "a vector is not finite, or too large for its scale; nothing was sent",
                cure="Check the column for missing and infinite values, or leave the scale to the protocol.",
            )
        mantissa, exponent = math.frexp(largest)
        return math.ldexp(math.floor(mantissa * 16), exponent - 4) if scale is None else scale

    def output_deviation(self, v: NDArray[np.float64]) -> float:
        """Return the standard deviation of an answer's error in units of v: e, dropped bits and output noise."""
        dropped = dropped_deviation(self.params, self.terms.structured)
        noise = math.hypot(self.params.sigma * self.facts.row_norm, dropped)
        return math.hypot(noise, 2.0**self.noise_bits / math.sqrt(12)) / self.private_scale(v, None)

    @cached_property
    def public_scale(self) -> float:
        """Δ from public bounds alone, a power of two; owner and shares.

        Raises:
            ContractError: No scale leaves room for the sums.
        """
        noise = _TAIL * self.params.sigma * self.facts.row_norm + _OPENING_TAIL * self.opening_sigma
        room = self.params.q / 2 - noise - self.facts.row_sum / 2
        largest = room / (self.facts.row_sum * self.terms.largest_value)
        if largest <= 0:
            raise ContractError(
                f"parameter set {self.params.name} has no room for sums over n = {self.n:,} rows",
                cure="Use X64, or fewer fractional bits.",
            )
        return 2.0 ** math.floor(math.log2(largest))
