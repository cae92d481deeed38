"""Who masks with whom: symmetric, of the right degree, connected, and sized by an honest bound."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import neighbours
from atoll.testing import seeded_rng


def names(n: int) -> tuple[str, ...]:
    return tuple(f"site {i:05}" for i in range(n))


@given(st.integers(1, 150), st.integers(0, 5))
def test_the_graph_is_symmetric_and_regular(n: int, coin: int) -> None:
    members = names(n)
    graph = {one: neighbours.near(one, members, bytes([coin])) for one in members}
    assert {len(near) for near in graph.values()} == {neighbours.shape(n).k}
    for one, near in graph.items():
        assert one not in near
        assert len(set(near)) == len(near)
        assert all(one in graph[other] for other in near)
    reached, pending = {members[0]}, [members[0]]
    while pending:
        new = set(graph[pending.pop()]) - reached
        reached |= new
        pending += new
    assert len(reached) == n


def test_another_coin_gives_another_graph() -> None:
    members = names(200)
    graphs = {neighbours.near(members[0], members, bytes([coin])) for coin in range(20)}
    assert len(graphs) == 20


@pytest.mark.parametrize("n", [65, 100, 1000, 10_000])
@pytest.mark.parametrize("malicious", [False, True])
def test_a_graph_is_as_thin_as_the_bound_allows_and_no_thinner(n: int, malicious: bool) -> None:
    shape = neighbours.shape(n, malicious=malicious)
    assert shape.t == neighbours.threshold(shape.k, malicious)
    assert neighbours.failure(n, shape.k, shape.t, 0.1, 0.1) < -40
    thinner = shape.k - 2
    assert neighbours.failure(n, thinner, neighbours.threshold(thinner, malicious), 0.1, 0.1) >= -40
    assert shape.k < n - 1


def test_the_bound_holds_in_a_simulation_where_it_is_not_small() -> None:
    n, k, t, rng = 80, 8, 5, seeded_rng(5)
    bound, failed, runs = neighbours.failure(n, k, t, 0.1, 0.1), 0, 200
    for _ in range(runs):
        order = rng.permutation(n)
        state = [2 if i < 8 else 1 if i < 16 else 0 for i in order]  # 2 colluding, 1 gone
        for at in range(n):
            around = [state[(at + step) % n] for step in range(-4, 5) if step]
            if around.count(2) >= t or k + 1 - around.count(1) - (state[at] == 1) < t:
                failed += 1
                break
    assert failed / runs <= 2.0**bound + 0.1
    assert 2.0**bound < 1


def test_tails_equal_a_plain_count() -> None:
    for n, marked, draws, least in [(10, 4, 5, 3), (20, 2, 6, 1), (9, 9, 3, 3), (12, 0, 4, 1)]:
        plain = sum(math.comb(marked, i) * math.comb(n - marked, draws - i) for i in range(least, draws + 1))
        found = neighbours._upper_tail(n, marked, draws, least)
        assert 2.0**found == pytest.approx(plain / math.comb(n, draws))


def test_small_groups_are_complete_and_their_thresholds() -> None:
    for n, half, two_thirds in [(1, 1, 1), (2, 2, 2), (3, 2, 3), (4, 3, 3), (5, 3, 4), (10, 6, 7), (64, 33, 43)]:
        assert neighbours.shape(n) == neighbours.Shape(n - 1, half)
        assert neighbours.shape(n, malicious=True) == neighbours.Shape(n - 1, two_thirds)


def test_parts_that_no_graph_stands() -> None:
    with pytest.raises(ValueError, match="no graph of 1000"):
        neighbours.shape(1000, gone=0.45, colluding=0.45)
