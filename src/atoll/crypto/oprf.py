"""The oblivious pseudo-random function OPRF(ristretto255, SHA-512) in base mode: a PRF whose key is at one site.

F_k(x) = SHA-512(x, k·H(x)).  Who has x sends r·H(x), gets k·r·H(x) back and takes r off; the key's site learns nothing
of x, and who asks learns F_k at the x it asked for and nowhere else.

Source: RFC 9497, sections 3.3.1 and 4.1.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.crypto.ristretto import Points

OUTPUT_BYTES = 64
LONGEST_INPUT = (1 << 16) - 1
"""Bytes of an input: the RFC writes its length in two."""

HASH_TAG = b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512"


def blind(inputs: Sequence[bytes], rng: Rng) -> tuple[NDArray[np.uint8], Points]:
    """Hide inputs, each behind a scalar of its own.

    Args:
        inputs: n byte strings of at most 65,535 bytes.
        rng: Secret randomness.

    Returns:
        The scalars r, (n, 32), which stay secret, and the points r·H(x), (n, 32), to be sent.

    Raises:
        ValueError: An input is too long.

    Source:
        RFC 9497, section 3.3.1, Blind.
    """
    _check(inputs)
    scalars = np.frombuffer(b"".join(ristretto.random_scalar(rng) for _ in inputs), np.uint8).reshape(-1, 32)
    return scalars, ristretto.multiply_each(ristretto.hash_to_points(inputs, HASH_TAG), scalars)


def evaluate_blinded(points: Points, key: bytes) -> Points:
    """Return k·P for every point P that a peer sent, (n, 32).

    Raises:
        ProtocolError: A point is not the canonical encoding of an element other than the identity.
    """
    return ristretto.multiply(points, key)


def finalize(inputs: Sequence[bytes], scalars: NDArray[np.uint8], evaluated: Points) -> NDArray[np.uint8]:
    """Take the blinding off, and hash.

    Args:
        inputs: The n inputs, as given to `blind`.
        scalars: (n, 32), from `blind`.
        evaluated: (n, 32), what the key's site answered.

    Returns:
        F_k(x), (n, 64) uint8.

    Raises:
        ProtocolError: A point is not canonical.

    Source:
        RFC 9497, section 3.3.1, Finalize.
    """
    return _hashed(inputs, ristretto.multiply_each(evaluated, ristretto.invert(scalars)))


def evaluate(inputs: Sequence[bytes], key: bytes, *, threads: int = 0) -> NDArray[np.uint8]:
    """Return F_k(x) at the key's own site, (n, 64) uint8.

    Args:
        inputs: n byte strings of at most 65,535 bytes.
        key: k, 32 bytes.
        threads: How many; 0 takes all cores.

    Raises:
        ValueError: An input is too long.

    Source:
        RFC 9497, section 3.3.1, Evaluate.
    """
    _check(inputs)
    return _hashed(inputs, ristretto.hash_and_multiply(inputs, HASH_TAG, key, threads=threads))


def _hashed(inputs: Sequence[bytes], points: Points) -> NDArray[np.uint8]:
    elements, out = points.tobytes(), []
    for at, text in enumerate(inputs):
        point = elements[32 * at : 32 * at + 32]
        out.append(hashlib.sha512(struct.pack(">H", len(text)) + text + b"\x00\x20" + point + b"Finalize").digest())
    return np.frombuffer(b"".join(out), np.uint8).reshape(-1, OUTPUT_BYTES)


def _check(inputs: Iterable[bytes]) -> None:
    if max(map(len, inputs), default=0) > LONGEST_INPUT:
        raise ValueError(f"an input of the OPRF has at most {LONGEST_INPUT:,} bytes")
