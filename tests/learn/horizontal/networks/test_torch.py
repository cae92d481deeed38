"""PyTorch modules at sites, beside plain PyTorch on pooled rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import Keeper, Plan, Round, Scaffold, TorchTrainer, Work, batch_norms
from atoll.learn.horizontal.networks.trainer import Pull
from atoll.testing import seeded_rng
from tests.learn.horizontal.networks.runs import fit_all

nn = torch.nn
entropy = torch.nn.functional.cross_entropy


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digits() -> tuple[Any, Any]:
    """Every fourth of scikit-learn's digits, in an order of chance."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[::4]
    return (x[order] / 16).astype(np.float32), y[order]


def perceptron(seed: int = 0, *between: Any) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 24), *between, nn.ReLU(), nn.Linear(24, 10))


def trainers(count: int, make: Any = perceptron, **options: Any) -> list[TorchTrainer]:
    """Sites of uneven sizes: three in four of their rows to train on, the others held out."""
    x, y = digits()
    cuts = np.cumsum(np.arange(1, count) * len(x) * 2 // (count * (count + 1)))
    made = []
    for k, rows in enumerate(np.split(np.arange(len(x)), cuts)):
        train, test = rows[rows % 4 > 0], rows[rows % 4 == 0]
        made.append(TorchTrainer(make(k), entropy, (x[train], y[train]), (x[test], y[test]), **options))
    return made


def descend(module: Any, loss: Any, lr: float) -> None:
    """One step of plain gradient descent."""
    values = list(module.parameters())
    with torch.no_grad():
        for value, slope in zip(values, torch.autograd.grad(loss, values), strict=True):
            value -= lr * slope


def test_one_full_step_at_each_site_is_central_descent() -> None:
    sites, plan = trainers(3), Plan(rounds=5, batch=0, lr=0.5)
    done = fit_all(sites, plan)
    x, y = (torch.cat([site._train[part] for site in sites]) for part in (0, 1))
    twin = perceptron(0)
    for _ in range(plan.rounds):
        descend(twin, entropy(twin(x), y), 0.5)
    want = torch.cat([value.detach().reshape(-1) for value in twin.parameters()]).numpy()
    np.testing.assert_allclose(done[0].model, want, rtol=0, atol=1e-6)
    x, y = (torch.cat([site._test[part] for site in sites]) for part in (0, 1))
    twin.eval()
    right = (twin(x).argmax(dim=1) == y).double().mean().item()
    assert done[2].rounds[-1].metrics["accuracy"] == pytest.approx(right, abs=1e-12)


def test_averages_learn_digits() -> None:
    done = fit_all(trainers(5), Plan(rounds=15, epochs=3, batch=16, lr=0.3, evaluate=15, seed=2))
    assert done[0].rounds[-1].metrics["accuracy"] > 0.88


def test_batch_norm_and_heads_stay_local() -> None:
    make = lambda seed: perceptron(seed, nn.BatchNorm1d(24))  # noqa: E731
    names = batch_norms(make(0))
    sites = trainers(3, make, local=[*names, "3.bias"])
    assert names == ("1.*",)
    before = [site.module[1].bias.detach().clone() for site in sites]
    fit_all(sites, Plan(rounds=2, lr=0.2, seed=1))
    first, last = sites[0].module, sites[2].module
    assert torch.equal(first[0].weight, last[0].weight)
    assert torch.equal(first[3].weight, last[3].weight)
    for there in ("bias", "running_mean", "running_var"):
        assert not torch.equal(getattr(first[1], there), getattr(last[1], there))
    assert not torch.equal(first[3].bias, last[3].bias)
    assert not torch.equal(first[1].bias, before[0])


def test_running_statistics_are_averaged_but_have_no_gradient() -> None:
    make = lambda seed: perceptron(seed, nn.BatchNorm1d(24))  # noqa: E731
    sites = trainers(3, make)
    assert sites[0].layout().statistics.size == 48
    plan = Plan(rounds=1, batch=0, lr=0.1)
    fit_all(sites, plan, algorithm=Scaffold())
    means = []
    for site, twin in zip(sites, trainers(3, make), strict=True):
        twin.load(trainers(3, make)[0].parameters())
        twin.train(Work(0, 1, 0, 0.1, 0))
        means.append((len(site._train[0]), twin.module[1].running_mean))
    want = sum(n * mean for n, mean in means) / sum(n for n, _ in means)
    assert torch.allclose(sites[0].module[1].running_mean, want, atol=1e-6)


def test_pulls_change_only_shared_weights() -> None:
    plain, pulled = trainers(1, local=["2.*"]), trainers(1, local=["2.*"])
    shift = np.ones(pulled[0].layout().weights.size, np.float32)
    plain[0].train(Work(0, 1, 0, 0.1, 0))
    pulled[0].train(Work(0, 1, 0, 0.1, 0, Pull(shift=shift)))
    gap = plain[0].module[0].weight - pulled[0].module[0].weight
    assert torch.allclose(gap, torch.full_like(gap, 0.1), atol=1e-6)
    assert torch.equal(plain[0].module[2].weight, pulled[0].module[2].weight)


def test_proximal_steps_are_the_gradient_of_the_proximal_loss() -> None:
    site, twin = trainers(1)[0], perceptron(0)
    start = [value.detach().clone() for value in twin.parameters()]
    site.train(Work(0, 4, 0, 0.2, 0, Pull(proximal=0.9)))
    for _ in range(4):
        held = sum(((value - at) ** 2).sum() for value, at in zip(twin.parameters(), start, strict=True))
        descend(twin, entropy(twin(site._train[0]), site._train[1]) + 0.45 * held, 0.2)
    assert torch.allclose(site.module[0].weight, twin[0].weight, atol=1e-6)


class Cut(Exception):
    """A site that was cut off."""


def test_training_with_dropout_goes_on_bit_for_bit(tmp_path: Path) -> None:
    make = lambda seed: perceptron(seed, nn.BatchNorm1d(24), nn.Dropout(0.3))  # noqa: E731
    plan = Plan(rounds=4, lr=0.2, epochs=2)

    def run(folder: str, on_round: Any = lambda done: None) -> Any:
        keepers = [Keeper(tmp_path / folder / str(k)) for k in range(2)]
        sites = trainers(2, make, local=["1.*"])
        rngs = [seeded_rng(k) for k in range(2)]
        return fit_all(sites, plan, keeper=keepers, rng=rngs, on_round=on_round), sites

    def stop(done: Round) -> None:
        if done.number == 2:
            raise Cut

    straight, there = run("straight")
    with pytest.raises(Cut):
        run("cut", stop)
    resumed, here = run("cut")
    assert np.array_equal(straight[1].model, resumed[1].model)
    assert straight[0].rounds == resumed[0].rounds
    assert all(np.array_equal(a.parameters(), b.parameters()) for a, b in zip(there, here, strict=True))


@pytest.mark.slow  # PyTorch's own optimisers load its compiler first
def test_steps_of_other_optimisers_and_half_precision() -> None:
    sites = trainers(2, optimizer=lambda values, lr: torch.optim.SGD(values, lr=lr, momentum=0.9), mixed=True)
    done = fit_all(sites, Plan(rounds=6, lr=0.1, batch=16, epochs=2, seed=0, evaluate=6))
    assert done[0].rounds[-1].metrics["accuracy"] > 0.6
    with pytest.raises(InputError, match=r"plain gradient descent.*site-0001"):
        fit_all(sites, Plan(rounds=1), algorithm=Scaffold())


def test_no_rows_and_no_held_out_rows() -> None:
    x, y = digits()
    sites = [TorchTrainer(perceptron(), entropy, (x[:n], y[:n])) for n in (0, 20)]
    done = fit_all(sites, Plan(rounds=2))
    assert done[0].rounds[-1].metrics == {}
    assert done[0].rounds[-1].weight == 20


def test_bad_rows_and_networks_are_named() -> None:
    x, y = digits()
    x[3, 2] = np.nan
    with pytest.raises(InputError, match="missing or not finite"):
        TorchTrainer(perceptron(), entropy, (x, y))
    with pytest.raises(InputError, match=r"inputs and 5 labels"):
        TorchTrainer(perceptron(), entropy, (x[:3], y[:5]))
    with pytest.raises(InputError, match=r"0\.weight of the network is not float32"):
        TorchTrainer(perceptron().double(), entropy, (x[4:], y[4:]))
    wrong = TorchTrainer(perceptron(), entropy, (x[4:9, :7], y[4:9]))
    with pytest.raises(InputError, match=r"cannot be trained.*site-0001.*PyTorch says"):
        fit_all([wrong], Plan())
    single = TorchTrainer(perceptron(0, nn.BatchNorm1d(24)), entropy, (x[4:5], y[4:5]))
    with pytest.raises(InputError, match="batch norm needs two rows"):
        fit_all([single], Plan())


def test_without_pytorch_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install .*nn"):
        TorchTrainer(None, None, (None, None))  # type: ignore[arg-type]
