"""What a report is made of: one typed record per site and job, stored as JSON beside the HTML.

Every part but the head may be empty or None, and its section is then absent: a feature holder's report is made
from the same record with fewer parts. Nothing here is a person's row; curves are thinned to a few hundred points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from atoll.evaluate.results import AucGain, Band, Calibration, Gain, Ks, KsCurve, Psi, Roc


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Party(_Part, frozen=True):
    """A site of the job, as the signed contract names it.

    Attributes:
        site: The site's name.
        role: Its role in words, such as "label holder".
        rows: Rows it brought, if this site may know.
        columns: Columns it brought, if this site may know.
        certificate: SHA-256 fingerprint of its certificate, hex.
        signed: When it signed the contract, ISO 8601.
        signature: Its signature over the contract's hash, hex or base64.
    """

    site: str
    role: str
    rows: int | None = None
    columns: int | None = None
    certificate: str = ""
    signed: str = ""
    signature: str = ""


class Job(_Part, frozen=True):
    """The head of the report.

    Attributes:
        name: The job's name as the contract gives it.
        title: A headline for people; the name is used if empty.
        purpose: The purpose the parties agreed on.
        id: The job's id.
        site: The site whose report this is.
        role: That site's role in words.
        parties: Every site, this one included.
        profile: Protection profile, a key of `atoll.privacy.profiles.PROFILES`.
        started: ISO 8601.
        finished: ISO 8601.
        expires: ISO 8601; empty if the contract has no end.
        contract_hash: SHA-256 of the canonical contract, hex.
        subject: What a row is, in the plural.
        positive: Adjective for rows with label 1.
        negative: Adjective for rows with label 0.
        outcome: What label 1 means, such as "charged off within five years"; may be empty.
        demo: True only in a demonstration, where pooled figures may be shown.
    """

    name: str
    purpose: str
    id: str
    site: str
    role: str
    parties: tuple[Party, ...]
    profile: str
    started: str
    finished: str
    contract_hash: str
    title: str = ""
    expires: str = ""
    subject: str = "customers"
    positive: str = "bad"
    negative: str = "good"
    outcome: str = ""
    demo: bool = False


class Performance(_Part, frozen=True):
    """One model's quality on the evaluation rows; build it with `atoll.report.performance`.

    Attributes:
        kind: "alone" (own columns only), "partnership", or "pooled" (demonstrations only).
        rows: Evaluation rows.
        positives: Positives among them.
        auc: Area under the ROC curve.
        ks: KS statistic and threshold.
        roc: Thinned curve.
        ks_curve: Thinned curve.
        gains: Lift by decile.
        bands: Score bands.
        calibration: Reliability bins; None if scores are not probabilities.
        log_loss: None if scores are not probabilities.
    """

    kind: Literal["alone", "partnership", "pooled"]
    rows: int
    positives: int
    auc: float
    ks: Ks
    roc: Roc
    ks_curve: KsCurve
    gains: tuple[Gain, ...]
    bands: tuple[Band, ...]
    calibration: Calibration | None = None
    log_loss: float | None = None


class Feature(_Part, frozen=True):
    """A column's part in the model.

    Attributes:
        site: Its owner.
        name: Its name at its owner; empty for other sites' columns, which stay opaque.
        number: Its opaque number, 1 and up, as this site knows it.
        gain: Summed gain of the splits on it; any unit, at least 0.
        splits: How many splits use it.
    """

    site: str
    number: int
    gain: float
    splits: int
    name: str = ""


class Threshold(_Part, frozen=True):
    """One of this site's own splits that the model chose: in the order in which this site learnt it.

    Attributes:
        column: Own column.
        rule: The condition in words, such as "≤ 12.5" or "in {A, B}".
        tree: Tree, 1 and up.
        level: Depth of the split, 1 for the root.
    """

    column: str
    rule: str
    tree: int
    level: int


class Series(_Part, frozen=True):
    """One line of the training history: a metric per round."""

    name: str
    values: tuple[float, ...]


class History(_Part, frozen=True):
    """Training history.

    Attributes:
        metric: Name of the metric, such as "log-loss".
        series: One per part of the data, all of the same length.
        best: The round kept by early stopping, 1 and up; None if all rounds are kept.
    """

    metric: str
    series: tuple[Series, ...]
    best: int | None = None


class Overlap(_Part, frozen=True):
    """A pairwise count as this site learnt it; None where it did not learn it.

    Attributes:
        site: The other site.
        theirs: Its number of distinct ids.
        common: How many are in common with this site.
    """

    site: str
    theirs: int | None = None
    common: int | None = None


class Alignment(_Part, frozen=True):
    """Counts of the alignment step.

    Attributes:
        own: This site's distinct ids.
        overlaps: Per other site.
        final: Customers common to all sites.
        train: Rows used to train.
        validation: Rows used for early stopping.
        test: Rows used to evaluate.
    """

    own: int
    final: int
    overlaps: tuple[Overlap, ...] = ()
    train: int | None = None
    validation: int | None = None
    test: int | None = None


class Traffic(_Part, frozen=True):
    """Bytes to and from one peer."""

    site: str
    sent: int
    received: int


class StepCost(_Part, frozen=True):
    """What one step took here.

    Attributes:
        step: Its name.
        seconds: Wall-clock seconds.
        traffic: Bytes per peer.
    """

    step: str
    seconds: float
    traffic: tuple[Traffic, ...] = ()


class Disclosure(_Part, frozen=True):
    """What one party learned, in plain sentences; build it with `atoll.report.disclosure`.

    Attributes:
        site: The party.
        role: Its role in words.
        learned: From the protocol cards, one sentence an entry.
        hidden: What it did not learn.
    """

    site: str
    role: str
    learned: tuple[str, ...]
    hidden: tuple[str, ...] = ()


class Leakage(_Part, frozen=True):
    """The meter of one matrix: how many equations about its rows were given away.

    Attributes:
        owner: Whose rows.
        asker: Who received the equations.
        rows: n, rows of the matrix.
        vectors: T, equations answered.
        limit: The largest T the owner answers: n/100 unless the contract says otherwise.
        recovered: Share of rows whose bins the attack found, 0 to 1; None if it was not run.
        chance: Share that guessing finds, 0 to 1.
    """

    owner: str
    asker: str
    rows: int
    vectors: int
    limit: int
    recovered: float | None = None
    chance: float | None = None


class Comparison(_Part, frozen=True):
    """One line of the comparison with SecureBoost.

    Attributes:
        what: The information.
        here: Who learns it in this job.
        secureboost: Who learns it in SecureBoost.
        less: True where this job reveals less, False where it is about the same.
    """

    what: str
    here: str
    secureboost: str
    less: bool


class Answered(_Part, frozen=True):
    """A question to several sites and its answer; the rows are at the asker only.

    Attributes:
        question: In SQL, as the contract has it.
        plan: The plan in words, a line an entry.
        minimum: Fewest joined rows of a group that is shown.
        noisy: Whether the numbers hold noise, as the plan says.
        columns: Names of the answer's columns; empty where this site did not get the answer.
        rows: The answer as text, one entry a column; numbers are marked by `numeric`.
        numeric: Which columns hold numbers.
    """

    question: str
    plan: tuple[str, ...]
    minimum: int
    noisy: bool = False
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: tuple[bool, ...] = ()


class Table(_Part, frozen=True):
    """A table of figures, already as text.

    Attributes:
        title: Its heading.
        columns: Heads of its columns.
        rows: One entry a column each.
        numeric: Which columns hold numbers.
        lead: A sentence above it.
        note: A sentence below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    lead: str = ""
    note: str = ""


class SurvivalCurve(_Part, frozen=True):
    """Survival of one group.

    Attributes:
        group: Its name; empty where there is one only.
        times: Ascending times after which survival changes.
        survival: Share that is left after each, from 1 down to 0.
        low: Lower end of its interval.
        high: Upper end.
    """

    group: str
    times: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class SurvivalCurves(_Part, frozen=True):
    """A chart of survival curves.

    Attributes:
        title: Its heading.
        time: What the times are, with their unit.
        curves: One a group.
    """

    title: str
    time: str
    curves: tuple[SurvivalCurve, ...]


class AuditRow(_Part, frozen=True):
    """All messages of one kind in one direction.

    Attributes:
        step: The step.
        kind: Message kind.
        direction: "sent" or "received".
        peer: The other site.
        count: Messages.
        bytes: Their payload.
        first_digest: SHA-256 of the first one, hex.
    """

    step: str
    kind: str
    direction: Literal["sent", "received"]
    peer: str
    count: int
    bytes: int
    first_digest: str


class Audit(_Part, frozen=True):
    """The audit file and its summary.

    Attributes:
        file: Name of the file beside the report, without a folder.
        sha256: Its digest, hex.
        lines: Its lines.
        rows: Summary.
    """

    file: str
    sha256: str
    lines: int
    rows: tuple[AuditRow, ...] = ()


class ReportData(_Part, frozen=True):
    """Everything one site's report shows.

    Attributes:
        job: The head.
        performances: At most one of each kind, in the order alone, partnership, pooled.
        auc_gain: Partnership against own data alone, with its interval.
        stability: PSI of the scores, training rows against evaluation rows.
        features: Gain per column; only at the label holder.
        thresholds: This site's own winning thresholds; only at a feature holder.
        history: Training history.
        alignment: Counts.
        answer: A question to several sites, and its answer.
        survivals: Charts of survival curves.
        tables: Figures, models' tables and what was revealed, in order.
        headline: The sentence that a reader sees first; made from the other parts if empty.
        costs: Per step, in order.
        disclosures: One per party.
        leakage: One per matrix that this site owns or asked.
        comparisons: Against SecureBoost; `atoll.report.SECUREBOOST` for trees.
        audit: The audit file and its summary.
        versions: Program to version, for the footer.
        notes: Sentences for the footer, such as how the evaluation rows were drawn.
    """

    job: Job
    performances: tuple[Performance, ...] = ()
    auc_gain: AucGain | None = None
    stability: Psi | None = None
    features: tuple[Feature, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    history: History | None = None
    alignment: Alignment | None = None
    answer: Answered | None = None
    survivals: tuple[SurvivalCurves, ...] = ()
    tables: tuple[Table, ...] = ()
    headline: str = ""
    costs: tuple[StepCost, ...] = ()
    disclosures: tuple[Disclosure, ...] = ()
    leakage: tuple[Leakage, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    audit: Audit | None = None
    versions: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()

    def performance(self, kind: str) -> Performance | None:
        """Return the model of one kind, if it is there."""
        return next((found for found in self.performances if found.kind == kind), None)
