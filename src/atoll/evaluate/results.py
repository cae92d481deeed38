"""What the metrics return: small frozen records, ready for JSON and for the report."""

from __future__ import annotations

import msgspec


class Roc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ROC curve, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: (m,) ascending, in [0, 1].
        true_positive_rate: (m,) ascending, in [0, 1].
        threshold: (m,) descending scores, rows with score >= threshold count as positive; None where nobody does.
    """

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    threshold: tuple[float | None, ...]


class Ks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Kolmogorov-Smirnov distance between the scores of positives and negatives.

    Attributes:
        statistic: Largest gap between the two cumulative shares, in [0, 1].
        threshold: Rows with score >= threshold lie above the gap.
        positives_above: Share of the positives above it.
        negatives_above: Share of the negatives above it.
        rows_above: Share of all rows above it.
    """

    statistic: float
    threshold: float
    positives_above: float
    negatives_above: float
    rows_above: float


class KsCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cumulative shares over the population, ordered from the highest score to the lowest.

    Attributes:
        population: (m,) share of all rows, from 0 to 1.
        positives: (m,) share of the positives among them.
        negatives: (m,) share of the negatives among them.
    """

    population: tuple[float, ...]
    positives: tuple[float, ...]
    negatives: tuple[float, ...]


class Gain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group (a decile by default) of the lift table; group 1 has the highest scores.

    Attributes:
        group: 1 to the number of groups.
        rows: Rows in the group; a fraction where a tie is shared between groups.
        positives: Expected positives in the group, ties shared in proportion.
        rate: positives / rows.
        lift: rate over the overall rate.
        captured: Share of all positives in this group and those above it.
        cumulative_lift: captured over the share of rows so far.
    """

    group: int
    rows: float
    positives: float
    rate: float
    lift: float
    captured: float
    cumulative_lift: float


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One band of scores, lower <= score < upper; the last band includes its upper edge.

    Attributes:
        lower: Lowest score of the band.
        upper: Upper edge.
        rows: Rows in the band.
        positives: Positives in the band.
        share: rows over all rows.
        rate: positives / rows; None for an empty band.
    """

    lower: float
    upper: float
    rows: int
    positives: int
    share: float
    rate: float | None


class ReliabilityBin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One non-empty bin of a reliability diagram.

    Attributes:
        rows: Rows in the bin.
        predicted: Their mean predicted probability.
        observed: Their share of positives.
    """

    rows: int
    predicted: float
    observed: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far predicted probabilities are from observed rates.

    Attributes:
        bins: Non-empty bins in ascending order.
        brier: Mean squared error of the probabilities.
        expected_error: Expected calibration error: mean |predicted - observed| over bins, weighted by rows.
        largest_error: The largest such gap of any bin.
    """

    bins: tuple[ReliabilityBin, ...]
    brier: float
    expected_error: float
    largest_error: float


class Confusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts at a threshold: rows with score >= threshold are called positive."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of true positives among those called positive; None if nobody is."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of the positives that are called positive; None without positives."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def accuracy(self) -> float | None:
        """Share of rows called right."""
        right = self.true_positives + self.true_negatives
        return _ratio(right, right + self.false_positives + self.false_negatives)


class PsiBin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bin of a population stability index: its upper edge (None for the last), both shares and its part."""

    upper: float | None
    expected: float
    actual: float
    part: float


class Psi(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Population stability index; below 0.1 is usually read as stable, above 0.25 as shifted."""

    index: float
    bins: tuple[PsiBin, ...]


class AucGain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Difference of two AUCs on the same rows with its sampling error.

    Attributes:
        gain: AUC of the second score minus that of the first.
        standard_error: DeLong's estimate.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    gain: float
    standard_error: float
    low: float
    high: float


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
