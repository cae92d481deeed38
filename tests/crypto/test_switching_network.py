"""Switching networks: every order of few wires, drawn orders of many, and as few switches as promised."""

import math
from itertools import permutations

import numpy as np
import pytest

from atoll.crypto import switching_network as sn


def walked(order: np.ndarray) -> np.ndarray:
    """Send numbered wires through the network that is set for an order."""
    settings, at, wires = sn.route(order), 0, np.arange(len(order))
    for layer in sn.layers(len(order)):
        swap = settings[at : at + len(layer.sources), np.newaxis] == 1
        at += len(layer.sources)
        after = np.full_like(wires, -1)
        after[layer.targets] = wires[np.where(swap, layer.sources[:, ::-1], layer.sources)]
        after[layer.through] = wires[layer.through]
        wires = after
    assert at == len(settings)
    return wires


@pytest.mark.parametrize("n", range(1, 6))
def test_every_order_of_few_wires(n: int) -> None:
    for order in permutations(range(n)):
        assert walked(np.array(order)).tolist() == list(order)


@pytest.mark.parametrize("n", [6, 7, 8, 9, 31, 32, 33, 63, 100, 127, 1000, 1025])
def test_drawn_orders(n: int) -> None:
    draw = np.random.default_rng(n)
    for order in (draw.permutation(n), np.arange(n), np.arange(n)[::-1].copy()):
        assert np.array_equal(walked(order), order)


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1000])
def test_sizes(n: int) -> None:
    counts = sn.switches(n)
    assert [len(layer.sources) for layer in sn.layers(n)] == counts
    assert len(counts) == max(1, 2 * math.ceil(math.log2(n)) - 1)
    assert max(counts) <= n // 2
    assert len(sn.route(np.arange(n))) == sum(counts)


def test_each_wire_is_in_one_place_in_every_layer() -> None:
    for layer in sn.layers(77):
        for side in (layer.sources, layer.targets):
            assert np.array_equal(np.sort(np.concatenate((side.reshape(-1), layer.through))), np.arange(77))
