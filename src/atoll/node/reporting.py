"""What a site keeps of a finished job: contract, result, and the report."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from atoll.core.session import Session
from atoll.node.border import PROTOCOL as BORDER
from atoll.node.contract import PROTOCOL as CONTRACT
from atoll.node.contract import Contract
from atoll.node.departures import Departure
from atoll.node.figures import curves
from atoll.node.log import AUDIT, JobLog
from atoll.node.policy import weak_of
from atoll.node.steps import Work, build
from atoll.node.steps.evaluate import EvaluateStep
from atoll.node.steps.totals import LEFT
from atoll.node.tables import headline, losses, tables
from atoll.report import (
    SECUREBOOST,
    Alignment,
    Audit,
    AuditRow,
    Disclosure,
    Feature,
    History,
    Job,
    Leakage,
    Overlap,
    Party,
    ReportData,
    Series,
    StepCost,
    Threshold,
    Traffic,
    disclosure,
    write_report,
)

ROLES = {
    "label-holder": "label holder",
    "feature-holder": "feature holder",
    "asker": "asker",
    "data-holder": "data holder",
    "aggregator": "aggregator",
    "member": "member",
}
KEYS = {
    "label-holder": ("label holder", "label_holder", "receiver", "hub"),
    "feature-holder": ("feature holder", "feature_holder", "sender", "partner"),
    "asker": ("label holder", "asker"),
    "data-holder": ("feature holder", "partner"),
    "aggregator": ("aggregator", "hub", "site", "label holder", "label_holder"),
    "member": ("member", "partner", "site", "feature holder", "feature_holder"),
}
"""How protocol cards call what a job's roles do in them."""

ROLE_WORDS = {
    "single sender": "single feature holder",
    "the sender": "the feature holder",
    "the receiver": "the label holder",
    "number ny of": "number of",
    "number nx of": "number of",
    "number n of": "number of",
    "number n_i of": "number of",
    "the hub": "the label holder",
    "every partner's": "every feature holder's",
    "all partners": "all feature holders",
    "other partners": "other feature holders",
}
"""Words of the intersection's card, and what they mean in a job."""

SHOWN_VERSIONS = ("atoll-fl", "numpy", "numba", "cryptography", "grpcio", "duckdb")


class Result(msgspec.Struct, frozen=True):
    """The result of a job at one site, for machines.

    Attributes:
        job: the job's id.
        name: its name.
        site: this site.
        role: its role.
        started: ISO 8601.
        finished: ISO 8601.
        steps: seconds of each step.
        sent: bytes sent.
        received: bytes received.
        report: further figures by name.
    """

    job: str
    name: str
    site: str
    role: str
    started: str
    finished: str
    steps: dict[str, float]
    sent: int
    received: int
    report: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """A job whose steps are done at this site.

    Args:
        contract: the signed contract.
        session: the running session, for its traffic.
        work: what the steps left.
        log: the audit file.
        began: when the job began here.
        seconds: time of each step.
    """

    contract: Contract
    session: Session
    work: Work
    log: JobLog
    began: datetime
    seconds: dict[str, float]


def leave(end: Ended) -> None:
    """Write `job.yaml`, `contract.json`, `result.json` and `report.html`."""
    session, work = end.session, end.work
    job, store = work.job, work.store
    ended = datetime.now(UTC)
    store.write("job.yaml", job.to_yaml().encode())
    store.write_json("contract.json", end.contract)
    traffic = session.gate.traffic
    sums = {way: sum(count for (_, _, w), count in traffic.items() if w == way) for way in ("sent", "received")}
    performances = {p.kind: {"auc": p.auc, "ks": p.ks.statistic} for p in work.state.get("performances", ())}
    result = Result(
        job.id, job.name, work.site, work.mine.role, end.began.isoformat(), ended.isoformat(), end.seconds,
        sums["sent"], sums["received"], {**work.report, **performances},
    )  # fmt: skip
    store.write_json("result.json", result)
    write_report(report_data(end), store.path("report.html"))


def report_data(end: Ended) -> ReportData:
    """Collect the record of this site's report."""
    work, job = end.work, end.work.job
    subject, positive, negative = _words(work)
    head = Job(
        name=job.name,
        purpose=job.purpose,
        id=job.id,
        site=work.site,
        role=ROLES[work.mine.role],
        parties=_parties(end.contract, work),
        profile=job.profile,
        started=end.began.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        contract_hash=end.contract.digest,
        expires=job.expires.isoformat(),
        subject=subject,
        positive=positive,
        negative=negative,
    )
    state = work.state
    return ReportData(
        job=head,
        performances=tuple(state.get("performances", ())),
        auc_gain=state.get("auc_gain"),
        stability=state.get("stability"),
        features=_features(work),
        thresholds=_thresholds(work),
        history=_history(work),
        alignment=_alignment(work),
        answer=state.get("answer"),
        survivals=tuple(curves(name, found) for name, found in state.get("survival", {}).items()),
        tables=tables(work),
        headline=headline(work),
        costs=_costs(end.session, end.seconds),
        disclosures=_disclosures(work),
        leakage=_leakage(work),
        comparisons=SECUREBOOST if "model" in state else (),
        audit=_audit(end.log),
        versions=_versions(),
        notes=_notes(work),
    )


def _words(work: Work) -> tuple[str, str, str]:
    """What rows, label 1 and label 0 are called."""
    for step in build(work.job):
        if isinstance(step, EvaluateStep):
            return step.params.subject, step.params.positive, step.params.negative
    return "customers", "positive", "negative"


def _parties(contract: Contract, work: Work) -> tuple[Party, ...]:
    signatures = {signature.site: signature for signature in contract.signatures}
    table = work.table
    found = []
    for name, part in sorted(work.job.sites.items(), key=lambda item: (item[0] != work.job.hub, item[0])):
        mine = name == work.site and table is not None
        signature = signatures[name]
        found.append(
            Party(
                site=name,
                role=ROLES[part.role],
                rows=table.rows if mine and table is not None else None,
                columns=len(table.columns) if mine and table is not None else len(part.columns) or None,
                certificate=signature.certificate.replace(" ", ""),
                signed=signature.signed,
                signature=signature.signature,
            )
        )
    return tuple(found)


def _features(work: Work) -> tuple[Feature, ...]:
    history = work.state.get("history")
    if history is None:
        return ()
    sites = {"": work.site}
    return tuple(
        Feature(site=sites.get(i.site, i.site), number=i.number, gain=i.gain, splits=i.splits, name=i.name)
        for i in history.importance
    )


def _thresholds(work: Work) -> tuple[Threshold, ...]:
    model = work.state.get("model")
    if model is None or work.labels:
        return ()
    return tuple(
        Threshold(column=split.rule.column, rule=_rule(split.rule), tree=tree, level=level)
        for tree, levels in enumerate(model.splits, 1)
        for level, splits in enumerate(levels, 1)
        for split in splits
    )


def _rule(rule: Any) -> str:
    if rule.threshold is not None:
        return "is known" if abs(rule.threshold) > 1e300 else f"≥ {rule.threshold:g}"
    shown = ", ".join(rule.categories[:6])
    return f"in {{{shown}{', …' if len(rule.categories) > 6 else ''}}}"


def _history(work: Work) -> History | None:
    history = work.state.get("history")
    if history is None:
        return losses(work)
    series = [Series(name="training", values=tuple(history.train_log_loss))]
    if history.valid_log_loss:
        series.append(Series(name="validation", values=tuple(history.valid_log_loss)))
    return History(metric="log-loss", series=tuple(series), best=history.best)


def _alignment(work: Work) -> Alignment | None:
    counts, split = work.report.get("align"), work.report.get("split", {})
    if counts is None:
        return None
    overlaps = tuple(Overlap(site=name, common=common) for name, common in work.report.get("overlaps", {}).items())
    parts = {name: count for name, count in split.items() if count}
    return Alignment(own=counts["own"], final=counts["common"], overlaps=overlaps, **parts)


def _costs(session: Session, seconds: dict[str, float]) -> tuple[StepCost, ...]:
    ways = session.gate.traffic
    return tuple(
        StepCost(
            step=step,
            seconds=spent,
            traffic=tuple(
                Traffic(
                    site=peer,
                    sent=ways.get((step, peer, "sent"), 0),
                    received=ways.get((step, peer, "received"), 0),
                )
                for peer in session.links
            ),
        )
        for step, spent in seconds.items()
    )


def _disclosures(work: Work) -> tuple[Disclosure, ...]:
    protocols = [CONTRACT, BORDER, *(protocol for step in build(work.job) for protocol in step.uses())]
    found = []
    for name, part in sorted(work.job.sites.items(), key=lambda item: (item[0] != work.job.hub, item[0])):
        told = [p.card.reveals[key] for p in protocols for key in KEYS[part.role] if key in p.card.reveals]
        sentences = [_plain(sentence, work) for card in told for sentence in card if sentence != "Nothing."]
        hidden = [sentence.removeprefix("Not: ") for sentence in sentences if sentence.startswith("Not: ")]
        learned = [sentence for sentence in sentences if not sentence.startswith("Not: ")]
        found.append(disclosure(name, ROLES[part.role], [learned], hidden))
    return tuple(found)


def _plain(sentence: str, work: Work) -> str:
    """Call the roles of a small protocol what they are called in the job."""
    hub, other = work.job.sites[work.job.hub].role, work.job.sites[work.job.partners[0]].role
    for role, here in ROLE_WORDS.items():
        sentence = sentence.replace(role, here)
    return sentence.replace("label holder", ROLES[hub]).replace("feature holder", ROLES[other])


def _leakage(work: Work) -> tuple[Leakage, ...]:
    history, model = work.state.get("history"), work.state.get("model")
    if model is None:
        return ()
    lifted = "rows of M" in work.job.limits.reveals
    if history is not None:
        rows, vectors, owners = history.rows, history.vectors, work.job.partners
    else:
        rows, vectors, owners = work.report["vectors"]["rows"], work.report["vectors"].get("used"), (work.site,)
    if vectors is None:
        return ()
    limit = max(vectors, rows // 100) if lifted else rows // 100
    meter = work.state.get("meter")  # at the label holder only, who knows the vectors
    read = {} if meter is None else {"recovered": meter.recovered, "chance": meter.chance}
    return tuple(
        Leakage(owner=owner, asker=work.job.hub, rows=rows, vectors=vectors, limit=limit, **read) for owner in owners
    )


def _audit(log: JobLog) -> Audit:
    digest = log.flush()
    rows = tuple(
        AuditRow(step=step, kind=kind, direction=way, peer=peer, count=count, bytes=size, first_digest=first)  # type: ignore[arg-type]
        for (step, kind, way, peer), (count, size, first) in log.summary.items()
    )
    return Audit(file=AUDIT, sha256=digest, lines=log.lines, rows=rows)


def _versions() -> dict[str, str]:
    found = {}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _merged(work: Work) -> dict[str, tuple[str, ...]]:
    agreed = work.state.get("agreed")
    return agreed.merged if agreed else {}


def _notes(work: Work) -> tuple[str, ...]:
    notes = []
    if work.report.get("tries", 1) > 1:
        notes.append(
            f"The job was cut off and went on: it took {work.report['tries']} tries. Bytes and the audit file are "
            "those of all tries, the times those of the try that finished each step."
        )
    notes += [f"! {line[0].upper()}{line[1:]}: compare times with care." for line in work.report.get("clocks", ())]
    notes += [
        f"! {Departure(**left).text}. That step and later ones are over the rows of the sites that were left; earlier "
        "ones hold its rows, too, and where both told the same total, they show that of this site."
        for left in work.report.get(LEFT, ())
    ]
    for step in build(work.job):
        notes += [
            f"Step {step.name} used {one.name}, which is weak and was allowed here. {one.card.weak}"
            for one in weak_of(step)
        ]
    notes += [work.report[name] for name in ("privacy", "budget") if work.report.get(name)]
    if near := work.report.get("near"):
        notes.append(
            f"The ids that {work.site} brought are those of job {near['job']} but for "
            f"{near['added'] + near['removed']:,}. Whoever has both results can tell something about just "
            "these: look at what changed before you run again."
        )
    if "split" in work.report:
        notes.append("Rows were split into parts by a hash of the id, so a customer stays in its part from job to job.")
    if work.report.get("lacking"):
        notes.append(f"Values that occur at other sites and not at {work.site}: {', '.join(work.report['lacking'])}.")
    if merged := {name: values for name, values in _merged(work).items() if values}:
        listed = "; ".join(f"{name}: {', '.join(values[:6])}" for name, values in merged.items())
        notes.append(f"Categories with too few rows at all sites together, put together as (other): {listed}.")
    if work.report.get("left_out"):
        notes.append(f"Left out because they are constant: {', '.join(work.report['left_out'])}.")
    part = work.part
    if part is not None and work.y is not None:
        notes.append(f"The rate of label 1 among the rows of the job is {float(np.mean(work.y)):.2%}.")
    return tuple(notes)
