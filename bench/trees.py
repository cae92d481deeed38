"""Boosted trees on columns split over two sites, beside XGBoost `hist` on the pooled columns with the same settings."""

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.objective import auc
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.predict import PROTOCOL as PREDICTION
from atoll.learn.vertical.trees.predict import predict_feature_holder, predict_label_holder
from atoll.learn.vertical.trees.protocol import PROTOCOL, feature_holder, label_holder
from atoll.node.process import settle
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, peak_mb, run_processes

TITLE = "Boosted trees on split columns, beside XGBoost on pooled ones"
SIZES = {"small": 20_000, "medium": 100_000, "large": 1_000_000}
"""Rows; the first 80 % train."""

PARAMS = TreeParams(n_estimators=10, max_depth=4, learning_rate=0.3, max_bin=32)
GOALS = {100_000: 5.0, 1_000_000: 60.0}
SECUREBOOST = {20_000: 25.9, 100_000: 72.6}
"""Seconds of SecretFlow 1.14's SecureBoost (SGB, OU 2048, no TLS) on this task, as measured once."""


def run(size: str, report: Report) -> None:
    """Train privately in two processes over mutual TLS, then XGBoost in a third."""
    rows = SIZES[size]
    pooled = run_processes({"pooled": ["-m", "bench.trees", "pooled", "-", str(rows)]}, timeout=300)["pooled"].value
    with tempfile.TemporaryDirectory() as folder:
        make_sites(Path(folder), free_ports(1)[0])
        roles = {role: ["-m", "bench.trees", role, folder, str(rows)] for role in ("features", "label")}
        done = run_processes(roles, timeout=600)
    label, features = done["label"].value, done["features"].value
    what = f"{rows:,} rows, 20 + 20 columns, {PARAMS.n_estimators} trees of depth {PARAMS.max_depth}"
    traffic = {"bytes": label["bytes"], "peak_mb": max(label["peak_mb"], features["peak_mb"])}
    report.row(
        f"{what}: training", label["seconds"], unit="s", limit=pooled["seconds"], limit_name="XGBoost hist, pooled",
        peer=SECUREBOOST.get(rows), peer_name="SecretFlow SecureBoost, recorded", goal=GOALS.get(rows), **traffic,
        note=f"T/n = {label['vectors']:.0f}/{label['rows']:,.0f}; "
        f"processor {label['cpu'] + features['cpu']:.1f} s at both sites; "
        f"memory {label['peak_mb']:.0f} MB at the label holder, "
        f"{features['peak_mb']:.0f} MB at the other",
    )  # fmt: skip
    report.row(
        f"{what}: AUC on the rest", label["auc"], unit="AUC", limit=pooled["auc"], limit_name="XGBoost hist, pooled",
        goal=pooled["auc"] - 0.002,
    )  # fmt: skip
    report.row(
        f"scoring {rows // 5:,} rows", label["scoring"], unit="s", limit=pooled["scoring"],
        limit_name="XGBoost hist, pooled", bytes=label["scoring_bytes"],
    )  # fmt: skip


def make_sites(folder: Path, port: int) -> None:
    """Make a label holder and a feature holder that trust each other; the label holder listens."""
    label, features = (
        init_site(folder / "label", "label", f"127.0.0.1:{port}"),
        init_site(folder / "features", "features", ""),
    )
    label.trust(features.card)
    features.trust(label.card)


# --- the task ---------------------------------------------------------------------------------------------------------


def make_task(n: int, seed: int = 20260101, fa: int = 20, fb: int = 20) -> tuple[Any, Any, Any]:
    """Columns of both sites (n, 20) float32 and a label (n,): linear and tree-like effects over correlated columns."""
    r = np.random.default_rng(seed)
    z = r.standard_normal((n, 4))
    a = 0.9 * r.standard_normal((n, fa)) + 0.4 * z @ r.standard_normal((4, fa))
    b = 0.9 * r.standard_normal((n, fb)) + 0.4 * z @ r.standard_normal((4, fb))
    a, b = (((x - x.mean(0)) / x.std(0)).astype(np.float32) for x in (a, b))
    wa = r.standard_normal(fa) * (r.random(fa) < 0.5)
    wb = r.standard_normal(fb) * (r.random(fb) < 0.5)
    s = 0.35 * (a @ wa) + 0.35 * (b @ wb)
    s += 1.2 * ((a[:, 0] > 0.3) & (b[:, 1] > 0)) - 1.2 * ((a[:, 2] < 0) & (b[:, 3] < 0.5)) + 0.8 * a[:, 4] * b[:, 5]
    s -= np.median(s)
    return a, b, (r.random(n) < 1 / (1 + np.exp(-s))).astype(np.uint8)


def columns(values: Any, prefix: str) -> Columns:
    """Wrap columns as the product takes them."""
    made = (Column(f"{prefix}{i}", "numeric", np.ascontiguousarray(v, np.float64)) for i, v in enumerate(values.T))
    return Columns(tuple(made), len(values))


# --- the processes ----------------------------------------------------------------------------------------------------


async def site(role: str, folder: Path, n: int) -> dict[str, float]:
    """One site: train, then score the rest."""
    a, b, y = make_task(n)
    train = np.arange(n) < n * 8 // 10
    mine = columns(a, "a") if role == "label" else columns(b, "b")
    tables = [mine.take(np.flatnonzero(part)) for part in (train, ~train)]
    del a, b, mine
    for warm in kernels().values():
        warm()
    settle()  # as the process of a job does
    me = load_site(folder / role)
    async with Endpoint(me, listen=me.card.address) as endpoint:
        link = await endpoint.link("bench", me.peer("features" if role == "label" else "label"), dial=role != "label")
        gate = Gate(role, "bench", PROTOCOL.kinds | PREDICTION.kinds)
        channel = Channel(link, gate)
        work = as_label(channel, tables, y, train) if role == "label" else as_features(channel, tables)
        return {**await work, "peak_mb": peak_mb()}


def processor() -> float:
    """Seconds that this process's threads have computed so far."""
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


async def as_label(channel: Channel, tables: list[Columns], y: Any, train: Any) -> dict[str, float]:
    """Train and score as the label holder."""
    peers, validation = {"features": channel}, np.zeros(tables[0].rows, np.bool_)
    start, before = time.perf_counter(), processor()
    part, history = await label_holder(peers, tables[0], y[train], validation, PARAMS, rng=Rng.system())
    trained, sent, cpu = time.perf_counter(), sum(channel.gate.traffic.values()), processor() - before
    scores = await predict_label_holder(peers, part, tables[1], rng=Rng.system())
    return {
        "seconds": trained - start,
        "cpu": cpu,
        "bytes": sent,
        "scoring": time.perf_counter() - trained,
        "scoring_bytes": sum(channel.gate.traffic.values()) - sent,
        "auc": auc(scores, y[~train]),
        "vectors": history.vectors,
        "rows": history.rows,
    }


async def as_features(channel: Channel, tables: list[Columns]) -> dict[str, float]:
    """Train and score as the feature holder."""
    before = processor()
    part = await feature_holder(channel, tables[0], PARAMS, rng=Rng.system())
    cpu = processor() - before
    await predict_feature_holder(channel, part, tables[1], rng=Rng.system())
    return {"cpu": cpu}


def pooled(n: int) -> dict[str, float]:
    """XGBoost on all columns in one place, two threads; building its matrix is on the clock, as our binning is."""
    import xgboost

    a, b, y = make_task(n)
    x, train = np.concatenate([a, b], axis=1), np.arange(n) < n * 8 // 10
    known, rest = np.ascontiguousarray(x[train]), np.ascontiguousarray(x[~train])
    settings = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 2}
    settings |= {"max_depth": PARAMS.max_depth, "eta": PARAMS.learning_rate, "max_bin": PARAMS.max_bin}
    times = []
    for _ in range(4):
        start = time.perf_counter()
        model = xgboost.train(settings, xgboost.DMatrix(known, y[train]), PARAMS.n_estimators)
        trained = time.perf_counter()
        scores = model.predict(xgboost.DMatrix(rest))
        times.append((trained - start, time.perf_counter() - trained))
    training, scoring = np.median(np.array(times[1:]), axis=0)
    return {"seconds": training, "scoring": scoring, "auc": auc(scores.astype(np.float64), y[~train])}


if __name__ == "__main__":
    role_, folder_, rows_ = sys.argv[1:]
    result = pooled(int(rows_)) if role_ == "pooled" else asyncio.run(site(role_, Path(folder_), int(rows_)))
    print(json.dumps({name: float(value) for name, value in result.items()}))
