"""A small model without any library: least squares by gradient descent, with plain references beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import Functions, Trained, Work

F64 = NDArray[np.float64]


@dataclass
class Line:
    """½ mean (X w − y)², trained by full-batch descent; `steps` a pass differ from site to site if wanted."""

    x: F64
    y: F64
    steps: int = 1
    w: F64 = field(init=False)

    def __post_init__(self) -> None:
        self.w = np.zeros(self.x.shape[1])

    def gradient(self, w: F64) -> F64:
        return self.x.T @ (self.x @ w - self.y) / max(len(self.y), 1)

    def get(self) -> NDArray[np.float32]:
        return self.w.astype(np.float32)

    def put(self, vector: NDArray[np.float32]) -> None:
        self.w = vector.astype(np.float64)

    def fit(self, work: Work) -> Trained:
        if not len(self.y):
            return Trained(0, 0, 0.0)
        anchor, shift = self.w.copy(), 0.0 if work.pull.shift is None else work.pull.shift.astype(np.float64)
        steps = work.epochs * self.steps
        for _ in range(steps):
            self.w -= work.lr * (self.gradient(self.w) + work.pull.proximal * (self.w - anchor) + shift)
        return Trained(len(self.y), steps, float(np.mean((self.x @ self.w - self.y) ** 2)) / 2, steps * work.lr)

    def test(self) -> dict[str, float]:
        return {"rows": len(self.y), "loss": float(np.sum((self.x @ self.w - self.y) ** 2)) / 2}

    @property
    def trainer(self) -> Functions:
        return Functions(self.get, self.put, self.fit, self.test, pulls=True)


def skewed_sites(
    sizes: tuple[int, ...] = (5, 12, 30), p: int = 4, steps: tuple[int, ...] = (), seed: int = 0
) -> list[Line]:
    """Sites whose inputs and best weights differ."""
    draw = np.random.default_rng(seed)
    lines = []
    for k, n in enumerate(sizes):
        x = draw.normal(size=(n, p)) * (1 + k)
        x /= max(np.linalg.norm(x, 2) / np.sqrt(max(n, 1)), 1e-9) if n else 1.0
        lines.append(Line(x, x @ draw.normal(k, 1, p), steps[k] if steps else 1))
    return lines


def pooled(lines: list[Line]) -> Line:
    """All rows in one place."""
    return Line(np.concatenate([line.x for line in lines]), np.concatenate([line.y for line in lines]))


def best(line: Line) -> F64:
    return np.linalg.lstsq(line.x, line.y, rcond=None)[0]


def trainers(lines: list[Line]) -> list[Functions]:
    """Trainers of these sites, each from zeros."""
    return [Line(line.x, line.y, line.steps).trainer for line in lines]
