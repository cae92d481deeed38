"""A code of 448 bits whose words differ in at least 128 places: the first bits of four AES-128 under public keys.

For two given texts the difference of the words is 448 random bits; fewer than 128 of them are set with probability
2^-66.5 over the keys. For up to 2^24.9 × 3 pairs that is below 2^-40 together.

Source: Kolesnikov, Kumaresan, Rosulek, Trieu, ACM CCS 2016, section 3 (pseudorandom codes).
"""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks, expand

U64 = NDArray[np.uint64]

WIDTH = 448
WORDS = WIDTH // 64


class PseudorandomCode:
    """The code under one key.

    Args:
        key: 16 public bytes, drawn when the texts were settled.
    """

    def __init__(self, key: bytes) -> None:
        keys = expand(key, 64).tobytes()
        self._ciphers = [FixedKey(keys[at : at + 16]) for at in range(0, 64, 16)]

    def words(self, texts: U64) -> U64:
        """Return the code words of texts (n, 2) uint64, (n, 7) uint64."""
        out, block = np.empty((len(texts), WORDS), np.uint64), blocks(len(texts))
        for at, cipher in zip(range(0, WORDS, 2), self._ciphers, strict=True):
            cipher.encrypt_into(texts, block)
            out[:, at : at + 2] = block[:, : WORDS - at]
        return out
