"""Division, exponential and logistic function on shares, with their errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.shares import logic
from atoll.protocols.shares.party import Party
from atoll.protocols.shares.source import Wave, pieces
from atoll.protocols.shares.values import Arithmetic, Bits, joined

_TOP = 40
"""A divisor is below 2^(41 − f): its highest bit is one of the integer's bits 0 to 40."""

_FINE = 28
"""Fractional bits while dividing."""

_EXP = 24
"""Fractional bits of the exponential's inner steps, for f up to 24."""

_HALVINGS = 6
_SPAN = 8.0
"""Beyond ±8 the logistic function is taken as 0 or 1, which is off by 3.4·10^-4."""

WEIGHTS = (0.598050801, 0.126488852, 0.036061333, 0.01043994, 0.003068561, 0.000872846, 0.000269674, 0.0000665933)
"""σ(x) − ½ ≈ Σ weight·sin(k·2πx/32) for k = 1, 3, …, 15: least squares on 4,001 points of [0, 8]."""


async def divide(p: Party, x: Arithmetic, y: Arithmetic) -> Arithmetic:
    """Return x / y for positive y, element by element.

    y is multiplied by the power of two that brings it into [½, 1), found from its bits; three steps of Newton's
    method from 2.9142 − 2v give the reciprocal.

    Args:
        p: This party.
        x: Dividends; |x / y| below 2^12.
        y: Divisors of the same shape and fraction f: y > 0 and y < 2^(41 − f).  Others give a meaningless result,
            and no error: nobody knows them.

    Returns:
        Quotients with fraction f, off by at most 2^-18 of the quotient plus 3·2^-f.

    Source:
        Catrina and Saxena, Financial Cryptography 2010.
    """
    f = y.fraction
    if x.shape != y.shape or x.fraction != f:
        raise ValueError("dividends and divisors have one shape and one fraction")
    scale = await _normaliser(p, y)
    v, t = await _scaled(p, scale, x, y)
    w = p.plus(v.scaled(-2), np.full(v.shape, 2.9142))
    for _ in range(3):
        w = await p.mul(w, p.plus(-(await p.mul(v, w)), np.full(v.shape, 2.0)))
    quotient = await p.mul(Arithmetic(t.half), Arithmetic((await p.truncate(w, _FINE - 20)).half))
    return await p.truncate(Arithmetic(quotient.half, _FINE + 20), _FINE + 20 - f)


async def reciprocal(p: Party, y: Arithmetic) -> Arithmetic:
    """Return 1 / y for y above 2^-12; see `divide`."""
    return await divide(p, p.constant(np.ones(y.shape), y.fraction), y)


async def _scaled(p: Party, scale: Arithmetic, x: Arithmetic, y: Arithmetic) -> tuple[Arithmetic, Arithmetic]:
    """Return v = y·scale in [½, 1) and x·scale, with `_FINE` fractional bits."""
    both = joined([Arithmetic(part.half.reshape(1, -1)) for part in (y, x)])
    products = await p.mul(both, scale.reshape(1, -1))
    fine = await p.truncate(Arithmetic(products.half, _TOP + 1), _TOP + 1 - _FINE)
    return fine[0].reshape(*y.shape), fine[1].reshape(*y.shape)


async def _normaliser(p: Party, y: Arithmetic) -> Arithmetic:
    """Return 2^(40 − i), where i is the place of the highest bit of y's integer."""
    bits = await logic.to_bits(p, y)
    none = ~bits.planes[: _TOP + 1] if p.number == 0 else bits.planes[: _TOP + 1].copy()
    # none[i] becomes: no bit from i on is set
    for level in range(6):
        low = np.array([i for i in range(_TOP + 1) if (_TOP - i) >> level & 1], np.intp)
        high = _TOP + 1 - ((_TOP - low) >> level << level)
        joint = await logic.conjunction(p, _rows(none[low], bits), _rows(none[high], bits))
        none[low] = joint.planes
    highest = none.copy()
    highest[:-1] ^= none[1:]
    if p.number == 0:
        highest[-1] = ~highest[-1]  # nothing lies above the top bit
    return await logic.from_bits(p, Bits(highest, y.shape), [1 << (_TOP - i) for i in range(_TOP + 1)])


def _rows(planes: NDArray[np.uint64], bits: Bits) -> Bits:
    return Bits(planes, bits.shape)


async def exponential(p: Party, x: Arithmetic) -> Arithmetic:
    """Return e^x for x of at most 9.7; below −14 the result is 0.

    e^(x/64) by a polynomial of degree 5, squared six times, with 24 fractional bits inside.

    Returns:
        Values with x's fraction f (at most 24), off by at most 2^-16 of the value plus 2·2^-f.
    """
    if x.fraction > _EXP:
        raise ValueError(f"the exponential takes at most {_EXP} fractional bits, not {x.fraction}")
    # x/64 at 24 fractional bits: a shift to the left where f is at most 18, else a truncation
    shift = _EXP - _HALVINGS - x.fraction
    y = (
        Arithmetic(x.half << np.uint64(shift), _EXP)
        if shift >= 0
        else Arithmetic(await p.shifted(x.half, -shift), _EXP)
    )
    value = p.constant(np.full(x.shape, 1 / 120), _EXP)
    for degree in range(4, -1, -1):
        value = p.plus(await p.mul(value, y), np.full(x.shape, 1 / math.factorial(degree)))
    for _ in range(_HALVINGS):
        value = await p.square(value)
    value = await p.truncate(value, _EXP - x.fraction)
    far = await logic.negative(p, p.plus(x, np.full(x.shape, 14.0)))
    return await logic.choose(p, p.invert(far), value)


async def logistic(p: Party, x: Arithmetic) -> Arithmetic:
    """Return 1 / (1 + e^-x), off by at most 4·10^-4, and by 10^-4 within ±8.

    An odd Fourier series of period 32 within ±8, from one masked opening, and 0 or 1 beyond.

    Source:
        The idea of a series from one opening: Lu et al., "Squirrel", USENIX Security 2023.
    """
    f = x.fraction
    wave = Wave(WEIGHTS, 5 + f)
    p.begin("series", x.shape, f)
    flat = np.ascontiguousarray(x.half).reshape(-1)
    done = [await p.source.series(flat[cut], wave, opener=p) for cut in pieces(flat.size)]
    series = Arithmetic(np.concatenate([flat[:0], *done]).reshape(x.shape), wave.out)
    inner = await p.truncate(series, wave.out - f)
    limit = np.full(x.shape, _SPAN)
    ends = joined([p.plus(x, limit).reshape(1, -1), p.plus(-x, limit).reshape(1, -1)])
    beyond = await logic.negative(p, ends)
    low, high = logic.rows(beyond)
    numbers = await logic.to_arithmetic(p, beyond)
    inside = await logic.choose(p, p.invert(low ^ high), inner.reshape(-1))
    step = (numbers[1] - numbers[0]).scaled(1 << (f - 1))  # ± ½ beyond the ends
    return p.plus(Arithmetic((inside.half + step.half).reshape(x.shape), f), np.full(x.shape, 0.5))
