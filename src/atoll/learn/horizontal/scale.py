"""Centres and spreads of columns over all sites, so that sums of products lose no digits.

Totals are exact, but with a fixed step of 2^-96, and X'X of columns far from zero loses what they say.  Each column
is therefore brought below 1 by a power of two, then centred, then brought to spread 1, before products are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.learn.horizontal.order import largest
from atoll.learn.horizontal.rows import F64, I64, blocks
from atoll.protocols.secure_sum.totals import Totals

_OFFSET = 1100  # makes every float64's exponent positive
_FLAT = 16 * np.finfo(np.float64).eps  # spread below this share of the largest value is rounding


@dataclass(frozen=True)
class Scale:
    """How columns are brought to mean 0 and spread 1.

    Args:
        centre: (p,) close to the mean, in the column's unit; 0 without centring.
        mean: (p,) the mean, correctly rounded but for a few last bits.
        spread: (p,) standard deviation with divisor n about the mean (about 0 without centring); 0 where constant.
        exponent: (p,) every |x| is below 2^exponent.
    """

    centre: F64
    mean: F64
    spread: F64
    exponent: I64

    @property
    def unit(self) -> F64:
        """(p,) the spread, and 1 for constant columns."""
        return np.where(self.spread > 0, self.spread, 1.0)

    def apply(self, values: F64) -> F64:
        """Bring (n, p) values to mean 0 and spread 1."""
        return (values - self.centre) / self.unit

    def part(self, columns: slice | int) -> Scale:
        """The scale of some of the columns."""
        at = slice(columns, columns + 1) if isinstance(columns, int) else columns
        return Scale(self.centre[at], self.mean[at], self.spread[at], self.exponent[at])


async def exponents(totals: Totals, values: F64, *, step: str) -> I64:
    """Find for every column the least e with |x| < 2^e at all sites, (p,); 0 for columns of zeros.

    Reveals: for 45 powers of two, at how many sites a column reaches it.
    """
    top = np.fmax.reduce(np.abs(values), axis=0, initial=0.0)
    keys = np.where(top > 0, np.frexp(top)[1] + _OFFSET, 0).astype(np.uint64)
    found = (await largest(totals, keys, digits=3, what=f"{step}: size of values")).astype(np.int64)
    return np.where(found > 0, found - _OFFSET, 0)


async def scale(totals: Totals, values: F64, rows: int | F64, *, centred: bool = True, step: str) -> Scale:
    """Find centre and spread of every column.

    Reveals: sums, and sums of squares about the mean, of every column; as `exponents`.

    Args:
        totals: the sum over the sites.
        values: (n, p) this site's values; NaN is left out.
        rows: values of all sites, at least 1; one number, or (p,).
        centred: whether the centre is the mean; else it is 0.
        step: the model's name.
    """
    exponent = await exponents(totals, values, step=step)
    size = values.shape[1]
    first = np.zeros(size)
    if centred:
        for block in blocks(len(values)):
            first = first + np.nansum(np.ldexp(values[block], -exponent), axis=0)
        first = (await totals.total(first, what=f"{step}: sums")) / rows
    off, squares = np.zeros(size), np.zeros(size)
    for block in blocks(len(values)):
        d = np.nan_to_num(np.ldexp(values[block], -exponent) - first)
        off, squares = off + d.sum(axis=0), squares + np.einsum("ij,ij->j", d, d)
    off, squares = (await totals.total(np.concatenate([off, squares]), what=f"{step}: squares")).reshape(2, -1)
    variance = (squares - off * off / rows if centred else squares) / rows
    spread = np.sqrt(np.maximum(variance, 0.0))
    spread = np.where(spread <= _FLAT * np.abs(first), 0.0, spread)
    centre, mean = np.ldexp(first, exponent), np.ldexp(first + off / rows, exponent)
    return Scale(centre, mean, np.ldexp(spread, exponent), exponent)
