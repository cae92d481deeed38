"""The oblivious pseudo-random function OPRF(ristretto255, SHA-512): a PRF whose key is at one site.

F_k(x) = SHA-512(x, k·H(x)).  Who has x sends r·H(x), gets k·r·H(x) back and takes r off; the key's site learns nothing
of x, and who asks learns F_k at the x it asked for and nowhere else.  In verifiable mode the key's site proves that it
used the k of a known point k·G; F is another function then, since the mode is hashed with the input.

Source: RFC 9497, sections 2.2 (the proof), 3.3.1 (base mode), 3.3.2 (verifiable mode) and 4.1.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.crypto.ristretto import Points

OUTPUT_BYTES = 64
LONGEST_INPUT = (1 << 16) - 1
"""Bytes of an input: the RFC writes its length in two."""

PROOF_BYTES = 64


def context(verifiable: bool) -> bytes:
    """Return the text that keeps the hashes of the modes apart."""
    return b"OPRFV1-" + bytes([verifiable]) + b"-ristretto255-SHA512"


def blind(inputs: Sequence[bytes], rng: Rng, *, verifiable: bool = False) -> tuple[NDArray[np.uint8], Points]:
    """Hide inputs, each behind a scalar of its own.

    Args:
        inputs: n byte strings of at most 65,535 bytes.
        rng: Secret randomness.
        verifiable: For the verifiable mode.

    Returns:
        The scalars r, (n, 32), which stay secret, and the points r·H(x), (n, 32), to be sent.

    Raises:
        ValueError: An input is too long.

    Source:
        RFC 9497, section 3.3.1, Blind.
    """
    _check(inputs)
    scalars = np.frombuffer(b"".join(ristretto.random_scalar(rng) for _ in inputs), np.uint8).reshape(-1, 32)
    return scalars, ristretto.multiply_each(ristretto.hash_to_points(inputs, _tag(verifiable)), scalars)


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


def evaluate(inputs: Sequence[bytes], key: bytes, *, threads: int = 0, verifiable: bool = False) -> NDArray[np.uint8]:
    """Return F_k(x) at the key's own site, (n, 64) uint8.

    Args:
        inputs: n byte strings of at most 65,535 bytes.
        key: k, 32 bytes.
        threads: How many; 0 takes all cores.
        verifiable: For the verifiable mode.

    Raises:
        ValueError: An input is too long.

    Source:
        RFC 9497, section 3.3.1, Evaluate.
    """
    _check(inputs)
    return _hashed(inputs, ristretto.hash_and_multiply(inputs, _tag(verifiable), key, threads=threads))


def prove(points: Points, evaluated: Points, key: bytes, rng: Rng) -> bytes:
    """Prove in verifiable mode that all points were multiplied by the k of k·G.

    Args:
        points: What came, (n, 32) with n ≥ 1, already checked by `evaluate_blinded`.
        evaluated: k times each.
        key: k, 32 bytes.
        rng: Secret randomness.

    Returns:
        The proof (c, s), 64 bytes.

    Source:
        RFC 9497, section 2.2.1, GenerateProof, with composites as in ComputeCompositesFast.
    """
    public, r = ristretto.multiply_base(key), ristretto.random_scalar(rng)
    M = _sum(ristretto.multiply_each(points, _weights(public, points, evaluated)))
    t2, t3 = ristretto.multiply_base(r), ristretto.multiply(M, r)[0]
    c = _challenge(public, M[0], ristretto.multiply(M, key)[0], t2, t3)
    return c + ristretto.less_product(r, c, key)


def verify(points: Points, evaluated: Points, public: Points, proof: bytes) -> bool:
    """Return whether a proof shows that `evaluated` are `points` times the k of public = k·G.

    Args:
        points: What was sent, (n, 32) with n ≥ 1.
        evaluated: What came back, (n, 32), not trusted.
        public: k·G, (32,).
        proof: 64 bytes, not trusted.

    Source:
        RFC 9497, section 2.2.2, VerifyProof.
    """
    if len(proof) != PROOF_BYTES or ristretto.reduce_scalar(proof[32:] + bytes(32)) != proof[32:]:
        return False
    c, s = proof[:32], proof[32:]
    try:
        weights = _weights(public, points, evaluated)
        M, Z = _sum(ristretto.multiply_each(points, weights)), _sum(ristretto.multiply_each(evaluated, weights))
        generator = ristretto.multiply_base((1).to_bytes(32, "little"))
        both = np.concatenate((generator[None], M))
        t = ristretto.add(ristretto.multiply(both, s), ristretto.multiply(np.concatenate((public[None], Z)), c))
    except ProtocolError:  # a point off the group, or a sum that is the identity
        return False
    return _challenge(public, M[0], Z[0], t[0], t[1]) == c


def _weights(public: Points, points: Points, evaluated: Points) -> NDArray[np.uint8]:
    """Return the hashed weights d of the pairs, (n, 32)."""
    seed = hashlib.sha512(_sized(public.tobytes()) + _sized(b"Seed-" + context(True))).digest()
    texts = (
        _sized(seed) + struct.pack(">H", at) + _sized(p.tobytes()) + _sized(q.tobytes()) + b"Composite"
        for at, (p, q) in enumerate(zip(points, evaluated, strict=True))
    )
    return np.frombuffer(b"".join(map(_hash_to_scalar, texts)), np.uint8).reshape(-1, 32)


def _challenge(*points: Points) -> bytes:
    return _hash_to_scalar(b"".join(_sized(point.tobytes()) for point in points) + b"Challenge")


def _hash_to_scalar(text: bytes) -> bytes:
    """expand_message_xmd to 64 bytes (RFC 9380, section 5.3.1), modulo the group's order."""
    tag = b"HashToScalar-" + context(True)
    tag += bytes([len(tag)])
    first = hashlib.sha512(bytes(128) + text + struct.pack(">HB", 64, 0) + tag).digest()
    return ristretto.reduce_scalar(hashlib.sha512(first + b"\x01" + tag).digest())


def _sum(points: Points) -> Points:
    """Return the sum of points, (1, 32)."""
    while len(points) > 1:
        half = len(points) // 2
        points = np.concatenate((ristretto.add(points[:half], points[half : 2 * half]), points[2 * half :]))
    return points


def _sized(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _tag(verifiable: bool) -> bytes:
    return b"HashToGroup-" + context(verifiable)


def _hashed(inputs: Sequence[bytes], points: Points) -> NDArray[np.uint8]:
    elements, out = points.tobytes(), []
    for at, text in enumerate(inputs):
        point = elements[32 * at : 32 * at + 32]
        out.append(hashlib.sha512(_sized(text) + _sized(point) + b"Finalize").digest())
    return np.frombuffer(b"".join(out), np.uint8).reshape(-1, OUTPUT_BYTES)


def _check(inputs: Iterable[bytes]) -> None:
    if max(map(len, inputs), default=0) > LONGEST_INPUT:
        raise ValueError(f"an input of the OPRF has at most {LONGEST_INPUT:,} bytes")
