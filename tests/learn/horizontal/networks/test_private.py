"""Differentially private training: gradients of single rows, real Poisson draws, and noise from the right place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch.nn.functional import cross_entropy

from atoll.core.errors import ContractError, InputError
from atoll.learn.horizontal.networks import (
    DpSgd,
    FedAvg,
    Plan,
    PrivateTrainer,
    Scaffold,
    SiteNoise,
    TorchTrainer,
    fit,
    fit_private,
    simulate,
)
from atoll.learn.horizontal.networks.private import Alone
from atoll.learn.horizontal.networks.row_gradients import RowGradients, clipped, drawn
from atoll.privacy.accountant import Limit, spent
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import seeded_rng
from tests.learn.horizontal.networks import private_process
from tests.learn.horizontal.networks.private_process import NAMES, PARAMS, net
from tests.learn.horizontal.networks.runs import combined
from tests.learn.horizontal.test_processes import hospitals
from tests.repo.source import ROOT


def rows(n: int = 400) -> tuple[Any, Any]:
    """Real tumours, ten measures each."""
    x, y = load_breast_cancer(return_X_y=True)
    return scale(x[:, :10])[:n].astype(np.float32), y[:n].astype(np.int64)


def convolution() -> Any:
    torch.manual_seed(2)
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 2, 5)),
        torch.nn.Conv2d(1, 3, 2),
        torch.nn.GroupNorm(1, 3),
        torch.nn.Flatten(),
        torch.nn.Tanh(),
        torch.nn.Linear(12, 2),
    )


def test_gradients_are_those_of_single_rows_cut_to_a_length() -> None:
    x, y = map(torch.as_tensor, rows(9))
    module = convolution()
    whole = RowGradients(module, cross_entropy)
    lone = convolution()
    each = []
    for at in range(9):
        lone.zero_grad()
        cross_entropy(lone(x[at : at + 1]), y[at : at + 1]).backward()
        each.append(np.concatenate([value.grad.numpy().ravel() for value in lone.parameters()]).astype(np.float64))
    lengths = [np.linalg.norm(one) for one in each]
    clip = float(np.median(lengths))
    wanted = sum(one * min(1, clip / length) for one, length in zip(each, lengths, strict=True))
    np.testing.assert_allclose(whole.clipped_sum(x, y, clip), wanted, atol=2e-5)
    assert whole.clipped_sum(x[:0], y[:0], clip).tolist() == [0.0] * whole.numbers
    parts = whole.clipped_sum(x[:4], y[:4], clip) + whole.clipped_sum(x[4:], y[4:], clip)
    np.testing.assert_allclose(whole.clipped_sum(x, y, clip), parts, atol=1e-6)


def test_no_row_is_longer_than_the_bound_and_sums_are_exact() -> None:
    random = np.random.default_rng(1)
    ugly = [0.0, 1e300, -1e300, 5e-324, np.inf, np.nan, 1.0]
    for size in (1, 3, 5000):
        each = random.normal(size=(40, size)) * 10.0 ** random.integers(-300, 300, (40, 1))
        each[0, :] = 1e300
        each[1, : len(ugly)] = ugly[:size]
        for clip in (1e-3, 1.0, 77.0):
            alone = np.array([clipped(one[None], clip) for one in each])
            assert (np.linalg.norm(alone, axis=1) <= clip).all()
            assert np.linalg.norm(alone[0]) > clip * 0.999
            assert (alone[1] == 0).all() or size < len(ugly)  # one that is not finite counts as nothing
            order = random.permutation(40)
            assert (clipped(each, clip) == clipped(each[order], clip)).all()
            np.testing.assert_array_equal(clipped(each, clip) - clipped(each[1:], clip), alone[0])


def test_rows_are_drawn_each_by_itself() -> None:
    """Counts of 2,000 draws: a binomial law, and no two rows go together."""
    rng = seeded_rng(5)
    taken = np.zeros((2000, 60), np.bool_)
    for turn in taken:
        turn[drawn(rng, 60, 0.3)] = True
    each, sums = taken.mean(axis=0), taken.sum(axis=1)
    assert np.abs(each - 0.3).max() < 6 * (0.21 / 2000) ** 0.5
    assert sums.var() == pytest.approx(60 * 0.21, rel=0.25)  # a fixed batch would have none
    assert np.abs(np.corrcoef(taken.T) - np.eye(60)).max() < 0.14
    assert drawn(rng, 7, 1.0).tolist() == list(range(7))
    assert drawn(rng, 0, 0.5).size == 0


def test_with_hardly_any_noise_all_sites_take_the_steps_of_one_with_all_rows() -> None:
    x, y = rows()
    parts = np.array_split(np.arange(len(y)), [90, 250])
    params = DpSgd(rate=1.0, clip=50.0, noise=0.001, steps=6, lot=float(len(y)))
    told: list[str] = []

    async def site(totals: Totals) -> Any:
        mine = parts[totals.sites.index(totals.site)]
        trainer = TorchTrainer(net(), cross_entropy, (x[mine], y[mine]))
        start = trainer.parameters()
        await fit_private(trainer, totals, params, lr=0.1, honest=2)
        trainer.load(start)
        return await fit_private(trainer, totals, params, lr=0.5, honest=2, spend=lambda: told.append(totals.site))

    found = simulate(3, site)
    assert all((one == found[0]).all() for one in found)
    assert len(told) == 3  # once each
    module = net()
    for _ in range(6):
        module.zero_grad()
        cross_entropy(module(torch.as_tensor(x)), torch.as_tensor(y)).backward()
        with torch.no_grad():
            for value in module.parameters():
                value -= 0.5 * value.grad
    plain = torch.cat([value.detach().ravel() for value in module.parameters()]).numpy()
    np.testing.assert_allclose(found[0], plain, atol=0.005)


def test_noise_is_as_large_as_planned_and_not_from_torch() -> None:
    """One step from a standstill moves the network by the noise alone."""
    params = DpSgd(rate=0.5, clip=2.0, noise=3.0, steps=1, lot=10.0)

    async def site(totals: Totals) -> Any:
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        nobody = np.zeros((0, 400), np.float32), np.zeros(0, int)
        trainer = TorchTrainer(torch.nn.Linear(400, 5), cross_entropy, nobody)
        torch.random.set_rng_state(before)
        start = trainer.parameters()
        moved = await fit_private(trainer, totals, params, lr=1.0, honest=2) - start
        assert (torch.random.get_rng_state() == before).all()
        return moved

    one, two = simulate(3, site)[0], simulate(3, site)[0]
    assert (one != two).mean() > 0.99
    for moved in (one, two):  # 3 sites draw, 2 suffice
        assert moved.std() == pytest.approx(3.0 * 2.0 / 10.0 * 1.5**0.5, rel=0.15)


def test_sites_train_by_themselves_with_noise_of_their_own_and_tell_nothing_exact() -> None:
    x, y = rows()
    plan = Plan(rounds=3, epochs=1, lr=1.0, seed=1)
    params = DpSgd(rate=0.25, clip=1.0, noise=0.8, steps=PrivateTrainer.steps(plan, 0.25), lot=50.0)
    assert params.steps == 12
    parts = np.array_split(np.arange(len(y)), [150])
    spends: list[str] = []

    async def site(totals: Totals) -> Any:
        mine = parts[totals.sites.index(totals.site)]
        trainer = TorchTrainer(net(), cross_entropy, (x[mine], y[mine]), (x, y))
        own = PrivateTrainer(trainer, params, spend=lambda: spends.append(totals.site))
        done = await fit(own, totals, plan)
        with pytest.raises(InputError, match="the noise was made for 12 totals"):
            await fit(own, totals, plan)
        return done

    first, second = simulate(2, site)
    assert (first.model == second.model).all()
    assert sorted(spends) == ["site-0001", "site-0002"]
    assert {(done.train_loss, done.weight) for done in first.rounds} == {(0.0, 2.0)}
    assert first.rounds[-1].metrics["accuracy"] > 0.9


def test_whole_sites_are_hidden_by_short_updates_and_noise() -> None:
    updates = np.random.default_rng(0).normal(size=(4, 3000))
    updates[1] *= 1000
    length = np.linalg.norm(updates[0])
    rule = SiteNoise(clip=float(length), noise=0.0003, honest=3, lot=4.0)
    short = updates * np.minimum(1, length / np.linalg.norm(updates, axis=1, keepdims=True))
    found = combined(rule, updates, [5, 900, 1, 2], beside=False)
    np.testing.assert_allclose(found[0].update, short.mean(axis=0), atol=0.05)
    assert all((one.update == found[0].update).all() for one in found)
    without = combined(rule, updates, [5, 0, 1, 2], beside=False)
    assert np.linalg.norm(found[0].update - without[0].update) * 4 <= length * 1.05
    noisy = combined(SiteNoise(clip=2.0, noise=5.0, honest=3, lot=4.0), 0 * updates, [1] * 4, beside=False)
    assert noisy[0].update.std() == pytest.approx(2.0 * 5.0 / 4 * (4 / 3) ** 0.5, rel=0.15)
    assert rule.loss(10).rho == pytest.approx(10 / (2 * 0.0003**2))
    with pytest.raises(InputError, match="beside updates would be averaged without noise"):
        combined(rule, updates, [1] * 4)
    with pytest.raises(InputError, match="must be above 0"):
        SiteNoise(clip=0.0, noise=1.0, honest=1, lot=1.0)


def refused(words: str, plan: Plan, module: Any = None, **options: Any) -> None:
    async def site(totals: Totals) -> None:
        await fit(TorchTrainer(module or net(), cross_entropy, rows(20)), totals, plan, **options)

    with pytest.raises(InputError, match=words):
        simulate(2, site)


def test_what_would_undo_the_noise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = SiteNoise(clip=1.0, noise=1.0, honest=1, lot=2.0)
    refused("exact figures of each", Plan(rounds=1), combine=rule)
    refused("without noise", Plan(rounds=1, evaluate=0), combine=rule, algorithm=Scaffold())
    norm = torch.nn.Sequential(torch.nn.Linear(10, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(InputError, match="mixes rows") as caught:
        RowGradients(norm, cross_entropy)
    assert "BatchNorm" in caught.value.detail
    for wrong in ({"rate": 0.0}, {"rate": 1.5}, {"clip": 0.0}, {"noise": -1.0}, {"steps": 0}, {"lot": 0.0}):
        with pytest.raises(InputError, match=f"parameter {next(iter(wrong))} is"):
            DpSgd(**{"rate": 0.1, "steps": 1, "lot": 1.0, **wrong})
    with pytest.raises(InputError, match="cannot be trained on this site's rows"):
        RowGradients(net(), cross_entropy).clipped_sum(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 1.0)
    monkeypatch.setitem(sys.modules, "opacus.grad_sample", None)
    with pytest.raises(InputError, match="Opacus, which is not installed"):
        RowGradients(net(), cross_entropy)
    assert FedAvg().beside(3) == 0


def test_sites_that_plan_something_else_do_not_train_together() -> None:
    async def site(totals: Totals) -> None:
        other = totals.site == totals.sites[0]
        params = DpSgd(rate=0.5, noise=0.5 if other else 1.0, steps=1, lot=5.0)
        await fit_private(TorchTrainer(net(), cross_entropy, rows(20)), totals, params, lr=0.1, honest=1)

    with pytest.raises(ContractError, match="its private training"):
        simulate(2, site)


def test_the_account_says_whose_privacy_and_both_accountants_agree() -> None:
    for params in (PARAMS, DpSgd(rate=0.02, noise=1.1, steps=600, lot=20.0), DpSgd(rate=1, noise=9, steps=40, lot=9)):
        close, adding = params.epsilon(1e-5), params.epsilon_by_renyi(1e-5)
        assert 0.75 * adding < close <= adding
        assert spent([params.loss], Limit(adding * 1.2, 1e-5)) <= 1 < spent([params.loss], Limit(close * 0.9, 1e-5))
    said = PARAMS.sentence(1e-5)
    assert said.startswith("One row of one site: ε = ")
    assert "drawn at random with probability 0.3" in said


def test_what_is_charged_is_what_is_drawn() -> None:
    noisy = PARAMS.noisy(Alone(), 500, 1, lambda: None)
    (charged,), (real,) = PARAMS.loss.drawn, noisy.mechanism.drawn_loss().drawn
    assert (real.rate, real.rounds) == (charged.rate, charged.rounds)
    assert charged.multiplier <= real.multiplier < charged.multiplier * (1 + 1e-9)
    whole = 2.0 ** float(noisy._bits[0])
    assert PARAMS.noise * PARAMS.clip <= noisy._scales[0] / whole < PARAMS.noise * PARAMS.clip * 1.01


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_two_sites_over_tls_train_with_noise_and_end_with_the_same_network(tmp_path: Path) -> None:
    x, y = rows()
    hospitals(tmp_path, x, y, np.arange(len(y)) % 5 // 4, NAMES)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", private_process.__name__, str(tmp_path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    children = [subprocess.Popen([*command, name], **pipes) for name in NAMES]
    try:
        ends = [child.communicate(timeout=150) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert all(child.returncode == 0 for child in children), [error[-1500:] for _, error in ends]
    one, two = (json.loads(out) for out, _ in ends)
    assert one == two
    for name in ("shared", "own", "sites"):
        vector = torch.tensor(one[name], dtype=torch.float32)
        module = net()
        torch.nn.utils.vector_to_parameters(vector, module.parameters())
        assert (module(torch.as_tensor(x)).argmax(1).numpy() == y).mean() > 0.75, name
    assert one["shared"] != one["own"]
