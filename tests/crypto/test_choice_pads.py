"""Pads for choosing bits: the chosen bit opens, every other pad is unrelated, and no pad is used twice."""

import hashlib

import numpy as np
import pytest

from atoll.crypto.choice_pads import choice_bits, hide, reveal, transfers_per_row
from atoll.crypto.tmmo import hash_blocks
from atoll.testing import seeded_rng


def deal(m: int, n: int, seed: int = 1):
    rng = seeded_rng(seed)
    choice = rng.uniform_u64(m + 1, n).astype(np.int64)
    q, delta = rng.u64(n * transfers_per_row(m), 2), rng.u64(2)
    t = q ^ choice_bits(choice, m)[:, None].astype(np.uint64) * delta
    return rng.bits(m * n).reshape(m, n), choice, q, delta, t


@pytest.mark.parametrize("m", [1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 129, 300])
def test_the_chosen_bit_opens(m: int) -> None:
    n = 41
    bits, choice, q, delta, t = deal(m, n)
    choice[:2] = 0, m
    t = q ^ choice_bits(choice, m)[:, None].astype(np.uint64) * delta
    hidden = hide(bits, q, delta, 99)
    assert hidden.shape == (m, -(-n // 8))
    want = np.vstack([bits, np.zeros((1, n), np.uint8)])[choice, np.arange(n)]
    assert np.array_equal(reveal(hidden, choice, m, t, 99), want)


def test_pads_equal_the_definition() -> None:
    m, n = 200, 3
    _, _, q, delta, _ = deal(m, n)
    hidden = np.unpackbits(hide(np.zeros((m, n), np.uint8), q, delta, 7), axis=1, count=n)
    per_row = transfers_per_row(m)
    for x, i in ((0, 0), (5, 1), (127, 2), (128, 0), (199, 2)):
        pad = 0
        for b in range(per_row):
            j = i * per_row + b
            key = (q[j] ^ delta if (x >> b) & 1 else q[j])[None]
            block = hash_blocks(key, 7 + j, x // 128)[0]
            pad ^= int(block[(x % 128) // 64] >> np.uint64(x % 64)) & 1
        assert hidden[x, i] == pad


def test_pads_of_other_messages_are_unrelated_to_the_known_keys() -> None:
    """With the keys of one choice, every other message opens to a coin flip."""
    m, n = 7, 4000
    bits, choice, q, delta, t = deal(m, n)
    hidden = hide(bits, q, delta, 0)
    for shift in range(1, m):
        other = (choice + shift) % m
        guess = reveal(hidden, other, m, t, 0)
        right = np.mean(guess == bits[other, np.arange(n)])
        wrong_choice = choice < m
        assert abs(right - 0.5) < 0.04
        assert abs(np.mean((guess == bits[other, np.arange(n)])[wrong_choice]) - 0.5) < 0.04


def test_pads_are_uniform_and_do_not_repeat() -> None:
    m, n = 15, 3000
    _, _, q, delta, _ = deal(m, n)
    pads = np.unpackbits(hide(np.zeros((m, n), np.uint8), q, delta, 0), axis=1, count=n)
    assert np.abs(pads.mean(1) - 0.5).max() < 0.04
    relation = np.corrcoef(pads)
    assert np.abs(relation - np.eye(m)).max() < 0.08
    again = np.unpackbits(hide(np.zeros((m, n), np.uint8), q, delta, 4 * n), axis=1, count=n)
    assert abs((pads ^ again).mean() - 0.5) < 0.02


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    bits, choice, q, delta, t = deal(9, 100)
    hidden = hide(bits, q, delta, 3)
    monkeypatch.setattr("atoll.crypto.choice_pads._TILE", 7)
    assert np.array_equal(hide(bits, q, delta, 3), hidden)
    want = np.vstack([bits, np.zeros((1, 100), np.uint8)])[choice, np.arange(100)]
    assert np.array_equal(reveal(hidden, choice, 9, t, 3), want)


def test_frozen_vector() -> None:
    bits, _, q, delta, _ = deal(5, 50)
    assert hashlib.sha256(hide(bits, q, delta, 1 << 40).tobytes()).hexdigest()[:16] == "6f8bd2a601065f6b"
