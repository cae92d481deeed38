"""A key that nobody holds: every member makes a part of it, and commits to it before it sees another's.

Member i                                                   Hub
(1) draws a nonce                                          passes all on: a = PRG(H(all nonces))
(2) draws s_i; b_i = t·e_i − a·s_i; sends H(b_i), signed   passes all on
(3) sends b_i                                              passes all on: b = Σ b_i
(4) where t of n shall open: Shamir shares of s_i over     passes them on; member i adds up what it gets
    the residues, one sealed for each other member
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.offload import offload
from atoll.crypto import lattice_sum
from atoll.crypto.lattice_sum import Lattice, Public
from atoll.crypto.random import Rng
from atoll.protocols.pairwise_keys import SIGNATURE_LIMIT, Seal
from atoll.protocols.secure_sum.attendance import Attendance
from atoll.protocols.secure_sum.lattice_steps import (
    Commitment,
    Commitments,
    KeyShare,
    Nonce,
    Nonces,
    PublicPart,
    Rules,
    keys_bound,
    signed,
)
from atoll.protocols.secure_sum.ties import Ties, derived
from atoll.protocols.together import together

F64 = NDArray[np.float64]
Bytes = NDArray[np.uint8]

NONCE = DIGEST = 32
TAG = 16  # bytes that AES-GCM adds


@dataclass(frozen=True, repr=False)
class Keys:
    """One member's side of a key.

    Attributes:
        roster: Who has a part of it, in alphabetical order.
        public: What is encrypted under.
        sigma: This member's part: its own s_i, or where parts are shared its share of s.
        shared: Whether it is a share.
    """

    roster: tuple[str, ...]
    public: Public
    sigma: F64
    shared: bool

    @property
    def lattice(self) -> Lattice:
        """The parameters."""
        return self.public.lattice

    def part(self, me: str, openers: Sequence[str]) -> F64:
        """Return what this member multiplies c₁ by when these open together, itself among them."""
        if not self.shared:
            return self.sigma
        points = [self.roster.index(name) + 1 for name in openers]
        return lattice_sum.weighted(self.lattice, self.sigma, self.roster.index(me) + 1, points)


async def make(
    hub: Channel, lattice: Lattice, rules: Rules, ties: Ties, alive: Sequence[str], rng: Rng, seal: Seal | None
) -> Keys:
    """Be a member: make a part of a key, and learn what all encrypt under.

    Args:
        hub: Channel to the hub.
        lattice: The parameters.
        rules: What all sites agree on.
        ties: Keys with the other members, for shares.
        alive: Members that may take part.
        rng: Secret randomness.
        seal: Signs and checks commitments.

    Raises:
        ProtocolError: A nonce, commitment, b_i or share does not fit, or too few members take part.
        IdentityError: A commitment is not signed by its member.
    """
    me = ties.me
    lines = await _nonces(hub, rules, me, alive, rng)  # (1)
    roster = tuple(name for name, _ in lines)
    bound = keys_bound(rules, lattice.name, lines)
    a = await offload(lattice_sum.common, lattice, bound)
    s = await offload(lattice_sum.secret, lattice, rng)
    mine = await offload(lattice_sum.contribution, lattice, s, a, rng)
    digests = await _commitments(hub, roster, me, bound, _digest(bound, me, mine), seal)  # (2)
    await hub.send(PublicPart(mine))  # (3)
    parts = [mine]
    for name in roster:
        if name != me:
            b = (await hub.recv(PublicPart, b=mine.shape)).b
            if _digest(bound, name, b) != digests[name]:
                raise ProtocolError(f"the part of the key of {name} is not the one that it had committed to")
            parts.append(b)
    public = Public(lattice, a, await offload(lattice_sum.joined, lattice, parts))
    if not rules.shared(roster):
        return Keys(roster, public, s, shared=False)
    sigma = await _share(hub, lattice, rules, ties, roster, bound, s, rng)  # (4)
    return Keys(roster, public, sigma, shared=True)


async def _nonces(hub: Channel, rules: Rules, me: str, alive: Sequence[str], rng: Rng) -> list[tuple[str, bytes]]:
    nonce = rng.bytes(NONCE)
    await hub.send(Nonce(nonce))
    lines = (await hub.recv(Nonces)).lines
    names = [name for name, _ in lines]
    if names != sorted(set(names)) or not set(names) <= set(alive) or dict(lines).get(me) != nonce:
        raise ProtocolError(f"{hub.peer} passed on nonces of other sites than the job names, or changed this one's")
    if any(len(nonce) != NONCE for _, nonce in lines):
        raise ProtocolError(f"{hub.peer} passed on a nonce of another size")
    if len(names) < rules.least:
        raise ProtocolError(f"only {len(names)} members make a key; {rules.least} are needed")
    return lines


async def _commitments(
    hub: Channel, roster: tuple[str, ...], me: str, bound: bytes, digest: bytes, seal: Seal | None
) -> Mapping[str, bytes]:
    await hub.send(Commitment(digest, seal.sign(signed(bound, me, digest)) if seal else b""))
    lines = (await hub.recv(Commitments)).lines
    if tuple(name for name, _, _ in lines) != roster:
        raise ProtocolError(f"{hub.peer} passed on commitments of other sites than the nonces")
    for name, other, signature in lines:
        if len(other) != DIGEST or len(signature) > SIGNATURE_LIMIT:
            raise ProtocolError(f"{name} sent a commitment or a signature of another size")
        if name == me and other != digest:
            raise ProtocolError(f"{hub.peer} changed this site's commitment")
        if seal and name != me:
            seal.verify(name, signed(bound, name, other), signature)
    return {name: other for name, other, _ in lines}


async def _share(
    hub: Channel,
    lattice: Lattice,
    rules: Rules,
    ties: Ties,
    roster: tuple[str, ...],
    bound: bytes,
    s: F64,
    rng: Rng,
) -> F64:
    """Share this member's part, and return the sum of the shares that it holds of all parts."""
    me, others = ties.me, [name for name in roster if name != ties.me]
    made = await offload(lattice_sum.shares, lattice, s, rules.least, len(roster), rng)
    mine = dict(zip(roster, made, strict=True))
    shape = mine[me].shape

    async def send() -> None:
        for name in others:
            box = _cipher(ties.keys[name], bound, me, name).encrypt(bytes(12), mine[name].tobytes(), None)
            await hub.send(KeyShare(np.frombuffer(box, np.uint8)))

    async def receive() -> list[Bytes]:
        found = []
        for name in others:
            box = (await hub.recv(KeyShare, box=(mine[me].size + TAG,))).box
            try:
                share = _cipher(ties.keys[name], bound, name, me).decrypt(bytes(12), box.tobytes(), None)
            except InvalidTag:
                raise ProtocolError(f"the share of the key of {name} was changed on its way") from None
            found.append(np.frombuffer(share, np.uint8).reshape(shape))
        return found

    _, received = await together(send(), receive())
    return await offload(lattice_sum.joined, lattice, [mine[me], *received])


def _cipher(key: bytes, bound: bytes, sender: str, receiver: str) -> AESGCM:
    """Return the cipher for one box: a key for each direction of each pair, and for each key that is made."""
    direction = sender.encode() + b"\0" + receiver.encode()  # names hold no control characters
    return AESGCM(derived(key, "lattice/share", bound + direction, 32))


def _digest(bound: bytes, name: str, b: Bytes) -> bytes:
    text = b"atoll/sum-lattice/v1/b" + bound + len(name.encode()).to_bytes(2, "little") + name.encode()
    return hashlib.sha256(text + b.tobytes()).digest()


async def relay(attendance: Attendance, lattice: Lattice, rules: Rules) -> tuple[str, ...]:
    """Be the hub: pass on what the members say to each other; return who has a part of the key.

    Args:
        attendance: The members.
        lattice: The parameters.
        rules: What all sites agree on.

    Raises:
        ProtocolError: Too few members take part, or a message has another size.
        AtollError: A member fails while the key is made.
    """
    peers = attendance.peers
    nonces = await attendance.collect(
        attendance.reachable, lambda name: peers[name].recv(Nonce), "before a key was made"
    )  # (1)
    roster = tuple(sorted(nonces))
    lines = [(name, nonces[name].nonce) for name in roster]
    await together(*(peers[name].send(Nonces(lines)) for name in roster))
    commitments = await together(*(peers[name].recv(Commitment) for name in roster))  # (2)
    passed = [(name, one.digest, one.signature) for name, one in zip(roster, commitments, strict=True)]
    if any(len(digest) != DIGEST or len(signature) > SIGNATURE_LIMIT for _, digest, signature in passed):
        raise ProtocolError("a member sent a commitment or a signature of another size")
    await together(*(peers[name].send(Commitments(passed)) for name in roster))
    shape = (lattice.primes, lattice.chain.N, 3)
    parts = await together(*(peers[name].recv(PublicPart, b=shape) for name in roster))  # (3)

    async def tell(me: str) -> None:
        for name, part in zip(roster, parts, strict=True):
            if name != me:
                await peers[me].send(part)

    await together(*(tell(name) for name in roster))
    if rules.shared(roster):
        await _pass_shares(peers, roster, shape[0] * shape[1] * shape[2] + TAG)  # (4)
    return roster


async def _pass_shares(peers: Mapping[str, Channel], roster: tuple[str, ...], size: int) -> None:
    async def taken(me: str) -> dict[str, KeyShare]:
        return {name: await peers[me].recv(KeyShare, box=(size,)) for name in roster if name != me}

    boxes = dict(zip(roster, await together(*(taken(name) for name in roster)), strict=True))

    async def tell(me: str) -> None:
        for name in roster:
            if name != me:
                await peers[me].send(boxes[name][me])

    await together(*(tell(name) for name in roster))
