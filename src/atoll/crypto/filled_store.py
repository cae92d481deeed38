"""A key-value store whose free words are random: where the values are uniform, the words are, too, and hide the keys.

`okvs.encode` leaves the words zero that no key needs, which shows where keys are.  Here random words R are drawn first
and the store encodes what R does not already decode to; their XOR decodes to the values, and what is free stays random.

Source: Garimella, Pinkas, Rosulek, Trieu, Yanai, CRYPTO 2021 (oblivious stores).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import okvs
from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng

U64 = NDArray[np.uint64]

TRIES = 8
"""Seeds that are tried; each fails with a probability below 2^-40."""


@dataclass(frozen=True)
class Store:
    """A store as it travels.

    Attributes:
        seed: 16 public bytes.
        words: (m, w) uint64, m = `okvs.Shape(n).words`; a key decodes to w words.
    """

    seed: bytes
    words: U64


def encode(keys: U64, values: U64, shape: okvs.Shape, rng: Rng) -> Store:
    """Return a store that decodes keys to values, and other keys to random words.

    Args:
        keys: (n, 2) uint64, hashed, each once.
        values: (n, w) uint64.
        shape: Sizes, for n keys or more.
        rng: Draws the seed and the filling.

    Raises:
        NotEncodable: A key stands twice.
    """
    for _ in range(TRIES):
        seed = rng.bytes(16)
        found = okvs.places(seed, keys, shape)
        words = rng.u64(shape.words, values.shape[1])
        wanted = values[found.order] ^ _decode(found, words)
        try:
            for column in range(values.shape[1]):
                words[:, column] ^= okvs.encode(found, np.ascontiguousarray(wanted[:, column]))
        except okvs.NotEncodable:
            continue
        return Store(seed, words)
    raise okvs.NotEncodable("a key stands twice")


def decode(store: Store, keys: U64, shape: okvs.Shape) -> U64:
    """Return what keys decode to.

    Args:
        store: The store; its words have the shape's size.
        keys: (n, 2) uint64, any number of them.
        shape: Sizes, as at the side that encoded.

    Returns:
        (n, w) uint64, in the order of the keys.
    """
    found = okvs.places(store.seed, keys, shape)
    out = np.empty((len(keys), store.words.shape[1]), np.uint64)
    out[found.order] = _decode(found, store.words)
    return out


def _decode(found: okvs.Places, words: U64) -> U64:
    """Return (n, w) words in the places' order."""
    shape, out = found.shape, np.empty((len(found.at), words.shape[1]), np.uint64)
    binned = read_only(words).reshape(shape.bins, shape.width, words.shape[1])
    _decode_columns(found.at, found.dense, found.starts, binned, 3 * shape.third, out)
    return out


@njit
def _decode_columns(
    at: NDArray[np.uint32], dense: U64, starts: NDArray[np.int64], words: U64, sparse: int, out: U64
) -> None:
    """Decode any number of columns; nothing is done for keys that are not there, so a few keys cost next to nothing."""
    zero, one = np.uint64(0), np.uint64(1)
    for b in range(words.shape[0]):
        row = words[b]
        for i in range(starts[b], starts[b + 1]):
            for c in range(out.shape[1]):
                value = row[at[i, 0], c] ^ row[at[i, 1], c] ^ row[at[i, 2], c]
                for k in range(row.shape[0] - sparse):
                    value ^= row[sparse + k, c] & (zero - ((dense[i] >> np.uint64(k)) & one))
                out[i, c] = value


def warm() -> None:
    """Compile this module's kernels."""
    found = okvs.places(bytes(16), np.zeros((1, 2), np.uint64), okvs.Shape(1))
    _decode(found, np.zeros((okvs.Shape(1).words, 1), np.uint64))
