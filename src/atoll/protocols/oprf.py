"""Oblivious pseudo-random function: `client` learns F_k at its inputs, and `server`, who has k, learns how many.

(1) client → server   Blinded     r·H(x), a fresh r for each
(2) server → client   Evaluated   k·(r·H(x))
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import oprf
from atoll.crypto.random import Rng

CARD = Card(
    source="RFC 9497, section 3.3.1, OPRF(ristretto255, SHA-512) in base mode; Jarecki, Kiayias, Krawczyk, "
    "ASIACRYPT 2014 (2HashDH).",
    security="Malicious client: one-more gap Diffie-Hellman on ristretto255, SHA-512 as a random oracle. The inputs "
    "are hidden from any server unconditionally. Nothing proves that a malicious server keeps to one key.",
    inputs="client: n byte strings of at most 65,535 bytes. server: k, 32 bytes; and n, which both know.",
    reveals={
        "client": ("F_k at its n inputs, 64 bytes each, and nothing of F_k elsewhere.",),
        "server": ("n, which it knew.",),
    },
    cost="2 messages, 64 bytes an input. For each input 1 hash to the group and 2 scalar multiplications at the "
    "client, 1 at the server.",
    fails="ProtocolError when a point is not canonical or is the identity, or there are not n of them.",
    assurance="tested",
    notes=("Who may ask may try keys: the server should limit how many (`keyword-lookup` does).",),
)


class Blinded(Message, frozen=True):
    """Step 1, client: r·H(x) for each input."""

    points: U8


class Evaluated(Message, frozen=True):
    """Step 2, server: k times each point."""

    points: U8


async def client(peer: Channel, inputs: Sequence[bytes], *, rng: Rng) -> NDArray[np.uint8]:
    """Learn F_k at the inputs.

    Args:
        peer: Channel to the server.
        inputs: n byte strings of at most 65,535 bytes.
        rng: Secret randomness.

    Returns:
        F_k(x), (n, 64) uint8.

    Raises:
        ProtocolError: As the card says.
        ValueError: An input is too long.
    """
    r, points = await offload(oprf.blind, inputs, rng)
    await peer.send(Blinded(points))  # (1)
    evaluated = (await peer.recv(Evaluated, points=(len(inputs), 32))).points  # (2)
    return await offload(oprf.finalize, inputs, r, evaluated)


async def server(peer: Channel, k: bytes, *, count: int) -> None:
    """Evaluate F_k at `count` hidden inputs.

    Args:
        peer: Channel to the client.
        k: The key, 32 bytes.
        count: n.

    Raises:
        ProtocolError: As the card says.
    """
    points = (await peer.recv(Blinded, points=(count, 32))).points  # (1)
    await peer.send(Evaluated(await offload(oprf.evaluate_blinded, points, k)))  # (2)


PROTOCOL = Protocol(
    name="oprf",
    version=1,
    title="A pseudo-random function of hidden inputs under the other site's key",
    card=CARD,
    roles={"client": client, "server": server},
    messages=(Blinded, Evaluated),
)
