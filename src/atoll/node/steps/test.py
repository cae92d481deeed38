"""Compare groups of the rows of all sites: means by t-test or variance analysis, categories by χ² or Fisher's test."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Column
from atoll.node.models.base import known as finite
from atoll.node.steps.base import Called, Step, Work, present
from atoll.node.steps.compare import Agreed
from atoll.node.steps.describe import known_columns
from atoll.node.steps.groups import check_groups, groups_of
from atoll.node.steps.totals import shared, sum_protocol, totals

if TYPE_CHECKING:
    from atoll.learn.horizontal.contingency import Contingency
    from atoll.node.job import Job
    from atoll.protocols.secure_sum.totals import Totals

TESTS = "tests.json"
TABLE = "tests.csv"
CHI2, FISHER = "χ² test", "Fisher's exact test"

Known = tuple[str, ...] | None


class Test(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="step", tag="test"):
    """Params of `test`.

    Attributes:
        group: the column whose values make the groups: texts, or few whole numbers such as 0 and 1. Groups of fewer
            than `minimum` rows are left out.
        columns: the columns that are compared between the groups; all others, the label among them, if left out.
        numbers: for numeric columns `t-test` between two groups, as Welch's, which lets their spreads differ;
            `student`, which does not; `anova` between any number; or `auto`, a t-test between two and else `anova`.
        categories: for columns of categories `chi-square`, or `fisher` for Fisher's exact test, which large tables of
            more than two groups or categories do without.
        name: of several steps `test` each needs its own; the files are called after it.
    """

    group: str
    columns: tuple[str, ...] = ()
    numbers: Literal["auto", "t-test", "student", "anova"] = "auto"
    categories: Literal["chi-square", "fisher"] = "chi-square"
    name: Called = ""


class Group(msgspec.Struct, frozen=True):
    """One group in one column.

    Attributes:
        name: the group.
        count: its rows whose value is there.
        mean: of a numeric column.
        sd: likewise, with divisor n - 1.
        categories: rows by category, of a column of categories.
    """

    name: str
    count: int
    mean: float | None = None
    sd: float | None = None
    categories: dict[str, int] = {}


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """One column compared between the groups; None where there is no such figure, or it cannot be computed.

    Attributes:
        column: the column.
        kind: `numeric` or `categorical`.
        test: what it is called.
        groups: the groups, with enough rows each.
        left_out: rows of all sites that were left out, for a value is missing or their group or category is rare.
        statistic: t, F or χ².
        df: its degrees of freedom.
        p: two-sided probability of so large a difference if the groups were alike.
        difference: of the two means, the first less the second.
        odds_ratio: of a 2 × 2 table: odds of the second category in the second group over those in the first.
        low: lower end of the 95 % interval of difference or odds ratio.
        high: upper end.
        cramers_v: strength of association, 0 to 1.
    """

    column: str
    kind: str
    test: str
    groups: tuple[Group, ...]
    left_out: int
    statistic: float | None = None
    df: tuple[float, ...] = ()
    p: float | None = None
    difference: float | None = None
    odds_ratio: float | None = None
    low: float | None = None
    high: float | None = None
    cramers_v: float | None = None


class TestStep(Step[Test]):
    """Compare numeric columns and categories between groups, as if all rows lay in one place."""

    name = "test"
    title = "Compare groups"
    needs = ("schema",)
    gives = ("tests",)
    leaves = (TESTS, TABLE)
    hub = "aggregator"

    def uses(self) -> tuple[Protocol, ...]:
        """The sum."""
        return (sum_protocol(self.topology),)

    def says(self, job: Job) -> tuple[str, ...]:
        """What every site learns."""
        return (
            f"{self.name}: every site learns, of {shared(job)} and each column in `columns:`",
            f"  how many rows each group of {self.params.group} has; of groups with fewer than `minimum` no more",
            "  number, mean, spread and size of each numeric column in each other group",
            "  ! how many rows of each group have each category; one group and category may have few rows, or one",
        )

    def check(self, work: Work) -> None:
        """Refuse columns that are not there, and groups that are none.

        Raises:
            InputError: naming the column.
        """
        if work.table is not None:
            names = work.table.columns.names
            known_columns((self.params.group,), names, self.name)
            known_columns(self.params.columns, names, self.name)
            check_groups(work.table.columns[self.params.group])

    async def run(self, session: Session, work: Work) -> str:
        """Compare column by column.

        Raises:
            InputError: no group has enough rows, or a test does not suit the groups.
        """
        from atoll.learn.horizontal.categories import categories

        agreed: Agreed = present(work.state.get("agreed"), "schema")
        coded, params = work.state["coded"], self.params
        others = [column.name for column in agreed.columns if column.name != params.group]
        asked = known_columns(params.columns, others, self.name)
        group, groups = groups_of(coded, params.group, agreed)
        found = []
        async with totals(session, work, self.name) as sums:
            if groups is None:
                groups, _ = await categories(sums, group, smallest=agreed.minimum, step=self.name)
            if len(groups) < 2:
                raise InputError(
                    f"fewer than two groups have at least {agreed.minimum:,} rows",
                    column=params.group,
                    cure="Take another column, or a smaller `minimum:` in step compare.",
                )
            for name in asked:
                if coded[name].kind == "numeric":
                    found.append(await self._numbers(sums, coded[name], group, groups, agreed))
                else:
                    found.append(await self._categories(sums, coded[name], group, groups, agreed))
        work.store.write_json(self.file(TESTS), found)
        work.store.write(self.file(TABLE), _csv(found).encode())
        self._take(work, tuple(found))
        small = sum(one.p is not None and one.p < 0.05 for one in found)
        return f"{len(found)} columns between {len(groups)} groups of {params.group}, p below 0.05 in {small}"

    async def _numbers(
        self, sums: Totals, column: Column, group: Column, groups: tuple[str, ...], agreed: Agreed
    ) -> Tested:
        from atoll.learn.horizontal import means

        params = means.MeansParams(smallest=max(2, agreed.minimum), missing="drop")
        try:
            done = await means.fit(sums, column.values, group, params, known=groups)
        except InputError as error:
            error.column, error.step = column.name, self.name
            error.cure = error.cure.replace("`smallest`", "`minimum` in step compare, or leave the column out")
            raise
        count, spread = done.count.tolist(), np.sqrt(done.variance).tolist()
        shown = [
            Group(name, int(n), mean, sd)
            for name, n, mean, sd in zip(done.groups, count, done.mean.tolist(), spread, strict=True)
        ]
        tested = Tested(
            column=column.name, kind="numeric", test="", groups=tuple(shown), left_out=agreed.rows - int(sum(count))
        )
        which = self.params.numbers
        if len(shown) < 2:
            return msgspec.structs.replace(tested, test="none: fewer than two groups have enough values")
        if which == "anova" or (which == "auto" and len(shown) > 2):
            f = done.anova()
            return msgspec.structs.replace(
                tested, test="analysis of variance", statistic=finite(f.statistic), df=f.df, p=finite(f.p_value)
            )
        if len(shown) != 2:
            cure = "Say `numbers: anova`, or `auto`."
            raise InputError(f"a t-test compares two groups, there are {len(shown)}", column=group.name, cure=cure)
        equal = which == "student"
        t, (off, low, high) = done.t_test(equal_variances=equal), done.difference(equal_variances=equal)
        return msgspec.structs.replace(
            tested, test=f"{'Student' if equal else 'Welch'}'s t-test", statistic=finite(t.statistic),
            df=t.df if finite(t.df[0]) else (), p=finite(t.p_value), difference=off, low=finite(low), high=finite(high),
        )  # fmt: skip

    async def _categories(
        self, sums: Totals, column: Column, group: Column, groups: tuple[str, ...], agreed: Agreed
    ) -> Tested:
        from atoll.learn.horizontal import contingency

        at = next(at for at, one in enumerate(agreed.columns) if one.name == column.name)
        many = zip(column.categories, agreed.counts[at], strict=True)
        names = tuple(name for name, count in many if count >= agreed.minimum)
        params = contingency.ContingencyParams(smallest=agreed.minimum)
        done = await contingency.fit(sums, group, column, params, known=(groups, names))
        test, p = await self._compared(done)
        low, high = done.odds_interval()
        shown = tuple(
            Group(name, sum(row), categories=dict(zip(done.columns, row, strict=True)))
            for name, row in zip(done.rows, done.counts.tolist(), strict=True)
        )
        return Tested(
            column=column.name, kind="categorical", test=test, groups=shown,
            left_out=agreed.rows - int(done.counts.sum()), statistic=None if test == FISHER else done.chi2,
            df=() if test == FISHER else (float(done.df),), p=p if done.df else None,
            odds_ratio=finite(done.odds_ratio), low=finite(low), high=finite(high), cramers_v=done.cramers_v,
        )  # fmt: skip

    async def _compared(self, done: Contingency) -> tuple[str, float]:
        """The test's name and p value; a table that is too large for Fisher's test gets the other, and says so."""
        if self.params.categories == "chi-square":
            return CHI2, done.p_value
        try:
            return FISHER, await offload(done.fisher)
        except InputError:
            return f"{CHI2}; too large for Fisher's", done.p_value

    async def resume(self, work: Work) -> None:
        """Take the figures again."""
        self._take(work, work.store.read_json(self.file(TESTS), tuple[Tested, ...]))

    def _take(self, work: Work, found: tuple[Tested, ...]) -> None:
        work.state.setdefault("tests", {})[self.name] = (self.params.group, found)


def _csv(found: list[Tested]) -> str:
    """One line for each test, and below it one for each group, or group and category."""
    text = io.StringIO()
    writer = csv.writer(text)
    figures = ("statistic", "p", "difference", "odds_ratio", "low", "high", "cramers_v")
    writer.writerow(("column", "test", "group", "category", "count", "mean", "sd", "df", "df2", *figures))
    for one in found:
        values = ["" if (value := getattr(one, name)) is None else repr(value) for name in figures]
        df = [*map(repr, one.df), "", ""][:2]
        writer.writerow((one.column, one.test, "", "", sum(g.count for g in one.groups), "", "", *df, *values))
        for group in one.groups:
            if one.kind == "numeric":
                writer.writerow((one.column, "", group.name, "", group.count, repr(group.mean), repr(group.sd)))
            writer.writerows((one.column, "", group.name, name, n) for name, n in group.categories.items())
    return text.getvalue()
