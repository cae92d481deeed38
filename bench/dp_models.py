"""What models with noise lose, on real rows at three sites: the survey of 6,366 women, and digits."""

import json
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.networks import (
    DpSgd,
    FedAvg,
    Plan,
    PrivateTrainer,
    TorchTrainer,
    fit,
    fit_private,
    simulate,
)
from atoll.learn.horizontal.private import linear, logistic, trees
from atoll.learn.horizontal.private.scaled import scaled
from atoll.learn.horizontal.trees.forest import boost
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.privacy.accountant import rho_of
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release
from atoll.testing import seeded_rng
from bench.harness import BenchError, PeerUnavailable, Report, peer_environment

DELTA, EPSILONS = 1e-6, (0.3, 1.0, 3.0)
BOUNDS = {
    "rate_marriage": (1, 5), "age": (15, 45), "yrs_married": (0, 25), "children": (0, 6), "religious": (1, 4),
    "educ": (8, 22),
}  # fmt: skip
NAMES = tuple(BOUNDS)
LABEL = NAMES.index("yrs_married")
SITES, HONEST, TIMES = 3, 2, {"small": 3, "medium": 9, "large": 25}
TREES: dict[str, Any] = {"n_estimators": 20, "max_depth": 2, "colsample_bytree": 0.5, "max_bin": 16}


def women() -> tuple[Any, Any, Any]:
    """Answers, whether there was an affair, and which rows are held out."""
    from statsmodels.datasets import fair

    data = fair.load_pandas().data
    held = np.random.default_rng(0).random(len(data)) < 0.2
    return data[list(NAMES)].to_numpy(float), (data.affairs > 0).to_numpy(float), held


def run_models(size: str, report: Report) -> None:
    """Regressions and trees, by ε."""
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.metrics import roc_auc_score

    X, y, held = women()
    use = [at for at in range(len(NAMES)) if at != LABEL]
    logit = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(X[~held], y[~held])
    line = LinearRegression().fit(X[~held][:, use], X[~held, LABEL])
    exact = {
        "logistic regression": roc_auc_score(y[held], logit.predict_proba(X[held])[:, 1]),
        "linear regression": line.score(X[held][:, use], X[held, LABEL]),
        "boosted trees": roc_auc_score(y[held], _trees_without(X[~held], y[~held]).predict(_table(X[held]))),
    }
    peers = _peers(TIMES[size])
    for epsilon in EPSILONS:
        ways = {"logistic regression": _logistic, "linear regression": _linear, "boosted trees": _trees}
        for name, way in ways.items():
            scores = [way(X, y, held, rho_of(epsilon, DELTA)) for _ in range(TIMES[size])]
            peer = peers.get(f"{name} {epsilon:g}")
            report.row(
                f"{'R²' if name == 'linear regression' else 'AUC'} of {name}, ε = {epsilon:g}, 6,366 women at 3 sites",
                100 * statistics.median(scores), unit="%", limit=100 * exact[name], limit_name="without noise",
                peer=None if peer is None else 100 * peer, peer_name="diffprivlib" if peer is not None else "",
                note=f"median of {TIMES[size]} on held-out rows; δ = {DELTA:g}, noise of 2 of 3 sites counts"
                + ("" if peer is None else "; the peer has all rows in one place and δ = 0"),
            )  # fmt: skip


def run_digits(report: Report) -> None:
    """A small network on digits: noise shared in the sum, and of each site."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    rows = (found.data / 16).astype(np.float32)[order], found.target[order]
    train, test = ([part[where] for part in rows] for where in (slice(0, 1400), slice(1400, None)))
    plain = _digits(train, test, _together(DpSgd(rate=1.0, clip=50.0, noise=0.001, steps=150, lot=1400.0), 1.0))
    for noise, steps, rate in ((2.5, 100, 0.2), (1.5, 150, 0.1), (1.0, 150, 0.1)):
        params = DpSgd(rate=rate, clip=0.5, noise=noise, steps=steps, lot=1400 * rate)
        ours, close = _digits(train, test, _together(params, 4.0)), params.epsilon(1e-5)
        report.row(
            f"digits right, DP-SGD over 3 sites, ε = {close:.2g}", 100 * ours, unit="%", limit=100 * plain,
            limit_name="without noise",
            note=f"δ = 1e-5 for one row, PLD; {params.epsilon_by_renyi(1e-5):.2g} by Rényi losses; {steps} steps at "
            f"rate {rate:g}, noise {noise:g}, shared in the sum",
        )  # fmt: skip
    plan = Plan(rounds=10, epochs=1, lr=4.0, evaluate=0, seed=1)
    params = DpSgd(rate=0.2, clip=0.5, noise=2.0, steps=PrivateTrainer.steps(plan, 0.2), lot=1400 * 0.2 / 3)
    report.row(
        f"digits right, DP-SGD at each of 3 sites, then averages, ε = {params.epsilon(1e-5):.2g}",
        100 * _digits(train, test, _each(params, plan)), unit="%", limit=100 * plain, limit_name="without noise",
        note="δ = 1e-5 for one row; each site adds all the noise itself",
    )  # fmt: skip


Way = Callable[[Any, TorchTrainer], Awaitable[Any]]


def _together(params: DpSgd, lr: float) -> Way:
    return lambda totals, trainer: fit_private(trainer, totals, params, lr=lr, honest=HONEST)


def _each(params: DpSgd, plan: Plan) -> Way:
    return lambda totals, trainer: fit(PrivateTrainer(trainer, params), totals, plan, algorithm=FedAvg())


def _digits(train: Any, test: Any, way: Way) -> float:
    """Share of digits that the network gets right after a training."""
    import torch
    from torch.nn.functional import cross_entropy

    parts = np.array_split(np.arange(len(train[1])), SITES)

    async def site(totals: Any) -> float:
        mine = parts[totals.sites.index(totals.site)]
        torch.manual_seed(1)
        net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
        trainer = TorchTrainer(net, cross_entropy, (train[0][mine], train[1][mine]), tuple(test))
        await way(totals, trainer)
        sums = trainer.evaluate()
        return sums["accuracy"] / sums["rows"]

    return simulate(SITES, site)[0]


def _everywhere(run: Callable[..., Awaitable[Any]], releases: Sequence[Release], *arrays: Any) -> Any:
    """Run at three sites, two of which are counted on."""
    parts = [np.array_split(array, SITES) for array in arrays]

    async def site(totals: Any) -> Any:
        at = totals.sites.index(totals.site)
        return await run(PlannedTotals(totals, releases, HONEST), *(part[at] for part in parts))

    return simulate(SITES, site)[0]


def _logistic(X: Any, y: Any, held: Any, rho: float) -> float:
    from sklearn.metrics import roc_auc_score

    scale = scaled([(name, ()) for name in NAMES], BOUNDS)
    planned = logistic.plan(scale, rho)
    found = _everywhere(lambda t, x, v: logistic.fit(t, planned, x, v, scale), planned.releases, X[~held], y[~held])
    return float(roc_auc_score(y[held], X[held] @ found.slopes))


def _linear(X: Any, y: Any, held: Any, rho: float) -> float:
    from sklearn.metrics import r2_score

    use = [at for at in range(len(NAMES)) if at != LABEL]
    scale, label = scaled([(NAMES[at], ()) for at in use], BOUNDS), scaled([(NAMES[LABEL], ())], BOUNDS)
    release = linear.plan(scale, rho)
    found = _everywhere(
        lambda t, x, v: linear.fit(t, release, x, v, scale, label), (release,), X[~held][:, use], X[~held, LABEL]
    )
    return float(r2_score(X[held, LABEL], X[held][:, use] @ found.slopes + found.intercept))


def _trees(X: Any, y: Any, held: Any, rho: float) -> float:
    from sklearn.metrics import roc_auc_score

    bins = trees.even_bins(tuple((name, ()) for name in NAMES), BOUNDS, TREES["max_bin"])
    planned = trees.plan(bins, BoostParams(**TREES), rho)
    model = _everywhere(lambda t, x, v: trees.boost(t, planned, _table(x), v, {}), planned.releases, X[~held], y[~held])
    return float(roc_auc_score(y[held], model.predict(_table(X[held]))))


def _trees_without(X: Any, y: Any) -> Any:
    """The same trees from exact totals of the same rows."""

    async def site(totals: Any) -> Any:
        return await boost(totals, _table(X), y, BoostParams(**TREES), rng=seeded_rng(1))

    return simulate(1, site)[0]


def _table(X: Any) -> Columns:
    return Columns(
        tuple(Column(name, "numeric", np.ascontiguousarray(X[:, at])) for at, name in enumerate(NAMES)), len(X)
    )


def _peers(times: int) -> dict[str, float]:
    """What diffprivlib comes to; nothing if it cannot be installed."""
    try:
        environment = peer_environment("diffprivlib", ["diffprivlib==0.6.6", "scikit-learn<1.6", "statsmodels"])
        script = Path(__file__).parent / "peers" / "private_models.py"
        asked = json.dumps({"bounds": BOUNDS, "label": NAMES[LABEL], "epsilons": EPSILONS, "times": times})
        return dict(environment.run(script, asked).value)
    except (PeerUnavailable, BenchError) as error:
        print(f"  diffprivlib did not run: {str(error)[:300]}", file=sys.stderr)
        return {}
