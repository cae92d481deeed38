"""Sums of a round are bound to all that was told before: who was told something else adds noise."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import ConnectionLost, ProtocolError
from atoll.learn.horizontal.networks import MaskedAverages, Quantised
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.bound import bind
from atoll.learn.horizontal.networks.kept import Progress, Round
from atoll.protocols.secure_sum.question import said
from bench import digits, inversion
from bench.attack_pictures import NETWORK, honest, site, unbound
from bench.lying_hub import lied_to

ROWS, SITES = 4, 3


@dataclass
class Heard:
    """Totals, averages and masked means of one site that keep what they are asked for; `lie` is added to the first."""

    lie: float = 0.0
    asked: list[str] = field(default_factory=list)
    site: str = "a"
    sites: tuple[str, ...] = ("a", "b")

    def _lie(self) -> float:
        return self.lie if len(self.asked) == 1 else 0.0

    async def total(self, values: np.ndarray, *, what: str) -> np.ndarray:
        self.asked.append(what)
        return values + self._lie()

    async def average(self, vector: F32, weight: float, *, what: str) -> tuple[F32, float]:
        self.asked.append(what)
        return vector + np.float32(self._lie()), weight

    async def mean(self, values: np.ndarray, *, weight: float, clip: float, what: str, model: bytes) -> np.ndarray:
        self.asked.append(what + model.hex())
        return values


MODEL = np.arange(20_000, dtype=np.float32)
ROUND = Round(1, {}, None, 2.0)


def asked(lie: float = 0.0, **other: Any) -> list[str]:
    """What a site asks for in a round of two averages and two totals; `other` is what it has in its own way."""
    state = State({"velocity": np.zeros(3, np.float32)})
    progress = Progress(
        **{"run": bytes(32), "seed": bytes(16), "model": MODEL, "own": MODEL[:2], "state": state, **other}
    )

    async def turn() -> list[str]:
        heard = Heard(lie)
        totals, averages = await bind(heard, heard, progress)
        for _ in range(2):
            await averages.average(np.ones(3, np.float32), 1.0, what="updates")
            await totals.total(np.ones(30_000), what="who takes part")
        return heard.asked

    return asyncio.run(turn())


def moved(values: F32) -> F32:
    """A copy that differs in the last bit of its last number."""
    copy = values.copy()
    copy[-1] = np.nextafter(copy[-1], np.float32(-1))
    return copy


def test_every_sum_is_bound_to_all_that_was_told_before() -> None:
    here = asked()
    assert here == asked(model=MODEL.copy(), own=MODEL[:9]), "sites that were told the same ask the same"
    assert len({what[:64] for what in here}) == 4, "no two sums of a round have one name"
    assert [said(what) for what in here] == 2 * ["updates", "who takes part"], "people read it as it was"
    assert said("updates: of all") == "updates: of all"
    for other in (
        {"model": moved(MODEL)}, {"seed": bytes(15) + b"1"}, {"run": bytes(31) + b"1"}, {"rounds": [ROUND]},
        {"state": State({"velocity": moved(np.zeros(3, np.float32))})}, {"state": State()},
    ):  # fmt: skip
        assert not set(here) & set(asked(**other)), other
    lied = asked(lie=1e-6)
    assert lied[0] == here[0]
    assert not set(here[1:]) & set(lied[1:])


def test_masked_means_are_bound_to_the_sum_of_weights_that_shares_come_from() -> None:
    def means(lie: float) -> str:
        heard = Heard(lie)
        asyncio.run(MaskedAverages(heard).average(np.zeros(3, np.float32), 2.0, what="updates"))  # type: ignore[arg-type]
        return heard.asked[-1]

    assert means(0.0) != means(1e6)
    assert means(0.0) == means(0.0)


def recovered(seen: list[np.ndarray], bits: int) -> inversion.Score:
    """What a hub works out of the last total, in which three whole numbers of each site lie side by side."""
    top = 2 ** (bits - 1) - 1
    wide = (2 * top * SITES).bit_length()
    lanes = 52 // wide
    words = np.clip(np.nan_to_num(seen[-1]), -(2.0**62), 2.0**62).astype(np.int64)
    units = (words[:, None] >> (wide * np.arange(lanes))) & ((1 << wide) - 1)
    update = units.reshape(-1)[: NETWORK.size].astype(np.float64) - SITES * top
    weights, biases, *_ = NETWORK.split(update)
    x, *_ = digits.digits()
    return inversion.score(x[:ROWS], inversion.inputs_of_neurons(weights, biases))


@pytest.mark.parametrize("bound", [False, True])
def test_a_hub_that_tells_all_but_one_site_a_grid_too_wide_gets_noise(bound: bool) -> None:
    def tell(name: str, what: str, found: np.ndarray) -> np.ndarray:
        if "mean squares" not in what or name == "site-0000":
            return found
        return np.append(1e20, found[1:])  # on this grid every number of theirs is nothing

    trainers = [site(k, ROWS, honest(0)) for k in range(SITES)]
    with contextlib.nullcontext() if bound else unbound():
        seen, errors = lied_to(trainers, tell, combine=Quantised(bits=8))
    score = recovered(seen, 8)
    assert (score.psnr < 10) == bound
    assert (score.recovered > 0.7) == (not bound)
    assert any("none that sites can come to" in str(error) for error in errors) == bound, errors
    assert all(isinstance(error, ProtocolError | ConnectionLost) for error in errors)


def test_sites_that_were_led_to_different_networks_say_so() -> None:
    def tell(name: str, what: str, found: np.ndarray) -> np.ndarray:
        begins = "to begin with" in what and name == "site-0001"
        return np.append(inversion.dead(NETWORK), 1.0).astype(np.float64) if begins else found

    _, errors = lied_to([site(k, ROWS, honest(0)) for k in range(SITES)], tell)
    assert any("none that sites can come to" in str(error) for error in errors), errors
