"""The report's sentences: a headline a board reads first, and the same story for a terminal."""

from __future__ import annotations

from atoll.report.model import Performance, ReportData
from atoll.report.words import clean, duration, listing, number, percent, signed, size

KINDS = {"alone": "Own data alone", "partnership": "Partnership", "pooled": "All data pooled"}
"""What the three models are called."""


def change(before: float, after: float) -> float | None:
    """Relative change, or None where there is nothing to compare with."""
    return after / before - 1 if before > 0 else None


def partners(data: ReportData) -> list[str]:
    """The other sites' names in the order of the contract."""
    return [clean(party.site) for party in data.job.parties if party.site != data.job.site]


def bytes_by_peer(data: ReportData) -> dict[str, tuple[int, int]]:
    """Bytes sent to and received from every peer over all steps."""
    total: dict[str, tuple[int, int]] = {}
    for traffic in (part for cost in data.costs for part in cost.traffic):
        sent, received = total.get(traffic.site, (0, 0))
        total[traffic.site] = (sent + traffic.sent, received + traffic.received)
    return total


def headline(data: ReportData) -> str:
    """One or two sentences that say what the job achieved for this site."""
    if data.headline:
        return data.headline
    after, before = data.performance("partnership"), data.performance("alone")
    names = listing(partners(data))
    if after is None:
        return _holder_headline(data, names)
    if before is None:
        return f"With {names}, the model reaches AUC {after.auc:.3f} and KS {after.ks.statistic:.3f}."
    ks = change(before.ks.statistic, after.ks.statistic)
    verdict = _verdict(before, after)
    amount = f" ({percent(ks, 0, sign=True)})" if ks is not None else ""
    return (
        f"With {names}, {clean(data.job.site)} ranks its {clean(data.job.subject)} {verdict}: "
        f"KS {before.ks.statistic:.3f} alone, {after.ks.statistic:.3f} in partnership{amount}."
    )


def _verdict(before: Performance, after: Performance) -> str:
    gain = after.ks.statistic - before.ks.statistic
    if abs(gain) < 0.005:
        return "as well as alone"
    return "better than alone" if gain > 0 else "worse than alone"


def _holder_headline(data: ReportData, names: str) -> str:
    site = clean(data.job.site)
    if data.answer:
        groups = f"{number(len(data.answer.rows))} row{'s' if len(data.answer.rows) != 1 else ''}"
        return (
            f"{site} got the answer to its question, {groups}, over the rows that it has in common with {names}."
            if data.answer.columns
            else f"{site} helped to answer a question of {names}. No row of {site} was seen by anyone."
        )
    if data.thresholds:
        columns = len({threshold.column for threshold in data.thresholds})
        of_columns = f"{columns} of {site}'s columns" if columns > 1 else f"one of {site}'s columns"
        splits = f"{number(len(data.thresholds))} split{'s' if len(data.thresholds) > 1 else ''}"
        return f"The joint model uses {of_columns} in {splits}. No column left {site}."
    return f"{site} took part in a job with {names}."


def interval(data: ReportData) -> str:
    """The AUC gain with its interval, or nothing."""
    gain = data.auc_gain
    if gain is None:
        return ""
    sure = "the gain is beyond chance" if gain.low > 0 else "the gain may be chance"
    sure = "the loss is beyond chance" if gain.high < 0 else sure
    return f"AUC {signed(gain.gain)}, 95% interval {signed(gain.low)} to {signed(gain.high)}: {sure}."


def summary_text(data: ReportData) -> str:
    """Return the report's key figures as a few lines for a terminal.

    Args:
        data: The report's record.
    """
    lines = [clean(data.job.title or data.job.name), f"  {headline(data)}"]
    for found in data.performances:
        lines.append(f"  {KINDS[found.kind]:<16} AUC {found.auc:.4f}   KS {found.ks.statistic:.4f}")
    if interval(data):
        lines.append(f"  {interval(data)}")
    if data.alignment:
        lines.append(
            f"  {number(data.alignment.final)} {clean(data.job.subject)} in common, {number(data.alignment.own)} own"
        )
    if data.costs:
        traffic = bytes_by_peer(data).values()
        sent, received = sum(pair[0] for pair in traffic), sum(pair[1] for pair in traffic)
        seconds = sum(cost.seconds for cost in data.costs)
        lines.append(f"  {duration(seconds)}, {size(sent)} sent, {size(received)} received")
    for meter in data.leakage:
        lines.append(
            f"  {clean(meter.owner)}: {number(meter.vectors)} of at most {number(meter.limit)} vectors answered"
        )
    return "\n".join(lines)
