"""A switching network: n wires are put in any order by switches that leave two wires as they are or exchange them.

The network of n wires is a layer of switches on neighbours, whose outputs go to an upper and a lower network of half
the size, and a layer of switches that put their outputs side by side; a wire without a neighbour goes through the lower
one.  It has 2 ⌈log₂ n⌉ − 1 layers of at most n / 2 switches each.

Source: Beneš 1964; any number of wires: Chang and Melhem, "Arbitrary size Benes networks", 1997.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

I64 = NDArray[np.int64]
Bits = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of s switches.

    Attributes:
        sources: (s, 2) int64, the two wires that enter each switch.
        targets: (s, 2), where they leave it if it leaves them as they are.
        through: wires that pass no switch, and stay where they are.
    """

    sources: I64
    targets: I64
    through: I64


def layers(n: int) -> Iterator[Layer]:
    """Yield the layers of the network of n wires, in order."""
    stages = _stages(n)
    for bounds in stages[:-1]:
        near, apart, through = _pairs(bounds)
        yield Layer(near, apart, through)
    near, _, through = _pairs(stages[-1])
    yield Layer(near, near, through)
    for bounds in reversed(stages[:-1]):
        near, apart, through = _pairs(bounds)
        yield Layer(apart, near, through)


def switches(n: int) -> list[int]:
    """Return the number of switches of each layer."""
    halves = [int((np.diff(bounds) // 2).sum()) for bounds in _stages(n)]
    return halves + halves[-2::-1]


def route(order: I64) -> Bits:
    """Set the switches.

    Args:
        order: (n,) int64, which of the wires that enter leaves at each place: a permutation of 0 … n − 1.

    Returns:
        (switches,) uint8, layer after layer: 1 where a switch exchanges its wires.
    """
    stages = _stages(len(order))
    local, first, last = np.ascontiguousarray(order, np.int64), [], []
    for bounds in stages[:-1]:
        count = int((np.diff(bounds) // 2).sum())
        settings, deeper = np.zeros((2, count), np.uint8), np.empty_like(local)
        _split(bounds, local, settings, deeper)
        first.append(settings[0])
        last.append(settings[1])
        local = deeper
    twos = stages[-1][:-1][np.diff(stages[-1]) == 2]
    return np.concatenate((*first, local[twos].astype(np.uint8), *reversed(last)))


def _stages(n: int) -> list[I64]:
    """Return the borders of the networks inside the network, depth by depth, until they have at most two wires."""
    stages = [np.array([0, n], np.int64)]
    while (sizes := np.diff(stages[-1])).max() > 2:
        bounds = np.empty(2 * len(sizes) + 1, np.int64)
        bounds[::2], bounds[1::2] = stages[-1], stages[-1][:-1] + sizes // 2
        stages.append(bounds)
    return stages


def _pairs(bounds: I64) -> tuple[I64, I64, I64]:
    """Return for one depth the wires side by side, (s, 2); their places in the halves, (s, 2); the single wires."""
    sizes = np.diff(bounds)
    halves = sizes // 2
    starts = np.repeat(bounds[:-1], halves)
    at = np.arange(len(starts)) - np.repeat(np.cumsum(halves) - halves, halves)
    near, apart = starts + 2 * at, starts + at
    beyond = apart + np.repeat(halves, halves)
    return np.stack((near, near + 1), 1), np.stack((apart, beyond), 1), bounds[1:][sizes % 2 == 1] - 1


@njit
def _split(bounds: I64, order: I64, settings: Bits, deeper: I64) -> None:
    """Send the wires of every network through its halves: neighbours, before and behind, through different ones.

    Args:
        bounds: borders of the networks.
        order: which wire of its network leaves at each place, counted inside the network.
        settings: out: (2, switches), of the layers before and behind the halves.
        deeper: out: the order inside the halves.
    """
    wires = order.shape[0]
    back, done = np.empty(wires, np.int64), np.zeros(wires, np.bool_)
    switch = 0
    for network in range(bounds.shape[0] - 1):
        lo, size = bounds[network], bounds[network + 1] - bounds[network]
        half = size // 2
        for j in range(size):
            back[lo + order[lo + j]] = j
        for start in range(size - 1, -1, -1):
            j, side = start, 1 if start >= 2 * half else 0  # the single wire leaves through the lower half
            entering = False
            while entering or not done[lo + j]:
                p = order[lo + j]
                done[lo + j] = True
                deeper[lo + side * half + (j >> 1)] = p >> 1
                if j < 2 * half:
                    settings[1, switch + (j >> 1)] = (j & 1) ^ side
                if p < 2 * half:
                    settings[0, switch + (p >> 1)] = (p & 1) ^ side
                if entering:  # its neighbour behind goes through the other half
                    j = j ^ 1
                elif p < 2 * half:  # and so does its neighbour before
                    j = back[lo + (p ^ 1)]
                else:  # it entered as the single wire: the path ends
                    break
                side, entering = side ^ 1, not entering
        switch += half


def warm() -> None:
    """Compile this module's kernels."""
    route(np.arange(3, dtype=np.int64))
