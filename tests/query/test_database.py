"""Lookup databases on disk: exact over drawn tables, updates that equal a rebuild, files that are damaged."""

from pathlib import Path

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.crypto import pir
from atoll.query import database
from atoll.query.database import build, find, open_database
from atoll.query.update import compare, update
from atoll.testing import seeded_rng

ABOUT = "{}"


def table(lo: int, hi: int, size: int = 40, salt: str = "") -> tuple[list[bytes], list[bytes]]:
    keys = [f"Kunde №{i}".encode() for i in range(lo, hi)]
    return keys, [f"{salt}{i}-".encode() * (1 + i % 3) for i in range(lo, hi)]


def made(folder: Path, keys: list[bytes], records: list[bytes], record: int = 64, seed: int = 1) -> database.Served:
    build(folder, keys, records, record=record, about=ABOUT, rng=seeded_rng(seed), threads=1)
    return open_database(folder)


@pytest.mark.parametrize(("count", "record"), [(0, 3), (1, 3), (2, 16), (1000, 32), (300, 302)])
def test_the_owner_finds_every_record_and_no_others(tmp_path: Path, count: int, record: int) -> None:
    keys = [b"" if i == 5 else b"key %d" % i for i in range(count)]
    records = [bytes([i % 251]) * (i % (record - 1)) for i in range(count)]
    served = made(tmp_path, keys, records, record)
    asked = list(range(count))[:: max(1, count // 40)]
    assert find(served, [keys[i] for i in asked]) == [records[i] for i in asked]
    assert find(served, [b"nobody", "谁".encode()]) == [None, None]
    assert served.count == count
    assert served.matrix.shape == (served.layout.rows, served.layout.columns)


def test_the_hint_is_the_matrix_times_a(tmp_path: Path) -> None:
    served = made(tmp_path, *table(0, 200), 24)
    assert np.array_equal(
        served.hint, pir.hint(served.matrix, pir.PublicMatrix(served.identity, served.layout.columns))
    )


def test_an_update_equals_a_rebuild(tmp_path: Path) -> None:
    """Changed, new and removed records, several times; the hint is the one of the new matrix, bit for bit."""
    keys, records = table(0, 400)
    made(tmp_path, keys, records)
    now = dict(zip(keys, records, strict=True))
    for step, salt in enumerate("abc"):
        for key in keys[step * 50 : step * 50 + 40]:
            now.pop(key)
        for key in keys[200 + step : 260]:
            now[key] = salt.encode() + now[key][:30]
        new = table(1000 * (step + 1), 1000 * (step + 1) + 45)
        now |= dict(zip(*new, strict=True))
        meta = update(tmp_path, list(now), list(now.values()), rng=seeded_rng(step))
        assert meta is not None
        served = open_database(tmp_path)
        assert (meta.version, served.count) == (step + 2, len(now))
        assert find(served, list(now)) == list(now.values())
        gone = [key for key in keys if key not in now]
        assert find(served, gone) == [None] * len(gone)
        public = pir.PublicMatrix(served.identity, served.layout.columns)
        assert np.array_equal(served.hint, pir.hint(served.matrix, public))
    assert update(tmp_path, list(now), list(now.values()), rng=seeded_rng(9)) == database.read_meta(tmp_path)
    assert open_database(tmp_path).version == 4
    assert not compare(tmp_path, list(now), list(now.values())).count
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == sorted(
        ["changes"] * 3 + ["database.json", "hint", "index", "key", "matrix", "overflow"]
    )


def test_an_update_touches_only_what_changed(tmp_path: Path) -> None:
    keys, records = table(0, 300)
    before = made(tmp_path, keys, records)
    matrix = np.array(before.matrix)
    records[7] = b"new"
    update(tmp_path, keys, records, rng=seeded_rng(2))
    after = open_database(tmp_path)
    moved = np.argwhere(matrix != after.matrix)
    assert len(np.unique(moved[:, 1])) <= 1
    assert len(moved) <= after.layout.width
    changes = after.changes(1)
    assert changes is not None
    assert len(changes[0].places) + len(changes[0].spots) == 1


def test_a_database_that_has_outgrown_its_shape_says_so(tmp_path: Path) -> None:
    made(tmp_path, *table(0, 20))
    assert update(tmp_path, *table(0, 900), rng=seeded_rng(2)) is None
    assert open_database(tmp_path).version == 1


def test_a_full_set_up_makes_everything_anew(tmp_path: Path) -> None:
    keys, records = table(0, 50)
    one = made(tmp_path, keys, records, seed=1)
    two = made(tmp_path, keys, records, seed=2)
    assert (one.version, two.version) == (1, 2)
    assert one.identity != two.identity
    assert one.key != two.key
    assert two.changes(1) is None
    assert find(two, keys) == records


def test_secrets_are_for_the_owner_only(tmp_path: Path) -> None:
    made(tmp_path / "new", *table(0, 5))
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert next((tmp_path / "new").glob("key-*")).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["database.json", "matrix-1.npy", "hint-1.npy", "overflow-1.npy", "key"])
@pytest.mark.parametrize("how", ["absent", "short", "other"])
def test_damaged_files_are_named(tmp_path: Path, name: str, how: str) -> None:
    made(tmp_path, *table(0, 30))
    path = next(tmp_path.glob("key-*")) if name == "key" else tmp_path / name
    if how == "absent":
        path.unlink()
    elif how == "short":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        path.write_bytes(b"\x93NUMPY" + bytes(40))
    with pytest.raises(InputError, match=path.name.partition("-")[0]):
        open_database(tmp_path)
