"""AES inside kernels: the standard's key schedule, and the same bytes as OpenSSL."""

import numba
import numpy as np
import pytest

from atoll.crypto import aes_kernel, tmmo
from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit
from atoll.testing import seeded_rng


def test_the_key_schedule_equals_the_standard() -> None:
    # FIPS 197, appendix A.1
    rounds = aes_kernel.schedule(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")).view(np.uint8).reshape(11, 2, 16)
    assert np.array_equal(rounds[:, 0], rounds[:, 1])
    assert rounds[1, 0].tobytes().hex() == "a0fafe1788542cb123a339392a6c7605"
    assert rounds[10, 0].tobytes().hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


@njit
def _encrypt(keys: np.ndarray, data: np.ndarray, groups: int) -> None:
    aes_kernel.encrypt_blocks(np.uint64(keys.ctypes.data), np.uint64(data.ctypes.data), np.uint64(groups))


@pytest.mark.skipif(not aes_kernel.available(), reason="this processor has no AES instructions")
@pytest.mark.parametrize("groups", [0, 1, 3])
def test_kernel_equals_openssl(groups: int) -> None:
    rng = seeded_rng(groups)
    key, data = rng.bytes(16), rng.u64(16 * groups + 1, 2)
    want = blocks(len(data))
    FixedKey(key).encrypt_into(data, want)
    got = data.copy()
    _encrypt(aes_kernel.schedule(key), got, groups)
    assert np.array_equal(got[:-1], want[:-1])
    assert np.array_equal(got[-1], data[-1])  # nothing beyond the groups


@pytest.mark.skipif(not aes_kernel.available(), reason="this processor has no AES instructions")
def test_processors_with_narrow_instructions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aes_kernel, "_block_pairs", lambda: 1)
    narrow = numba.njit(_encrypt.py_func)  # compiled anew, and not kept
    keys, data = aes_kernel.schedule(bytes(16)), seeded_rng(1).u64(32, 2)
    want = data.copy()
    _encrypt(keys, want, 2)
    narrow(keys, data, 2)
    assert np.array_equal(data, want)
    assert "aesenc.256" not in next(iter(narrow.inspect_llvm().values()))


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize(("n", "words"), [(1, 1), (33, 5), (70, 130)])
def test_pads_are_the_same_without_instructions(
    dtype: type[np.uint32], n: int, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = seeded_rng(n)
    q, delta, choices = rng.u64(n, 2), rng.u64(2), rng.bits(n)
    rows = rng.u64(n, words).astype(dtype)

    def everything() -> list[np.ndarray]:
        total, corrections = tmmo.sender_corrections(q, delta, 1 << 35, rows)
        return [
            total,
            corrections,
            tmmo.receiver_sum(q, choices, 1 << 35, corrections),
            tmmo.hash_blocks(q, 1 << 35, 3),
        ]

    fast = everything()
    monkeypatch.setattr(aes_kernel, "available", lambda: False)
    assert all(np.array_equal(a, b) for a, b in zip(fast, everything(), strict=True))
