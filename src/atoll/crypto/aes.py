"""AES-128 in bulk through OpenSSL: expansion of keys into streams, and one fixed-key permutation."""

import threading

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

_SLACK = 15  # OpenSSL's wrapper asks for this many bytes behind a block cipher's output


def expand(key: bytes, nbytes: int, nonce: bytes = bytes(16)) -> NDArray[np.uint8]:
    """Expand a key into a stream by AES-128 in counter mode.

    Args:
        key: 16 bytes.
        nbytes: Length of the stream.
        nonce: 16 bytes, the first counter block; two streams of one key need counters that do not meet.

    Returns:
        The stream, (nbytes,) uint8.

    Raises:
        ValueError: The key or the nonce does not have 16 bytes.

    Source:
        NIST SP 800-38A, section 6.5.
    """
    if len(key) != 16:
        raise ValueError(f"an AES-128 key has 16 bytes, got {len(key)}")
    out = np.zeros(nbytes, np.uint8)
    Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update_into(out.data, out.data)
    return out


class Streams:
    """Many AES-128 streams in counter mode, which go forward together and never back.

    Args:
        keys: (…, 16) uint8, one key a stream.
    """

    def __init__(self, keys: NDArray[np.uint8]) -> None:
        self._streams: list[CipherContext] = [
            Cipher(algorithms.AES(key.tobytes()), modes.CTR(bytes(16))).encryptor() for key in keys.reshape(-1, 16)
        ]

    def __repr__(self) -> str:
        return f"Streams({len(self._streams)})"  # the keys are secret

    def __reduce__(self) -> str:
        raise TypeError("streams cannot be copied or stored: they would repeat")

    def next(self, words: int) -> NDArray[np.uint64]:
        """Return the next words of every stream, (streams, words) uint64."""
        out, zeros = np.empty((len(self._streams), words), np.uint64), np.zeros(8 * words, np.uint8).data
        for stream, row in zip(self._streams, out.view(np.uint8), strict=True):
            stream.update_into(zeros, row.data)
        return out


def blocks(count: int) -> NDArray[np.uint64]:
    """Return room for `count` blocks, (count, 2) uint64 not initialised, that `FixedKey` can fill in place."""
    return np.empty(2 * count + 2, np.uint64)[: 2 * count].reshape(count, 2)


class FixedKey:
    """The permutation AES-128 under one fixed key, for hashing by fixed-key AES; safe to use from several threads.

    Args:
        key: 16 bytes, usually a public constant.

    Raises:
        ValueError: The key does not have 16 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != 16:
            raise ValueError(f"an AES-128 key has 16 bytes, got {len(key)}")
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - a permutation to hash with, not an encryption
        self._local = threading.local()

    def encrypt_into(self, source: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
        """Encrypt each block of `source` into `out`, which may be the same array.

        Args:
            source: (…, 2) uint64, contiguous: one block a row, little-endian words.
            out: As many words, from `blocks` (it needs a little room behind its end).

        Raises:
            ValueError: `out` is not contiguous, too small, or was not made by `blocks`.
        """
        encryptor = getattr(self._local, "encryptor", None)
        if encryptor is None:
            encryptor = self._local.encryptor = self._cipher.encryptor()
        encryptor.update_into(source.reshape(-1).view(np.uint8).data, _with_slack(out).data)


def _with_slack(out: NDArray[np.uint64]) -> NDArray[np.uint8]:
    whole = out.base
    if not isinstance(whole, np.ndarray) or whole.ndim != 1 or whole.dtype != np.uint64:
        raise ValueError("room for AES blocks comes from atoll.crypto.aes.blocks")
    start = (out.ctypes.data - whole.ctypes.data) // 8
    if not out.flags.c_contiguous or whole.size - start - out.size < 2:
        raise ValueError("room for AES blocks is contiguous and has two words behind its end")
    return whole[start : start + out.size + 2].view(np.uint8)
