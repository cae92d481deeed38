"""Reading tables: ids as written, kinds, and one clear error for everything that can be wrong with a file."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.data.catalogue import Catalogue
from atoll.data.columns import Column, Columns
from atoll.data.sources import Source, infer, read

AWKWARD = b"\r\n".join(
    [
        b'\xef\xbb\xbf"id","a b",c,d,zip',
        b'"001",1.5,"x, y",2001-02-03,010',
        b'002,,"q""z",,001',
        b"003,2, NA ,1970-01-02,999",
        b"",
    ]
)


def write(folder: Path, content: bytes, name: str = "loans.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_bom_quotes_dates_missing_and_leading_zeros(tmp_path: Path) -> None:
    source = infer(write(tmp_path, AWKWARD), ["id"], {})
    assert source.kinds == {"a b": "numeric", "c": "categorical", "d": "numeric", "zip": "categorical"}
    table = read(source)
    assert table.ids[0].tolist() == ["001", "002", "003"]
    assert np.array_equal(table.columns["a b"].values, [1.5, np.nan, 2.0], equal_nan=True)
    assert table.columns["c"].values.tolist() == [1, 0, -1]
    assert table.columns["c"].categories == ('q"z', "x, y")
    assert np.array_equal(table.columns["d"].values, [11356.0, np.nan, 1.0], equal_nan=True)
    assert table.columns["zip"].categories == ("001", "010", "999")


def test_rows_that_a_table_lacks_are_missing() -> None:
    numbers = Column("a", "numeric", np.array([1.0, 2.0]))
    words = Column("b", "categorical", np.array([0, 1], np.int32), ("x", "y"))
    taken = Columns((numbers, words), 2).take(np.array([1, -1, 0, -1]))
    assert taken.rows == 4
    assert np.array_equal(taken["a"].values, [2.0, np.nan, 1.0, np.nan], equal_nan=True)
    assert taken["b"].values.tolist() == [1, -1, 0, -1]
    assert (taken["a"].missing, taken["b"].missing) == (2, 2)


def test_declared_kind_wins_and_columns_keep_the_asked_order(tmp_path: Path) -> None:
    source = infer(write(tmp_path, b"id,a,b\n1,2,x\n2,3,y\n"), ["id"], {"a": "categorical"})
    table = read(source, ["b", "a"])
    assert table.columns.names == ("b", "a")
    assert table.columns["a"].categories == ("2", "3")


@pytest.mark.parametrize("suffix", ["csv.gz", "tsv", "parquet"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        duckdb.sql(f"COPY (SELECT 7 AS id, 1.5::DECIMAL(4,2) AS a, DATE '1970-01-03' AS d, true AS f) TO '{path}'")
    elif suffix == "tsv":
        path.write_text("id\ta\td\tf\n7\t1.5\t1970-01-03\t1\n")
    else:
        path.write_bytes(gzip.compress(b"id;a;d;f\n7;1.5;1970-01-03;1\n"))
    table = read(infer(path, ["id"], {}))
    assert table.ids[0].tolist() == ["7"]
    assert [float(column.values[0]) for column in table.columns] == [1.5, 2.0, 1.0]


def test_composite_ids(tmp_path: Path) -> None:
    table = read(infer(write(tmp_path, b"name,born,a\nx,1,1\nx,2,1\nx,1,1\n"), ["name", "born"], {}))
    assert [ids.tolist() for ids in table.ids] == [["x", "x", "x"], ["1", "2", "1"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"id,a\n", "has no rows"),
        (b"id,a\n1,2,3\n", "3 values at line 2, its header has 2"),
        (b"id,id\n1,2\n", "two columns 'id'"),
        (b"id,\n1,2\n", "column 2 of loans.csv has no name"),
        ("id,a\n1,é\n".encode("latin-1"), "not UTF-8"),
        (b"ID number,a\n1,2\n", "no id column 'id'"),
        (b"id,a\n1,inf\n", "1 infinite value"),
        (b"id,a\n" + b"1,2\n" * 20 + b"9,secret\n", "1 value"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=words) as caught:
        read(infer(path, ["id"], {}))
    assert caught.value.cure
    assert "secret" not in str(caught.value.to_dict())


def test_the_error_shows_values_and_lines_here_only(tmp_path: Path) -> None:
    path = write(tmp_path, b"id,a\n1,2\n2,$5\n")
    with pytest.raises(InputError, match=r"'\$5' at line 3") as caught:
        read(Source(path=str(path), id=("id",), kinds={"a": "numeric"}))
    assert caught.value.column == "a"
    assert "$5" not in str(caught.value.to_dict())


def test_catalogue_keeps_kinds_and_profile(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "home" / "data")
    path = write(tmp_path, b"id,a,s\n1,2,x\n1,,y\n,3,y\n")
    added = catalogue.add("loans", path, ["id"])
    assert catalogue.get("loans") == added
    assert catalogue.names() == ["loans"]
    assert (added.profile.rows, added.profile.duplicate_ids, added.profile.empty_ids) == (3, 1, 1)
    counted = [(column.missing, column.distinct, column.low, column.high) for column in added.profile.columns]
    assert counted == [
        (1, 2, 2.0, 3.0),
        (0, 2, None, None),
    ]
    with pytest.raises(InputError, match="Did you mean 'loans'"):
        catalogue.get("lones")
    with pytest.raises(InputError, match="cannot name"):
        catalogue.add("../x", path, ["id"])


def test_a_missing_id_column_proposes_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'customer_id'"):
        infer(write(tmp_path, b"customer_id,a\n1,2\n"), ["CustomerID"], {})


def test_rows_keep_the_order_of_the_file_however_many_and_whatever_is_read(tmp_path: Path) -> None:
    rows = 300_000
    path = write(tmp_path, b"id,a,b\n" + b"".join(b"C%d,%d,k%d\n" % (i, i, i % 3) for i in range(rows)))
    source = infer(path, ["id"], {})
    for columns in ([], ["a"], ["b"], None):
        assert read(source, columns).ids[0].tolist() == [f"C{i}" for i in range(rows)]
    assert np.array_equal(read(source).columns["a"].values, np.arange(rows))
