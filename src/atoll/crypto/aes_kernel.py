"""AES-128 inside compiled kernels, by the processor's own instructions, so that pads never leave the first-level cache.

Where the processor has no such instructions (`available` says), callers take `atoll.crypto.aes` instead; both give the
same bytes.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

GROUP = 16
"""`encrypt_blocks` works on whole groups of so many blocks."""

_ROUNDS = 10


@cache
def available() -> bool:
    """Return whether this processor has instructions for AES that kernels can use."""
    return _block_pairs() > 0


def _block_pairs() -> int:
    """Return how many blocks one instruction takes: 2, 1, or 0 where there is none."""
    features = binding.get_host_cpu_features()
    if not features.get("aes"):
        return 0
    return 2 if features.get("vaes") and features.get("avx2") else 1


def schedule(key: bytes) -> NDArray[np.uint64]:
    """Expand a key into the round keys, each of them twice in a row, as the wide instructions want them.

    Args:
        key: 16 bytes.

    Returns:
        (44,) uint64: for each of 11 rounds the key and the key again.

    Source:
        FIPS 197, section 5.2.
    """
    box, words, constant = _substitution(), [key[i : i + 4] for i in range(0, 16, 4)], 1
    for i in range(4, 4 * (_ROUNDS + 1)):
        last = words[-1]
        if i % 4 == 0:
            last = bytes(box[b] for b in last[1:] + last[:1])
            last = bytes([last[0] ^ constant]) + last[1:]
            constant = _double(constant)
        words.append(bytes(a ^ b for a, b in zip(words[-4], last, strict=True)))
    rounds = [b"".join(words[i : i + 4]) for i in range(0, len(words), 4)]
    return np.frombuffer(bytearray(b"".join(one + one for one in rounds)), np.uint64)


def _double(x: int) -> int:
    return (x << 1) ^ (0x11B if x & 0x80 else 0)


def _substitution() -> list[int]:
    """The S-box: the inverse in GF(2^8) by powers of 3, then the affine map."""
    powers = [1]
    for _ in range(254):
        powers.append(_double(powers[-1]) ^ powers[-1])
    logs = {power: log for log, power in enumerate(powers)}
    box = []
    for x in range(256):
        y = powers[(255 - logs[x]) % 255] if x else 0
        turned = y ^ (y << 1) ^ (y << 2) ^ (y << 3) ^ (y << 4)
        box.append((turned & 0xFF) ^ (turned >> 8) ^ 0x63)
    return box


@intrinsic  # type: ignore[untyped-decorator]
def encrypt_blocks(typing: Any, keys: Any, data: Any, groups: Any) -> Any:
    """Encrypt blocks in place, from inside a kernel.

    Args:
        keys: Address of the array that `schedule` returned.
        data: Address of the blocks.
        groups: How many groups of 16 blocks.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keys, data, groups = args
        lanes = max(1, _block_pairs())
        vector, suffix = ir.VectorType(ir.IntType(64), 2 * lanes), ".256" if lanes == 2 else ""
        kind = ir.FunctionType(vector, [vector, vector])
        middle = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.aesni.aesenc{suffix}")
        last = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.aesni.aesenclast{suffix}")
        i64 = ir.IntType(64)

        def at(address: Any, offset: int) -> Any:
            return builder.inttoptr(builder.add(address, ir.Constant(i64, offset)), vector.as_pointer())

        with cgutils.for_range(builder, groups) as loop:
            start = builder.add(data, builder.mul(loop.index, ir.Constant(i64, 16 * GROUP)))
            places = [at(start, 16 * lanes * i) for i in range(GROUP // lanes)]
            for half in range(0, len(places), 8):  # eight chains at a time fill the processor's pipes
                part = places[half : half + 8]
                state = [builder.load(place, align=8) for place in part]
                for turn in range(_ROUNDS + 1):
                    key = builder.load(at(keys, 32 * turn), align=8)
                    if turn == 0:
                        state = [builder.xor(x, key) for x in state]
                    else:
                        state = [builder.call(last if turn == _ROUNDS else middle, [x, key]) for x in state]
                for x, place in zip(state, part, strict=True):
                    builder.store(x, place, align=8)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), generate
