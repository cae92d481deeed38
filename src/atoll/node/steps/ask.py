"""Answer a question in SQL over the rows that two sites have in common, which nobody sees."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.keys import usable_keys

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.query.statistics.plan import Plan

ANSWER = "answer.csv"


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="ask"):
    """Params of `ask`.

    Attributes:
        sql: the question: one SELECT over the job's two sites, joined `using (id)`.
        minimum: fewest joined rows of a group that is shown; without groups, of the answer.
        kinds: how each id column is written, as in `align`.
    """

    sql: str
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 10
    kinds: tuple[Literal["text", "caseless", "phone", "resident"], ...] = ()


class AskStep(Step[Ask]):
    """The plan of the question, run by both sites; the asker gets the answer."""

    name = "ask"
    title = "Answer the question"
    gives = ("answer",)
    hub = "asker"
    hides_rows = True

    def uses(self) -> tuple[Protocol, ...]:
        """Totals over a hidden join."""
        from atoll.protocols.hidden_totals import PROTOCOL

        return (PROTOCOL,)

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

        return explain(self.plan(job), job.hub, self.params.minimum)

    def check(self, work: Work) -> None:
        """Make the plan and this site's part of it.

        Raises:
            InputError: ids cannot be used, a column is not there, or an expression cannot be computed.
        """
        from atoll.query.statistics.local import contribution

        plan, table = self.plan(work.job), present(work.table, "table")
        work.state["keys"] = usable_keys(work, self.name, self.params.kinds)
        work.state["plan"] = plan
        work.state["part"] = contribution(plan, work.site, table.columns, self.params.minimum)

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
        }
        if not work.labels:
            await help_asker(peer, *given, **options)
            work.state["answer"] = Answered(**asked)
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
        return f"{len(rows):,} row{'' if len(rows) == 1 else 's'} in the answer"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
