"""The fixed-matrix product: one side's matrix M, the other side's hidden vectors v, and M·v for who the terms name.

Once: (0) asker draws the seed of A; owner computes its hint H = M·A; both set up oblivious transfer.
For every vector, with fresh s, e, e′, u and transfers that live in memory only:
(1) asker sends c = A·s + e + round(Δv).
(2) N transfers: owner keeps P and sends corrections, asker chooses by s and gets R = P + H·s.  They run on a stream of
    their own, beside (1) and, where the terms plan ahead, before it.
(3) to asker: owner sends M·c + P + u, asker takes R away.  To owner: asker sends R + e′, owner takes it from M·c + P.
    Shares: owner keeps M·c + P, asker keeps −(R + e′).
(4) divide by Δ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, InputError
from atoll.core.message import U8, U32, U64, Message, Wire, array_fields
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto.gaussian import Gaussian
from atoll.crypto.lwe import ParameterSet
from atoll.crypto.random import Rng
from atoll.crypto.ring import Transformed
from atoll.protocols import oblivious_transfer
from atoll.protocols.fixed_matrix_product import cards, kernels, steps
from atoll.protocols.fixed_matrix_product.ahead import Ahead
from atoll.protocols.fixed_matrix_product.matrices import Matrix
from atoll.protocols.fixed_matrix_product.terms import Agreement, Terms

U16 = Annotated[NDArray[np.uint16], Wire("<u2")]

GROUP = 4
"""Vectors in flight together: the matrix is read once for all of them, and memory is bounded by two groups."""


class Setup(Message, frozen=True):
    """(0) asker → owner: the seed of A, and a digest of the terms, which must be the owner's."""

    seed: U8
    terms: U8


class Masked(Message, frozen=True):
    """(1) asker → owner: vectors c, cut into planes (32 low bits; 8 or 32 high bits where q needs them)."""

    low: U32
    middle: U8
    high: U32


class NarrowCorrections(Message, frozen=True):
    """(2) owner → asker: pad_j + H[:, j] − pad′_j for the N transfers of one vector, (N, k), 24 bits in two planes."""

    low: U16
    high: U8


class Corrections(Message, frozen=True):
    """(2) as `NarrowCorrections`, 32-bit words."""

    words: U32


class WideCorrections(Message, frozen=True):
    """(2) as `NarrowCorrections`, 64-bit words."""

    words: U64


KINDS: Mapping[int, type[NarrowCorrections | Corrections | WideCorrections]] = {
    24: NarrowCorrections,
    32: Corrections,
    64: WideCorrections,
}


class Answer(Message, frozen=True):
    """(3) owner → asker: M·c + P + u, (vectors, k), without its t low bits."""

    words: U64


class Opening(Message, frozen=True):
    """(3) asker → owner: P + H·s + e′ modulo q, (vectors, k), cut into planes."""

    low: U32
    middle: U8
    high: U32


async def owner_setup(
    peer: Channel,
    matrix: Matrix,
    *,
    params: ParameterSet,
    rng: Rng,
    terms: Terms | None = None,
    ot: oblivious_transfer.OtSender | None = None,
    vectors_used: int = 0,
) -> Owner:
    """Prepare one matrix for all products of a job.

    Args:
        peer: The asker.
        matrix: M (k, n).
        params: The parameter set that the contract names.
        rng: Secret randomness.
        terms: The contract's part on this matrix.
        ot: Transfers already set up with this asker in this session, owner sending; new ones if left out.
        vectors_used: Vectors answered for this matrix before a restart, aborted ones included.

    Returns:
        The owner's side, ready to answer.

    Raises:
        ContractError: The asker runs on other terms, or the terms are refused.
        InputError: The matrix is outside the public bounds.
        ProtocolError: The asker broke the protocol.
    """
    agreement = Agreement(params, terms or Terms(), matrix.k, matrix.n)
    await offload(steps.check_matrix, agreement, matrix)
    setup = await peer.recv(Setup, seed=(32,), terms=(32,))  # (0)
    if setup.terms.tobytes() != agreement.digest:
        raise ContractError(
            f"{peer.peer} runs the fixed-matrix product on other terms, sizes or parameters",
            cure="Compare the job documents of both sites.",
        )
    hint = await offload(steps.hint, agreement, matrix, setup.seed.tobytes())
    ot = ot or await oblivious_transfer.setup_sender(peer, rng=rng)
    return Owner(agreement, matrix, hint, ot, rng, vectors_used)


async def asker_setup(
    peer: Channel,
    k: int,
    n: int,
    *,
    params: ParameterSet,
    rng: Rng,
    terms: Terms | None = None,
    ot: oblivious_transfer.OtReceiver | None = None,
    vectors_used: int = 0,
) -> Asker:
    """Prepare to ask products with the owner's (k, n) matrix; arguments and errors as `owner_setup`."""
    agreement = Agreement(params, terms or Terms(), k, n)
    seed = rng.bytes(32)
    await peer.send(Setup(steps.as_bytes(seed), steps.as_bytes(agreement.digest)))  # (0)
    a = await offload(steps.transform, agreement, seed)
    ot = ot or await oblivious_transfer.setup_receiver(peer, rng=rng)
    opening_noise = Gaussian(0.0 if agreement.to_asker else agreement.opening_sigma)
    return Asker(agreement, a, ot, rng, Gaussian(params.sigma), opening_noise, vectors_used)


@dataclass(repr=False)
class Owner:
    """The owner's side after the set-up.  Its methods are the owner's role; each serves the next `count` vectors.

    Attributes:
        agreement: Sizes, terms and parameters.
        matrix: M.
        hint: H transposed, (N, k), without its t low bits, and what that adds on average.
        ot: The sender's half of the transfers.
        rng: Secret randomness.
        vectors_used: All vectors so far, aborted ones included; it outlives a restart, nothing else here does.
        ahead: P of the vectors to come.
    """

    agreement: Agreement
    matrix: Matrix
    hint: steps.Hint
    ot: oblivious_transfer.OtSender
    rng: Rng
    vectors_used: int = 0
    ahead: Ahead[steps.Words] = field(default_factory=Ahead)

    def __post_init__(self) -> None:
        self.ahead = Ahead(self.agreement.planned)

    async def answer(self, peer: Channel, *, count: int) -> None:
        """Let the asker learn M·v.

        Raises:
            ContractError: The limit T ≤ n/100 is reached and the terms do not lift it.
            ProtocolError: The asker broke the protocol.
        """

        async def finish(product: NDArray[np.uint64], pads: steps.Words) -> None:
            await peer.send(Answer(steps.blind(self.agreement, product, pads, self.hint.shift, self.rng)))  # (3)

        await self._products(peer, "asker", count, finish)

    async def receive(self, peer: Channel, *, count: int) -> NDArray[np.float64]:
        """Learn M·v, (count, k) float64; errors as `answer`."""
        q_bits, results, openings = self.agreement.params.q_bits, [], peer.sub("openings")

        async def finish(product: NDArray[np.uint64], pads: steps.Words) -> None:
            opened = await openings.recv(Opening, **kernels.plane_shapes(q_bits, *product.shape))  # (3)
            masked = kernels.join(kernels.Planes(opened.low, opened.middle, opened.high))
            results.append(steps.centred(product + pads - masked, q_bits) / self.agreement.public_scale)  # (4)

        await self._products(peer, "owner", count, finish)
        return np.concatenate(results)

    async def share(self, peer: Channel, *, count: int) -> NDArray[np.uint64]:
        """Return this side's shares modulo q of Δ·M·v, (count, k) uint64; errors as `answer`."""
        results = []

        async def finish(product: NDArray[np.uint64], pads: steps.Words) -> None:
            results.append((product + pads) & self.agreement.params.ring.mask)  # (3)

        await self._products(peer, "shares", count, finish)
        return np.concatenate(results)

    async def end(self, *, well: bool = True) -> None:
        """Finish or stop the transfers that no vector has used; only terms that plan ahead need it."""
        await self.ahead.end(well=well)

    async def _products(
        self,
        peer: Channel,
        output: str,
        count: int,
        finish: Callable[[NDArray[np.uint64], steps.Words], Awaitable[None]],
    ) -> None:
        """Do steps (1) and (2) for every group of vectors, and `finish` with M·c and P, (vectors, k) each."""
        agreement = self.agreement
        steps.check_output(agreement, output, count)
        agreement.check_count(self.vectors_used, count)
        self.vectors_used += count  # before anything can go wrong with them
        try:
            self._begin(peer.sub("transfers"), self.ahead.due(count))
            for at in range(0, count, GROUP):
                size = min(GROUP, count - at)
                c = await peer.recv(Masked, **kernels.plane_shapes(agreement.params.q_bits, size, agreement.n))  # (1)
                product = await offload(self.matrix.times, kernels.Planes(c.low, c.middle, c.high))
                await finish(product, np.stack([await self.ahead.take() for _ in range(size)]))
        except BaseException:
            await self.ahead.end(well=False)
            raise

    def _begin(self, peer: Channel, sizes: Sequence[int]) -> None:
        """Begin step (2) for batches of vectors; P of each is ready when its corrections have gone out."""
        agreement, N = self.agreement, self.agreement.params.N
        kind = KINDS[agreement.correction_bits]

        async def correct(ot: oblivious_transfer.CorrelatedBlocks, t: int) -> tuple[steps.Words, steps.Parts]:
            q = ot.q[t * N : (t + 1) * N]
            return await offload(steps.corrections, agreement, q, ot.delta, ot.first + t * N, self.hint.rows)

        async def send(ready: tuple[steps.Words, steps.Parts]) -> steps.Words:
            await peer.send(kind(*ready[1]))  # (2)
            return ready[0]

        self.ahead.begin([(size, partial(self.ot.extend, peer, size * N)) for size in sizes], correct, send)


@dataclass(repr=False)
class Asker:
    """The asker's side after the set-up.  Its methods are the asker's role; each takes vectors V (T, n).

    Attributes:
        agreement: Sizes, terms and parameters.
        a: The blocks of A, transformed.
        ot: The receiver's half of the transfers.
        rng: Secret randomness.
        noise: Sampler of e.
        opening_noise: Sampler of e′.
        vectors_used: All vectors so far, as the owner counts them.
        replies: Answers so far by digest of the vector; a repeated one is answered from here.
        secrets: Every s that was drawn and has masked no vector.
        ahead: R = P + H·s of the vectors to come, each with the secret of the same place.
    """

    agreement: Agreement
    a: Transformed
    ot: oblivious_transfer.OtReceiver
    rng: Rng
    noise: Gaussian
    opening_noise: Gaussian
    vectors_used: int = 0
    replies: dict[bytes, NDArray[np.float64]] = field(default_factory=dict)
    secrets: deque[steps.Secret] = field(default_factory=deque)
    ahead: Ahead[steps.Words] = field(default_factory=Ahead)

    def __post_init__(self) -> None:
        self.secrets, self.ahead = deque(), Ahead(self.agreement.planned)

    async def product(
        self, peer: Channel, V: NDArray[np.float64], *, scale: float | None = None
    ) -> NDArray[np.float64]:
        """Learn M·v for every row v of V, up to the owner's output noise.

        A vector that was asked before gets the stored reply; zeros are asked in its place, so that the owner cannot
        tell.

        Args:
            peer: The owner.
            V: (T, n) float64, finite.
            scale: Δ for all rows; by default each row gets the largest power of two that cannot wrap.

        Returns:
            (T, k) float64.

        Raises:
            InputError: A row is not finite or does not fit the scale; nothing was sent.
            ContractError: The limit T ≤ n/100 is reached and the terms do not lift it; nothing was sent.
            ProtocolError: The owner broke the protocol.
        """
        agreement, t = self.agreement, self.agreement.dropped_bits
        self._check("asker", V, np.float64)
        scales = await offload(lambda: [agreement.private_scale(v, scale) for v in V])
        keys = await offload(steps.digests, V)
        fresh = [key not in self.replies and key not in keys[:at] for at, key in enumerate(keys)]

        async def finish(at: int, sums: steps.Words) -> None:
            answer = await peer.recv(Answer, words=sums.shape)  # (3)
            rows = steps.centred(answer.words - sums, agreement.params.q_bits - t) * 2.0**t
            for index, row in enumerate(rows, at):
                if fresh[index]:
                    self.replies[keys[index]] = row / scales[index]  # (4)

        rows = [partial(steps.scaled, v, delta, new) for v, delta, new in zip(V, scales, fresh, strict=True)]
        await self._ask(peer, rows, finish)
        return np.stack([self.replies[key] for key in keys])

    async def reply(self, peer: Channel, V: NDArray[np.float64]) -> None:
        """Let the owner learn M·v for every row v of V, (T, n) float64 with |v| at most the terms' largest value.

        Raises:
            InputError: A row is outside the bound; nothing was sent.
            ContractError: The limit k·T ≤ n/10 is reached and the terms do not lift it; nothing was sent.
            ProtocolError: The owner broke the protocol.
        """
        self._check("owner", V, np.float64)
        params, scale, openings = self.agreement.params, self._public_scale(V), peer.sub("openings")

        async def finish(at: int, sums: steps.Words) -> None:
            opening = steps.add_opening_noise(sums, self.opening_noise, self.rng) & params.ring.mask
            await openings.send(Opening(*kernels.cut(opening, params.q_bits)))  # (3)

        await self._ask(peer, [partial(steps.scaled, v, scale, True) for v in V], finish)

    async def share(self, peer: Channel, V: NDArray[np.float64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return this side's shares modulo q of Δ·M·v for every row v of V, (T, k) uint64.

        Args:
            peer: The owner.
            V: (T, n) float64 with |v| at most the terms' largest value, Δ being the public scale; or (T, n) uint64,
                words modulo q taken as they are (Δ = 1), for vectors that are shares themselves.

        Raises:
            InputError: A row is outside the bound; nothing was sent.
            ProtocolError: The owner broke the protocol.
        """
        self._check("shares", V, np.uint64 if V.dtype == np.uint64 else np.float64)
        results = []

        async def finish(at: int, sums: steps.Words) -> None:
            results.append(steps.add_opening_noise(sums, self.opening_noise, self.rng))  # (3)

        if V.dtype == np.uint64:
            await self._ask(peer, [partial(steps.words_of, v) for v in V], finish)
        else:
            scale = self._public_scale(V)
            await self._ask(peer, [partial(steps.scaled, v, scale, True) for v in V], finish)
        return (np.uint64(0) - np.concatenate(results)) & self.agreement.params.ring.mask

    def _public_scale(self, V: NDArray[Any]) -> float:
        if not (np.abs(V) <= self.agreement.terms.largest_value).all():
            raise InputError(
                "a vector is not finite, or outside the bound that the terms state; nothing was sent",
                cure="Clip the column, or agree on a larger bound.",
            )
        return self.agreement.public_scale

    def _check(self, output: str, V: NDArray[Any], dtype: type[np.generic]) -> None:
        if V.ndim != 2 or V.shape[1] != self.agreement.n or V.dtype != dtype:
            raise InputError(f"vectors must be an array (T, {self.agreement.n}) of {dtype.__name__}")
        steps.check_output(self.agreement, output, len(V))
        self.agreement.check_count(self.vectors_used, len(V))

    async def end(self, *, well: bool = True) -> None:
        """Finish or stop the transfers that no vector has used; only terms that plan ahead need it."""
        await self.ahead.end(well=well)

    async def _ask(
        self,
        peer: Channel,
        rows: Sequence[steps.Row],
        finish: Callable[[int, steps.Words], Awaitable[None]],
    ) -> None:
        """Do steps (1) and (2), masking one group ahead; `finish` with a group's first row and R = P + H·s."""
        self.vectors_used += len(rows)

        async def mask(at: int) -> tuple[int, int]:
            group = rows[at : at + GROUP]
            secrets = [self.secrets.popleft() for _ in group]
            c = await offload(steps.mask, self.agreement, self.a, self.noise, self.rng, secrets, group)
            await peer.send(Masked(*c))  # (1)
            return at, len(group)

        async def unmask(group: tuple[int, int]) -> None:
            at, size = group
            await finish(at, np.stack([await self.ahead.take() for _ in range(size)]))

        try:
            self._begin(peer.sub("transfers"), self.ahead.due(len(rows)))
            await steps.in_turn([partial(mask, at) for at in range(0, len(rows), GROUP)], unmask)
        except BaseException:
            await self.ahead.end(well=False)
            raise

    def _begin(self, peer: Channel, sizes: Sequence[int]) -> None:
        """Draw the secrets of batches of vectors, and begin step (2) for them, which gives R of each."""
        agreement, N = self.agreement, self.agreement.params.N
        kind = KINDS[agreement.correction_bits]
        shapes = dict.fromkeys(array_fields(kind), (N, agreement.k))
        batches = [[self.rng.bits(N) for _ in range(size)] for size in sizes]
        self.secrets.extend(s for batch in batches for s in batch)

        async def extend(batch: list[steps.Secret]) -> tuple[oblivious_transfer.ReceivedBlocks, list[steps.Secret]]:
            return await self.ot.extend(peer, np.concatenate(batch)), batch

        async def correction(
            extended: tuple[oblivious_transfer.ReceivedBlocks, list[steps.Secret]], t: int
        ) -> Callable[[], steps.Words]:
            message, (ot, batch) = await peer.recv(kind, **shapes), extended  # (2)
            parts = tuple(getattr(message, name) for name in shapes)
            return partial(steps.chosen, ot.t[t * N : (t + 1) * N], batch[t], ot.first + t * N, parts)

        self.ahead.begin([(len(batch), partial(extend, batch)) for batch in batches], correction, offload)


async def owner(
    peer: Channel, matrix: Matrix, *, count: int, params: ParameterSet, rng: Rng, terms: Terms | None = None
) -> NDArray[Any] | None:
    """Serve `count` vectors once, set-up included; return what the terms give the owner."""
    side = await owner_setup(peer, matrix, params=params, rng=rng, terms=terms)
    match side.agreement.terms.output:
        case "asker":
            await side.answer(peer, count=count)
            return None
        case "owner":
            return await side.receive(peer, count=count)
        case "shares":
            return await side.share(peer, count=count)


async def asker(
    peer: Channel, V: NDArray[Any], *, k: int, params: ParameterSet, rng: Rng, terms: Terms | None = None
) -> NDArray[Any] | None:
    """Ask V (T, n) once, set-up included; return what the terms give the asker."""
    side = await asker_setup(peer, k, V.shape[1], params=params, rng=rng, terms=terms)
    match side.agreement.terms.output:
        case "asker":
            return await side.product(peer, V)
        case "owner":
            await side.reply(peer, V)
            return None
        case "shares":
            return await side.share(peer, V)


ROLES: Mapping[str, Callable[..., Any]] = {"owner": owner, "asker": asker}
STEPS = (Setup, Masked, NarrowCorrections, Corrections, WideCorrections)

PROTOCOL = Protocol(
    name="fixed-matrix-product",
    version=1,
    title="Columns of one site times a hidden vector of another, to the vector's site",
    card=cards.TO_ASKER,
    roles=ROLES,
    messages=(*STEPS, Answer),
    uses=(oblivious_transfer.PROTOCOL,),
)
