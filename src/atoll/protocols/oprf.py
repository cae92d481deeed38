"""Oblivious pseudo-random function: `client` learns F_k at its inputs, and `server`, who has k, learns how many.

(1) client → server   Blinded     r·H(x), a fresh r for each
(2) server → client   Evaluated   k·(r·H(x))
(3) server → client   Proof       in verifiable mode: all of them with the k of k·G
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import oprf
from atoll.crypto.random import Rng

CARD = Card(
    source="RFC 9497, sections 3.3.1 (base mode) and 3.3.2 (verifiable mode), OPRF(ristretto255, SHA-512); "
    "Jarecki, Kiayias, Krawczyk, ASIACRYPT 2014 (2HashDH).",
    security="Malicious client: one-more gap Diffie-Hellman on ristretto255, SHA-512 as a random oracle. The inputs "
    "are hidden from any server unconditionally. In base mode nothing proves that a malicious server keeps to one key; "
    "in verifiable mode a proof of equal logarithms does, with SHA-512 as a random oracle.",
    inputs="client: n byte strings of at most 65,535 bytes; in verifiable mode k·G. server: k, 32 bytes; and "
    "n ≤ 65,535, which both know.",
    reveals={
        "client": ("F_k at its n inputs, 64 bytes each, and nothing of F_k elsewhere.",),
        "server": ("n, which it knew.",),
    },
    cost="2 messages, 64 bytes an input. For each input 1 hash to the group and 2 scalar multiplications at the "
    "client, 1 at the server; in verifiable mode 2 more at the client, 1 more at the server, and 64 bytes.",
    fails="ProtocolError when a point is not canonical or is the identity, there are not n, or the proof fails.",
    assurance="tested",
    notes=("Who may ask may try keys: the server should limit how many (`keyword-lookup` does).",),
)


class Blinded(Message, frozen=True):
    """Step 1, client: r·H(x) for each input."""

    points: U8


class Evaluated(Message, frozen=True):
    """Step 2, server: k times each point."""

    points: U8


class Proof(Message, frozen=True):
    """Step 3, server, in verifiable mode: the proof (c, s) for all points of the run."""

    proof: U8


async def client(
    peer: Channel, inputs: Sequence[bytes], *, rng: Rng, public: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Learn F_k at the inputs.

    Args:
        peer: Channel to the server.
        inputs: n byte strings of at most 65,535 bytes.
        rng: Secret randomness.
        public: k·G, (32,), for the verifiable mode, whose F is another one; None for the base mode.

    Returns:
        F_k(x), (n, 64) uint8.

    Raises:
        ProtocolError: As the card says.
        ValueError: An input is too long.
    """
    verifiable = public is not None
    r, points = await offload(oprf.blind, inputs, rng, verifiable=verifiable)
    await peer.send(Blinded(points))  # (1)
    evaluated = (await peer.recv(Evaluated, points=(len(inputs), 32))).points  # (2)
    if public is not None and inputs:
        proof = (await peer.recv(Proof, proof=(oprf.PROOF_BYTES,))).proof.tobytes()  # (3)
        if not await offload(oprf.verify, points, evaluated, public, proof):
            raise ProtocolError(f"{peer.peer} did not prove that it used the key it is known by")
    return await offload(oprf.finalize, inputs, r, evaluated)


async def server(peer: Channel, k: bytes, *, count: int, rng: Rng | None = None) -> None:
    """Evaluate F_k at `count` hidden inputs.

    Args:
        peer: Channel to the client.
        k: The key, 32 bytes.
        count: n.
        rng: Secret randomness for the proof of the verifiable mode; None for the base mode.

    Raises:
        ProtocolError: As the card says.
    """
    points = (await peer.recv(Blinded, points=(count, 32))).points  # (1)
    evaluated = await offload(oprf.evaluate_blinded, points, k)
    await peer.send(Evaluated(evaluated))  # (2)
    if rng is not None and count:
        proof = await offload(oprf.prove, points, evaluated, k, rng)
        await peer.send(Proof(np.frombuffer(proof, np.uint8)))  # (3)


PROTOCOL = Protocol(
    name="oprf",
    version=1,
    title="A pseudo-random function of hidden inputs under the other site's key",
    card=CARD,
    roles={"client": client, "server": server},
    messages=(Blinded, Evaluated, Proof),
)
