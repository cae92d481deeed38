"""Answers with noise: what the noise costs in time and in accuracy, and what a crash-safe budget costs.

Accuracy is that of a real table, the breast cancer data of scikit-learn (569 patients): the mean radius by diagnosis,
as a plan with noise computes it, against the exact one.  Models are measured on rows kept out, beside the same model
without noise and, where it has one, diffprivlib's with all rows in one place.  The limit of the samplers is numpy's
float noise of the same kind, which is neither exact nor secret; that of the budget is two writes that are on the disk.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from atoll.data.columns import Column, Columns
from atoll.node.budgets import Budgets
from atoll.privacy.accountant import Limit, pure
from atoll.privacy.noise import draw, noise
from atoll.query.statistics.local import contribution
from atoll.query.statistics.plan import parse
from atoll.query.statistics.privacy import Privacy
from atoll.query.statistics.private import private
from bench.dp_models import run_digits, run_models
from bench.harness import Report

TITLE = "Answers and models with noise: samplers, accuracy, budget"
SIZES = {"small": 20_000, "medium": 200_000, "large": 2_000_000}
"""Numbers that get noise."""

SCALE, ENTRIES, TIMES = 1234.5, 1_000, 400
SQL = "select count(*), avg(b.radius) from a join b using (id) group by b.diagnosis"


def run(size: str, report: Report) -> None:
    """Draw, answer, spend, fit."""
    n = SIZES[size]
    random = np.random.default_rng(1)
    for kind, floats in (("laplace", random.laplace), ("gaussian", random.normal)):
        draw(kind, [SCALE], 1)
        begun = time.process_time()
        draw(kind, [SCALE], n)
        ours, begun = time.process_time() - begun, time.process_time()
        floats(0, SCALE, n)
        report.row(
            f"{n:,} samples of discrete {kind.title()} noise", ours, unit="s", limit=time.process_time() - begun,
            limit_name="numpy's floats", note=f"processor time, {ours / n * 1e6:.1f} µs a sample, by OpenDP",
        )  # fmt: skip
    for epsilon in (0.1, 1.0, 10.0):
        report.row(
            f"mean radius by diagnosis of 569 patients, ε = {epsilon:g}", 100 * error(epsilon), unit="%",
            note=f"median relative error of {TIMES} answers; bounds 0 to 40",
        )  # fmt: skip
    ours, limit = spending()
    report.row(
        f"reserve and spend a part of a budget of {ENTRIES:,} entries", 1_000 * ours, unit="ms", limit=1_000 * limit,
        limit_name="two writes on the disk",
    )  # fmt: skip
    run_models(size, report)
    run_digits(report)


def error(epsilon: float) -> float:
    """Median relative error of a mean with noise, over both groups and many answers."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    radius, diagnosis = np.ascontiguousarray(found.data[:, 0]), found.target
    columns = Columns(
        (
            Column("radius", "numeric", radius),
            Column("diagnosis", "categorical", diagnosis.astype(np.int32), tuple(found.target_names)),
        ),
        len(radius),
    )
    plan = parse(SQL)
    groups = tuple((str(name),) for name in found.target_names)
    rules = private(plan, SQL, Privacy(epsilon, bounds={"b.radius": (0.0, 40.0)}, groups=groups), "a")
    part = contribution(plan, "b", columns, 1, rules)
    errors = []
    for at in range(len(groups)):
        rows = part.group == at
        totals = np.concatenate(([rows.sum()], part.values[rows].sum(axis=0)))
        _, n, s = (totals + noise(rules.mechanism, TIMES)).T
        errors.append(np.abs(s / 2.0 ** part.bits[1] / np.maximum(n, 1) / radius[diagnosis == at].mean() - 1))
    return float(np.median(errors))


def spending() -> tuple[float, float]:
    """Seconds of one reservation with its spend, and of two small writes that reach the disk."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        budgets = Budgets(Path(name), "site")
        budgets.set("people", Limit(1e6))
        for turn in range(ENTRIES // 2):
            budgets.reserve("people", pure(1.0), job=str(turn), to="asker").spend()
        begun = time.perf_counter()
        for turn in range(10):
            budgets.reserve("people", pure(1.0), job=f"again {turn}", to="asker").spend()
        ours = (time.perf_counter() - begun) / 10
        handle = os.open(Path(name) / "plain", os.O_WRONLY | os.O_CREAT)
        begun = time.perf_counter()
        for _ in range(20):
            os.write(handle, bytes(300))
            os.fsync(handle)
        limit = (time.perf_counter() - begun) / 10
        os.close(handle)
    return ours, limit
