"""Run both roles of the product in one process, with doubles in place of parts where a test wants a mutant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll.core.channel import Channel
from atoll.crypto.lwe import ParameterSet
from atoll.crypto.random import Rng
from atoll.protocols.fixed_matrix_product import (
    Asker,
    Dense,
    Indicator,
    Owner,
    Terms,
    asker_setup,
    kernels,
    owner_setup,
)
from atoll.protocols.fixed_matrix_product.steps import centred
from atoll.testing import run_pair, seeded_rng
from atoll.testing.links import Frame, recorded_pair

ANY = {"reveals_rows": True, "reveals_vectors": True}


class Witness(Rng):
    """Randomness that remembers the bits it gave out, the secrets s, for tests that must know if they were found."""

    def __init__(self, seed: int) -> None:
        super().__init__(seeded_rng(seed).bytes(32))
        self.bits_given: list[np.ndarray] = []

    def bits(self, n: int) -> np.ndarray:
        self.bits_given.append(super().bits(n))
        return self.bits_given[-1]


@dataclass
class Run:
    """What both roles and the wire were left with."""

    owner_result: Any
    asker_result: Any
    owner: Owner
    asker: Asker
    frames: list[Frame]

    @property
    def secrets(self) -> list[np.ndarray]:
        """Every s so far."""
        rng = self.asker.rng
        assert isinstance(rng, Witness)
        return [bits for bits in rng.bits_given if bits.size == self.asker.agreement.params.N]

    @property
    def masked(self) -> np.ndarray:
        """All vectors c on the wire, (T, n) uint64."""
        agreement = self.owner.agreement
        width, out = agreement.params.q_bits // 8, []
        for payload in self.payloads("Masked"):
            shapes = kernels.plane_shapes(agreement.params.q_bits, len(payload) // (width * agreement.n), agreement.n)
            parts, at = {}, 0
            for name, dtype in (("low", np.uint32), ("high", np.uint32), ("middle", np.uint8)):  # wide items first
                size = np.dtype(dtype).itemsize * shapes[name][0] * shapes[name][1]
                parts[name] = np.frombuffer(payload[at : at + size], dtype).reshape(shapes[name])
                at += size
            out.append(kernels.join(kernels.Planes(**parts)))
        return np.concatenate(out)

    def payloads(self, kind: str) -> list[bytes]:
        return [frame.payload for frame in self.frames if frame.kind.endswith("." + kind)]


def bins_matrix(seed: int, columns: int, n: int, bins: int) -> Indicator:
    drawn = seeded_rng(seed).uniform_u64(bins, columns, n).astype(np.uint8)
    return Indicator(drawn, [bins] * columns)


def dense_matrix(seed: int, k: int, n: int, largest: int) -> Dense:
    drawn = seeded_rng(seed).uniform_u64(2 * largest + 1, k, n).astype(np.int64) - largest
    return Dense(drawn)


def vectors(seed: int, count: int, n: int) -> np.ndarray:
    """Uniform on [−1, 1) with 20 fractional bits."""
    return seeded_rng(seed).uniform_u64(1 << 21, count, n).astype(np.float64) / 2**20 - 1


def play(
    matrix: Indicator | Dense,
    batches: np.ndarray | list[np.ndarray],
    params: ParameterSet,
    terms: Terms,
    *,
    seed: int = 0,
    bend_owner: Callable[[Owner], Owner] = lambda owner: owner,
    bend_asker: Callable[[Asker], Asker] = lambda asker: asker,
    channels: tuple[Channel, Channel, list[Frame]] | None = None,
) -> Run:
    """Set up and serve each batch of vectors (T, n); results of the batches are stacked."""
    batches = [batches] if isinstance(batches, np.ndarray) else batches
    at_owner, at_asker, frames = channels or recorded_pair("owner", "asker")
    sides: dict[str, Any] = {}

    async def owner() -> Any:
        side = await owner_setup(at_owner, matrix, params=params, rng=seeded_rng(2 * seed), terms=terms)
        side = sides["owner"] = bend_owner(side)
        call = {"asker": side.answer, "owner": side.receive, "shares": side.share}[terms.output]
        return [await call(at_owner, count=len(V)) for V in batches]

    async def asker() -> Any:
        n = batches[0].shape[1]
        side = await asker_setup(at_asker, matrix.k, n, params=params, rng=Witness(2 * seed + 1), terms=terms)
        side = sides["asker"] = bend_asker(side)
        call = {"asker": side.product, "owner": side.reply, "shares": side.share}[terms.output]
        return [await call(at_asker, V) for V in batches]

    results = [np.concatenate(each) if each[0] is not None else None for each in run_pair(owner(), asker())]
    return Run(results[0], results[1], sides["owner"], sides["asker"], frames)


def result(run: Run) -> np.ndarray:
    """M·v of every vector, whoever got it."""
    agreement = run.owner.agreement
    match agreement.terms.output:
        case "asker":
            return run.asker_result
        case "owner":
            return run.owner_result
    return centred(run.owner_result + run.asker_result, agreement.params.q_bits) / agreement.public_scale
