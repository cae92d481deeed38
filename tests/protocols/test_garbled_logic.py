"""Garbled logic: comparisons, minima, maxima, arg-max and thresholds equal numpy, wherever the result goes."""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.cli.stage import free_ports
from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import boolean_circuit, circuit_schedule, garbling
from atoll.protocols import garbled_circuit as gc
from atoll.protocols import garbled_logic as logic
from atoll.protocols.garbled_logic import Party, Target
from atoll.testing import end_pair, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair
from atoll.transport.site import init_site
from tests.protocols.garbled_process import values

Ask = Callable[[Party, np.ndarray, int], Awaitable[Any]]
TARGETS: tuple[Target, ...] = ("evaluator", "garbler", "both", "shares", "additive")


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    for module in (boolean_circuit, circuit_schedule, garbling):
        module.warm()


def play(x: np.ndarray, y: np.ndarray, ask: Ask) -> tuple[Any, Any, list[Any]]:
    """Ask the same at both sites; `ask` is given the party, its values and how many columns the other one has."""

    async def garbler(peer: Channel) -> Any:
        return await ask(await gc.start_garbler(peer, rng=seeded_rng(1)), x, y.shape[-1])

    async def evaluator(peer: Channel) -> Any:
        return await ask(await gc.start_evaluator(peer, rng=seeded_rng(2)), y, x.shape[-1])

    a, b, transcript = recorded_pair(allowed=gc.PROTOCOL.kinds)
    return *run_pair(garbler(a), evaluator(b)), transcript


def opened(mine: Any, theirs: Any, to: Target, width: int = 64) -> np.ndarray:
    """The result, from where it went; and it went nowhere else."""
    if to == "evaluator":
        assert mine is None
        return theirs
    if to == "garbler":
        assert theirs is None
        return mine
    if to == "both":
        assert np.array_equal(mine, theirs)
        return mine
    both = mine ^ theirs if to == "shares" else mine + theirs
    if to == "shares" and both.dtype == np.uint64:
        return (both.view(np.int64) << (64 - width)) >> (64 - width)
    return both.view(np.int64) if to == "additive" else both


def drawn(n: int, columns: int, seed: int, low: int = -50, high: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (n, columns))


@pytest.mark.parametrize("to", TARGETS)
def test_every_question_equals_numpy(to: Target) -> None:
    x, y = drawn(60, 3, 1), drawn(60, 2, 2)
    together = np.concatenate((x, y), axis=1)

    async def ask(party: Party, own: np.ndarray, others: int) -> list[Any]:
        return [
            await logic.compare(party, own[:, 0], "<", to=to),
            await logic.at_least(party, own[:, 0], -7, to=to),
            await logic.minimum(party, own, theirs=others, to=to, width=7),
            await logic.maximum(party, own, theirs=others, to=to),
            await logic.arg_max(party, own, theirs=others, to=to),
            await logic.arg_max(
                party, own[:, : others - 1 if others == 2 else 0], theirs=0 if others == 2 else 1, to=to
            ),
        ]

    wanted = [
        x[:, 0] < y[:, 0],
        x[:, 0] + y[:, 0] >= -7,
        together.min(1),
        together.max(1),
        together.argmax(1),
        np.zeros(60),  # one value only: its place needs no circuit
    ]
    widths = (1, 1, 7, 64, 3, 64)
    mine, theirs, _ = play(x, y, ask)
    for number, (got, other, want) in enumerate(zip(mine, theirs, wanted, strict=True)):
        found = opened(got, other, to, 64 if number in (4, 5) else widths[number])
        assert np.array_equal(found, want), number


@settings(max_examples=15)
@given(
    relation=st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]),
    width=st.sampled_from([1, 5, 8, 33, 64]),
    signed=st.booleans(),
    n=st.integers(0, 70),
    seed=st.integers(0, 1000),
)
def test_relations_of_any_width(relation: logic.Relation, width: int, signed: bool, n: int, seed: int) -> None:
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    dtype = np.int64 if signed else np.uint64
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(low, high, (n, 1), dtype=dtype, endpoint=True) for _ in range(2))
    y[::3] = x[::3]
    x[1:4], y[1:3] = dtype(low), dtype(high)

    async def ask(party: Party, own: np.ndarray, others: int) -> Any:
        return await logic.compare(party, own[:, 0], relation, to="both", signed=signed, width=width)

    mine, theirs, _ = play(x, y, ask)
    compare = {"<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal, ">=": np.greater_equal}
    assert np.array_equal(mine, compare.get(relation, np.greater)(x, y)[:, 0])
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_values_that_are_shared(k: int) -> None:
    secret = drawn(40, k, 3, -(1 << 62), 1 << 62)
    secret[:5] = secret[:5, :1]  # ties
    mask = seeded_rng(4).u64(40, k)
    shares = (secret.view(np.uint64) - mask, mask)

    async def ask(party: Party, own: np.ndarray, others: int) -> list[Any]:
        return [
            await logic.arg_max(party, own, theirs=None, to="both"),
            await logic.maximum(party, own, theirs=None, to="additive"),
            await logic.minimum(party, own, theirs=None, to="garbler"),
            await logic.at_least(party, own[:, 0], 1 << 60, to="shares"),
        ]

    mine, theirs, _ = play(*shares, ask)
    assert np.array_equal(mine[0], secret.argmax(1))
    assert np.array_equal((mine[1] + theirs[1]).view(np.int64), secret.max(1))
    assert np.array_equal(mine[2], secret.min(1))
    assert np.array_equal(mine[3] ^ theirs[3], secret[:, 0] >= 1 << 60)


def test_unsigned_values_beyond_the_sign() -> None:
    x = np.array([[1 << 63, 5], [3, (1 << 64) - 1]], np.uint64)
    y = np.array([[7], [8]], np.uint64)

    async def ask(party: Party, own: np.ndarray, others: int) -> Any:
        return await logic.maximum(party, own, theirs=others, to="both", signed=False)

    mine, _, _ = play(x, y, ask)
    assert mine.dtype == np.uint64
    assert mine.tolist() == [1 << 63, (1 << 64) - 1]


def test_shares_of_a_sum_are_read_modulo_the_width() -> None:
    """Thirty-two bits suffice for a sum that fits them, and cost half as much."""
    secret, mask = drawn(50, 1, 1, -1000, 1000), seeded_rng(1).u64(50, 1)
    sizes = []
    for width in (32, 64):

        async def ask(party: Party, own: np.ndarray, others: int, width: int = width) -> Any:
            return await logic.at_least(party, own[:, 0], 0, to="both", width=width)

        mine, _, transcript = play(secret.view(np.uint64) - mask, mask, ask)
        assert np.array_equal(mine, secret[:, 0] >= 0)
        sizes.append(sum(len(f.payload) for f in transcript if f.kind.endswith("Tables")))
    assert sizes == [50 * 32 * 31, 50 * 32 * 63]


def test_no_rows_give_no_results() -> None:
    async def ask(party: Party, own: np.ndarray, others: int) -> Any:
        return await logic.arg_max(party, own, theirs=others, to="both")

    mine, theirs, _ = play(np.empty((0, 2), np.int64), np.empty((0, 3), np.int64), ask)
    assert mine.shape == theirs.shape == (0,)


def test_the_largest_does_not_show_in_sizes() -> None:
    """Two worlds with other values and the same arg-max at the evaluator: nothing differs but random bytes."""
    views = []
    for scale in (1, 1000):
        x, y = scale * np.array([[5, 1]] * 200), np.array([[3], [4]] * 100)

        async def ask(party: Party, own: np.ndarray, others: int) -> Any:
            return await logic.arg_max(party, own, theirs=others, to="evaluator")

        _, theirs, transcript = play(x, y, ask)
        assert (theirs == 0).all()
        views.append([(f.sender, f.kind, len(f.header), len(f.payload)) for f in by_stream(transcript)])
    assert views[0] == views[1]


def refused(x: Any, ask: Ask, role: str = "garbler") -> BaseException:
    async def one(peer: Channel) -> Any:
        start = gc.start_garbler if role == "garbler" else gc.start_evaluator
        return await ask(await start(peer, rng=seeded_rng(1)), x, 1)

    async def other(peer: Channel) -> Any:
        start = gc.start_evaluator if role == "garbler" else gc.start_garbler
        return await start(peer, rng=seeded_rng(2))

    a, b = memory_pair()
    error, _ = end_pair(one(a), other(b))
    assert isinstance(error, BaseException)
    return error


BAD: dict[str, tuple[Any, Ask, str]] = {
    "floats": (np.zeros(3), lambda p, x, k: logic.compare(p, x, to="both"), "float64"),
    "too large": (np.array([128]), lambda p, x, k: logic.compare(p, x, to="both", width=8), "fit 8 bits"),
    "negative": (np.array([-1]), lambda p, x, k: logic.compare(p, x, to="both", signed=False), "fit 64 bits"),
    "two columns": (np.zeros((3, 2), int), lambda p, x, k: logic.compare(p, x, to="both"), r"\(rows,\)"),
    "no columns": (np.zeros(3, int), lambda p, x, k: logic.maximum(p, x, theirs=1, to="both"), "values in a row"),
    "no values": (np.zeros((3, 0), int), lambda p, x, k: logic.maximum(p, x, theirs=0, to="both"), "no values"),
    "minus one": (np.zeros((3, 2), int), lambda p, x, k: logic.maximum(p, x, theirs=-1, to="both"), "no values"),
    "relation": (np.zeros(3, int), lambda p, x, k: logic.compare(p, x, "~", to="both"), "no relation"),
    "65 bits": (np.zeros(3, int), lambda p, x, k: logic.compare(p, x, to="both", width=65), "65 bits"),
    "0 bits": (np.zeros(3, int), lambda p, x, k: logic.compare(p, x, to="both", width=0), "0 bits"),
    "threshold": (np.zeros(3, int), lambda p, x, k: logic.at_least(p, x, 128, to="both", width=8), "does not fit"),
    "target": (np.zeros(3, int), lambda p, x, k: logic.compare(p, x, to="nobody"), "nobody"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("role", ["garbler", "evaluator"])
def test_own_mistakes_are_told(case: str, role: str) -> None:
    x, ask, words = BAD[case]
    error = refused(x, ask, role)
    assert isinstance(error, InputError)
    with pytest.raises(InputError, match=words):
        raise error


@pytest.mark.parametrize("other", ["threshold", "width", "columns", "question"])
def test_sites_that_ask_differently_are_refused(other: str) -> None:
    x = np.zeros((4, 2), np.int64)

    async def ask(party: Party, own: np.ndarray, others: int) -> Any:
        odd = isinstance(party, gc.Garbler)
        if other == "threshold":
            return await logic.at_least(party, own[:, 0], 5 + odd, to="both")
        if other == "width":
            return await logic.compare(party, own[:, 0], to="both", width=8 + odd)
        if other == "columns":
            return await logic.maximum(party, own, theirs=others + odd, to="both")
        return await (logic.maximum if odd else logic.minimum)(party, own, theirs=others, to="both")

    with pytest.raises(ProtocolError, match="another circuit"):
        play(x, x, ask)


@pytest.mark.processes
def test_two_sites_over_mutual_tls(tmp_path: Path) -> None:
    a, b = init_site(tmp_path / "a", "a", ""), init_site(tmp_path / "b", "b", f"127.0.0.1:{free_ports(1)[0]}")
    a.trust(b.card)
    b.trust(a.card)
    script = Path(__file__).with_name("garbled_process.py")
    running = {
        role: subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), role], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for role in "ba"
    }
    ended = {role: process.communicate(timeout=50) for role, process in running.items()}
    assert all(process.returncode == 0 for process in running.values()), ended
    (less, best, share), other = (json.loads(ended[role][0]) for role in "ab")
    x, y = values("a"), values("b")
    together = np.concatenate((x, y), axis=1)
    assert np.array_equal(less, x[:, 0] < y[:, 0])
    assert other[0] == less
    assert best is None
    assert np.array_equal(other[1], together.argmax(1))
    total = np.array(share, np.uint64) + np.array(other[2], np.uint64)
    assert np.array_equal(total.view(np.int64), together.max(1))
