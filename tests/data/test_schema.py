"""Schemas of sites that hold other rows of the same columns: what fits, what does not, and files that are no schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.core.errors import InputError
from atoll.data import schema as schemas
from atoll.data.catalogue import Catalogue
from atoll.data.schema import ColumnSchema, Mismatch, Schema, compare, read_schema, schema_of


def of(*columns: ColumnSchema) -> Schema:
    return Schema(columns)


AGE = ColumnSchema("age", "numeric", "year")
SEX = ColumnSchema("sex", "categorical", categories=("F", "M"))


def test_equal_schemas_agree_whatever_their_order() -> None:
    found = compare({"a": of(AGE, SEX), "b": of(SEX, AGE), "c": of(AGE, SEX)})
    assert found.columns == (AGE, SEX)
    assert found.mismatches == ()


@pytest.mark.parametrize(
    ("theirs", "mismatch", "cure"),
    [
        (of(AGE), Mismatch("sex", "absent", {"a": "present", "b": "absent"}, ""), "Leave the column out"),
        (
            of(AGE, ColumnSchema("Sex ", "categorical", categories=("F", "M"))),
            Mismatch("sex", "absent", {"a": "present", "b": "absent"}, ""),
            "b has 'Sex ': is it the same?",
        ),
        (
            of(AGE, ColumnSchema("sex", "numeric")),
            Mismatch("sex", "kind", {"a": "categorical", "b": "numeric"}, ""),
            "--numeric sex or --categorical sex",
        ),
        (
            of(ColumnSchema("age", "numeric"), SEX),
            Mismatch("age", "unit", {"a": "year", "b": "not said"}, ""),
            "--unit age=UNIT",
        ),
        (
            of(AGE, ColumnSchema("sex", "categorical", categories=("F", "X", "m"))),
            Mismatch("sex", "categories", {"a": "'M'", "b": "'X', 'm'"}, ""),
            "'M' and 'm': one value?",
        ),
    ],
)
def test_what_differs_is_named_with_a_cure(theirs: Schema, mismatch: Mismatch, cure: str) -> None:
    found = compare({"a": of(AGE, SEX), "b": theirs})
    first = found.mismatches[0]
    assert (first.column, first.what, first.sites) == (mismatch.column, mismatch.what, mismatch.sites)
    assert cure in first.cure
    assert all(column.name != first.column for column in found.columns) == (first.what != "categories")


def test_categories_of_all_sites_are_used_together() -> None:
    other = ColumnSchema("sex", "categorical", categories=("F", "女"))
    (column,) = compare({"a": of(SEX), "b": of(other)}).columns
    assert column.categories == ("F", "M", "女")


def test_many_categories_are_counted_and_not_all_shown() -> None:
    wide = ColumnSchema("sex", "categorical", categories=tuple(f"c{i:02}" for i in range(20)))
    assert "and 12 more" in compare({"a": of(SEX), "b": of(wide)}).mismatches[0].sites["b"]


def test_a_schema_holds_no_free_text_and_no_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "MOST_CATEGORIES", 2)
    table = tmp_path / "people.csv"
    table.write_text("id,age,sex,note\n1,30,F,secret one\n2,31,M,secret two\n3,,F,secret three\n")
    dataset = Catalogue(tmp_path / "data").add("people", table, ["id"], units={"age": "year"})
    schema = schema_of(dataset)
    assert schema == of(AGE, SEX, ColumnSchema("note", "categorical"))
    assert "secret" not in schema.text()
    path = tmp_path / "partner.schema"
    path.write_text(schema.text())
    assert read_schema(path) == schema


def test_a_unit_is_given_to_numeric_columns_only(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text("id,age,sex\n1,30,F\n")
    with pytest.raises(InputError, match="no numeric column 'agee' to give a unit") as caught:
        Catalogue(tmp_path / "data").add("people", table, ["id"], units={"agee": "year"})
    assert caught.value.cure == "Did you mean 'age'?"
    assert Catalogue(tmp_path / "data").names() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"columns": [{"name": "a", "kind": "text"}]}',
        '{"columns": [{"name": "a", "kind": "numeric", "rows": 3}]}',
        '{"columns": [{"name": "a", "kind": "numeric"}, {"name": "a", "kind": "numeric"}]}',
        '{"columns": []}' + " " * (1 << 22),
    ],
)
def test_a_file_that_is_no_schema(tmp_path: Path, text: str) -> None:
    path = tmp_path / "partner.schema"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot be read as a schema"):
        read_schema(path)
    with pytest.raises(InputError, match="cannot be read as a schema"):
        read_schema(tmp_path / "absent.schema")


def test_two_sites_compare_at_the_command_line(tmp_path: Path) -> None:
    def atoll(*words: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
        return done.exit_code, done.output + str(done.exception or "")

    north, south = tmp_path / "north.csv", tmp_path / "south.csv"
    north.write_text("id,weight,ward\n1,70,A\n2,80,B\n")
    south.write_text("id,weight,ward\n7,150,A\n8,180,C\n")
    for name, file, unit in (("north", north, "kg"), ("south", south, "lb")):
        home = tmp_path / name
        code, said = atoll(
            "data", "add", "people", file, "--id", "id", "--unit", f"weight={unit}", "--home", home
        )  # fmt: skip
        assert code == 0
        assert f"numeric {unit}" in said
    code, text = atoll("data", "schema", "people", "--home", tmp_path / "south")
    (tmp_path / "south.schema").write_text(text)
    code, said = atoll("data", "compare", "people", tmp_path / "south.schema", "--home", tmp_path / "north")
    assert code == 3
    assert "the same at all sites: ward" in said
    assert "here: kg; south: lb" in said
    assert "here: 'B'; south: 'C'" in said
    code, said = atoll("data", "add", "more", north, "--id", "id", "--unit", "weight", "--home", tmp_path / "north")
    assert code != 0
    assert "is not COLUMN=UNIT" in said
