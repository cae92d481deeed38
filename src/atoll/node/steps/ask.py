"""Answer a question in SQL over the rows that two sites have in common, which nobody sees."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.keys import usable_keys
from atoll.privacy.accountant import NOTHING, Loss
from atoll.privacy.noise import noise, require
from atoll.query.statistics.privacy import Privacy

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.query.statistics.plan import Plan
    from atoll.query.statistics.private import Private

ANSWER = "answer.csv"


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="ask"):
    """Params of `ask`.

    Attributes:
        sql: the question: one SELECT over the job's two sites, joined `using (id)`.
        minimum: fewest joined rows of a group that is shown; without groups, of the answer.
        kinds: how each id column is written, as in `align`.
        privacy: noise that bounds what the answer tells about single rows of the other site; none if left out.
    """

    sql: str
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 10
    kinds: tuple[Literal["text", "caseless", "phone", "resident"], ...] = ()
    privacy: Privacy | None = None


class AskStep(Step[Ask]):
    """The plan of the question, run by both sites; the asker gets the answer."""

    name = "ask"
    title = "Answer the question"
    gives = ("answer",)
    hub = "asker"
    hides_rows = True

    def uses(self) -> tuple[Protocol, ...]:
        """Totals over a hidden join, and the search for values where the question has quantiles."""
        from atoll.protocols import hidden_quantiles, hidden_totals
        from atoll.query.statistics.plan import parse

        totals = hidden_totals.PROTOCOL
        return (totals, hidden_quantiles.PROTOCOL) if parse(self.params.sql).quantiles else (totals,)

    def plan(self, job: Job) -> Plan:
        """Return the plan of the question.

        Raises:
            InputError: two sites cannot answer it, or they are not the job's.
        """
        from atoll.query.statistics.plan import parse

        plan = parse(self.params.sql)
        if set(plan.sites) != set(job.sites):
            raise InputError(
                f"the question joins {' and '.join(plan.sites)}, the job's sites are {', '.join(job.sites)}",
                step=self.name,
                cure="Name the job's sites as tables; a question joins two of them.",
            )
        return plan

    def says(self, job: Job) -> tuple[str, ...]:
        """What each site computes and learns, for people to read before they approve."""
        from atoll.query.statistics.explain import explain

        return explain(self.plan(job), job.hub, self.params.minimum, self.private(job))

    def private(self, job: Job) -> Private | None:
        """Return what the sites agree on where the answer gets noise.

        Raises:
            InputError: the question has no answer with noise, or bounds or groups do not fit it.
        """
        from atoll.query.statistics.private import private

        if self.params.privacy is None:
            return None
        return private(self.plan(job), self.params.sql, self.params.privacy, job.hub)

    def loss(self, job: Job, site: str) -> Loss | None:
        """Nothing at the asker, for nobody else learns of its rows; at the other site that of the noise."""
        if site == job.hub:
            return NOTHING
        private = self.private(job)
        return private.mechanism.loss if private else None

    def check(self, work: Work) -> None:
        """Make the plan and this site's part of it.

        Raises:
            InputError: ids cannot be used, a column is not there, or an expression cannot be computed.
        """
        from atoll.query.statistics.local import contribution

        plan, private, table = self.plan(work.job), self.private(work.job), present(work.table, "table")
        if private and not work.labels:
            require()
        work.state["keys"] = usable_keys(work, self.name, self.params.kinds)
        work.state["plan"] = plan
        work.state["part"] = contribution(plan, work.site, table.columns, self.params.minimum, private)

    async def run(self, session: Session, work: Work) -> str:
        """Total, and at the asker finish the answer and write it."""
        from atoll.query.statistics.run import ask, help_asker
        from atoll.report import Answered

        options: dict[str, Any] = {
            "asker": work.job.hub,
            "minimum": self.params.minimum,
            "rng": work.rng.spawn(),
            "context": (work.job.name, work.job.digest().hex(), *self.params.kinds),
        }
        given = work.state.pop("plan"), work.state.pop("keys"), work.state.pop("part")
        (peer,) = (channel.sub("ask") for channel in session.peers.values())
        asked: dict[str, Any] = {
            "question": self.params.sql,
            "plan": self.says(work.job),
            "minimum": self.params.minimum,
            "noisy": self.params.privacy is not None,
        }
        if not work.labels:
            await help_asker(peer, *given, noise=self._noise(work), **options)
            work.state["answer"] = Answered(**asked)
            if work.budget is not None:
                work.report["budget"] = work.budget.sentence()
            return "helped to answer; no total was seen here"
        found = await ask(peer, *given, **options)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(found.columns)
        writer.writerows(["" if value is None else value for value in row] for row in found.rows)
        path = work.store.write(ANSWER, text.getvalue().encode())
        work.report["answer"] = path.name
        numeric = tuple(
            all(isinstance(row[at], int | float) or row[at] is None for row in found.rows)
            for at in range(len(found.columns))
        )
        rows = tuple(tuple(_shown(value) for value in row) for row in found.rows)
        work.state["answer"] = Answered(columns=found.columns, rows=rows, numeric=numeric, **asked)
        said = f"{len(rows):,} row{'' if len(rows) == 1 else 's'} in the answer"
        return said + (", with noise" if self.params.privacy else "")

    def _noise(self, work: Work) -> Callable[[int], NDArray[np.int64]] | None:
        """Return what spends the reserved budget and draws the noise, at the last moment before anything is opened."""
        private = self.private(work.job)
        if private is None:
            return None

        def drawn(groups: int) -> NDArray[np.int64]:
            if work.budget is not None:
                work.budget.spend()
            return noise(private.mechanism, groups)

        return drawn


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
