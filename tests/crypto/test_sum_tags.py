"""Tags against Python's integers."""

import numpy as np
import pytest

from atoll.crypto import sum_tags
from atoll.crypto.aes import expand
from atoll.crypto.sum_tags import P
from atoll.crypto.word_ring import WordRing
from atoll.testing import seeded_rng

sum_tags.warm()
KEY = bytes(range(16))


def numbers(words: np.ndarray, bits: int, n: int) -> list[int]:
    raw, width = words.tobytes(), bits // 8
    return [int.from_bytes(raw[at : at + width], "little", signed=True) for at in range(0, n * width, width)]


@pytest.mark.parametrize("bits", [16, 32, 192])
@pytest.mark.parametrize("n", [1, 2, 300])
def test_a_tag_is_the_inner_product_of_signed_numbers(bits: int, n: int) -> None:
    ring, rng = WordRing(bits), seeded_rng(n)
    words = rng.u64(ring.words(n))
    words[:3] = (1 << 64) - 1  # −1, and what surrounds it
    alpha = expand(KEY, 16 * n).view(np.uint64).reshape(n, 2)
    want = [sum(x * int(a) for x, a in zip(numbers(words, bits, n), alpha[:, t], strict=True)) % P for t in (0, 1)]
    assert sum_tags.evaluate(words, bits, n, KEY) == want


@pytest.mark.parametrize("word", [0, P, P - 1, P + 1, (1 << 64) - 1, 1 << 63])
def test_words_around_the_prime(word: int) -> None:
    words = np.array([word, word, word], np.uint64)
    alpha = expand(KEY, 16).view(np.uint64)
    (x,) = numbers(words, 192, 1)
    assert sum_tags.evaluate(words, 192, 1, KEY) == [x * int(a) % P for a in alpha]


def test_tags_add_up_and_notice_one_changed_bit() -> None:
    ring, rng = WordRing(32), seeded_rng(1)
    parts = [rng.u32(10).astype(np.int32) // 8 for _ in range(5)]
    words, tags = np.zeros(5, np.uint64), np.zeros(6, np.uint64)
    for part in parts:
        packed = part.astype(np.int32).view(np.uint64)
        ring.add(words, packed)
        WordRing(192).add(tags, sum_tags.hidden(sum_tags.evaluate(packed, 32, 10, KEY), rng))
    assert sum_tags.evaluate(words, 32, 10, KEY) == sum_tags.opened(tags)
    for bit in range(64):
        words[2] ^= np.uint64(1 << bit)
        assert not set(sum_tags.evaluate(words, 32, 10, KEY)) & set(sum_tags.opened(tags))
        words[2] ^= np.uint64(1 << bit)


def test_a_hidden_tag_shows_no_quotient() -> None:
    rng = seeded_rng(3)
    tops = [int.from_bytes(sum_tags.hidden([5, 7], rng).tobytes()[:24], "little") // P for _ in range(20)]
    assert len(set(tops)) == 20
    assert min(tops) > 1 << 80
