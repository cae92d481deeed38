"""A PyTorch module, a loss and rows, as a site's trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.trainer import Layout, Pull, Trained, Work

EVALUATED_AT_ONCE = 4096


def torch() -> Any:
    """Return PyTorch.

    Raises:
        InputError: it is not installed.
    """
    try:
        import torch as found
    except ImportError:
        raise InputError(
            "networks are trained with PyTorch, which is not installed",
            step="networks",
            cure='Run pip install "atoll-fl[nn]".',
        ) from None
    return found


class Descent:
    """Plain gradient descent.  The one of PyTorch loads its compiler first, which takes longer than small networks do.

    Args:
        parameters: what is trained.
        lr: the learning rate, above 0.
    """

    def __init__(self, parameters: Iterable[Any], lr: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters), "lr": lr, "momentum": 0.0}]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for value in self.param_groups[0]["params"]:
            value.grad = None

    def step(self) -> None:
        """Move every parameter against its gradient."""
        group = self.param_groups[0]
        with torch().no_grad():
            for value in group["params"]:
                if value.grad is not None:
                    value.sub_(value.grad, alpha=group["lr"])


def correct(outputs: Any, labels: Any) -> Any:
    """Count the rows whose largest output is their label's."""
    return (outputs.argmax(dim=-1) == labels).sum()


def batch_norms(module: Any) -> tuple[str, ...]:
    """Return the names of everything that belongs to batch norm, to keep it local (FedBN, Li et al. 2021)."""
    norms = torch().nn.modules.batchnorm._BatchNorm
    return tuple(f"{name}.*" if name else "*" for name, part in module.named_modules() if isinstance(part, norms))


class TorchTrainer:
    """Trains a module on rows that fit in memory.

    Args:
        module: with float32 parameters; it is trained in place, on the device where it is.
        loss: mean loss of outputs and labels, such as `torch.nn.functional.cross_entropy`.
        train: inputs and labels of the rows to train on, as arrays or tensors with as many rows; there may be none.
        test: likewise the held-out rows.
        optimizer: makes an optimiser from parameters and a learning rate, anew in every round.
        metrics: sums over rows of outputs and labels, by name.
        local: names of parameters and buffers that stay at this site, with `*` for anything, such as `head.*`.
        mixed: compute in bfloat16 where PyTorch thinks it safe.

    Raises:
        InputError: PyTorch is missing, arrays do not fit each other, or parameters are not float32.
    """

    pulls = True

    def __init__(
        self,
        module: Any,
        loss: Callable[[Any, Any], Any],
        train: tuple[Any, Any],
        test: tuple[Any, Any] | None = None,
        *,
        optimizer: Callable[[Iterable[Any], float], Any] = Descent,
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        local: Iterable[str] = (),
        mixed: bool = False,
    ) -> None:
        self.torch = torch()
        self.module, self.loss, self.optimizer, self.mixed = module, loss, optimizer, mixed
        self.metrics = {"accuracy": correct} if metrics is None else metrics
        weights = dict(module.named_parameters())
        statistics = {name: value for name, value in module.named_buffers() if value.is_floating_point()}
        self._tensors = {**weights, **statistics}
        wrong = [name for name, value in self._tensors.items() if value.dtype != self.torch.float32]
        if wrong:
            raise InputError(f"{wrong[0]} of the network is not float32", step="networks", cure="Call module.float().")
        patterns = tuple(local)
        self._local = frozenset(name for name in self._tensors if any(fnmatchcase(name, p) for p in patterns))
        self._layout = _layout(weights, statistics, self._local)
        self._device = next(iter(self._tensors.values())).device
        self._train = self._rows(train, "training")
        self._test = self._rows(test, "held-out") if test is not None else tuple(part[:0] for part in self._train)

    @property
    def rows(self) -> tuple[Any, Any]:
        """Inputs and labels that are trained on."""
        return self._train

    def layout(self) -> Layout:
        """Parameters are weights, floating-point buffers are statistics, but for those that stay local."""
        return self._layout

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what stands in the vector, in its order."""
        return {name: tuple(value.shape) for name, value in self._tensors.items()}

    def parameters(self) -> F32:
        """Return all parameters and floating-point buffers, one after the other, float32."""
        parts = [value.detach().reshape(-1) for value in self._tensors.values()]
        vector: F32 = self.torch.cat(parts).cpu().numpy().copy()
        return vector

    def load(self, vector: F32) -> None:
        """Take parameters and buffers from such a vector."""
        values = self.torch.from_numpy(vector.copy()).split([value.numel() for value in self._tensors.values()])
        with self.torch.no_grad():
            for tensor, part in zip(self._tensors.values(), values, strict=True):
                tensor.copy_(part.view_as(tensor))

    def train(self, work: Work) -> Trained:
        """Train for some passes over the rows; see `Work`.

        Raises:
            InputError: PyTorch cannot train this network on these rows.
        """
        x, y = self._train
        if not len(x):
            return Trained(0, 0, 0.0)
        optimizer = self.optimizer(self.module.parameters(), work.lr)
        pull, steps, lr_sum, mean = self._pull(work.pull), 0, 0.0, 0.0
        parts = -(-len(x) // work.batch) if work.batch else 1
        order = self.torch.Generator(device=self._device)  # PyTorch's own is shared by all threads
        order.manual_seed(work.seed)
        self.module.train()
        try:
            with self.torch.random.fork_rng(devices=[]):
                self._seed(work.seed)
                for _ in range(work.epochs):
                    mean = 0.0
                    for rows in self.torch.randperm(len(x), generator=order, device=self._device).tensor_split(parts):
                        optimizer.zero_grad()
                        loss = self._loss(x[rows], y[rows])
                        loss.backward()
                        pull()
                        optimizer.step()
                        steps, lr_sum = steps + 1, lr_sum + optimizer.param_groups[0]["lr"]
                        mean += loss.item() * len(rows) / len(x)
        except (RuntimeError, ValueError, IndexError) as cause:
            raise InputError(
                "the network cannot be trained on this site's rows",
                step="networks",
                detail=f"PyTorch says: {cause}.",
                cure="Check shapes and labels; batch norm needs two rows or more.",
            ) from None
        return Trained(len(x), steps, mean, lr_sum if self._is_plain(optimizer) else None)

    def evaluate(self) -> Mapping[str, float]:
        """Return sums over the held-out rows: `rows`, `loss`, and the metrics."""
        x, y = self._test
        sums = {"rows": float(len(x)), "loss": 0.0, **dict.fromkeys(self.metrics, 0.0)}
        self.module.eval()
        with self.torch.no_grad():
            for at in range(0, len(x), EVALUATED_AT_ONCE):
                rows, labels = x[at : at + EVALUATED_AT_ONCE], y[at : at + EVALUATED_AT_ONCE]
                outputs = self.module(rows)
                sums["loss"] += float(self.loss(outputs, labels)) * len(rows)
                for name, metric in self.metrics.items():
                    sums[name] += float(metric(outputs, labels))
        return sums

    def _loss(self, x: Any, y: Any) -> Any:
        with self.torch.autocast(self._device.type, dtype=self.torch.bfloat16, enabled=self.mixed):
            return self.loss(self.module(x), y)

    def _pull(self, pull: Pull) -> Callable[[], None]:
        """Return what adds μ (w − anchor) + shift to the gradients of shared weights."""
        if pull.is_none:
            return lambda: None
        weights = [value for name, value in self.module.named_parameters() if name not in self._local]
        anchors = [value.detach().clone() for value in weights]
        shift = np.zeros(self._layout.weights.size, np.float32) if pull.shift is None else pull.shift
        shifts = self.torch.from_numpy(shift.copy()).to(self._device).split([value.numel() for value in weights])

        def add() -> None:
            for value, anchor, part in zip(weights, anchors, shifts, strict=True):
                if value.grad is not None:
                    value.grad.add_(value.detach() - anchor, alpha=pull.proximal).add_(part.view_as(value))

        return add

    def _seed(self, seed: int) -> None:
        if self._device.type == "cpu":
            self.torch.default_generator.manual_seed(seed)  # manual_seed looks for devices, which takes a millisecond
        else:
            self.torch.manual_seed(seed)

    def _is_plain(self, optimizer: Any) -> bool:
        known = type(optimizer) in (Descent, self.torch.optim.SGD)
        return known and not any(group["momentum"] for group in optimizer.param_groups)

    def _rows(self, pair: tuple[Any, Any], which: str) -> tuple[Any, Any]:
        x, y = (self.torch.as_tensor(part).to(self._device) for part in pair)
        if len(x) != len(y):
            raise InputError(
                f"the {which} rows have {len(x):,} inputs and {len(y):,} labels",
                step="networks",
                cure="Give as many labels as inputs.",
            )
        if x.is_floating_point():
            x = x.float()
            if not bool(self.torch.isfinite(x).all()):
                raise InputError(
                    f"the {which} rows have values that are missing or not finite",
                    step="networks",
                    cure="Fill them in or leave the rows out.",
                )
        return x, y


def _layout(weights: Mapping[str, Any], statistics: Mapping[str, Any], local: frozenset[str]) -> Layout:
    """Places of shared weights and statistics in the vector of all."""
    places: dict[str, NDArray[np.int64]] = {}
    at = 0
    for name, value in [*weights.items(), *statistics.items()]:
        places[name] = np.arange(at, at + value.numel())
        at += value.numel()

    def of(names: Iterable[str]) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *(places[name] for name in names if name not in local)])

    return Layout(of(weights), of(statistics))
