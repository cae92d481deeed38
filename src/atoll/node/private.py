"""What a job of sites with the same columns says about its privacy, and what that comes to at each site.

Every total that such a job opens holds noise, and all together are (ε, δ)-private for one row at one site.  What the
noise needs to know is declared in the job: bounds of numbers, and categories.  Which values occur is told to nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from atoll.core.errors import InputError
from atoll.core.session import Session
from atoll.data.schema import MOST_CATEGORIES, ColumnSchema
from atoll.node.coding import OTHER
from atoll.privacy.accountant import NOTHING, Loss, rho_of
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from atoll.node.job import Job
    from atoll.node.steps.base import Work

DEFAULT_PARTS: Mapping[str, float] = {"compare": 1.0, "describe": 9.0, "fit": 9.0}
"""How the steps of a job share its privacy, if it does not say."""


class JobPrivacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much a job may tell about one row of any site, all its steps together.

    Attributes:
        epsilon: ε, 0.001 to 100; it is taken from the privacy budget of each site's data set.
        delta: δ, far below one over the number of rows.
        bounds: smallest and largest value of every numeric column and label, decided without looking at the data;
            values beyond count as the bound.
        categories: the values of every column of categories that count; others are treated as missing.
        honest: sites whose noise is counted on: those that neither leave nor tell theirs to others. If left out all
            but one, for a site knows its own noise.
        parts: by step, which part of the privacy it takes, in proportion; if left out `compare` 1 and the others 9
            each.
    """

    epsilon: Annotated[float, msgspec.Meta(ge=0.001, le=100)]
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    bounds: dict[str, tuple[float, float]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    honest: Annotated[int, msgspec.Meta(ge=0)] = 0
    parts: dict[Literal["compare", "describe", "fit"], Annotated[float, msgspec.Meta(gt=0)]] = {}

    def column(self, name: str, unit: str = "") -> ColumnSchema:
        """Return a declared column.

        Raises:
            InputError: it is not declared.
        """
        if name in self.categories:
            return ColumnSchema(name, "categorical", unit, tuple(sorted(set(self.categories[name]))))
        if name in self.bounds:
            return ColumnSchema(name, "numeric", unit)
        raise InputError(
            "noise needs to know what its values may be",
            column=name,
            cure="Declare it in the job's `privacy:`, under `bounds:` or `categories:`.",
        )


def check_privacy(job: Job) -> None:
    """Refuse what a job says about its privacy if it does not fit the job.

    Raises:
        InputError: columns are not declared, or not as they can be used; sites cannot be counted on.
    """
    from atoll.learn.horizontal.private.scaled import bounds_of
    from atoll.node.steps import build

    privacy = job.privacy
    if privacy is None:
        return
    if not job.horizontal:
        raise InputError(
            "`privacy:` of a whole job is for sites with the same columns", cure="Ask with `privacy:` in `step: ask`."
        )
    if job.profile != "secure+dp":
        raise InputError(f"the job has `privacy:` and the profile {job.profile!r}", cure="Say `profile: secure+dp`.")
    columns = columns_of(job)
    if not columns or any(not part.columns for part in job.sites.values() if part.data):
        raise InputError("noise is planned before anybody looks at data", cure="Name `columns:` at every site.")
    if job.adding.most_rows:
        raise InputError("a site that refuses for its number of rows tells it", cure="Remove `most_rows:`.")
    twice = privacy.bounds.keys() & privacy.categories.keys()
    for name in (*columns, *twice):
        if name in twice:
            raise InputError("it has bounds and categories", column=name, cure="Keep one of them.")
        if privacy.column(name).kind == "numeric":
            bounds_of(name, privacy.bounds)
        elif OTHER in privacy.categories[name] or not 1 <= len(privacy.categories[name]) <= MOST_CATEGORIES:
            cure = f"Declare 1 to {MOST_CATEGORIES}, none of them called {OTHER!r}."
            raise InputError("its categories cannot be used", column=name, cure=cure)
    for name in (privacy.bounds.keys() | privacy.categories.keys()) - set(columns):
        raise InputError("it is declared and takes no part", column=name, cure="Take it out of `privacy:`.")
    if honest(job) > bringing(job):
        raise InputError(
            f"{honest(job)} honest sites are counted on, and {bringing(job)} bring data", cure="Lower `honest:`."
        )
    for step in build(job):
        step.plan_noise(job)


def columns_of(job: Job) -> tuple[str, ...]:
    """The columns of a job, the label last."""
    first = next(part for part in job.sites.values() if part.data)
    return (*first.columns, *((job.label,) if job.label else ()))


def bringing(job: Job) -> int:
    """How many sites bring data."""
    return sum(bool(part.data) for part in job.sites.values())


def honest(job: Job) -> int:
    """How many sites' noise is counted on."""
    said = job.privacy.honest if job.privacy else 0
    return said or max(1, bringing(job) - 1)


def rho_of_step(job: Job, name: str) -> float:
    """Return what a step may take of the job's ρ."""
    from atoll.node.steps import build

    privacy = _declared(job)
    said = {**DEFAULT_PARTS, **{str(step): part for step, part in privacy.parts.items()}}
    parts = {step.name: said.get(step.name.partition(" ")[0], 0.0) for step in build(job)}
    return rho_of(privacy.epsilon, privacy.delta) * parts[name] / sum(parts.values())


def loss_of_step(job: Job, site: str, name: str) -> Loss | None:
    """Return what a step can tell about one row of a site; None without noise."""
    if job.privacy is None:
        return None
    return Loss(None, rho_of_step(job, name)) if job.sites[site].data else NOTHING


def says(job: Job, name: str, plan: Sequence[Release]) -> tuple[str, ...]:
    """Say what is opened with how much noise, for people."""
    privacy = _declared(job)
    part = sum(release.rho for release in plan) / rho_of(privacy.epsilon, privacy.delta)
    lines = [
        f"{name}: every site learns totals with Gaussian noise; they take {part:.0%} of what the job tells, which is "
        f"ε = {privacy.epsilon:g} at δ = {privacy.delta:g} for one row of any site; a row adds at most 1 to a number",
    ]
    for release in plan:
        within = 1.96 * release.sd(bringing(job), honest(job))
        times = f", {release.rounds} times" if release.rounds > 1 else ""
        lines.append(f"  {release.what}{times}: {release.numbers:,} numbers, each ±{within:,.3g} (95 %)")
    return tuple(lines)


@asynccontextmanager
async def noisy_totals(
    session: Session, work: Work, step: str, plan: Sequence[Release]
) -> AsyncIterator[PlannedTotals]:
    """Give a step totals with noise, whose part of the site's budget is spent the moment before the first opens."""
    from atoll.node.steps.totals import totals

    privacy, budget = _declared(work.job), work.budget
    async with totals(session, work, step) as sums:
        yield PlannedTotals(sums, plan, honest(work.job), budget.spend if budget else lambda: None)
    work.report["privacy"] = (
        f"Every total held noise (差分隐私): all that the job told is ε = {privacy.epsilon:g} at δ = {privacy.delta:g} "
        f"private for one row of any site, if the noise of {honest(work.job)} of {bringing(work.job)} sites stays "
        "unknown to whoever looks."
    )
    if budget is not None:
        work.report["budget"] = budget.sentence()


def _declared(job: Job) -> JobPrivacy:
    if job.privacy is None:
        raise InputError("the job says nothing about noise", cure="Add `privacy:`.")
    return job.privacy
