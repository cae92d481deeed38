"""Transfers made ahead: in order, once each, never more than planned; errors surface, and nothing stays behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.crypto.lwe import get
from atoll.protocols.fixed_matrix_product import Asker, Facts, Owner, Terms, asker_setup, owner_setup, reference
from atoll.protocols.fixed_matrix_product.ahead import AHEAD, BATCH, Ahead
from atoll.testing import run_pair, seeded_rng
from atoll.testing.lattice import exact_set, toy_set
from atoll.testing.links import end_pair, recorded_pair
from tests.protocols.fixed_matrix_product.test_freshness import stale
from tests.protocols.fixed_matrix_product.tools import ANY, Run, Witness, bins_matrix, vectors

N_ROWS = 1_200


def test_batches_stay_ahead_and_end_with_the_plan() -> None:
    ahead: Ahead[int] = Ahead(planned=20)
    asked = [2, 2, 4, 0, 8, 3, 1, 5]
    sizes = [ahead.due(count) for count in asked]
    assert sizes == [[4, 4, 2], [2], [4], [], [4], [], [], [4, 1]]
    assert ahead.begun == ahead.asked == sum(asked) == 25
    assert AHEAD == 2 * BATCH == 8


def test_without_a_plan_nothing_is_made_that_is_not_asked() -> None:
    ahead: Ahead[int] = Ahead()
    assert [ahead.due(count) for count in (1, 6, 0)] == [[1], [4, 2], []]


def begin(ahead: Ahead[int], start: int, sizes: list[int], broken: int = -1) -> None:
    """Batches whose results count up from `start`; slow extensions, and one result that is an error."""

    def batch(at: int, size: int) -> tuple[int, Callable[[], Awaitable[Any]]]:
        async def extend() -> int:
            for _ in range(3):
                await asyncio.sleep(0)
            return at

        return size, extend

    async def make(at: int, t: int) -> int:
        if at + t == broken:
            raise InputError("broken")
        return at + t

    async def use(number: int) -> int:
        await asyncio.sleep(0)
        return number

    ahead.begin([batch(start + sum(sizes[:i]), size) for i, size in enumerate(sizes)], make, use)


def test_results_come_in_order_over_batches_and_calls() -> None:
    async def run() -> list[int]:
        ahead: Ahead[int] = Ahead()
        begin(ahead, 0, [4, 2])
        begin(ahead, 6, [])
        begin(ahead, 6, [1, 4])
        got = [await ahead.take() for _ in range(8)]
        await ahead.end(well=True)
        return got + [await ahead.take() for _ in range(3)]

    assert asyncio.run(run()) == list(range(11))


def test_an_error_is_raised_where_its_result_is_taken_and_once_all_before_it_are() -> None:
    async def run() -> list[int]:
        ahead: Ahead[int] = Ahead()
        begin(ahead, 0, [4, 2], broken=3)
        begin(ahead, 6, [4])
        got = [await ahead.take() for _ in range(3)]
        for _ in range(2):
            with pytest.raises(InputError, match="broken"):
                await ahead.take()
        await ahead.end(well=False)
        return got

    assert asyncio.run(run()) == [0, 1, 2]


def test_taking_more_than_was_begun_is_a_mistake_that_shows() -> None:
    async def run() -> None:
        ahead: Ahead[int] = Ahead()
        with pytest.raises(RuntimeError, match="not begun"):
            await ahead.take()
        begin(ahead, 0, [1])
        await ahead.take()
        with pytest.raises(RuntimeError, match="more transfers"):
            await ahead.take()

    asyncio.run(run())


def test_stopping_leaves_no_task_behind() -> None:
    async def run() -> None:
        ahead: Ahead[int] = Ahead()
        begin(ahead, 0, [4, 4])
        await asyncio.sleep(0)
        await ahead.end(well=False)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def planned(batches: list[np.ndarray], terms: Terms, params: Any, *, ends: bool = True) -> Run:
    """Serve batches under terms that plan ahead."""
    matrix, sides = bins_matrix(1, 2, batches[0].shape[1], 5), dict[str, Any]()
    at_owner, at_asker, frames = recorded_pair("owner", "asker")

    async def owner() -> None:
        side = sides["owner"] = await owner_setup(at_owner, matrix, params=params, rng=seeded_rng(1), terms=terms)
        for V in batches:
            await side.answer(at_owner, count=len(V))
        await side.end(well=ends)

    async def asker() -> np.ndarray:
        side = await asker_setup(at_asker, matrix.k, batches[0].shape[1], params=params, rng=Witness(2), terms=terms)
        sides["asker"] = side
        results = [await side.product(at_asker, V) for V in batches]
        await side.end(well=ends)
        return np.concatenate(results)

    results = run_pair(owner(), asker())
    return Run(None, results[1], sides["owner"], sides["asker"], frames)


@pytest.mark.parametrize("count", [0, 5, 13, 100])
def test_products_are_the_same_whatever_is_planned(count: int) -> None:
    batches = [np.rint(vectors(i, size, N_ROWS) * 1000) for i, size in enumerate((1, 6, 2))]
    terms = Terms(structured=False, planned=count, facts=Facts.indicator(2, N_ROWS), **ANY)
    run = planned(batches, terms, exact_set("H40"))
    assert np.array_equal(run.asker_result, reference.product(bins_matrix(1, 2, N_ROWS, 5), np.concatenate(batches)))
    made = len([frame for frame in run.frames if frame.kind.endswith("Corrections")])
    assert made == max(9, min(count, 9 + AHEAD))
    assert run.owner.vectors_used == run.asker.vectors_used == 9


def test_transfers_made_ahead_serve_once_and_the_limit_caps_them() -> None:
    """T = n/100 is 12: the plan for more is cut to it."""
    run = planned([vectors(i, 2, N_ROWS) for i in range(3)], Terms(structured=False, planned=99), get("H40"))
    assert stale(run) == []
    assert len([frame for frame in run.frames if frame.kind.endswith("NarrowCorrections")]) == 12
    assert len(run.asker.secrets) == 6
    assert len(run.secrets) == 12


def test_a_mutant_that_takes_a_secret_twice_is_caught() -> None:
    class Twice(Witness):
        def bits(self, n: int) -> np.ndarray:
            drawn = super().bits(n)
            if len(self.bits_given) == 3:  # made ahead for the third vector
                drawn[:] = self.bits_given[1]
            return drawn

    V, terms = vectors(1, 4, N_ROWS), Terms(structured=False, planned=8)
    at_owner, at_asker, frames = recorded_pair("owner", "asker")
    sides: dict[str, Any] = {}

    async def owner() -> None:
        sides["owner"] = await owner_setup(
            at_owner, bins_matrix(1, 2, N_ROWS, 5), params=get("H40"), rng=seeded_rng(1), terms=terms
        )
        for _ in range(2):
            await sides["owner"].answer(at_owner, count=2)
        await sides["owner"].end()

    async def asker() -> None:
        sides["asker"] = await asker_setup(at_asker, 10, N_ROWS, params=get("H40"), rng=Twice(2), terms=terms)
        for at in (0, 2):
            await sides["asker"].product(at_asker, V[at : at + 2])
        await sides["asker"].end()

    run_pair(owner(), asker())
    found = stale(Run(None, None, sides["owner"], sides["asker"], frames))
    assert "s 1 and s 2 are alike" in found


@pytest.mark.parametrize("at", range(3, 12))
def test_a_message_that_is_lost_ends_both_sides_and_all_tasks(at: int) -> None:
    terms, params = Terms(structured=False, planned=10), toy_set(64, 40, 8.0, gradient_bits=16)
    at_owner, at_asker, _ = recorded_pair("owner", "asker", target=at, fault="lost", timeout=1.0)
    left: list[set[Any]] = []

    async def closing(side: Owner | Asker, work: Awaitable[Any]) -> None:
        try:
            await work
        except BaseException:
            await side.end(well=False)
            raise
        await side.end()

    async def owner() -> None:
        side = await owner_setup(at_owner, bins_matrix(1, 2, N_ROWS, 5), params=params, rng=seeded_rng(1), terms=terms)
        try:
            await closing(side, side.answer(at_owner, count=2))
        finally:
            left.append(side.ahead._tasks)

    async def asker() -> None:
        side = await asker_setup(at_asker, 10, N_ROWS, params=params, rng=seeded_rng(2), terms=terms)
        try:
            await closing(side, side.product(at_asker, vectors(1, 2, N_ROWS)))
        finally:
            left.append(side.ahead._tasks)

    ends = end_pair(owner(), asker())
    assert any(isinstance(end, AtollError) for end in ends)
    assert all(end is None or isinstance(end, AtollError) for end in ends)
    assert all(task.done() for tasks in left for task in tasks)


def test_an_owner_that_makes_other_corrections_ahead_is_noticed() -> None:
    """A bent owner that plans nothing sends too little: the asker ends in an error of ours, not in waiting for ever."""
    terms, params = Terms(structured=False, planned=10), toy_set(64, 40, 8.0, gradient_bits=16)
    at_owner, at_asker, _ = recorded_pair("owner", "asker", timeout=1.0)

    async def owner() -> None:
        side = await owner_setup(at_owner, bins_matrix(1, 2, N_ROWS, 5), params=params, rng=seeded_rng(1), terms=terms)
        side.ahead = Ahead(0)
        await side.answer(at_owner, count=2)
        await side.end()

    async def asker() -> None:
        side = await asker_setup(at_asker, 10, N_ROWS, params=params, rng=seeded_rng(2), terms=terms)
        await side.product(at_asker, vectors(1, 2, N_ROWS))
        await side.end()

    assert any(isinstance(end, ProtocolError) for end in end_pair(owner(), asker()))
