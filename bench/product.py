"""The fixed-matrix product, both sides' work for one hidden vector, beside the same sums in the plain."""

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from atoll.crypto import gaussian, lwe, ring, tmmo
from atoll.crypto.random import Rng
from atoll.protocols.fixed_matrix_product import (
    Dense,
    Facts,
    Indicator,
    Terms,
    asker_setup,
    kernels,
    owner_setup,
    reference,
    steps,
)
from atoll.protocols.fixed_matrix_product.terms import Agreement
from atoll.transport.memory import memory_pair
from bench.harness import Report, peak_mb, repeated

TITLE = "The fixed-matrix product: sums of a partner's columns, weighted by a hidden vector"
SIZES = {"small": 20_000, "medium": 100_000, "large": 1_000_000}
FEATURES, BINS = 20, 33
COLUMNS, FRACTION_BITS = 40, 12


@dataclass
class Task:
    """One matrix, vectors for it, and everything that both sides prepare once."""

    matrix: Indicator | Dense
    vectors: np.ndarray
    agreement: Agreement

    @property
    def params(self) -> lwe.ParameterSet:
        return self.agreement.params


def histograms(n: int) -> Task:
    """Boosted trees: gradients over 20 columns of 33 bins, H40, output to the asker."""
    bins = Rng.system().uniform_u64(BINS, FEATURES, n).astype(np.uint8)
    matrix = Indicator(bins, [BINS] * FEATURES)
    terms = Terms(structured=False, facts=Facts.indicator(FEATURES, n))
    return Task(matrix, vectors(4, n), Agreement(lwe.get("H40"), terms, matrix.k, n))


def gradients(n: int) -> Task:
    """Linear models: 40 standardised columns with 12 fractional bits, X64, output to the owner."""
    entries = np.rint(vectors(COLUMNS, n) * np.sqrt(3) * 2**FRACTION_BITS).astype(np.int64)
    entries = np.clip(entries, -7094, 7094)
    facts = Facts.bounded(COLUMNS, n, 7094)
    return Task(
        Dense(entries), vectors(4, n), Agreement(lwe.get("X64"), Terms(output="owner", facts=facts), COLUMNS, n)
    )


def vectors(count: int, n: int) -> np.ndarray:
    return Rng.system().u32(count, n) / 2.0**31 - 1


def run(size: str, report: Report) -> None:
    """Take each side's kernels alone, on one core, then a whole batch of vectors through both roles in one process."""
    n = SIZES[size]
    for module in (gaussian, ring, tmmo, kernels):
        module.warm()
    kinds = (
        (histograms(n), f"{FEATURES} × {BINS} bins, H40, to asker"),
        (gradients(n), f"{COLUMNS} columns, X64, to owner"),
    )
    for task, kind in kinds:
        what = f"{n:,} rows, {kind}"
        kernels_alone(task, what, report, goals=task.params.name == "H40" and size != "large")
        whole(task, what, report)


def kernels_alone(task: Task, what: str, report: Report, *, goals: bool) -> None:
    """One row for the hint, one for each side."""
    agreement, params, rng, seed = task.agreement, task.params, Rng.system(), bytes(32)
    count = len(task.vectors)
    plain = repeated(lambda: reference.product(task.matrix, task.vectors)).best / count
    hint = repeated(lambda: steps.hint(agreement, task.matrix, seed), repeat=1)
    report.row(f"{what}: hint, once for a job", hint.best, unit="s", goal=1.0 if goals else None)

    a, noise = steps.transform(agreement, seed), gaussian.Gaussian(params.sigma)
    scale = agreement.private_scale(task.vectors[0], None) if agreement.to_asker else agreement.public_scale
    rows = [partial(steps.scaled, v, scale, True) for v in task.vectors]
    secrets = [rng.bits(params.N) for _ in rows]
    masked = repeated(lambda: steps.mask(agreement, a, noise, rng, secrets, rows))
    c = masked.value
    strings, delta = rng.u64(params.N, 2), rng.u64(2)
    sent = repeated(lambda: steps.corrections(agreement, strings, delta, 0, hint.value.rows))
    parts = sent.value[1]
    summed = repeated(lambda: steps.chosen(strings, secrets[0], 0, parts))
    times = repeated(lambda: task.matrix.times(c))
    digests = repeated(lambda: steps.digests(task.vectors)).best / count if agreement.to_asker else 0.0

    sides = {
        "owner": (sent.best + times.best / count, sum(part.nbytes for part in parts)),
        "asker": (
            masked.best / count + summed.best + digests,
            params.entry_bytes * agreement.n + 16 * params.N,
        ),
    }
    for side, (seconds, size) in sides.items():
        report.row(
            f"{what}: {side}, one vector",
            1e3 * seconds,
            unit="ms",
            limit=1e3 * plain,
            limit_name="numpy, nothing hidden",
            bytes=size,
            goal=6.0 if goals else None,
            note="one core",
        )


def whole(task: Task, what: str, report: Report) -> None:
    """Both roles with their transfers, messages and digests, in one process."""
    terms, T = Terms(**{**vars(task.agreement.terms), "reveals_rows": True, "reveals_vectors": True}), 16
    V = np.concatenate([task.vectors + i for i in range(T // len(task.vectors))]) / T
    seconds, sent = asyncio.run(both(task, terms, V))
    report.row(
        f"{what}: both sides, one of {T} vectors",
        1e3 * seconds / T,
        unit="ms",
        bytes=sent // T,
        peak_mb=peak_mb(),
        note="one process, no network",
    )


async def both(task: Task, terms: Terms, V: np.ndarray) -> tuple[float, int]:
    """Return the seconds and bytes of a batch after the set-up."""
    at_owner, at_asker = memory_pair("owner", "asker", timeout=120.0)
    common: dict[str, Any] = {"params": task.params, "terms": terms}
    owner, asker = await asyncio.gather(
        owner_setup(at_owner, task.matrix, rng=Rng.system(), **common),
        asker_setup(at_asker, task.matrix.k, task.matrix.n, rng=Rng.system(), **common),
    )
    before = sum(at_owner.gate.traffic.values())
    start = time.perf_counter()
    if task.agreement.to_asker:
        await asyncio.gather(owner.answer(at_owner, count=len(V)), asker.product(at_asker, V))
    else:
        await asyncio.gather(owner.receive(at_owner, count=len(V)), asker.reply(at_asker, V))
    seconds = time.perf_counter() - start
    return seconds, sum(at_owner.gate.traffic.values()) - before
