"""Ids come out of files in order and as written, without the file being loaded."""

from pathlib import Path

import duckdb
import pytest

from atoll.align.packed import packed_keys
from atoll.core.errors import InputError
from atoll.data.arrow_stream import text_batches
from atoll.data.id_stream import stream_ids


def test_csv_and_parquet_in_order(tmp_path: Path) -> None:
    rows = 300_000
    with duckdb.connect() as connection:
        for name, form in (("a.parquet", "(FORMAT parquet, ROW_GROUP_SIZE 20000)"), ("a.csv", "(HEADER)")):
            table = f"SELECT i AS id, printf('%05x', i) AS code FROM range({rows}) t(i)"  # noqa: S608
            connection.execute(f"COPY ({table}) TO '{tmp_path / name}' {form}")
    for name in ("a.parquet", "a.csv"):
        at = 0
        for ids, codes in stream_ids(tmp_path / name, ("id", "code")):
            assert ids.items() == [b"%d" % i for i in range(at, at + len(ids))]
            assert codes.items()[:1] == [b"%05x" % at]
            at += len(ids)
        assert at == rows


def test_ids_stay_as_written(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text('id,v\n007,1\n" 顾客",2\n,3\n"a,b",4\n', encoding="utf-8")
    ((ids,),) = stream_ids(tmp_path / "ids.csv", ("id",))
    assert ids.items() == [b"007", " 顾客".encode(), b"", b"a,b"]
    with pytest.raises(InputError, match="1 of 4 ids"):
        list(packed_keys(stream_ids(tmp_path / "ids.csv", ("id",))))


def test_errors_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id,v\n1,2\n3\n")
    with pytest.raises(InputError, match="has no id column 'ID'"):
        list(stream_ids(tmp_path / "ids.csv", ("ID",)))
    with pytest.raises(InputError, match="does not exist"):
        list(stream_ids(tmp_path / "other.csv", ("id",)))
    with pytest.raises(InputError, match="line 3"):
        list(stream_ids(tmp_path / "ids.csv", ("id",)))


def test_only_texts_without_gaps_are_read() -> None:
    with duckdb.connect() as connection:
        for sql in ("SELECT 1 AS a", "SELECT NULL::VARCHAR AS a"):
            with pytest.raises(TypeError):
                list(text_batches(connection.sql(sql)))
        assert sum(len(batch[0]) for batch in text_batches(connection.sql("SELECT 'a' AS a WHERE false"))) == 0


def test_an_iteration_may_stop_early(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"{i}\n" for i in range(10)))
    stream = stream_ids(tmp_path / "ids.csv", ("id",))
    assert len(next(stream)[0]) == 10
    stream.close()  # type: ignore[attr-defined]
