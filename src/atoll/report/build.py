"""Parts of a report from what a job has at hand: labels and scores, protocol cards."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atoll.evaluate import metrics
from atoll.evaluate.results import KsCurve, Roc
from atoll.report.model import Comparison, Disclosure, Performance

SECUREBOOST = (
    Comparison(
        what="Which customers sit in which node of a tree",
        here="The label holder only",
        secureboost="Every party, for every node: it needs the list to add up encrypted gradients",
        less=True,
    ),
    Comparison(
        what="Side of each customer at a partner's split",
        here="The label holder, for members of the node only; the partner does not learn for whom it answered",
        secureboost="The label holder and the partner",
        less=True,
    ),
    Comparison(
        what="Gradient sums per bin of a partner's column",
        here="The label holder, in the bins' order, for nodes above the minimum size and within the limit on vectors",
        secureboost="The label holder, for every node and without a limit; the order of bins may be shuffled",
        less=False,
    ),
    Comparison(
        what="Which of a partner's own thresholds win",
        here="Their owner, in order",
        secureboost="Their owner, in order, together with the members of the node",
        less=True,
    ),
    Comparison(
        what="Labels and gradients",
        here="The label holder only",
        secureboost="The label holder only, but the shared node lists group customers of like outcome",
        less=True,
    ),
)
"""Trees on the fixed-matrix product beside SecureBoost (Cheng et al. 2021) as its open implementations ship it."""


_NOT = "Not: "


def performance(
    kind: Literal["alone", "partnership", "pooled"],
    label: ArrayLike,
    score: ArrayLike,
    *,
    edges: tuple[float, ...] | int = 10,
    points: int = 240,
) -> Performance:
    """Measure one model on the evaluation rows, with curves thin enough to print.

    Args:
        kind: Which model it is.
        label: (n,) 0 or 1, both present, n >= 10.
        score: (n,) finite; calibration and log-loss are added if all lie in [0, 1].
        edges: Score bands as in `atoll.evaluate.score_bands`.
        points: About how many points a curve keeps.

    Raises:
        InputError: As the metrics do.
    """
    scores = np.asarray(score, np.float64)
    ks, roc = metrics.ks(label, scores), metrics.roc(label, scores)
    curve = metrics.ks_curve(label, scores)
    keep = _thin(np.add(roc.false_positive_rate, roc.true_positive_rate), points)
    probable = bool(scores.min() >= 0.0 and scores.max() <= 1.0)
    rates, hits, cuts = roc.false_positive_rate, roc.true_positive_rate, roc.threshold
    return Performance(
        kind=kind,
        rows=len(scores),
        positives=int(np.count_nonzero(label)),
        auc=metrics.auc(label, scores),
        ks=ks,
        roc=Roc(tuple(rates[i] for i in keep), tuple(hits[i] for i in keep), tuple(cuts[i] for i in keep)),
        ks_curve=_thin_ks(curve, points, ks.rows_above),
        gains=metrics.gains(label, scores, min(10, len(scores))),
        bands=metrics.score_bands(label, scores, edges),
        calibration=metrics.calibration(label, scores) if probable else None,
        log_loss=metrics.log_loss(label, scores) if probable else None,
    )


def disclosure(site: str, role: str, reveals: Iterable[Iterable[str]], hidden: Iterable[str] = ()) -> Disclosure:
    """Collect what one party learned from the cards of the protocols it ran, each sentence once.

    A card's sentence "Not: labels, gains." says what is not learned, and goes there item by item.

    Args:
        site: The party.
        role: Its role in words.
        reveals: `card.reveals[role]` of every protocol it took part in, in step order.
        hidden: What it did not learn, in words.
    """
    said = dict.fromkeys(sentence.strip() for card in reveals for sentence in card)
    learned = tuple(sentence for sentence in said if not sentence.startswith(_NOT))
    denied = (item for sentence in said if sentence.startswith(_NOT) for item in _items(sentence.removeprefix(_NOT)))
    return Disclosure(site=site, role=role, learned=learned, hidden=tuple(dict.fromkeys([*denied, *hidden])))


def _items(sentence: str) -> list[str]:
    """Split "labels, gains (of splits, of trees)." at the commas outside parentheses."""
    parts = re.split(r",\s*(?![^()]*\))", sentence.strip().rstrip("."))
    return [part.strip() for part in parts if part.strip()]


def _thin_ks(curve: KsCurve, points: int, kink: float) -> KsCurve:
    population = np.asarray(curve.population)
    keep = sorted({*_thin(population, points), int(np.abs(population - kink).argmin())})
    return KsCurve(*(tuple(part[i] for i in keep) for part in (curve.population, curve.positives, curve.negatives)))


def _thin(along: NDArray[np.float64], points: int) -> list[int]:
    """Return ascending places that are about evenly spaced on a rising line, both ends kept."""
    marks = np.linspace(along[0], along[-1], max(points, 2))
    return sorted({0, len(along) - 1, *np.clip(np.searchsorted(along, marks), 0, len(along) - 1).tolist()})
