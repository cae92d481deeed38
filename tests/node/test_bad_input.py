"""Bad input of every kind: each site ends with one clear error and its exit code, and what was stored stays whole."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.core.errors import AtollError, ConnectionLost, ContractError, InputError, PeerFailed
from atoll.node.job import Job
from atoll.node.progress import Silent
from atoll.node.runner import Run
from atoll.transport.site import init_site
from tests.node.sites import Sites, document, finish, tables, until
from tests.nursery import Nursery


@pytest.fixture
def sites(tmp_path: Path, nursery: Nursery) -> Iterator[Sites]:
    made = Sites.make(tmp_path, nursery=nursery)
    yield made
    made.close()


def both_in_process(sites: Sites, job: dict[str, Any]) -> dict[str, BaseException | None]:
    """Run both sites over real links in this process, and return how each ended."""

    async def go() -> list[Any]:
        runs = [Run(sites.home(name), sites.home(name).site(), Job.of(job), Silent()) for name in ("bank", "shop")]
        return await asyncio.gather(*(run.go() for run in runs), return_exceptions=True)

    ended = asyncio.run(go())
    return {
        name: end if isinstance(end, BaseException) else None for name, end in zip(("bank", "shop"), ended, strict=True)
    }


def spoil(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Sites], None]:
    return lambda sites: sites.write(name, change(tables()[name]))


BAD_TABLES = {
    "missing id column": ("shop", lambda t: ["identity,visits,region", *t[1:]], "no id column 'id'"),
    "duplicate ids": ("shop", lambda t: [*t, *t[1:4]], "3 of .* rows repeat an id"),
    "empty id": ("shop", lambda t: [*t, ",3,N"], "1 rows have no id"),
    "one class only": ("bank", lambda t: [t[0], *(f"{r[:-1]}0" for r in t[1:])], "one class only"),
    "label not 0 or 1": ("bank", lambda t: [t[0], *(f"{r[:-1]}2" for r in t[1:])], "values other than 0 and 1"),
    "missing label": ("bank", lambda t: [*t, "C9999,3,4,"], "1 rows have no label"),
    "text in a numeric column": ("shop", lambda t: [*t, "C9999,many,N"], "1 value"),
    "infinity": ("bank", lambda t: [*t, "C9999,inf,4,1"], "1 infinite value"),
    "no rows": ("shop", lambda t: t[:1], "has no rows"),
    "no file": ("shop", None, "does not exist"),
    "column gone": ("shop", lambda t: ["id,seen,region", *t[1:]], "no column 'visits'"),
}


@pytest.mark.parametrize("what", BAD_TABLES)
def test_a_bad_table_ends_the_job_at_both_sites_with_one_cause(sites: Sites, what: str) -> None:
    guilty, change, words = BAD_TABLES[what]
    if change is None:
        (sites.folder / f"{guilty}.csv").unlink()
    else:
        sites.write(guilty, change(tables()[guilty]))
    ended = both_in_process(sites, document())
    other = ended["bank" if guilty == "shop" else "shop"]
    with pytest.raises(InputError, match=words) as here:
        raise ended[guilty] or AssertionError
    assert isinstance(other, PeerFailed)
    assert (other.site, other.step, other.what) == (guilty, "prepare", here.value.what)
    assert other.cure
    assert not sites.home("bank").finished()


def test_nan_quotes_and_a_byte_order_mark_are_no_trouble(sites: Sites) -> None:
    bank, shop = tables().values()
    sites.write("bank", ['\ufeff"id","age","income","left"', *bank[1:-1], '"C9990",NaN,"",1'])
    sites.write("shop", [shop[0], *shop[1:-1], '"C9991", ,"N"'])
    assert both_in_process(sites, document()) == {"bank": None, "shop": None}
    for name in ("bank", "shop"):
        left = sites.home(name).result("leavers")
        for file in (
            "job.yaml",
            "contract.json",
            "result.json",
            "report.html",
            "model.json",
            "audit.jsonl",
            "rows.npy",
        ):
            assert left.path(file).stat().st_size


def test_empty_intersection_and_few_common_rows(sites: Sites) -> None:
    sites.write("shop", [line.replace("C", "D") for line in tables()["shop"]])
    for end in both_in_process(sites, document()).values():
        assert isinstance(end, AtollError)
        assert "no row is common" in end.what
        assert end.step == "align"
    sites.write("shop", tables()["shop"][:40])
    for end in both_in_process(sites, document()).values():
        assert isinstance(end, AtollError)
        assert "rows are common to all sites" in end.what


def test_too_many_vectors_for_the_rows_is_refused(sites: Sites) -> None:
    for end in both_in_process(sites, document(limits={})).values():
        assert isinstance(end, AtollError)
        assert "rows" in end.what
        assert "reveals: rows of M" in end.cure


def test_a_card_that_has_expired(sites: Sites) -> None:
    shutil.rmtree(sites.folder / "shop")
    expired = init_site(sites.folder / "shop", "shop", "127.0.0.1:9", days=0)
    sites.home("bank").site().trust(expired.card, replace=True)
    ended = {name: finish(sites.start(name)) for name in ("bank", "shop")}
    for end in ended.values():
        assert end.code == 6, end.text
        assert "card of shop expired" in end.text
        assert "cure:" in end.text


@pytest.mark.processes
def test_a_wrong_certificate(sites: Sites) -> None:
    data = sites.folder / "shop" / "data"
    shutil.copytree(data, sites.folder / "kept")
    card = sites.home("bank").site().card
    shutil.rmtree(sites.folder / "shop")
    init_site(sites.folder / "shop", "shop", "127.0.0.1:9").trust(card)
    shutil.copytree(sites.folder / "kept", data)
    ended = sites.both(document(timeouts={"join": 4}))
    assert (ended["shop"].code, ended["bank"].code) == (6, 7)
    assert "refuses this site's certificate" in ended["shop"].text
    assert "shop" in ended["bank"].text
    assert "did not join" in ended["bank"].text


@pytest.mark.processes
def test_jobs_that_differ_show_the_line_at_both_sites(sites: Sites) -> None:
    ended = sites.both(document(), document(purpose="find customers who stay"))
    for end in ended.values():
        assert end.code == ContractError.exit_code
        assert "hold different jobs" in end.text
        assert 'purpose: "find customers who' in end.text
        assert "Traceback" not in end.text


@pytest.mark.processes
def test_a_site_that_never_joins(sites: Sites) -> None:
    end = finish(sites.start("bank", document(timeouts={"join": 2})))
    assert end.code == ConnectionLost.exit_code
    assert "waiting for shop" in end.text
    assert "did not join" in end.text
    assert "cure:" in end.text


@pytest.mark.processes
def test_a_full_disk_ends_both_sites_and_harms_nothing_stored(sites: Sites) -> None:
    assert both_in_process(sites, document()) == {"bank": None, "shop": None}
    before = {path: path.read_bytes() for path in (sites.folder / "shop" / "jobs").rglob("*.json")}
    ended = sites.both(limit=2_000)
    assert ended["shop"].code == 2, ended["shop"].text
    assert "the disk is full" in ended["shop"].text
    assert ended["bank"].code == 5, ended["bank"].text
    assert "shop ended the job" in ended["bank"].text
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_site_that_is_killed_or_stopped(sites: Sites, number: signal.Signals, code: int) -> None:
    slow = document()
    slow["steps"][3] |= {"n_estimators": 2000}
    shop, bank = sites.start("shop", slow), sites.start("bank", slow)
    folder = sites.folder / "shop" / "jobs"
    until(lambda: any(b'"bin"' in path.read_bytes() for path in folder.glob("*.running-*/log.jsonl")))
    shop.send_signal(number)
    ended = {"shop": finish(shop), "bank": finish(bank)}
    assert ended["shop"].code == code
    assert ended["bank"].code == (7 if number == signal.SIGKILL else 5), ended["bank"].text
    assert "shop" in ended["bank"].text
    assert "Traceback" not in ended["bank"].text
    if number == signal.SIGINT:
        assert "stopped by its operator" in ended["bank"].text
    assert both_in_process(sites, document()) == {"bank": None, "shop": None}
    assert not list(folder.glob("*.running-*"))


@pytest.mark.processes
def test_a_site_that_stops_answering_and_comes_back(sites: Sites) -> None:
    slow = document(timeouts={"join": 10, "message": 3, "lost": 2})
    slow["steps"][3] |= {"n_estimators": 2000}
    shop, bank = sites.start("shop", slow), sites.start("bank", slow)
    folder = sites.folder / "shop" / "jobs"
    until(lambda: any(b'"bin"' in path.read_bytes() for path in folder.glob("*.running-*/log.jsonl")))
    shop.send_signal(signal.SIGSTOP)
    ended = finish(bank)
    assert ended.code in (4, 7), ended.text
    assert "shop" in ended.text
    assert "Traceback" not in ended.text
    shop.send_signal(signal.SIGCONT)
    back = finish(shop)
    assert back.code in (4, 5, 7), back.text
    assert "bank" in back.text
    assert "Traceback" not in back.text


@pytest.mark.parametrize("protocol", ["ecdh", "kkrt"])
def test_ids_may_be_compared_in_other_ways(sites: Sites, protocol: str) -> None:
    job = document()
    job["steps"][0]["protocol"] = protocol
    assert both_in_process(sites, job) == {"bank": None, "shop": None}


def test_the_number_of_ids_can_be_rounded_up(sites: Sites) -> None:
    job = document()
    job["steps"][0]["pad_to"] = 1_000
    assert both_in_process(sites, job) == {"bank": None, "shop": None}
    (done,) = sites.home("shop").finished()
    audit = sites.home("shop").result(done).path("audit.jsonl").read_text().splitlines()
    tags = [line for line in audit if "vole_intersection.Tags" in line]
    assert 10 * 1_000 < json.loads(tags[0])["bytes"] < 10 * 1_000 + 300


def test_an_alignment_that_differs_by_few_ids_from_an_earlier_one_is_noticed(sites: Sites) -> None:
    assert both_in_process(sites, document()) == {"bank": None, "shop": None}
    sites.write("shop", tables()["shop"][:-3])
    assert both_in_process(sites, document(name="again")) == {"bank": None, "shop": None}
    reports = {}
    for name in ("bank", "shop"):
        home = sites.home(name)
        reports[name] = home.result("again").path("report.html").read_text()
        log = home.result("again").path("log.jsonl").read_text()
        assert ("but for 3 fewer" in log) == (name == "shop")
    assert "but for 3. Whoever has both results" in reports["shop"]
    assert "Whoever has both results" not in reports["bank"]


def test_cheating_is_noticed_where_the_job_asks_for_it(sites: Sites) -> None:
    job = document()
    job["steps"][0]["security"] = "malicious"
    assert both_in_process(sites, job) == {"bank": None, "shop": None}
    (done,) = sites.home("shop").finished()
    assert "transfer_check" in sites.home("shop").result(done).path("audit.jsonl").read_text()
    job["steps"][0]["protocol"] = "ecdh"
    for end in both_in_process(sites, job).values():
        assert isinstance(end, AtollError)
        assert "notices cheating between two sites" in end.what


def test_ids_are_compared_in_their_canonical_form(sites: Sites) -> None:
    sites.write("shop", [line.replace("C0", " c0") for line in tables()["shop"]])
    job = document()
    job["steps"][0]["kinds"] = ["caseless"]
    assert both_in_process(sites, job) == {"bank": None, "shop": None}
    job["steps"][0]["kinds"] = ["text", "text"]
    for end in both_in_process(sites, job).values():
        assert isinstance(end, AtollError)
        assert "2 kinds for 1 id columns" in end.what
