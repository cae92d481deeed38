"""Secret randomness: AES-256 in counter mode under a key from the operating system.

Everything secret in the product is drawn here: scalars, masks, noise, orders.  An `Rng` is passed to who needs it,
never global; `spawn` gives an independent one to a thread or a sub-protocol.
"""

import os
import threading

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from atoll.crypto.jit import njit

_KEY_BYTES = 32


class Rng:
    """A cryptographically strong stream of numbers; safe to use from several threads.

    Args:
        key: 32 (or 16) secret bytes.  Two generators with one key give one stream, so only tests pass a chosen key.

    Raises:
        ValueError: The key has neither 32 nor 16 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) not in (16, _KEY_BYTES):
            raise ValueError(f"a generator's key has 16 or {_KEY_BYTES} bytes, got {len(key)}")
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @classmethod
    def system(cls) -> "Rng":
        """Return a generator keyed by the operating system."""
        return cls(os.urandom(_KEY_BYTES))

    def __repr__(self) -> str:
        return "Rng(…)"  # the state is secret

    def __reduce__(self) -> str:
        raise TypeError("a generator cannot be copied or stored: its stream would repeat")

    def spawn(self) -> "Rng":
        """Return a new generator whose stream is independent of this one's."""
        return Rng(self.bytes(_KEY_BYTES))

    def u8(self, *shape: int) -> NDArray[np.uint8]:
        """Return uniform bytes of the given shape."""
        if self._pid != os.getpid():
            raise RuntimeError("a generator was carried into a forked process, where its stream would repeat")
        out = np.zeros(shape, np.uint8)
        flat = out.reshape(-1)
        with self._lock:
            self._stream.update_into(flat.data, flat.data)
        return out

    def bytes(self, n: int) -> bytes:
        """Return `n` uniform bytes."""
        return self.u8(n).tobytes()

    def u32(self, *shape: int) -> NDArray[np.uint32]:
        """Return uniform 32-bit words of the given shape."""
        return self.u8(4 * _size(shape)).view(np.uint32).reshape(shape)

    def u64(self, *shape: int) -> NDArray[np.uint64]:
        """Return uniform 64-bit words of the given shape."""
        return self.u8(8 * _size(shape)).view(np.uint64).reshape(shape)

    def bits(self, n: int) -> NDArray[np.uint8]:
        """Return `n` uniform bits, one a byte, each 0 or 1."""
        return np.unpackbits(self.u8((n + 7) // 8), count=n)

    def below(self, bound: int) -> int:
        """Return one integer uniform on [0, bound), exactly (by rejection), for a bound of any size.

        Raises:
            ValueError: The bound is less than 1.
        """
        if bound < 1:
            raise ValueError(f"no integer lies in [0, {bound})")
        width = (bound - 1).bit_length()
        while True:
            value = int.from_bytes(self.bytes((width + 7) // 8), "little") & ((1 << width) - 1)
            if value < bound:
                return value

    def uniform_u64(self, bound: int, *shape: int) -> NDArray[np.uint64]:
        """Return integers uniform on [0, bound), exactly (by rejection).

        Args:
            bound: 1 to 2^64.
            *shape: The shape of the array.

        Raises:
            ValueError: The bound is not between 1 and 2^64.
        """
        if not 1 <= bound <= 1 << 64:
            raise ValueError(f"a 64-bit bound lies between 1 and 2^64, got {bound}")
        values = self.u64(*shape)
        if bound & (bound - 1) == 0:
            return values & np.uint64(bound - 1)
        last = np.uint64((1 << 64) - (1 << 64) % bound - 1)  # the last word of the last whole run of `bound` words
        flat = values.reshape(-1)
        again = np.flatnonzero(flat > last)
        while again.size:
            flat[again] = self.u64(again.size)
            again = again[flat[again] > last]
        return values % np.uint64(bound)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Return the numbers 0 … n − 1 in uniformly random order (Fisher and Yates, exact by rejection)."""
        order = np.arange(n, dtype=np.int64)
        at = n - 1
        while at > 0:
            at = _shuffle(order, at, self.u64(at + 8))  # a few words to spare: a rejection is rare
        return order


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


@njit
def _shuffle(order: NDArray[np.int64], at: int, words: NDArray[np.uint64]) -> int:
    """Swap the places at, at − 1, … 1 with uniform earlier places; return the place reached when words run out."""
    for i in range(words.size):
        if at <= 0:
            break
        places = np.uint64(at + 1)
        # 2^64 mod places, computed in 64 bits
        excess = (np.uint64(0xFFFFFFFFFFFFFFFF) % places + np.uint64(1)) % places
        if words[i] <= np.uint64(0xFFFFFFFFFFFFFFFF) - excess:
            j = np.int64(words[i] % places)
            order[at], order[j] = order[j], order[at]
            at -= 1
    return at


def warm() -> None:
    """Compile this module's kernels."""
    _shuffle(np.arange(2, dtype=np.int64), 1, np.zeros(1, np.uint64))
