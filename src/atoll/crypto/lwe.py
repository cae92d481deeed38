"""Named parameter sets of ring-LWE with binary secrets, and the noise that goes with them.

There are five sets and no way to make another: a job names one, and every number below follows from the name.
docs/parameters.md derives them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from atoll.crypto.ring import Ring

HINT_SIGMA = 6.5
"""Smallest σ with which an opened product can be simulated (docs/parameters.md, "Opening a product")."""

_OURS = object()


@dataclass(frozen=True, init=False)
class ParameterSet:
    """One named set; take it from `get`.

    Attributes:
        name: Its name in a job.
        N: Degree of the ring, and number of oblivious transfers for a vector.
        q_bits: b, where q = 2^b.
        sigma: σ of the noise e on a vector.
        dropped_bits: t, low bits left out of corrections when the output goes to the asker.
        gradient_bits: t where all vectors are real-valued gradients, at least `dropped_bits`.
        bits_security: Cost of the best known attack, as a power of two, for all vectors of a job together.
        core_svp: The same by the core-SVP count, which is more careful.
        opens: Whether products may go to the owner or stay shared, which needs σ ≥ 6.5 from an exact sampler.
        use: What it is for.
    """

    name: str
    N: int
    q_bits: int
    sigma: float
    dropped_bits: int
    gradient_bits: int
    bits_security: int
    core_svp: int
    opens: bool
    use: str

    def __init__(self, made_here: object = None, /, **fields: Any) -> None:
        if made_here is not _OURS:
            raise TypeError("parameter sets are named, not made: use atoll.crypto.lwe.get with H40, H32, X64, R64, T32")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return get, (self.name,)

    @property
    def ring(self) -> Ring:
        """R_q."""
        return Ring(self.N, self.q_bits)

    @property
    def q(self) -> int:
        """The modulus, 2^b."""
        return 1 << self.q_bits

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry of a masked vector on the wire."""
        return self.q_bits // 8


def _set(
    name: str, N: int, q_bits: int, sigma: float, drop: tuple[int, int], bits: tuple[int, int], opens: bool, use: str
) -> ParameterSet:
    return ParameterSet(
        _OURS,
        name=name,
        N=N,
        q_bits=q_bits,
        sigma=sigma,
        dropped_bits=drop[0],
        gradient_bits=drop[1],
        bits_security=bits[0],
        core_svp=bits[1],
        opens=opens,
        use=use,
    )


SETS: Mapping[str, ParameterSet] = MappingProxyType(
    {
        each.name: each
        for each in (
            _set("H40", 2048, 40, 8.0, (8, 16), (173, 153), True, "histograms; the default"),
            _set(
                "H32", 2048, 32, 3.2, (0, 0), (209, 195), False, "real-valued vectors, coarse output to the asker only"
            ),
            _set("X64", 4096, 64, 8.0, (0, 0), (222, 203), True, "exact work: gradients, cross-products, genotypes"),
            _set("R64", 2048, 64, 2.0**16, (0, 0), (134, 109), True, "64-bit sums for matrices of very many rows"),
            _set(
                "T32", 1024, 32, 2.0**9, (0, 0), (132, 110), False, "thin lines, coarse sums over 100,000 rows and more"
            ),
        )
    }
)
"""The sets.  `bits_security` is the lattice estimator's best attack, `core_svp` a count that the tests repeat."""


def get(name: str) -> ParameterSet:
    """Return a set by name.

    Raises:
        ValueError: There is no such set.
    """
    if name not in SETS:
        raise ValueError(f"no parameter set {name!r}; there are {', '.join(SETS)}")
    return SETS[name]


STRUCTURED, GRADIENTS = 256.0, 4.0
"""Standard deviations that the owner's output noise spans: 2^8 for structured vectors, 4 for gradients."""


def output_noise_bits(params: ParameterSet, row_norm: float, structured: bool) -> int:
    """Return b of the range Q = 2^b of the owner's output noise, in units of 1/q; 0 where none is needed.

    Q is at least 2^8 times the standard deviation of M·e, σ·‖row‖.  Bits left out of corrections add an error of
    deviation 2^t·√(N/48), of which the asker knows as little before as it knows of M·e: of both together Q is at least
    2^8 deviations for structured vectors, and 4 for gradients.

    Args:
        params: The set.
        row_norm: Bound on the Euclidean norm of the matrix's rows.
        structured: Whether vectors may be labels, counts or constants, and not only real-valued gradients.
    """
    e = params.sigma * row_norm
    both = math.hypot(e, dropped_deviation(params, structured))
    range_ = max(STRUCTURED * e, (STRUCTURED if structured else GRADIENTS) * both)
    return math.ceil(math.log2(range_)) if range_ > 0 else 0


def left_out(params: ParameterSet, structured: bool) -> int:
    """Return t for structured vectors or for gradients."""
    return params.dropped_bits if structured else params.gradient_bits


def dropped_deviation(params: ParameterSet, structured: bool) -> float:
    """Return the standard deviation of an output's error from bits left out of corrections.

    The error is Σ_j (s_j − ½)·ρ_j with ρ_j about uniform on a range of 2^t.
    """
    t = left_out(params, structured)
    return 2.0**t * math.sqrt(params.N / 48) if t else 0.0


def opening_sigma(params: ParameterSet, spectral_bound: float) -> float:
    """Return σ′ of the noise e′ on a product that is opened to the owner or shared.

    σ′ = σ·S with S ≥ s_max(M), and at least 2^16, from where the rounded sampler may be used; more never hurts.
    """
    return max(params.sigma * spectral_bound, 2.0**16) if params.sigma else 0.0
