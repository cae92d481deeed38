"""Hashes of rows are SHA-512 of what the definition says, one by one."""

import hashlib

import numpy as np
import pytest

from atoll.crypto.row_hash import hash_rows
from atoll.testing import seeded_rng


@pytest.mark.parametrize("words", [1, 7, 10])
def test_rows_are_hashed_as_hashlib_does(words: int) -> None:
    rng = seeded_rng(words)
    tag, numbers, rows = rng.bytes(16), rng.u32(20), rng.u64(20, words)
    want = [
        hashlib.sha512(tag + int(number).to_bytes(8, "little") + row.tobytes()).digest()[:16]
        for number, row in zip(numbers, rows, strict=True)
    ]
    assert hash_rows(tag, numbers, rows).tobytes() == b"".join(want)


def test_no_rows_and_rows_that_do_not_fit() -> None:
    nothing = np.zeros(0, np.uint32)
    assert hash_rows(bytes(16), nothing, np.zeros((0, 7), np.uint64)).shape == (0, 2)
    for tag, words in ((bytes(15), 7), (bytes(16), 11)):
        with pytest.raises(ValueError, match="a tag has 16 bytes"):
            hash_rows(tag, nothing, np.zeros((0, words), np.uint64))
