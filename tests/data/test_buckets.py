"""Buckets hold every row once, in memory and on disk, and a full disk is one clear error."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import InputError
from atoll.data import buckets
from atoll.data.buckets import Buckets, scratch
from atoll.testing import seeded_rng


def hashes(n: int, words: int = 2, seed: int = 1) -> np.ndarray:
    return seeded_rng(seed).u64(n, words)


@pytest.mark.parametrize("disk", [False, True])
@given(sizes=st.lists(st.integers(0, 40), max_size=5), words=st.sampled_from([2, 4]), of=st.integers(1, 9))
def test_every_row_is_in_one_bucket(disk: bool, sizes: list[int], words: int, of: int) -> None:
    batches = [hashes(n, words, seed) for seed, n in enumerate(sizes)]
    rows = np.concatenate([np.zeros((0, words), np.uint64), *batches])
    with pytest.MonkeyPatch.context() as patch, Buckets(words, Path("/tmp") if disk else None) as store:
        patch.setattr(buckets, "BATCH", 30)
        for batch in batches:
            store.add(batch)
        store.finish()
        found = [store.take(number, of) for number in range(of)]
    assert store.rows == len(rows)
    assert sorted(np.concatenate([at for _, at in found])) == list(range(len(rows)))
    for number, (hashed, at) in enumerate(found):
        assert np.array_equal(hashed, rows[at])
        fine = (hashed[:, 1] >> np.uint64(50)).astype(int)
        assert all(number * buckets.FINE // of <= f < (number + 1) * buckets.FINE // of for f in fine)


@pytest.mark.parametrize("fit", [None, 3])
def test_duplicates(fit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "BATCH", 4)
    some = hashes(3)
    with Buckets(2) as store:
        for _ in range(20):
            store.add(some[[0, 1, 0, 2]])
        store.finish()
        hashed, rows = store.take(0, 1, "first", fit)
        assert sorted(rows) == [0, 1, 3]
        assert np.array_equal(hashed[np.argsort(rows)], some)
        with pytest.raises(InputError, match="more than one row"):
            store.take(0, 1, "refuse", fit)


def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    with Buckets(2, tmp_path) as store:
        store.add(hashes(100))
        store.finish()
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        store.take(0, 1)
    store.add(hashes(1))
    with pytest.raises(ValueError, match="closed"):
        store.finish()


class Full:
    """A file on a disk that is full."""

    def __init__(self, code: int) -> None:
        self.code = code

    def seek(self, at: int) -> None:
        pass

    def write(self, data: Any) -> int:
        raise OSError(self.code, os.strerror(self.code))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("code", "what"), [(errno.ENOSPC, "no room on the disk"), (errno.EIO, "cannot be used")])
def test_a_full_disk(code: int, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "unnamed_file", lambda folder: Full(code))
    store = Buckets(2, tmp_path)
    store.add(hashes(5))
    with pytest.raises(InputError, match=what) as caught:
        store.finish()
    assert "120 more bytes" in caught.value.detail
    assert "folder" in caught.value.cure


def test_scratch_space_is_taken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = scratch(1000, tmp_path)
    room[:] = np.arange(1000)
    assert room.sum() == 499_500
    assert list(tmp_path.iterdir()) == []
    assert len(scratch(0, tmp_path)) == 0

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match="no room on the disk"):
        scratch(1000, tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    make: list[Callable[[], object]] = [lambda: Buckets(2, tmp_path / "no"), lambda: scratch(1, tmp_path / "no")]
    for one in make:
        with pytest.raises(InputError, match="cannot be used"):
            one()
