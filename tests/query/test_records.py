"""Records: typed, of one length, refused by row when too long or repeated; read only as what was promised."""

from pathlib import Path

import pytest

from atoll.align.ids import pack_keys
from atoll.core.errors import InputError, ProtocolError
from atoll.query.database import find, open_database
from atoll.query.records import About, Field, decode, encode, padded_length, read_about
from atoll.query.results import check_target, write_table
from atoll.query.tables import Rows, read_rows
from atoll.serving.prepare import grouped, prepare
from atoll.testing import seeded_rng

FIELDS = (Field("n", "int"), Field("x", "float"), Field("ok", "bool"), Field("t", "text"))
ABOUT = About(key=("id",), kinds=("text",), fields=FIELDS, rows=2)


def test_values_come_back_with_their_types() -> None:
    rows = [(1, 0.5, True, "é"), (None, None, None, None)]
    assert decode(encode(rows), ABOUT, "s") == rows
    assert decode(encode([(1, 2, False, "")]), ABOUT, "s") == [(1, 2, False, "")]


@pytest.mark.parametrize(
    "record",
    [
        b"", b"\xc1", encode([(1, 0.5, True)]), encode([(True, 0.5, True, "")]), encode([(1, 0.5, 1, "")]),
        encode([("1", 0.5, True, "")]), encode([(1, 0.5, True, 3)]), encode([(1, 0.5, True, "")] * 3),
        encode([(1, 0.5, True, ["nested"])]),  # type: ignore[list-item]
    ],
)  # fmt: skip
def test_records_that_break_the_promise_are_refused(record: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(record, ABOUT, "s")


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", ABOUT.text().replace('"n"', '"x"'), ABOUT.text().replace(":2", ":0")]
)
def test_descriptions_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_about(text, "s")
    assert read_about(ABOUT.text(), "s") == ABOUT


def test_records_that_are_too_long_are_named_by_row() -> None:
    assert padded_length([b"x" * 15, b""], ["line 2", "line 3"]) == 32
    with pytest.raises(InputError, match="1 records are longer than the 14 bytes") as error:
        padded_length([b"x" * 15, b""], ["line 2", "line 3"], 16)
    assert "line 2 (15 bytes)" in error.value.detail


def test_a_csv_file_keeps_dates_and_leading_zeros(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,n,x,day,code,empty\nA,1,0.5,2024-01-31,007,\nB,-2,NA,2024-02-01,12,\n", "utf-8")
    rows = read_rows(file, ["id"])
    assert [(f.name, f.type) for f in rows.fields] == [
        ("n", "int"), ("x", "float"), ("day", "text"), ("code", "text"), ("empty", "text"),
    ]  # fmt: skip
    assert rows.values == [(1, 0.5, "2024-01-31", "007", None), (-2, None, "2024-02-01", "12", None)]
    assert (rows.keys, rows.places) == ((["A", "B"],), ["line 2", "line 3"])
    assert read_rows(file, ["id"], ["x"]).values == [(0.5,), (None,)]
    with pytest.raises(InputError, match="has no column 'y'"):
        read_rows(file, ["id"], ["y"])


def test_repeated_keys_are_refused_or_kept(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,n\nA,1\nB,2\n A,3\n", "utf-8")
    rows = read_rows(file, ["id"])
    about = About(key=("id",), kinds=("text",), fields=rows.fields)
    with pytest.raises(InputError, match="1 keys have more rows than the 1") as error:
        grouped(rows, about)
    assert "line 2, line 4" in error.value.detail
    keys, records, _ = grouped(rows, About(key=("id",), kinds=("text",), fields=rows.fields, rows=2))
    assert len(keys) == 2
    assert decode(records[0], About(key=("id",), kinds=("text",), fields=rows.fields, rows=2), "s") == [(1,), (3,)]


def test_keys_that_are_too_long_and_tables_without_columns(tmp_path: Path) -> None:
    about = About(key=("id",), kinds=("text",), fields=FIELDS)
    row = (1, 0.5, True, "")
    with pytest.raises(InputError, match="1 keys are longer than 65,535 bytes") as error:
        grouped(Rows((["a", "x" * 65_540],), FIELDS, [row, row], ["line 2", "line 3"]), about)
    assert "line 3" in error.value.detail
    with pytest.raises(InputError, match="a record has at most 256 columns"):
        prepare(tmp_path, Rows((["a"],), FIELDS * 100, [()], ["line 2"]), about, rng=seeded_rng(1))
    bare = About(key=("id",), kinds=("text",), fields=())
    prepare(tmp_path, Rows((["a"],), (), [()], ["line 2"]), bare, rng=seeded_rng(1))
    (record,) = find(open_database(tmp_path), pack_keys([["a"]]))
    assert record is not None
    assert decode(record, bare, "s") == [()]


def test_results_as_csv_and_parquet(tmp_path: Path) -> None:
    rows = [(1, 0.25, True, 'a "b", c\nd'), (None, None, False, ""), (-3, 1e300, None, None)]
    write_table(tmp_path / "out.csv", FIELDS, rows)
    assert (tmp_path / "out.csv").read_text("utf-8").splitlines()[0] == "n,x,ok,t"
    write_table(tmp_path / "out.parquet", FIELDS, rows)
    import duckdb

    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT * FROM '{tmp_path / 'out.parquet'}'").fetchall() == rows  # noqa: S608
    for bad in ("out.xlsx", "none/out.csv"):
        with pytest.raises(InputError):
            check_target(tmp_path / bad)
