"""Each algorithm beside its paper's formulas, on sites that differ."""

from __future__ import annotations

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import FedAdam, FedAvg, FedNova, FedProx, FedYogi, Functions, Plan, Scaffold
from tests.learn.horizontal.networks.linear import Line, best, pooled, skewed_sites, trainers
from tests.learn.horizontal.networks.runs import fit_all


def local(line: Line, w: np.ndarray, plan: Plan, mu: float = 0.0, shift: float | np.ndarray = 0.0) -> np.ndarray:
    """A site's local training, in float64."""
    v = w.copy()
    for _ in range(plan.epochs * line.steps):
        v -= plan.lr * (line.gradient(v) + mu * (v - w) + shift)
    return v


def shares(lines: list[Line]) -> np.ndarray:
    sizes = np.array([len(line.y) for line in lines], float)
    return sizes / sizes.sum()


@pytest.mark.parametrize("sizes", [(7,), (5, 12, 30), (1, 1, 1, 40), (0, 9)])
def test_one_full_step_at_each_site_is_central_descent(sizes: tuple[int, ...]) -> None:
    lines = skewed_sites(sizes)
    plan = Plan(rounds=20, batch=0, lr=0.3)
    whole, w = pooled(lines), np.zeros(4)
    for _ in range(plan.rounds):
        w -= plan.lr * whole.gradient(w)
    done = fit_all(trainers(lines), plan)
    np.testing.assert_allclose(done[0].model, w, rtol=0, atol=1e-6 * max(1.0, np.abs(w).max()))
    assert all(np.array_equal(one.model, done[0].model) for one in done)
    assert done[0].rounds[-1].metrics["loss"] == pytest.approx(whole_loss(whole, w), rel=1e-5, abs=1e-9)


def whole_loss(line: Line, w: np.ndarray) -> float:
    return float(np.mean((line.x @ w - line.y) ** 2)) / 2


def test_fedavg_and_its_momentum_are_the_formulas() -> None:
    lines, plan = skewed_sites(), Plan(rounds=6, epochs=4, lr=0.2)
    w, v = np.zeros(4), np.zeros(4)
    for _ in range(plan.rounds):
        v = 0.8 * v + sum(p * (local(line, w, plan) - w) for p, line in zip(shares(lines), lines, strict=True))
        w = w + 0.5 * v
    done = fit_all(trainers(lines), plan, algorithm=FedAvg(server_lr=0.5, momentum=0.8))
    np.testing.assert_allclose(done[0].model, w, rtol=1e-5)


def test_fedprox_is_its_formula_and_holds_sites_back() -> None:
    lines, plan = skewed_sites(), Plan(rounds=4, epochs=5, lr=0.2)
    w = np.zeros(4)
    for _ in range(plan.rounds):
        w = sum(p * local(line, w, plan, mu=0.7) for p, line in zip(shares(lines), lines, strict=True))
    done = fit_all(trainers(lines), plan, algorithm=FedProx(mu=0.7))
    np.testing.assert_allclose(done[0].model, w, rtol=1e-5)
    still = fit_all(trainers(lines), plan, algorithm=FedProx(mu=0.0))
    assert np.array_equal(still[0].model, fit_all(trainers(lines), plan)[0].model)


def test_scaffold_is_algorithm_1_and_ends_where_pooled_training_does() -> None:
    lines, plan = skewed_sites(), Plan(rounds=5, epochs=6, lr=0.2)
    w, c, own = np.zeros(4), np.zeros(4), [np.zeros(4) for _ in lines]
    for _ in range(plan.rounds):
        change, moved = np.zeros(4), np.zeros(4)
        for k, (p, line) in enumerate(zip(shares(lines), lines, strict=True)):
            y = local(line, w, plan, shift=c - own[k])
            new = own[k] - c + (w - y) / (plan.epochs * plan.lr)
            change, moved, own[k] = change + p * (y - w), moved + p * (new - own[k]), new
        w, c = w + change, c + moved
    done = fit_all(trainers(lines), plan, algorithm=Scaffold())
    np.testing.assert_allclose(done[0].model, w, rtol=1e-4)
    # Many rounds with many local steps: averaging drifts, SCAFFOLD does not.
    long, goal = Plan(rounds=100, epochs=12, lr=0.25, evaluate=0), best(pooled(lines))
    drift = np.abs(fit_all(trainers(lines), long)[0].model - goal).max()
    exact = np.abs(fit_all(trainers(lines), long, algorithm=Scaffold())[0].model - goal).max()
    assert exact < 1e-3
    assert drift > 50 * exact


def test_scaffold_needs_plain_descent() -> None:
    line = skewed_sites((5,))[0]
    momentum = Functions(line.get, line.put, lambda work: _without_lr(line.fit(work)), line.test, pulls=True)
    with pytest.raises(InputError, match="plain gradient descent"):
        fit_all([momentum], Plan(rounds=1), algorithm=Scaffold())


def _without_lr(done):  # type: ignore[no-untyped-def]
    return type(done)(done.rows, done.steps, done.loss, None)


@pytest.mark.parametrize("algorithm", [Scaffold(), FedProx()])
def test_a_trainer_that_does_not_heed_pulls_is_refused(algorithm: Scaffold | FedProx) -> None:
    line = skewed_sites((5,))[0]
    with pytest.raises(InputError, match=r"local gradients.*site-0001.*pulls=True"):
        fit_all([Functions(line.get, line.put, line.fit, line.test)], Plan(), algorithm=algorithm)


def test_fednova_takes_out_the_bias_of_uneven_steps() -> None:
    lines, plan = skewed_sites((20, 20, 20), steps=(1, 3, 9)), Plan(rounds=5, lr=0.05)
    w = np.zeros(4)
    for _ in range(plan.rounds):
        tau = sum(p * line.steps for p, line in zip(shares(lines), lines, strict=True))
        parts = [(local(line, w, plan) - w) / line.steps for line in lines]
        w = w + tau * sum(p * part for p, part in zip(shares(lines), parts, strict=True))
    np.testing.assert_allclose(fit_all(trainers(lines), plan, algorithm=FedNova())[0].model, w, rtol=1e-5)
    long, goal = Plan(rounds=150, lr=0.01, evaluate=0), best(pooled(lines))
    biased = np.abs(fit_all(trainers(lines), long)[0].model - goal).max()
    assert np.abs(fit_all(trainers(lines), long, algorithm=FedNova())[0].model - goal).max() < biased / 5


@pytest.mark.parametrize("algorithm", [FedAdam(server_lr=0.1), FedYogi(server_lr=0.1, beta1=0.8, tau=0.01)])
def test_adaptive_servers_are_the_formulas(algorithm: FedAdam | FedYogi) -> None:
    lines, plan = skewed_sites(), Plan(rounds=8, epochs=2, lr=0.1)
    w, m, v = np.zeros(4), np.zeros(4), np.full(4, algorithm.tau**2)
    for _ in range(plan.rounds):
        d = sum(p * (local(line, w, plan) - w) for p, line in zip(shares(lines), lines, strict=True))
        m = algorithm.beta1 * m + (1 - algorithm.beta1) * d
        if isinstance(algorithm, FedAdam):
            v = algorithm.beta2 * v + (1 - algorithm.beta2) * d**2
        else:
            v = v - (1 - algorithm.beta2) * d**2 * np.sign(v - d**2)
        w = w + algorithm.server_lr * m / (np.sqrt(v) + algorithm.tau)
    np.testing.assert_allclose(fit_all(trainers(lines), plan, algorithm=algorithm)[0].model, w, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FedAvg(server_lr=0), "server_lr"),
        (lambda: FedAvg(momentum=1), "momentum"),
        (lambda: FedProx(mu=-1), "mu"),
        (lambda: Scaffold(server_lr=-1), "server_lr"),
        (lambda: FedAdam(beta2=1), "beta2"),
        (lambda: FedYogi(tau=0), "tau"),
        (lambda: Plan(rounds=0), "rounds"),
        (lambda: Plan(lr=float("nan")), "lr"),
        (lambda: Plan(sample=0), "sample"),
    ],
)
def test_parameters_are_checked(make, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=f"parameter {name} is"):
        make()
