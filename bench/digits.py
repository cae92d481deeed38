"""scikit-learn's digits among simulated sites: what the benchmarks of networks share.

1,797 pictures of 8 × 8 (Alpaydin and Kaynak 1998); four in five of them are trained on, those held out are the same in
every run.  Held-out rows are spread over the sites, and metrics are over all of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 360
CLASSES = 10


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Inputs and labels to train on, and those held out."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int64)
    return x[HELD_OUT:], y[HELD_OUT:], x[:HELD_OUT], y[:HELD_OUT]


def network(seed: int = 0) -> Any:
    """A perceptron with one hidden layer of 64: 4,810 numbers."""
    import torch

    torch.default_generator.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))


def momentum(parameters: Any, lr: float) -> Any:
    """Descent with momentum 0.9, at sites and in the central twin."""
    import torch

    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def trainers(parts: list[NDArray[np.int64]], *, change: Callable[..., Any] | None = None, **options: Any) -> list[Any]:
    """One trainer for each part of the training rows; `change` may alter a site's rows (an attack)."""
    import torch

    from atoll.learn.horizontal.networks import TorchTrainer

    x, y, held_x, held_y = digits()
    made = []
    for k, part in enumerate(parts):
        rows = (x[part], y[part]) if change is None else change(k, x[part], y[part])
        held = slice(k, None, len(parts))
        loss = torch.nn.functional.cross_entropy
        made.append(TorchTrainer(network(), loss, rows, (held_x[held], held_y[held]), **options))
    return made
