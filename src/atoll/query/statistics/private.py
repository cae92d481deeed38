"""A question that is answered with noise: what each measure is clipped to, and what one row can change.

The data set that is protected is the helping site's.  Neighbours are tables in which one of its rows counts, or does
not (as if its id were nobody's); the number of its ids is no secret.  A row that counts joins at most one of the
asker's, falls into one group, and changes each total of this group by its clipped value at most.  So every group's
totals get noise of the whole ε, and each of the K totals of a group an equal part of it.  Nothing that is agreed, told,
or decided about which groups are shown depends on the table, but for the totals with noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.scan import nearest
from atoll.privacy.mechanism import LARGEST, Mechanism, gaussian, laplace
from atoll.query.statistics.plan import Measure, Plan, local
from atoll.query.statistics.privacy import Key, Privacy

GRAIN = 24
"""A bound has about this many binary digits in the whole numbers that are added up."""

MOST_BITS = 60

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """How one measure's values become whole numbers, whatever the values are.

    Attributes:
        low: smallest value.
        high: largest value.
        bits: binary places by which they are moved.
        clip: largest absolute whole number.
    """

    low: float
    high: float
    bits: int
    clip: int

    def whole(self, values: NDArray[np.float64], measure: Measure) -> I64:
        """Clip values, take the offset or its square where the measure does, and round; NaN counts as 0."""
        inside = np.clip(np.nan_to_num(values, nan=0.0), self.low, self.high)
        if measure.total != "sum":
            inside = inside - (self.low + self.high) / 2
        if measure.total == "square":
            inside = inside * inside
        return np.clip(np.rint(inside * 2.0**self.bits).astype(np.int64), -self.clip, self.clip)


@dataclass(frozen=True)
class Private:
    """What both sites agree on, made of the job alone.

    Attributes:
        mechanism: the noise of one group's totals, in the plan's order.
        grids: of all measures but numbers of rows.
        groups: keys of the groups at the helping site.
        lines: what it means, for people to read before they approve.
    """

    mechanism: Mechanism
    grids: dict[Measure, Grid]
    groups: tuple[Key, ...]
    lines: tuple[str, ...]


def private(plan: Plan, sql: str, wanted: Privacy, asker: str) -> Private:
    """Say what a question with noise does.

    Args:
        plan: the plan.
        sql: the question that it was made of.
        wanted: what the job says.
        asker: the site that gets the answer.

    Raises:
        InputError: a bound or a group is missing, unused, or makes no sense, or the question has no answer with noise.
    """
    if plan.quantiles or any(measure.total not in _WORDS for measure in plan.measures):
        raise InputError(
            "minima, maxima and quantiles cannot be answered with noise: they are single persons' values",
            cure="Ask for counts, sums, means, variances; or, if both sites agree, without `privacy:`.",
        )
    bounds = _bounds(plan, sql, wanted)
    grids = {one: _grid(bounds[one.site, one.sql], one) for one in plan.measures if one.total not in ("rows", "count")}
    clip = tuple(grids[one].clip if one in grids else 1 for one in plan.measures)
    mechanism = gaussian(clip, wanted.epsilon, wanted.delta) if wanted.delta else laplace(clip, wanted.epsilon)
    _ = mechanism.scales  # refuses what 64 bits do not hold
    (partner,) = (site for site in plan.sites if site != asker)
    _check_groups(plan, wanted, partner)
    return Private(mechanism, grids, wanted.groups, _lines(plan, wanted, partner, mechanism, grids, bounds))


def _bounds(plan: Plan, sql: str, wanted: Privacy) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the bounds of each site's expressions."""
    needed = dict.fromkeys((one.site, one.sql) for one in plan.measures if one.total not in ("rows", "count"))
    found = {}
    for name, (low, high) in wanted.bounds.items():
        key = local(sql, name, "bounds")
        if key not in needed:
            raise InputError(f"bounds: {name} is neither summed nor averaged in the question", cure="Leave it out.")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"bounds: {name} has no range from {low:g} to {high:g}", cure="Write [smallest, largest].")
        found[key] = (low, high)
    for site, expression in needed:
        if (site, expression) not in found:
            text = f"{site}.{expression}".replace('"', "")
            close = nearest(text, list(wanted.bounds))
            raise InputError(
                f"an answer with noise needs bounds for {text}",
                cure=f"Add to the job, under `privacy:` of step ask, `bounds: {{{text}: [smallest, largest]}}`, "
                "decided without looking at the data." + (f" Did you mean it by {close!r}?" if close else ""),
            )
    return found


def _grid(bounds: tuple[float, float], measure: Measure) -> Grid:
    low, high = bounds
    half = (high - low) / 2
    size = {"sum": max(abs(low), abs(high)), "offset": half, "square": half * half}[measure.total]
    bits = min(MOST_BITS, max(0, GRAIN - math.frexp(size)[1]))
    if not 2.0**-40 < size < LARGEST:
        raise InputError(
            f"bounds: {low:g} to {high:g} is too {'wide' if size > 1 else 'narrow'} a range",
            cure="Count in other units, such as b.income / 1000.",
        )
    return Grid(low, high, bits, math.ceil(size * 2.0**bits))


def _check_groups(plan: Plan, wanted: Privacy, partner: str) -> None:
    if plan.group_site != partner:
        if wanted.groups:
            raise InputError(f"groups are listed, and {partner} makes none", cure="Leave `groups:` out.")
        return
    names = ", ".join(plan.groups).replace('"', "")
    if not wanted.groups:
        raise InputError(
            f"an answer with noise needs a list of the groups of {names}, which {partner} makes: which of them there "
            "are would tell something about single rows",
            cure="Add under `privacy:` a list such as `groups: [[north], [south]]`; or group by the asker's columns.",
        )
    if len(set(wanted.groups)) != len(wanted.groups) or {len(key) for key in wanted.groups} != {len(plan.groups)}:
        raise InputError(
            f"the listed groups do not fit {names}",
            cure=f"Write each group once, as a list of {len(plan.groups)} value{'' if len(plan.groups) == 1 else 's'}.",
        )


_WORDS = {
    "rows": "number of joined rows",
    "count": "number of rows with {}",
    "sum": "sum of {}",
    "offset": "sum of {} less the middle of its bounds",
    "square": "sum of its squares for {}",
}


def _lines(
    plan: Plan, wanted: Privacy, partner: str, mechanism: Mechanism, grids: dict[Measure, Grid],
    bounds: dict[tuple[str, str], tuple[float, float]],
) -> tuple[str, ...]:  # fmt: skip
    kind = f"{mechanism.noise.title()} noise, ε = {wanted.epsilon:g}"
    kind += f" and δ = {wanted.delta:g}" if wanted.delta else ""
    lines = [
        f"{partner} adds noise to every total before anything is opened ({kind}); this is taken from the privacy "
        "budget (隐私预算) of its data set.",
        "With a probability of 95 % the noise in each number is at most:",
    ]
    for measure, within in zip(plan.measures, mechanism.within(), strict=True):
        size = within / 2.0 ** grids[measure].bits if measure in grids else within
        lines.append(f"  ±{size:,.4g} in the {_WORDS[measure.total].format(_plain(measure.sql))}")
    lines.append(
        "Means, variances and deviations are made of these numbers. Groups are shown by their number with noise."
    )
    for (site, sql), (low, high) in bounds.items():
        lines.append(f"{site}: {_plain(sql)} below {low:g} counts as {low:g}, above {high:g} as {high:g}.")
    if wanted.groups:
        lines.append(f"{partner}: rows of other groups than the {len(wanted.groups)} that are listed do not count.")
    return tuple(lines)


def _plain(sql: str) -> str:
    return sql.replace('"', "")


def numbered(keys: Sequence[tuple[Any, ...]], groups: Sequence[Key]) -> I64:
    """Return the number of each row's group among those that are listed, (n,); −1 for others."""
    number = {key: at for at, key in enumerate(groups)}
    return np.fromiter((number.get(key, -1) for key in keys), np.int64, len(keys))
