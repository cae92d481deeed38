"""The job document: one canonical form, and errors that name the line and the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.core.errors import ContractError, InputError
from atoll.node.document import flatten, parse
from atoll.node.job import Job, check, differences
from tests.node.sites import document

TEXT = """\
name: toy
purpose: see whether it works
expires: 2099-01-01
sites:
  bank: {role: label-holder, data: loans, id: id, label: y}
  shop: {role: feature-holder, data: firms, id: [id]}
steps:
  - step: align
  - step: split
    test: 0.2
  - step: bin
    max_bin: 16
  - step: train
    max_depth: 3
  - step: evaluate
"""


def test_yaml_and_python_give_one_canonical_form() -> None:
    job = parse(TEXT, Job, "job.yaml")
    check(job)
    again = parse(job.to_yaml(), Job, "again")
    assert again == job
    assert again.canonical() == job.canonical()
    reordered = TEXT.replace("name: toy\n", "").replace("steps:", "name: toy\nsteps:")
    assert parse(reordered, Job, "x").digest() == job.digest()
    assert job.hub == "bank"
    assert job.peers("shop") == ("bank",)
    assert job.id == f"toy-{job.digest().hex()[:10]}"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("max_depth: 3", "max_dept: 3", 14, "Did you mean 'max_depth'"),
        ("max_depth: 3", "max_depth: 99", 13, "whole number in"),
        ("max_depth: 3", "max_depth: deep", 14, "Expected `int`"),
        ("max_depth: 3", "max_bin: 8", 13, "belongs to step bin"),
        ("step: bin", "step: bing", 11, "Did you mean 'bin'"),
        ("- step: bin", "- stp: bin", 11, "has no `step:`"),
        ("role: label-holder", "role: label-holdr", 5, "Did you mean 'label-holder'"),
        ("purpose:", "purpos:", 2, "Did you mean 'purpose'"),
        ("data: firms, ", "", 6, "lacks the key 'data'"),
        ("test: 0.2", "test: 2", 10, "<= 0.9"),
        ("name: toy", "name: toy\nname: boy", 1, "twice"),
        ("expires: 2099-01-01", "expires: soon", 3, "date"),
        ("purpose: see", "purpose: [see", 3, "cannot be read"),
        ("id: [id]", "id: [[id], born]", 6, "mixes columns and lists of columns"),
        ("id: [id]", "id: [[id], []]", 6, "holds an empty list"),
        ("id: [id]", "id: [[3]]", 6, "Expected `str"),
    ],
)
def test_mistakes_are_shown_with_line_and_cure(old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse(TEXT.replace(old, new), Job, "job.yaml")
    assert str(line) in str(caught.value)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"purpose": "x"}, ContractError, "no purpose"),
        ({"expires": "2020-01-01"}, ContractError, "expired on 2020-01-01"),
        ({"profile": "secur"}, ContractError, "no protection profile"),
        ({"profile": "attested"}, ContractError, "not available"),
        ({"steps": []}, InputError, "no steps"),
        ({"steps": [{"step": "train"}]}, InputError, "needs step bin"),
        ({"steps": [{"step": "align"}, {"step": "align"}]}, InputError, "stands twice"),
    ],
)
def test_jobs_that_no_site_should_run(change: dict[str, object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        check(Job.of(document(**change)))


def test_sites_must_fit_together() -> None:
    plain = document()
    plain["sites"]["shop"]["role"] = "label-holder"
    with pytest.raises(InputError, match="2 label holders"):
        check(Job.of(plain))
    plain = document()
    plain["sites"]["shop"]["id"] = ["id", "born"]
    with pytest.raises(InputError, match="different numbers of id columns"):
        check(Job.of(plain))
    plain = document()
    plain["sites"]["shop"]["label"] = "left"
    with pytest.raises(InputError, match="holds features but names a label"):
        check(Job.of(plain))


def test_candidate_keys_are_lists_of_columns() -> None:
    plain = document()
    plain["sites"]["bank"]["id"] = [["phone"], ["name", "born"], ["phone", "born"]]
    plain["sites"]["shop"]["id"] = [["tel"], ["who", "day"], ["mail", "day"]]
    job = Job.of(plain)
    check(job)
    bank, shop = job.sites["bank"], job.sites["shop"]
    assert bank.keys == (("phone",), ("name", "born"), ("phone", "born"))
    assert bank.ids == ("phone", "name", "born")
    assert shop.ids == ("tel", "who", "day", "mail")
    assert bank.key_text == "phone, else name + born, else phone + born"
    assert parse(job.to_yaml(), Job, "again").digest() == job.digest()
    for other in (["tel"], [["tel"], ["who"], ["mail", "day"]], [["tel"], ["who", "day"]], []):
        plain["sites"]["shop"]["id"] = other
        with pytest.raises(InputError, match="different numbers of id columns"):
            check(Job.of(plain))


def test_differences_are_lines_with_both_values() -> None:
    job = parse(TEXT, Job, "x")
    other = parse(TEXT.replace("max_depth: 3", "max_depth: 4").replace("label: y", "label: z"), Job, "x")
    assert differences(job.canonical(), other.canonical(), "bank", "shop") == [
        'sites.bank.label: "y" at bank, "z" at shop',
        "steps[3].max_depth: 3 at bank, 4 at shop",
    ]
    assert differences(b"{}", b"no", "a", "b") == ["the document of b is not JSON"]
    assert flatten({"a": [], "b": {"c": 1}}) == {"a": "(empty)", "b.c": "1"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Job.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["job.yaml", "score.yaml"])
def test_the_examples_are_jobs_that_sites_would_sign(name: str) -> None:
    check(Job.load(Path(__file__).parents[2] / "examples" / "two_sites" / name))
