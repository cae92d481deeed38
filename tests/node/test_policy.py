"""What a site allows: nothing that is weak unless it has said so, checked before anything is sent, at every site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.core.errors import ContractError, InputError
from atoll.node.home import Home
from atoll.node.job import Job
from atoll.node.policy import FILE, Policy, require, weak_of
from atoll.node.steps import build
from atoll.node.store import Store
from tests.node.sites import Ended, Sites, document

WEAK = "salted-hash-intersection"


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites.make(tmp_path)
    yield made
    made.close()


def hashing(**changes: Any) -> dict[str, Any]:
    job = document(**changes)
    job["steps"][0]["protocol"] = "salted-hash"
    return job


def steps(job: dict[str, Any]) -> Any:
    return build(Job.of(job))


def test_a_site_without_a_document_allows_nothing_that_is_weak(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert Policy.load(store) == Policy()
    allowing = Policy().allowing(WEAK).allowing("blind-rsa-intersection").allowing(WEAK)
    assert allowing.weak == ("blind-rsa-intersection", WEAK)
    allowing.save(store)
    assert Policy.load(store) == allowing
    assert (tmp_path / FILE).read_text() == f"weak: [blind-rsa-intersection, {WEAK}]\n"
    assert allowing.refusing(WEAK).weak == ("blind-rsa-intersection",)
    assert Policy().refusing(WEAK) == Policy()
    (tmp_path / FILE).write_text("# nothing\n")
    with pytest.raises(InputError, match="must hold keys and values"):
        Policy.load(store)
    (tmp_path / FILE).write_text("\n")
    assert Policy.load(store) == Policy()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weak: [salted-hash]", "Did you mean 'salted-hash-intersection'"),
        ("weak: [x7]", "no protocol 'x7'"),
        ("weka: []", "Did you mean 'weak'"),
        ("weak: salted-hash-intersection", "weak is"),
        ("weak: [3]", "Expected `str`"),
        ("weak: [", "cannot be read"),
        ("weak: []\nweak: []", "twice"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        Policy.load(Store(tmp_path))
    assert FILE in caught.value.what
    assert caught.value.cure


def test_only_weak_protocols_that_exist_can_be_allowed() -> None:
    with pytest.raises(InputError, match="is not weak"):
        Policy().allowing("ecdh-intersection")
    for change in (Policy().allowing, Policy().refusing):
        with pytest.raises(InputError, match="Did you mean 'salted-hash-intersection'"):
            change("salted-hash-intersecton")


def test_a_refusal_names_site_step_protocol_cause_and_cure() -> None:
    with pytest.raises(ContractError) as caught:
        require(Policy(), "shop", steps(hashing()))
    error = caught.value
    assert (error.site, error.step, error.exit_code) == ("shop", "align", 3)
    assert WEAK in error.what
    assert "can be guessed" in error.what
    assert f"atoll site allow {WEAK}" in error.cure
    require(Policy(weak=(WEAK,)), "shop", steps(hashing()))
    for protocol in ("vole", "ecdh", "kkrt"):
        job = document()
        job["steps"][0]["protocol"] = protocol
        require(Policy(), "shop", steps(job))
        assert [weak_of(step) for step in steps(job)] == [[]] * 5


def test_a_weak_protocol_inside_another_is_found() -> None:
    from dataclasses import replace

    from atoll.protocols.ecdh_intersection import PROTOCOL as OUTER
    from atoll.protocols.salted_hash_intersection import PROTOCOL as INNER

    class Step:
        name = "outer"

        def uses(self) -> Any:
            return (replace(OUTER, uses=(replace(OUTER, uses=(INNER,)),)),)

    with pytest.raises(ContractError, match="step outer uses salted-hash-intersection"):
        require(Policy(), "shop", [Step()])  # type: ignore[list-item]


def cli(*words: object) -> Ended:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, ContractError | InputError):
        return Ended(done.exception.exit_code, str(done.exception))
    return Ended(done.exit_code, done.output)


def test_the_command_line_of_consent(sites: Sites) -> None:
    home = sites.folder / "shop"
    path = sites.folder / "job.yaml"
    path.write_text(Job.of(hashing()).to_yaml())
    assert "weak protocols allowed: none" in cli("site", "show", "--home", home).text
    refused = cli("job", "check", path, "--home", home)
    assert refused.code == 3
    assert f"atoll site allow {WEAK}" in refused.text
    assert f"weak       {WEAK}" in cli("job", "show", path, "--home", home).text
    assert "can be guessed" in cli("site", "allow", WEAK, "--home", home).text
    assert f"weak protocols allowed: {WEAK}" in cli("site", "show", "--home", home).text
    assert "shop can take part" in cli("job", "check", path, "--home", home).text
    assert f"refuses jobs that use {WEAK}" in cli("site", "refuse", WEAK, "--home", home).text
    assert cli("job", "check", path, "--home", home).code == 3
    wrong = cli("site", "allow", "salted-hash", "--home", home)
    assert (wrong.code, "Did you mean" in wrong.text) == (2, True)
    assert Home(home).policy() == Policy()
    assert cli("site", "allow", WEAK, "--home", sites.folder / "nowhere").code == 1
    assert not (sites.folder / "nowhere").exists()


def kinds(home: Home) -> set[str]:
    """Kinds of all messages that crossed this site's border."""
    lines = [line for path in home.jobs.glob("*/audit.jsonl") for line in path.read_text().splitlines()]
    return {json.loads(line)["kind"] for line in lines if line}


@pytest.mark.processes
def test_a_job_with_a_weak_protocol_runs_only_where_both_sites_allow_it(sites: Sites) -> None:
    sites.home("bank").decide(Policy(weak=(WEAK,)))
    ended = sites.both(hashing())
    for end in ended.values():
        assert end.code == ContractError.exit_code, end.text
        assert f"step align uses {WEAK}, which is weak" in end.text
        assert "site shop, step align" in end.text
        assert f"atoll site allow {WEAK}" in " ".join(end.text.split())
        assert "Traceback" not in end.text
    for name in ("bank", "shop"):
        assert not sites.home(name).finished()
        assert not {kind for kind in kinds(sites.home(name)) if "intersection" in kind}
    sites.home("shop").decide(Policy(weak=(WEAK,)))
    assert [end.code for end in sites.both(hashing()).values()] == [0, 0]
    for name in ("bank", "shop"):
        left = sites.home(name).result("leavers")
        assert "protocols.salted_hash_intersection.Hashes" in kinds(sites.home(name))
        assert "which is weak and was allowed here" in left.path("report.html").read_text()
