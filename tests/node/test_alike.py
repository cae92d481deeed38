"""Sites whose columns have other names, units and codings run one job; errors propose what makes them alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import atoll
from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.data.schema import ColumnSchema, Schema, compare
from atoll.data.sources import Table
from atoll.node.alike import alike, own_names, recoded, units_of
from atoll.node.job import Job, Part, check
from atoll.node.kept import load_model
from atoll.node.steps import build
from tests.node.branches import Branches, document, frames

FIT = {"step": "fit", "model": {"kind": "logistic"}, "columns": ["amount", "housing"]}
CURE = {
    "rename": {"Umbra": "amount", "wohnen": "housing", "status": "bad"},
    "recode": {"housing": {"Miete": "rent", "Eigentum": "own"}, "bad": {"ja": 1, "nein": 0}},
    "scale": {"amount": 100},
}


def strange(part: dict[str, Any]) -> dict[str, Any]:
    """A branch's loans with other names, another coding and another unit."""
    german = {"rent": "Miete", "own": "Eigentum", "free": "free"}
    return {
        **{key: values for key, values in part.items() if key not in ("amount", "housing", "bad")},
        "Umbra": [value / 100 for value in part["amount"]],
        "wohnen": [german[value] for value in part["housing"]],
        "status": ["ja" if value else "nein" for value in part["bad"]],
    }


@pytest.mark.processes
def test_processes_with_other_names_units_and_codings_end_with_one_model(tmp_path: Path) -> None:
    wanted = atoll.simulate(frames(), document(FIT), out=tmp_path / "same")
    parts = frames()
    parts["west"] = strange(parts["west"])
    job = document(FIT)
    job["sites"]["west"] |= CURE
    branches = Branches.of(tmp_path / "other", parts)
    try:
        ended = branches.run_all(job)
    finally:
        branches.close()
    assert {end.code for end in ended.values()} == {0}, ended
    stores = [branches.home(name).result("branches") for name in parts]
    assert len({store.path("model.json").read_bytes() for store in stores}) == 1
    mine = load_model(stores[2].path("model.json"))
    theirs = load_model(wanted.stores["west"].path("model.json"))
    assert mine.terms == theirs.terms
    ours, pooled = ([line.estimate for line in model.coefficients] for model in (mine, theirs))
    np.testing.assert_allclose(ours, pooled, rtol=1e-9)


def test_all_sites_see_what_is_done_to_whose_columns() -> None:
    job = document(FIT)
    job["sites"]["west"] |= CURE
    one, two = Job.of(job), Job.of(document(FIT))
    check(one)
    assert one.digest() != two.digest()
    assert Job.of(yaml.safe_load(one.to_yaml())) == one
    said = build(one)[0].says(one)
    for line in ("  at west, Umbra becomes amount", "  at west, bad: 'ja' becomes 1.0, 'nein' becomes 0.0"):
        assert line in said
    assert "  at west, amount times 100" in said


def table(**columns: list[Any]) -> Table:
    made = []
    for name, values in columns.items():
        if isinstance(values[0], str):
            names = tuple(sorted({value for value in values if value}))
            codes = np.array([names.index(value) if value else -1 for value in values], np.int32)
            made.append(Column(name, "categorical", codes, names))
        else:
            made.append(Column(name, "numeric", np.array(values, np.float64)))
    return Table((np.arange(3).astype(str).astype(object),), Columns(tuple(made), 3))


def part(**keys: Any) -> Part:
    return Part(role="member", data="d", **keys)


def texts(column: Column) -> list[str]:
    return [column.categories[code] if code >= 0 else "" for code in column.values]


def test_values_are_called_something_else() -> None:
    sex = table(sex=["m", "f", ""]).columns["sex"]
    assert texts(recoded("sex", sex, {"m": "男", "f": "女"})) == ["男", "女", ""]
    assert texts(recoded("sex", sex, {"m": "f"})) == ["f", "f", ""]
    assert texts(recoded("sex", sex, {"m": ""})) == ["", "f", ""]
    np.testing.assert_array_equal(recoded("sex", sex, {"m": 1.0, "f": 2.5}).values, [1, 2.5, np.nan])
    number = table(x=[1.0, np.nan, 2.5]).columns["x"]
    assert texts(recoded("x", number, {"1": "one"})) == ["one", "", "2.5"]
    np.testing.assert_array_equal(recoded("x", number, {"1": 0.0, "2.5": 1.0}).values, [0, np.nan, 1])
    with pytest.raises(InputError, match=r"'2\.5' is given no number"):
        recoded("x", number, {"1": 0.0})
    with pytest.raises(InputError, match="more than 1,000 different numbers"):
        recoded("x", Column("x", "numeric", np.arange(1001.0)), {"1": "a"})


def test_names_and_units() -> None:
    mine = part(rename={"h": "height", "x": "y", "y": "x"}, scale={"height": 0.01}, units={"height": "m"})
    found = alike(mine, table(h=[180.0, 170, np.nan], x=[1.0, 2, 3], y=["a", "b", "b"]))
    assert found.columns.names == ("height", "y", "x")
    np.testing.assert_allclose(found.columns["height"].values, [1.8, 1.7, np.nan])
    assert texts(found.columns["x"]) == ["a", "b", "b"]
    assert own_names(mine, ("height", "x", "z")) == ("h", "y", "z")
    assert units_of(mine, {"h": "cm", "w": "kg"}) == {"height": "m", "w": "kg"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rename": {"hight": "h"}}, r"`rename:` names a column .* Did you mean 'height'"),
        ({"rename": {"height": "sex"}}, "gives two columns one name"),
        ({"scale": {"sex": 2.0}}, "it is text, and has no unit"),
        ({"units": {"size": "m"}}, "`units:` names a column"),
        ({"rename": {"height": "size"}, "scale": {"height": 2.0}}, "`scale:` names a column"),
    ],
)
def test_what_cannot_be_done_is_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        alike(part(**keys), table(height=[1.0, 2, 3], sex=["m", "f", "f"]))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rename": {"a": "c", "b": "c"}}, "two columns one name"),
        ({"recode": {"a": {"x": 1, "y": "one"}}}, "recode of a mixes texts and numbers"),
        ({"recode": {"a": {True: 1}}}, "Put it in quotes"),
        ({"scale": {"a": 0}}, "factor that is 0"),
    ],
)
def test_a_job_that_cannot_be_is_refused(keys: dict[str, Any], words: str) -> None:
    job = document(FIT)
    job["sites"]["west"] |= keys
    with pytest.raises(InputError, match=words):
        Job.of(job)


def test_sites_with_the_same_people_rename_nothing() -> None:
    job = {
        "name": "j", "purpose": "score new customers", "expires": "2099-12-31", "steps": [{"step": "align"}],
        "sites": {
            "bank": {"role": "label-holder", "data": "d", "id": "i"},
            "shop": {"role": "feature-holder", "data": "d", "id": "i", "rename": {"a": "b"}},
        },
    }  # fmt: skip
    with pytest.raises(InputError, match="the columns of site shop need not be like others'"):
        check(Job.of(job))


MINE = Schema(
    (
        ColumnSchema("height", "numeric", "m"),
        ColumnSchema("Yes", "categorical", "", ("no", "yes")),
        ColumnSchema("gender", "categorical", "", ("female", "male")),
    )
)
THEIRS = Schema(
    (
        ColumnSchema("hight", "numeric", "cm"),
        ColumnSchema("Yes", "categorical", "", ("No", "Yes")),
        ColumnSchema("gender", "numeric"),
    )
)


def test_what_errors_propose_makes_columns_alike() -> None:
    """Take the proposals into the job one after the other, until nothing is left but the meaning of numbers."""
    keys: dict[str, dict[str, Any]] = {}
    theirs = THEIRS
    for _ in range(3):
        found = compare({"a": MINE, "b": theirs}).mismatches
        for one in found:
            for key, text in re.findall(r"`(\w+): (\{.*?\})` (?:and|at site b)", one.cure):
                keys[key] = keys.get(key, {}) | yaml.safe_load(text)
        theirs = _after(keys)
    assert keys["rename"] == {"hight": "height"}
    assert (keys["scale"], keys["units"]) == ({"height": 0.01}, {"height": "m"})
    assert keys["recode"] == {"Yes": {"No": "no", "Yes": "yes"}, "gender": {"NUMBER": "female"}}
    left = compare({"a": MINE, "b": theirs}).mismatches
    assert [(one.column, one.what) for one in left] == [("gender", "kind")]


def _after(keys: dict[str, Any]) -> Schema:
    """The second site's schema, with the proposals in its part of the job."""
    mine = part(**{key: keys[key] for key in keys if key != "recode"}, recode={"Yes": keys["recode"]["Yes"]})
    after = alike(mine, table(hight=[180.0, 170, 160], Yes=["No", "Yes", "No"], gender=[1.0, 2.0, 2.0]))
    units = units_of(mine, {"hight": "cm"})
    return Schema(tuple(ColumnSchema(c.name, c.kind, units.get(c.name, ""), c.categories) for c in after.columns))


def test_units_that_nobody_can_convert_are_left_to_people() -> None:
    other = Schema((ColumnSchema("height", "numeric", "kg"),))
    cure = compare({"a": Schema(MINE.columns[:1]), "b": other}).mismatches[0].cure
    assert "`scale: {height: FACTOR}` and `units: {height: m}` at site b" in cure


def test_nothing_is_renamed_where_a_site_has_both() -> None:
    age, other, rest = (ColumnSchema(name, "numeric") for name in ("age", "Age", "weight"))
    schemas = {"a": Schema((age, other, rest)), "b": Schema((age, rest)), "c": Schema((rest,))}
    cures = [one.cure for one in compare(schemas).mismatches]
    assert cures == ["Leave the column out of the job, or add it there.", "b has 'age': is it the same?"]
