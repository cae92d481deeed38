"""The loop: who is drawn, what is the same everywhere, what happens when something is wrong, and going on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atoll.core.errors import AtollError, ContractError, InputError
from atoll.learn.horizontal.networks import (
    FedAvg,
    Fitted,
    Functions,
    Keeper,
    Plan,
    Quantised,
    Round,
    Scaffold,
    Trained,
    agreed,
    fit,
    simulate,
)
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import seeded_rng
from tests.learn.horizontal.networks.linear import Line, skewed_sites, trainers
from tests.learn.horizontal.networks.runs import fit_all


def test_only_drawn_sites_train_and_count() -> None:
    lines = skewed_sites((3, 4, 5, 6, 7))
    seen: list[set[int]] = []
    plan = Plan(rounds=12, sample=0.4, seed=3)

    def watched(k: int) -> Functions:
        def train(work):  # type: ignore[no-untyped-def]
            while len(seen) <= work.round:
                seen.append(set())
            seen[work.round].add(k)
            return lines[k].fit(work)

        return Functions(lines[k].get, lines[k].put, train, lines[k].test, pulls=True)

    done = fit_all([watched(k) for k in range(5)], plan)
    assert [len(one) for one in seen] == [2] * 12
    assert set().union(*seen) == set(range(5))
    assert [one.weight for one in done[0].rounds] == [sum(len(lines[k].y) for k in one) for one in seen]


def test_a_common_seed_depends_on_every_site() -> None:
    async def draw(totals: Totals) -> bytes:
        return await agreed.agree_on_seed(totals, seeded_rng(totals.sites.index(totals.site) + 10 * len(totals.sites)))

    two, again = simulate(2, draw), simulate(2, draw)
    assert two == again
    assert two[0] == two[1]
    words = [seeded_rng(20 + k).u32(4).astype(np.uint64) for k in range(2)]
    assert two[0] == (sum(words) % 2**32).astype("<u4").tobytes()


def test_learning_rates_follow_the_schedule() -> None:
    assert [Plan(rounds=4, schedule="cosine").lr_at(k) for k in (0, 2)] == pytest.approx([0.1, 0.05])
    assert Plan(schedule="exponential", decay=0.5).lr_at(3) == pytest.approx(0.0125)
    assert Plan().lr_at(7) == 0.1


def test_training_stops_when_the_loss_no_longer_falls() -> None:
    lines = skewed_sites((9, 9))
    done = fit_all(trainers(lines), Plan(rounds=60, lr=1e-30, patience=3))
    assert len(done[0].rounds) == 4  # the first is the best, and three more were not better
    assert len(fit_all(trainers(lines), Plan(rounds=9, lr=1e-3, patience=3))[0].rounds) == 9


def test_sites_with_different_plans_or_networks_are_told() -> None:
    lines = skewed_sites((5, 6))

    async def site(totals: Totals) -> Fitted:
        first = totals.site == totals.sites[0]
        return await fit(lines[0].trainer, totals, Plan(lr=0.1 if first else 0.2))

    with pytest.raises(ContractError, match="do not agree about the network"):
        simulate(2, site)
    wide = Line(np.ones((3, 9)), np.ones(3))
    with pytest.raises(ContractError, match="do not agree about the network"):
        fit_all([lines[0].trainer, wide.trainer], Plan())
    with pytest.raises(ContractError, match="do not agree"):
        fit_all([lines[0].trainer, lines[1].trainer], Plan(), algorithm=[FedAvg(), Scaffold()])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e35])
def test_a_network_that_diverges_is_an_error_with_its_site(bad: float) -> None:
    lines = skewed_sites((5, 6))

    def explode(work):  # type: ignore[no-untyped-def]
        lines[1].w[2] = bad
        return Trained(6, 1, 0.0)

    broken = Functions(lines[1].get, lines[1].put, explode, lines[1].test)
    with np.errstate(over="ignore"), pytest.raises(InputError, match=r"not finite or far too large.*site-0002"):
        fit_all([lines[0].trainer, broken], Plan())


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    line = skewed_sites((5,))[0]
    broken = Functions(line.get, line.put, lambda work: Trained(5, 1, float("nan")), line.test)
    with pytest.raises(InputError, match="Lower the learning rate"):
        fit_all([broken], Plan())


def test_no_rows_anywhere_is_an_error() -> None:
    with pytest.raises(AtollError, match="no site has anything to average"):
        fit_all([line.trainer for line in skewed_sites((0, 0))], Plan())


class Cut(Exception):
    """A site that was cut off."""


@pytest.mark.parametrize(("at", "behind"), [(1, False), (3, True), (4, False)])
def test_what_was_cut_off_goes_on_bit_for_bit(at: int, behind: bool, tmp_path: Path) -> None:
    plan = Plan(rounds=7, epochs=3, sample=0.7, schedule="cosine")
    options = {"algorithm": Scaffold(), "combine": Quantised(bits=6)}

    def sites() -> list[Functions]:
        return trainers(skewed_sites((5, 6, 7, 8)))

    def keepers(folder: str) -> list[Keeper]:
        return [Keeper(tmp_path / folder / str(k)) for k in range(4)]

    rngs = [seeded_rng(k) for k in range(4)]
    straight = fit_all(sites(), plan, keeper=keepers("straight"), rng=rngs, **options)

    def stop(done: Round) -> None:
        if done.number == at:
            raise Cut

    # The last site is cut off right after it has kept the round, or the first one before all others have.
    stops = [stop if k == (0 if behind else 3) else (lambda done: None) for k in range(4)]
    rngs = [seeded_rng(k) for k in range(4)]
    with pytest.raises(Cut):
        fit_all(sites(), plan, keeper=keepers("cut"), rng=rngs, on_round=stops, **options)
    other = [seeded_rng(k + 50) for k in range(4)]
    resumed = fit_all(sites(), plan, keeper=keepers("cut"), rng=other, **options)
    assert all(np.array_equal(a.model, b.model) for a, b in zip(straight, resumed, strict=True))
    assert straight[0].rounds == resumed[0].rounds


def test_a_file_of_another_plan_is_not_taken_up_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    line = skewed_sites((9,))[0]
    fit_all([line.trainer], Plan(rounds=2), keeper=Keeper(tmp_path))
    longer = fit_all([line.trainer], Plan(rounds=3), keeper=Keeper(tmp_path))
    assert len(longer[0].rounds) == 3
    file = tmp_path / "networks-1.npz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"damaged.*networks-1\.npz"):
        fit_all([line.trainer], Plan(rounds=3), keeper=Keeper(tmp_path))


def test_a_file_with_pickled_objects_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "networks-0.npz", facts=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="damaged"):
        Keeper(tmp_path).read(b"")
