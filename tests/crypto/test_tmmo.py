"""Pads by TMMO: frozen vectors, the definition in plain Python, tweaks that never repeat, and what a receiver gets."""

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from atoll.crypto import tmmo
from atoll.testing import seeded_rng

DTYPES = [np.uint32, np.uint64]


def pi(block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(tmmo.FIXED_KEY), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(block)


def plain_pad(x: bytes, j: int, nbytes: int) -> bytes:
    """The definition, block by block."""
    out, key = b"", pi(x)
    for c in range(-(-nbytes // 16)):
        tweak = j.to_bytes(8, "little") + c.to_bytes(8, "little")
        inner = bytes(a ^ b for a, b in zip(key, tweak, strict=True))
        out += bytes(a ^ b for a, b in zip(pi(inner), key, strict=True))
    return out[:nbytes]


def pad_sum(x: np.ndarray, first: int, words: int, dtype: type) -> np.ndarray:
    """What a receiver of nothing but zeros adds up."""
    return tmmo.receiver_sum(x, np.zeros(len(x), np.uint8), first, np.zeros((len(x), words), dtype))


def pad_rows(x: np.ndarray, first: int, words: int, dtype: type) -> np.ndarray:
    return np.stack([pad_sum(x[j : j + 1], first + j, words, dtype) for j in range(len(x))])


def test_the_fixed_key_is_nothing_up_our_sleeve() -> None:
    assert hashlib.sha256(b"atoll/tmmo/v1").digest()[:16] == tmmo.FIXED_KEY


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "words"), [(1, 1), (3, 4), (2, 5), (5, 661), (300, 7)])
def test_pads_equal_the_definition(dtype: type[np.uint32], n: int, words: int) -> None:
    x, first = seeded_rng(n).u64(n, 2), (1 << 40) + 3
    pads = pad_rows(x, first, words, dtype)
    for j in {0, n // 2, n - 1}:
        assert pads[j].tobytes() == plain_pad(x[j].tobytes(), first + j, pads[j].nbytes)
    assert np.array_equal(pad_sum(x, first, words, dtype), pads.sum(0, dtype=dtype))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded_rng(1)
    x, rows = rng.u64(50, 2), rng.u32(50, 9)
    want = pad_rows(x, 5, 9, np.uint32), *tmmo.sender_corrections(x, x[0], 5, rows)
    monkeypatch.setattr(tmmo, "_CHUNK_BLOCKS", 21)
    got = pad_rows(x, 5, 9, np.uint32), *tmmo.sender_corrections(x, x[0], 5, rows)
    assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "words"), [(1, 1), (7, 3), (64, 130)])
def test_receiver_gets_the_sender_s_sum_and_its_chosen_rows(dtype: type[np.uint32], n: int, words: int) -> None:
    rng = seeded_rng(words)
    q, delta, choices = rng.u64(n, 2), rng.u64(2), rng.bits(n)
    rows = rng.u64(n, words).astype(dtype)
    total, corrections = tmmo.sender_corrections(q, delta, 9, rows)
    corrections.flags.writeable = False
    t = q ^ choices[:, None].astype(np.uint64) * delta
    got = tmmo.receiver_sum(t, choices, 9, corrections)
    want = total + (rows * choices[:, None].astype(dtype)).sum(0, dtype=dtype)
    assert np.array_equal(got, want)
    assert np.array_equal(total, pad_sum(q, 9, words, dtype))


def test_a_wrong_index_gives_an_unrelated_sum() -> None:
    rng = seeded_rng(4)
    q, delta, choices = rng.u64(64, 2), rng.u64(2), rng.bits(64)
    total, corrections = tmmo.sender_corrections(q, delta, 100, np.zeros((64, 8), np.uint32))
    assert np.array_equal(
        tmmo.receiver_sum(q ^ choices[:, None].astype(np.uint64) * delta, choices, 100, corrections), total
    )
    assert not np.array_equal(tmmo.receiver_sum(q, np.zeros(64, np.uint8), 101, corrections), total)


def test_no_block_repeats_over_indices_and_counters() -> None:
    same = np.zeros((200, 2), np.uint64)  # one string everywhere: only the tweaks differ
    pads = np.concatenate([pad_rows(same, first, 40, np.uint64) for first in (0, 200, 1 << 32)])
    assert len({block.tobytes() for block in pads.reshape(-1, 2)}) == 600 * 20


def test_hash_blocks_are_the_blocks_of_pads() -> None:
    x = seeded_rng(2).u64(33, 2)
    pads = pad_rows(x, 77, 6, np.uint64).reshape(33, 3, 2)
    for c in range(3):
        assert np.array_equal(tmmo.hash_blocks(x, 77, c), pads[:, c])


def test_frozen_vector() -> None:
    pads = pad_rows(np.arange(20, dtype=np.uint64).reshape(10, 2), 1 << 33, 11, np.uint32)
    assert hashlib.sha256(pads.tobytes()).hexdigest()[:32] == "4ae916feaed44d4802a04fa7f07df923"
