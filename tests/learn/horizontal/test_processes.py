"""Models fitted by three hospitals' processes over mutual TLS, through masked sums, on real tumours."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer

from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.trees import forest
from atoll.testing import seeded_rng
from atoll.transport.site import init_site
from tests.learn.horizontal.model_process import BOOST, HUB, MEMBERS, NAMES, START
from tests.learn.horizontal.together import together

SCRIPT = Path(__file__).with_name("model_process.py")
SITES = (HUB, *MEMBERS)


def hospitals(folder: Path, X: Any, y: Any, owner: Any, names: tuple[str, ...] = SITES) -> None:
    """Make sites that trust each other, each with its rows."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in names]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    made = [init_site(folder / name, name, f"127.0.0.1:{port}") for name, port in zip(names, ports, strict=True)]
    for number, one in enumerate(made):
        for other in made:
            if one is not other:
                one.trust(other.card)
        np.savez(folder / one.name / "rows.npz", X=X[owner == number], y=y[owner == number])


def ran(folder: Path) -> dict[str, Any]:
    """What each process printed."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([sys.executable, str(SCRIPT), str(folder), name], **pipes) for name in SITES]
    try:
        ends = [(*child.communicate(timeout=150), child.returncode) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [code for *_, code in ends] == [0, 0, 0], [error[-1500:] for _, error, _ in ends]
    return {name: json.loads(out.splitlines()[-1]) for name, (out, *_) in zip(SITES, ends, strict=True)}


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_three_hospitals_over_tls_fit_the_models_of_the_pooled_rows(tmp_path: Path) -> None:
    data = load_breast_cancer()
    X = data.data[:, [0, 1, 4, 6, 8]]
    y = data.target.astype(np.float64)
    y[::9] = 1 - y[::9]  # else the columns tell the label too well
    hospitals(tmp_path, X, y, np.arange(len(y)) % 11 % 3)
    found = ran(tmp_path)
    assert found[HUB] == found[MEMBERS[0]] == found[MEMBERS[1]]
    ours = found[HUB]
    assert ours["median"] == np.median(X, axis=0).tolist()
    logit = sm.Logit(y, sm.add_constant(X)).fit(disp=False, tol=1e-14, method="newton")
    np.testing.assert_allclose(ours["coefficients"], logit.params, rtol=1e-8)
    np.testing.assert_allclose(ours["errors"], logit.bse, rtol=1e-8)
    np.testing.assert_allclose(ours["spearman"], stats.spearmanr(X).statistic, rtol=1e-10)
    clusters = KMeans(2, init=np.array(START), n_init=1).fit(X)
    np.testing.assert_allclose(ours["centres"], clusters.cluster_centers_, rtol=1e-8)
    assert np.shape(ours["seeded"]) == (2, 5)
    table = Columns(tuple(Column(name, "numeric", X[:, j]) for j, name in enumerate(NAMES)), len(X))

    async def alone(totals: Any, table: Columns, y: Any) -> forest.ForestModel:
        return await forest.boost(totals, table, y, BOOST, rng=seeded_rng(1))

    whole = together(alone, [(table, y)])[0]
    assert ours["splits"] == [[list(v) for v in (t.left, t.feature, t.bin, t.weight)] for t in whole.trees]
    assert ours["told"] < 300
