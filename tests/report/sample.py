"""A report's record made from a real model on real data that comes with scikit-learn.

Scores, gains and curves are measured; the partnership is trained on pooled columns, so both are equal. Bytes and times
are worked out from the shapes, since no protocol runs here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atoll import evaluate
from atoll.report import (
    SECUREBOOST,
    Alignment,
    Audit,
    AuditRow,
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
    performance,
)

LABEL_HOLDER = (
    "the size of each partner's aligned set and its number of columns and bins",
    "ordered sums of gradients per bin of each partner's opaque columns, for nodes above the minimum size",
    "for a chosen partner split, one bit for each member of the node",
)
FEATURE_HOLDER = (
    "the number of trees, and how many vectors were asked per level and tree",
    "which of its own thresholds won, and in what order",
)
NOT_LABEL_HOLDER = ("any value of a partner's column", "the names or thresholds of a partner's columns")
NOT_FEATURE_HOLDER = ("labels, gradients or gains", "which customers sit in which node", "other sites' splits")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record(
    table: np.ndarray,
    label: np.ndarray,
    columns: Mapping[str, Sequence[str]],
    *,
    names: Mapping[str, str] | None = None,
    own: Mapping[str, int] | None = None,
    **head: Any,
) -> ReportData:
    """Train own columns alone, and all columns together, and put the label holder's record together.

    Args:
        table: (n, d) float64, the columns of all sites side by side in the order of `columns`.
        label: (n,) 0 or 1.
        columns: Site to its column names; the first site holds the label.
        names: Column name to a name to show.
        own: Site to its rows before alignment.
        head: Fields of `Job`.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import train_test_split

    sites = list(columns)
    owner = np.repeat(sites, [len(columns[site]) for site in sites])
    flat = [column for site in sites for column in columns[site]]
    train, test = train_test_split(np.arange(len(label)), test_size=0.3, random_state=5, stratify=label)
    settings = {"max_iter": 40, "max_depth": 4, "learning_rate": 0.1, "random_state": 0, "max_bins": 32}
    scores, models = {}, {}
    for kind, used in (("alone", owner == sites[0]), ("partnership", np.ones(len(flat), bool))):
        model = HistGradientBoostingClassifier(early_stopping=False, **settings).fit(
            table[train][:, used], label[train]
        )
        scores[kind], models[kind] = model.predict_proba(table[:, used])[:, 1], model
    full = models["partnership"]
    stages = list(full.staged_predict_proba(table))
    history = [
        Series(name=name, values=tuple(evaluate.log_loss(label[rows], p[rows, 1]) for p in stages))
        for name, rows in (("training", train), ("evaluation", test))
    ]
    features = _features(full, owner, flat, names or {})
    results = tuple(performance(kind, label[test], score[test]) for kind, score in scores.items())
    if head.get("demo"):
        results = (*results, performance("pooled", label[test], scores["partnership"][test]))
    size = own or dict.fromkeys(sites, len(label))
    return ReportData(
        job=_job(sites, columns, size, head),
        performances=results,
        auc_gain=evaluate.auc_gain(label[test], scores["alone"][test], scores["partnership"][test]),
        stability=evaluate.psi(scores["partnership"][train], scores["partnership"][test]),
        features=features,
        history=History(metric="log-loss", series=tuple(history)),
        alignment=Alignment(
            own=size[sites[0]],
            final=len(label),
            overlaps=tuple(Overlap(site=s, theirs=size[s], common=(len(label) + size[s]) // 2) for s in sites[1:]),
            train=len(train),
            test=len(test),
        ),
        comparisons=SECUREBOOST,
        versions={"atoll": "0.1.0", "numpy": np.__version__},
        notes=("Evaluation rows are a third of the aligned rows, drawn by the label holder.",),
        **_conduct(sites, len(label)),
    )


def _features(model: Any, owner: np.ndarray, flat: list[str], names: Mapping[str, str]) -> tuple[Feature, ...]:
    """Summed gain and number of splits of every column; only the first site's columns have names."""
    nodes = np.concatenate([tree[0].nodes for tree in model._predictors])
    inner = nodes[nodes["is_leaf"] == 0]
    gains = np.bincount(inner["feature_idx"], weights=inner["gain"], minlength=len(flat))
    splits = np.bincount(inner["feature_idx"], minlength=len(flat))
    return tuple(
        Feature(
            site=str(owner[i]),
            number=int((owner[:i] == owner[i]).sum()) + 1,
            gain=float(gains[i]),
            splits=int(splits[i]),
            name=names.get(flat[i], flat[i]) if owner[i] == owner[0] else "",
        )
        for i in range(len(flat))
    )


def _job(sites: list[str], columns: Mapping[str, Sequence[str]], own: Mapping[str, int], head: dict[str, Any]) -> Job:
    return Job(
        **{
            "name": "sample",
            "purpose": "Find out what the partnership adds to the first site's own data.",
            "id": "7f3a9c",
            "site": sites[0],
            "role": "label holder",
            "profile": "secure",
            "started": "2026-03-02T09:14:05+00:00",
            "finished": "2026-03-02T09:14:41+00:00",
            "expires": "2026-12-31",
            "contract_hash": digest("contract"),
            "parties": tuple(
                Party(
                    site=site,
                    role="feature holder" if place else "label holder",
                    rows=own[site],
                    columns=len(columns[site]),
                    certificate=digest("certificate" + site),
                    signed=f"2026-03-02T09:1{place}:30+00:00",
                    signature=digest("signature" + site),
                )
                for place, site in enumerate(sites)
            ),
            **head,
        }
    )


def _conduct(sites: list[str], n: int) -> dict[str, Any]:
    """What was sent and learned: trees of depth 4 with 16 masked vectors each, 5 bytes an entry."""
    vectors, partners = min(160, n // 100), sites[1:]
    shapes = {"align": (32 * n, 64 * n), "train": (5 * n * vectors, 7_500_000 * 5), "evaluate": (40 * n, 16 * n)}
    kinds = {
        "align": ("protocols.ecdh_intersection.Masked", 2),
        "train": ("protocols.fixed_matrix_product.MaskedVectors", 40),
        "evaluate": ("protocols.oblivious_choice.Choices", 8),
    }
    rows = tuple(
        AuditRow(
            step=step, kind=kinds[step][0], direction=way, peer=site, count=kinds[step][1], bytes=shapes[step][place],
            first_digest=digest(step + way + site),
        )
        for step in shapes
        for site in partners
        for place, way in enumerate(("sent", "received"))
    )  # fmt: skip
    return {
        "costs": tuple(
            StepCost(
                step=step,
                seconds=seconds,
                traffic=tuple(Traffic(site=s, sent=shapes[step][0], received=shapes[step][1]) for s in partners),
            )
            for step, seconds in (("align", 1.9), ("train", 21.4), ("evaluate", 2.6))
        ),
        "disclosures": (
            disclosure(sites[0], "label holder", [LABEL_HOLDER], NOT_LABEL_HOLDER),
            *(disclosure(site, "feature holder", [FEATURE_HOLDER], NOT_FEATURE_HOLDER) for site in partners),
        ),
        "leakage": tuple(
            Leakage(owner=s, asker=sites[0], rows=n, vectors=vectors, limit=n // 100, recovered=0.07, chance=0.06)
            for s in partners
        ),
        "audit": Audit(file="audit.jsonl", sha256=digest("audit"), lines=sum(row.count for row in rows), rows=rows),
    }


def cancer(**head: Any) -> ReportData:
    """The label holder's record on scikit-learn's breast cancer data, its columns spread over three sites."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    texture = [i for i, name in enumerate(data.feature_names) if "texture" in name or "smooth" in name]
    ragged = [i for i, name in enumerate(data.feature_names) if "fractal" in name or "symmetry" in name]
    own = [i for i, name in enumerate(data.feature_names) if name.startswith("mean") and i not in texture + ragged][-2:]
    order = own + texture + ragged
    columns = {"clinic": own, "laboratory": texture, "imaging": ragged}
    named = {site: [str(data.feature_names[i]) for i in places] for site, places in columns.items()}
    words = {"subject": "samples", "positive": "malignant", "negative": "benign"}
    return record(data.data[:, order], (data.target == 0).astype(int), named, **{**words, **head})


def _turned(cost: StepCost) -> Traffic:
    """The same bytes as the laboratory counts them: it talks to the clinic only."""
    seen = next(part for part in cost.traffic if part.site == "laboratory")
    return Traffic(site="clinic", sent=seen.received, received=seen.sent)


def holder(**head: Any) -> ReportData:
    """A feature holder's record: no figures of the label holder, its own winning thresholds instead."""
    full = cancer(**{"site": "laboratory", "role": "feature holder", **head})
    rules = [("mean texture", "≤ 18.2"), ("worst smoothness", "≤ 0.13"), ("mean texture", "≤ 21.6")]
    return ReportData(
        job=full.job,
        thresholds=tuple(
            Threshold(column=column, rule=rule, tree=place // 2 + 1, level=place % 2 + 1)
            for place, (column, rule) in enumerate(rules)
        ),
        alignment=Alignment(own=569, final=569, overlaps=(Overlap(site="clinic", theirs=569, common=569),)),
        costs=tuple(StepCost(step=cost.step, seconds=cost.seconds, traffic=(_turned(cost),)) for cost in full.costs),
        disclosures=full.disclosures,
        leakage=full.leakage[:1],
        comparisons=full.comparisons,
        audit=Audit(file="audit.jsonl", sha256=digest("holder"), lines=60, rows=()),
        versions=full.versions,
    )
