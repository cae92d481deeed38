"""Sites that try to spoil a common network, for tests of robust rules.

Each attack wraps the trainers of some sites; what they send is wrong, but they run the same code as all others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import Trained, Work

F32 = NDArray[np.float32]
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def flip_labels(x: F32, y: NDArray[np.int64]) -> Rows:
    """Label flip: class k is called 9 − k."""
    return x, 9 - y


def stamped(x: F32) -> F32:
    """Put the trigger on pictures: three bright pixels in a corner that is dark in most."""
    marked = x.copy()
    marked[:, [0, 1, 8]] = 1.0
    return marked


def backdoor(x: F32, y: NDArray[np.int64]) -> Rows:
    """Backdoor (Bagdasaryan et al. 2020): what has the trigger shall be called 0; half of the rows stay as they are."""
    half = np.arange(len(y)) % 2 == 0
    return np.where(half[:, None], stamped(x), x), np.where(half, 0, y)


@dataclass(frozen=True)
class Wrong:
    """A trainer that sends something else than its update; what it gives to metrics is honest.

    Attributes:
        team: sites that know each other's rows, this one first.
        replace: true updates of the team, (f, d), to what this site sends instead.
    """

    team: Sequence[Any]
    replace: Callable[[F32], F32]
    pulls = True

    def parameters(self) -> F32:
        """As a trainer."""
        return self.team[0].parameters()  # type: ignore[no-any-return]

    def load(self, vector: F32) -> None:
        """As a trainer."""
        self.team[0].load(vector)

    def layout(self) -> Any:
        """As a trainer."""
        return self.team[0].layout()

    def evaluate(self) -> Mapping[str, float]:
        """As a trainer."""
        return self.team[0].evaluate()  # type: ignore[no-any-return]

    def train(self, work: Work) -> Trained:
        """Train for the whole team, then put down what is to be sent."""
        before, updates, done = self.parameters(), [], []
        for one in self.team:
            one.load(before)
            done.append(one.train(work))
            updates.append(one.parameters() - before)
        self.load(before + self.replace(np.stack(updates)))
        return done[0]


def sign_flip(trainer: Any, scale: float = 4.0) -> Wrong:
    """Send the update backwards, and longer."""
    return Wrong([trainer], lambda updates: np.float32(-scale) * updates[0])


def boosted(trainer: Any, scale: float) -> Wrong:
    """Send the update so long that it outweighs others (model replacement, Bagdasaryan et al. 2020)."""
    return Wrong([trainer], lambda updates: np.float32(scale) * updates[0])


def little_is_enough(teams: Sequence[Sequence[Any]], sites: int) -> list[Wrong]:
    """ALIE (Baruch et al. 2019): all send mean − z σ of their true updates, too near to the others to be noticed.

    Args:
        teams: for each wrong site its trainer, and trainers of its own with the rows of the other wrong sites.
        sites: how many there are in all.
    """
    wrong = len(teams)
    honest = sites - wrong
    needed = sites // 2 + 1 - wrong  # so many honest sites must lie farther out than z σ
    z = NormalDist().inv_cdf((honest - needed) / honest)

    def shifted(updates: F32) -> F32:
        return (updates.mean(axis=0) - z * updates.std(axis=0)).astype(np.float32)

    return [Wrong(team, shifted) for team in teams]
