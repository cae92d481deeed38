"""Odd series of sines on integers of the ring, in floating point at whoever knows an argument in the clear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.shares.source import Wave

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]


def harmonics(words: U64, terms: int, period: int) -> tuple[F64, F64]:
    """Return sin(k·ω·x) and cos(k·ω·x) for k = 1, 3, … 2·terms − 1, (terms, n) each; ω = 2π / 2^period.

    Integers are reduced modulo the period first, so that the angle is exact to 2^-52 of a turn.
    """
    turn = (words & np.uint64((1 << period) - 1)).astype(np.float64) * (2 * np.pi / 2.0**period)
    sines, cosines = np.empty((terms, words.size)), np.empty((terms, words.size))
    sines[0], cosines[0] = np.sin(turn), np.cos(turn)
    double = 2 * cosines[0] ** 2 - 1, 2 * sines[0] * cosines[0]  # cosine and sine of twice the angle
    for k in range(1, terms):
        sines[k] = sines[k - 1] * double[0] + cosines[k - 1] * double[1]
        cosines[k] = cosines[k - 1] * double[0] - sines[k - 1] * double[1]
    return sines, cosines


def sines(words: U64, terms: int, period: int, fine: int) -> U64:
    """Return sines, then cosines, with `fine` fractional bits, (2·terms, n), as integers of the ring."""
    return fixed(np.concatenate(harmonics(words, terms, period)), fine)


def weighted(words: U64, wave: Wave) -> U64:
    """Return βₖ·sin(k·ω·x), then βₖ·cos(k·ω·x), with `wave.scale` fractional bits, (2·terms, n)."""
    weights = np.asarray(wave.weights)[:, np.newaxis]
    both = [weights * part for part in harmonics(words, len(wave.weights), wave.period)]
    return fixed(np.concatenate(both), wave.scale)


def turned(opened: U64, dealt: U64, wave: Wave) -> U64:
    """Return a share of Σ βₖ·sin(k·ω·(c − r)).

    Args:
        opened: c, (n,).
        dealt: A share of `sines(r)`, (2·terms, n).
        wave: The series.

    Returns:
        (n,), with `wave.out` fractional bits.
    """
    terms = len(wave.weights)
    known = weighted(opened, wave)
    out = np.zeros(opened.size, np.uint64)
    for k in range(terms):
        out += known[k] * dealt[terms + k]
        out -= known[terms + k] * dealt[k]
    return out


def fixed(values: F64, fraction: int) -> U64:
    """Return numbers with so many fractional bits as integers of the ring."""
    return np.rint(values * 2.0**fraction).astype(np.int64).view(np.uint64)
