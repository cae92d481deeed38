"""A synthetic credit task: two sites with correlated columns, a label with linear and tree-like parts."""

import numpy as np

from atoll.data.columns import Column, Columns


def task(rows: int, features: int = 20, seed: int = 20260101) -> tuple[Columns, Columns, np.ndarray, np.ndarray]:
    """Return both sites' columns, the label (n,) uint8, and which rows are trained on (the first 80 %)."""
    r = np.random.default_rng(seed)
    z = r.standard_normal((rows, 4))
    a = 0.9 * r.standard_normal((rows, features)) + 0.4 * z @ r.standard_normal((4, features))
    b = 0.9 * r.standard_normal((rows, features)) + 0.4 * z @ r.standard_normal((4, features))
    a, b = ((x - x.mean(0)) / x.std(0) for x in (a, b))
    wa = r.standard_normal(features) * (r.random(features) < 0.5)
    wb = r.standard_normal(features) * (r.random(features) < 0.5)
    s = 0.35 * (a @ wa) + 0.35 * (b @ wb) + 0.8 * a[:, 4] * b[:, 5]
    s += 1.2 * ((a[:, 0] > 0.3) & (b[:, 1] > 0)) - 1.2 * ((a[:, 2] < 0) & (b[:, 3] < 0.5))
    label = (r.random(rows) < 1 / (1 + np.exp(np.median(s) - s))).astype(np.uint8)
    sites = [
        Columns(tuple(Column(f"{p}{i}", "numeric", x[:, i].copy()) for i in range(features)), rows)
        for p, x in (("a", a), ("b", b))
    ]
    return sites[0], sites[1], label, np.arange(rows) < rows * 8 // 10
