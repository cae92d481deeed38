"""The leakage meter: how many rows of a partner's columns the answers to hidden-vector products give away.

Who asks M·v for many known v holds linear equations about every row of M.  A row of an indicator matrix is one of m
bins, so a convex solver finds rows once there are enough equations.  The meter runs such a solver on a sample of the
job's own vectors, with a made-up column in place of the partner's, whose bins it therefore knows: no real row is
solved for.  It gives a lower bound, for a better solver may find more.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Leakage:
    """What the meter read.

    Attributes:
        rows: Rows n of the job.
        vectors: Vectors T that were asked.
        sampled_rows: Rows in the sample; as many vectors were taken as keep T/n.
        recovered: Share of the sample's rows whose bin the solver found.
        chance: Share that a guess from the bins' sizes alone finds.
    """

    rows: int
    vectors: int
    sampled_rows: int
    recovered: float
    chance: float

    @property
    def ratio(self) -> float:
        """T/n."""
        return self.vectors / self.rows

    def sentence(self) -> str:
        """Say it for the report."""
        return (
            f"{self.vectors:,} vectors over {self.rows:,} rows (T/n = {self.ratio:.4f}): on a sample of "
            f"{self.sampled_rows:,} rows a solver found the bin of {self.recovered:.0%}, chance is {self.chance:.0%}."
        )


@dataclass
class LeakageMeter:
    """Keeps a sample of the rows of every vector that is asked, and solves at the end of the job.

    Attributes:
        n: Rows of the job.
        seed: Draws the sample and the made-up column; nothing here is secret.
        rows: Rows in the sample.
    """

    n: int
    seed: int
    rows: int = 1_000
    _vectors: list[F64] = field(default_factory=list)
    _noise: list[F64] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose the rows once for the whole job."""
        self.rows, self.rng = min(self.rows, self.n), np.random.default_rng(self.seed)
        self._sample = np.sort(self.rng.choice(self.n, self.rows, replace=False))

    def observe(self, vectors: F64, noise: F64 | float = 0.0) -> None:
        """Note vectors that were asked.

        Args:
            vectors: V (T, n) float64.
            noise: Standard deviation of the output noise in units of V, one number or one a vector, (T,).
        """
        self._vectors.append(vectors[:, self._sample])
        self._noise.append(np.broadcast_to(np.asarray(noise, np.float64), (len(vectors),)))

    def notes(self) -> list[tuple[bytes, list[float]]]:
        """Return what was noted, as bytes and numbers that a file can keep; `restore` takes it."""
        return [
            (part.astype("<f8").tobytes(), noise.tolist())
            for part, noise in zip(self._vectors, self._noise, strict=True)
        ]

    def restore(self, notes: list[tuple[bytes, list[float]]]) -> None:
        """Go on from the notes of a meter with the same rows and seed."""
        self._noise = [np.array(noise) for _, noise in notes]
        self._vectors = [np.frombuffer(part, "<f8").reshape(-1, self.rows) for part, _ in notes]

    def estimate(self, shares: F64, *, steps: int = 150) -> Leakage:
        """Solve for a made-up column and compare with it.

        Args:
            shares: Sizes of the column's bins as shares of all rows, (m,), summing to one.
            steps: Iterations of the solver.

        Returns:
            The reading; a second or less for a sample of 1,000 rows and 32 bins.
        """
        m, asked = len(shares), sum(len(part) for part in self._vectors)
        truth = self.rng.choice(m, self.rows, p=shares)
        if not asked:
            return Leakage(self.n, 0, self.rows, float(shares.max()), float(shares.max()))
        count = min(asked, max(1, round(asked * self.rows / self.n)))
        chosen = self.rng.choice(asked, count, replace=False)
        V, noise = np.concatenate(self._vectors)[chosen], np.concatenate(self._noise)[chosen]
        answers = V @ np.eye(m)[truth] + noise[:, np.newaxis] * self.rng.standard_normal((count, m))
        guess = solve(V, answers, shares, noise=noise, steps=steps).argmax(axis=1)
        return Leakage(self.n, asked, self.rows, float((guess == truth).mean()), float(shares.max()))


def solve(V: F64, answers: F64, shares: F64, *, noise: F64 | float = 0.0, steps: int = 150) -> F64:
    """Find a row-stochastic X with V·X close to the answers, by alternating projections with reflection.

    Args:
        V: Vectors, (T, n).
        answers: V·X + noise, (T, m).
        shares: Sizes of the bins as shares of all rows, (m,): where the search starts.
        noise: Standard deviation of the answers' noise, one number or (T,).
        steps: Iterations.

    Returns:
        X (n, m): the larger an entry, the likelier that bin.

    Source:
        Douglas, Rachford, Trans. AMS 82 (1956); Duchi et al., ICML 2008, figure 1 (projection onto the simplex).
    """
    size = np.linalg.norm(V, axis=1)
    used = size > 0
    V, answers = V[used] / size[used, np.newaxis], answers[used] / size[used, np.newaxis]
    deviation = np.broadcast_to(np.asarray(noise, np.float64), size.shape)[used] / size[used]
    start = np.tile(shares, (V.shape[1], 1))
    if not len(V):
        return start
    # a unit of noise weighs as a unit of spread of X
    inverse = np.linalg.inv(V @ V.T + np.diag(deviation**2 * len(shares) + 1e-9))

    def onto_answers(X: F64) -> F64:
        correction: F64 = V.T @ (inverse @ (answers - V @ X))
        return X + correction

    state = start
    for _ in range(steps):
        X = onto_simplex(state)
        state = state + onto_answers(2 * X - state) - X
    return onto_simplex(state)


def onto_simplex(X: F64) -> F64:
    """Return for every row (n, m) the nearest one with entries of at least 0 that sum to 1."""
    down = -np.sort(-X, axis=1)
    excess = (np.cumsum(down, axis=1) - 1) / np.arange(1, X.shape[1] + 1)
    last = (down > excess).sum(axis=1) - 1
    nearest: F64 = np.maximum(X - excess[np.arange(len(X)), last][:, np.newaxis], 0.0)
    return nearest


def labels_from_gradient(features: F64, gradient: F64, *, steps: int = 300) -> NDArray[np.int64]:
    """Find labels from the first full-batch gradient of a logistic model, as a feature holder could.

    Args:
        features: X (n, d).
        gradient: Xᵀ(½ − y), (d,): what the holder of X receives in the first step, for y in {0, 1}.
        steps: Iterations of the solver.

    Returns:
        The likelier label of every row, (n,) of 0 and 1.
    """
    total = features.sum(axis=0)
    positive = total / 2 - gradient
    answers = np.stack((total - positive, positive), axis=1)
    likelier: NDArray[np.int64] = solve(features.T, answers, np.array([0.5, 0.5]), steps=steps).argmax(axis=1)
    return likelier
