"""A lookup service over mutual TLS: several partners at once, limits across restarts, updates while it runs."""

import asyncio
import json
from pathlib import Path

import pytest

from atoll.core.errors import ConnectionLost, ContractError, IdentityError, InputError, PeerFailed, ProtocolError
from atoll.crypto import pir, ristretto
from atoll.query.records import About, Field
from atoll.serving import lookup_client
from atoll.serving.lookup_client import LookupClient
from atoll.serving.lookup_service import LookupDoor
from atoll.transport.site import move_site
from tests.serving.lookup_sites import ABOUT, Pair, table

KEYS = ["公司 3", "nobody", "公司 5", "公司 3 "]


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    pir.warm()
    ristretto.warm()


def test_two_lookups_and_what_is_written_down(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.prepare(table(60))

    async def twice(pair: Pair) -> list[lookup_client.Answer]:
        return [await pair.look_up(KEYS), await pair.look_up(KEYS)]

    first, second = pair.play(pair.service("100/day"), twice)
    assert first.rows == [[(3 / 8, "fine 3")], None, [(5 / 8, None)], [(3 / 8, "fine 3")]]
    assert (first.hits, first.asked, first.left, first.count, first.version) == (3, 3, 97, 60, 1)
    assert (first.fetched, second.fetched) == (True, False)
    assert second.received < first.received / 5
    assert pair.said == ["bank: 3 queries (private), 97 left", "bank: 3 queries (private), 94 left"]
    for side in (tmp_path / "registry/services/companies", next((tmp_path / "bank/asked").glob("*/companies"))):
        lines = [json.loads(line) for line in (side / "meter.jsonl").read_text().splitlines()]
        assert [(line["count"], line["method"]) for line in lines] == [(3, "private")] * 2
        audit = [json.loads(line) for line in (side / "audit.jsonl").read_text().splitlines()]
        assert {line["kind"].rpartition(".")[2] for line in audit} >= {
            "Terms",
            "Blinded",
            "Queries",
            "Answers",
            "Notice",
        }
        assert not any("公司" in json.dumps(line, ensure_ascii=False) for line in audit)
    audits = [*tmp_path.glob("registry/services/companies/audit.jsonl"), *tmp_path.glob("bank/asked/*/*/audit.jsonl")]
    both = [{line["sha256"] for line in map(json.loads, path.read_text().splitlines())} for path in audits]
    assert len(both) == 2
    assert both[0] == both[1]


def test_several_partners_and_sessions_at_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path, ("bank", "shop"))
    pair.prepare(table(300))

    async def many(pair: Pair) -> list[lookup_client.Answer]:
        asked = [("bank", 0), ("shop", 100), ("shop", 200)]
        return await asyncio.gather(
            *(pair.look_up([f"公司 {lo + at}" for at in range(40)], name=name) for name, lo in asked)
        )

    answers = pair.play(pair.service("100/day"), many)
    for lo, answer in zip((0, 100, 200), answers, strict=True):
        assert [rows and rows[0][0] for rows in answer.rows] == [(lo + at) / 8 for at in range(40)]
    assert sorted(pair.said)[0] == "bank: 40 queries (private), 60 left"


def test_a_limit_holds_across_restarts(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.prepare(table(20))
    assert pair.play(pair.service("5/day"), lambda pair: pair.look_up(KEYS)).left == 2
    with pytest.raises(ContractError, match="allows 2 more queries now, and 3 keys"):
        pair.play(pair.service("5/day"), lambda pair: pair.look_up(KEYS))
    assert pair.play(pair.service("5/day"), lambda pair: pair.look_up(KEYS[:2])).left == 0
    with pytest.raises(ContractError, match="allows 0 more"):
        pair.play(pair.service("5/day"), lambda pair: pair.look_up(KEYS[:1]))


def test_a_database_is_updated_while_it_is_served(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert pair.prepare(table(60)).how == "built"

    async def with_update(pair: Pair) -> list[lookup_client.Answer]:
        before = await pair.look_up(KEYS)
        rows = table(60)
        rows.values[3] = (9.0, "changed")
        made = pair.prepare(rows)
        assert (made.how, made.changed) == ("updated", 1)
        assert pair.prepare(rows).how == "unchanged"
        after = await pair.look_up(KEYS)
        assert pair.prepare(rows, fresh=True).how == "built"
        return [before, after, await pair.look_up(KEYS)]

    before, after, anew = pair.play(pair.service(), with_update)
    assert before.rows[0] == [(3 / 8, "fine 3")]
    assert after.rows[0] == anew.rows[0] == [(9.0, "changed")]
    assert (before.version, after.version, anew.version) == (1, 2, 3)
    assert after.received < before.received / 5
    assert anew.received > before.received * 0.9


def test_unknown_services_and_partners_that_may_not_ask(tmp_path: Path) -> None:
    pair = Pair(tmp_path, ("bank", "shop"))
    pair.prepare(table(5))
    with pytest.raises(ContractError, match="no service 'other' for bank") as error:
        pair.play(pair.service(), lambda pair: pair.look_up(KEYS, source="other@registry"))
    assert "It serves companies" in error.value.cure
    with pytest.raises(ContractError, match="no service 'companies' for shop"):
        pair.play(pair.service(partners=["bank"]), lambda pair: pair.look_up(KEYS, name="shop"))
    with pytest.raises(InputError, match="names no service"):
        LookupClient.at(pair.clients["bank"], "companies", tmp_path)
    with pytest.raises(InputError, match="names no service"):
        LookupClient.at(pair.clients["bank"], "../x@registry", tmp_path)
    with pytest.raises(InputError, match="names no service"):
        LookupClient.at(pair.clients["bank"], "..@registry", tmp_path)
    with pytest.raises(IdentityError, match="no card of 'nobody'"):
        LookupClient.at(pair.clients["bank"], "companies@nobody", tmp_path)


def test_keys_that_cannot_be_used_are_named_by_line(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    about = About(key=("phone",), kinds=("phone",), fields=(Field("risk", "float"),))
    rows = table(2)
    rows.keys[0][:] = ["+86 138 0000 0001", "+86 138 0000 0002"]
    values = [row[:1] for row in rows.values]
    pair.prepare(type(rows)(rows.keys, about.fields, values, rows.places), about)

    async def wrong(pair: Pair) -> None:
        await pair.look_up(["008613800000002", "", "12", "+8613800000001"])

    with pytest.raises(InputError, match="2 of 4 keys cannot be used") as error:
        pair.play(pair.service(), wrong)
    assert "line 3" in error.value.detail
    assert "line 4 (is not a phone number" in error.value.detail
    answer = pair.play(pair.service(), lambda pair: pair.look_up(["008613800000002", "+8613800000009"]))
    assert answer.rows == [[(1 / 8,)], None]


def test_lookups_among_decoys_need_consent(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.prepare(table(60))
    pool = [f"公司 {at}" for at in range(50)]
    with pytest.raises(ContractError, match="does not allow lookups of companies among decoys"):
        pair.play(pair.service(), lambda pair: pair.look_up(KEYS, k=8, pool=pool))
    answer = pair.play(pair.service("9/day", fewest=5), lambda pair: pair.look_up(KEYS, k=8, pool=pool))
    assert answer.rows == [[(3 / 8, "fine 3")], None, [(5 / 8, None)], [(3 / 8, "fine 3")]]
    assert (answer.decoys, answer.left, answer.asked) == (8, 6, 3)
    with pytest.raises(ContractError, match="accepts 5 to"):
        pair.play(pair.service(fewest=5), lambda pair: pair.look_up(KEYS, k=4, pool=pool))


def test_a_server_that_is_gone_and_a_hint_that_was_damaged(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.prepare(table(30))
    pair.play(pair.service(), lambda pair: pair.look_up(KEYS))
    with pytest.raises(ConnectionLost, match=r"did not answer within 0\.3 s"):
        asyncio.run(pair.look_up(KEYS, join_within=0.3))
    hint = next(tmp_path.glob("bank/asked/*/companies/hint-1.npy"))
    hint.write_bytes(hint.read_bytes()[:-7] + b"garbage")
    answer = pair.play(pair.service(), lambda pair: pair.look_up(KEYS))
    assert answer.fetched
    assert answer.hits == 3


def test_another_content_under_a_known_version_is_refused(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.prepare(table(30))
    pair.play(pair.service(), lambda pair: pair.look_up(KEYS))
    record = tmp_path / "registry/services/companies/database/database.json"
    text = json.loads(record.read_text())
    text["digest"] = "00" * 32
    record.write_text(json.dumps(text))
    with pytest.raises(ProtocolError, match="another content than before"):
        pair.play(pair.service(), lambda pair: pair.look_up(KEYS))


def test_a_service_that_stops_tells_its_partners(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.prepare(table(300))
    service, audit = pair.service(), tmp_path / "registry/services/companies/audit.jsonl"

    async def run() -> object:
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        door = LookupDoor(pair.server, {service.name: service})
        serving = asyncio.create_task(door.run(listen="127.0.0.1:0", stop=stop, ready=ready.set_result))
        pair.clients["bank"].trust(move_site(pair.server, f"127.0.0.1:{await ready}").card, replace=True)
        asking = asyncio.ensure_future(pair.look_up([f"公司 {at}" for at in range(300)]))
        while "Queries" not in audit.read_text():
            await asyncio.sleep(0.002)
        stop.set()
        await serving
        return (await asyncio.gather(asking, return_exceptions=True))[0]

    ended = asyncio.run(run())
    service.close()
    assert isinstance(ended, PeerFailed | ConnectionLost)


def test_the_key_columns_must_be_as_many(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    rows = table(4)
    about = About(key=("a", "b"), kinds=("text", "caseless"), fields=ABOUT.fields)
    both = type(rows)((rows.keys[0], ["X", "Y", "Z", "X"]), rows.fields, rows.values, rows.places)
    pair.prepare(both, about)
    with pytest.raises(InputError, match=r"has 2 columns \(a, b\), not 1"):
        pair.play(pair.service(), lambda pair: pair.look_up(KEYS))
