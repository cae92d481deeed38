"""A perceptron with one hidden layer, in numpy: what attacks are tried on, with the gradient of every single row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import Functions, Trained, Work

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Perceptron:
    """Inputs, ReLU, softmax; its numbers are one vector: W1 (h, p), b1 (h,), W2 (k, h), b2 (k,)."""

    inputs: int = 64
    hidden: int = 64
    classes: int = 10

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return (self.inputs + 1) * self.hidden + (self.hidden + 1) * self.classes

    def split(self, vector: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Return views of W1, b1, W2 and b2."""
        h, p, k = self.hidden, self.inputs, self.classes
        at = np.cumsum([h * p, h, k * h])
        w1, b1, w2, b2 = np.split(vector, at)
        return w1.reshape(h, p), b1, w2.reshape(k, h), b2

    def join(self, w1: NDArray, b1: NDArray, w2: NDArray, b2: NDArray) -> F32:
        """Return the vector of these parts."""
        return np.concatenate([np.ravel(part) for part in (w1, b1, w2, b2)]).astype(np.float32)

    def start(self, seed: int = 0) -> F32:
        """Return random numbers to begin with, as PyTorch draws them: uniform up to 1/√inputs."""
        draw = np.random.default_rng(seed)
        a, b = 1 / np.sqrt(self.inputs), 1 / np.sqrt(self.hidden)
        return self.join(
            draw.uniform(-a, a, (self.hidden, self.inputs)), draw.uniform(-a, a, self.hidden),
            draw.uniform(-b, b, (self.classes, self.hidden)), draw.uniform(-b, b, self.classes),
        )  # fmt: skip

    def chances(self, vector: NDArray, x: NDArray) -> F64:
        """Return the probability of every class, (n, k)."""
        w1, b1, w2, b2 = self.split(np.asarray(vector, np.float64))
        outputs = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def gradients(self, vector: NDArray, x: NDArray, y: I64) -> F64:
        """Return the gradient of every row's loss, (n, size)."""
        w1, b1, w2, _ = self.split(np.asarray(vector, np.float64))
        before = x @ w1.T + b1
        after = np.maximum(before, 0)
        wrong = self.chances(vector, x)
        wrong[np.arange(len(y)), y] -= 1
        back = (wrong @ w2) * (before > 0)
        n = len(x)
        parts = (back[:, :, None] * x[:, None, :], back, wrong[:, :, None] * after[:, None, :], wrong)
        return np.concatenate([part.reshape(n, -1) for part in parts], axis=1)


@dataclass
class Rows:
    """One site's rows and network.

    With `clip`, a step adds up gradients whose every number is cut off at ±clip, divided by `planned` rows instead of
    the true number: then one row changes the update by lr · clip / planned at most, in every number.
    """

    network: Perceptron
    vector: F32
    x: F32
    y: I64
    clip: float = 0.0
    planned: int = 0

    def train(self, work: Work) -> Trained:
        """Descend along the gradient."""
        n = len(self.y)
        if not n:
            return Trained(0, 0, 0.0)
        draw, steps = np.random.default_rng(work.seed), 0
        for _ in range(work.epochs):
            parts = -(-n // work.batch) if work.batch else 1
            for rows in np.array_split(draw.permutation(n), parts):
                self.vector = (self.vector - work.lr * self._gradient(rows)).astype(np.float32)
                steps += 1
        return Trained(n, steps, 0.0, steps * work.lr)

    def _gradient(self, rows: I64) -> F64:
        found = self.network.gradients(self.vector, self.x[rows], self.y[rows])
        if self.clip:
            return np.clip(found, -self.clip, self.clip).sum(axis=0) / self.planned
        return found.mean(axis=0)

    def put(self, vector: F32) -> None:
        """Take the network's numbers."""
        self.vector = vector.copy()

    @property
    def trainer(self) -> Functions:
        """What `fit` takes."""
        return Functions(lambda: self.vector, self.put, self.train, lambda: {"rows": 0.0})
