"""The oblivious pseudorandom function of RFC 9497 on ristretto255, for many inputs at once.

F(x) = SHA-512(x, k·H(x)).  A client sends r·H(x), each with a random r of its own, which hides x from anybody with any
computing power; the server multiplies by its key k, and the client takes r off.

Source: RFC 9497, section 3.3.1 (mode OPRF) with the suite ristretto255-SHA512 of section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import ristretto
from atoll.crypto.random import Rng

Bytes = NDArray[np.uint8]

OUTPUT_BYTES = 64
ORDER = (1 << 252) + 27742317777372353535851937790883648493
"""The group's order, RFC 9496, section 4."""

_HASH_TO_GROUP = b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512"


def blind(inputs: Sequence[bytes], rng: Rng) -> tuple[Bytes, Bytes]:
    """Hide inputs.

    Args:
        inputs: n byte strings of less than 2^16 bytes.
        rng: Draws a scalar for every input.

    Returns:
        The scalars (n, 32), which stay secret and are used once, and the points to send, (n, 32).
    """
    scalars = np.frombuffer(b"".join(ristretto.random_scalar(rng) for _ in inputs), np.uint8).reshape(-1, 32)
    return scalars, _multiply_each(ristretto.hash_to_points(inputs, _HASH_TO_GROUP), scalars)


def evaluate_blinded(points: Bytes, key: bytes) -> Bytes:
    """Multiply a client's points by the key, (n, 32).

    Raises:
        ProtocolError: A point is not canonical, or is the identity.
    """
    return ristretto.multiply(points, key)


def finalize(inputs: Sequence[bytes], scalars: Bytes, evaluated: Bytes) -> Bytes:
    """Return F of the inputs.

    Args:
        inputs: The n inputs.
        scalars: What `blind` returned for them, (n, 32).
        evaluated: What the server answered, (n, 32).

    Returns:
        (n, 64) uint8.

    Raises:
        ProtocolError: A point is not canonical, or is the identity.
    """
    each = [pow(int.from_bytes(r.tobytes(), "little"), -1, ORDER).to_bytes(32, "little") for r in scalars]
    inverses = np.frombuffer(b"".join(each), np.uint8).reshape(-1, 32)
    return _hashed(inputs, _multiply_each(evaluated, inverses))


def evaluate(inputs: Sequence[bytes], key: bytes) -> Bytes:
    """Return F of the server's own inputs, (n, 64); arguments as in `finalize`."""
    return _hashed(inputs, ristretto.hash_and_multiply(inputs, _HASH_TO_GROUP, key))


def _multiply_each(points: Bytes, scalars: Bytes) -> Bytes:
    out = np.empty((len(scalars), 32), np.uint8)
    for i, scalar in enumerate(scalars):
        out[i] = ristretto.multiply(points[i : i + 1], scalar.tobytes(), first=i, threads=1)[0]
    return out


def _hashed(inputs: Sequence[bytes], points: Bytes) -> Bytes:
    sha, flat, last = hashlib.sha512, points.tobytes(), b"\x00\x20"
    digests = [
        sha(len(x).to_bytes(2, "big") + x + last + flat[32 * i : 32 * i + 32] + b"Finalize").digest()
        for i, x in enumerate(inputs)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, OUTPUT_BYTES)
