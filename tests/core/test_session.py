import asyncio

import pytest

from atoll.core.channel import Gate
from atoll.core.errors import AtollError, ConnectionLost, InputError, PeerFailed, ProtocolError
from atoll.core.message import Message
from atoll.core.session import Session
from atoll.transport.memory import memory_links


class Word(Message, frozen=True):
    text: str


def star(timeout=2.0):
    """A bank linked to two partners, as three sessions."""
    ends = {site: memory_links("bank", site) for site in ("telco", "agency")}
    bank = Session(Gate("bank", "j", timeout=timeout), {site: pair[0] for site, pair in ends.items()}, hub="bank")
    others = [Session(Gate(site, "j", timeout=timeout), {"bank": pair[1]}, hub="bank") for site, pair in ends.items()]
    return [bank, *others]


def run_star(*bodies, timeout=2.0):
    async def one(session, body):
        async with session:
            with session.step("talk", kinds=[Word]):
                return await body(session)

    async def everybody():
        sites = star(timeout)
        return await asyncio.wait_for(
            asyncio.gather(*(one(s, b) for s, b in zip(sites, bodies, strict=True)), return_exceptions=True), 10
        )

    return asyncio.run(everybody())


async def hub(session):
    return [(await peer.recv(Word)).text for peer in session.peers.values()]


async def speak(session):
    await session.peers["bank"].send(Word(session.site))
    return "ok"


def test_a_job_is_done_when_all_have_acknowledged():
    assert run_star(hub, speak, speak) == [["telco", "agency"], "ok", "ok"]


def test_nobody_is_done_when_one_site_fails_late():
    async def late_failure(session):
        await speak(session)
        raise InputError("the disk is full", site="agency", column="income", cure="Free some space.", detail="/secret")

    ends = run_star(hub, speak, late_failure)
    assert isinstance(ends[2], InputError)
    for end in ends[:2]:
        assert isinstance(end, PeerFailed)
        assert (end.what, end.site, end.step, end.column) == ("the disk is full", "agency", "talk", "income")
        assert "Free some space" in str(end)
        assert "/secret" not in str(end)


def test_an_internal_error_is_told_without_its_details():
    async def bug(session):
        raise KeyError("Alice's income")

    ends = run_star(hub, speak, bug)
    assert isinstance(ends[2], KeyError)
    assert isinstance(ends[0], PeerFailed)
    assert "internal error (KeyError)" in str(ends[0])
    assert "Alice" not in str(ends[0]) + str(ends[1])


def test_a_site_that_is_silent_ends_everybody():
    async def silent(session):
        await session.links["bank"].recv("a stream on which nothing comes")

    ends = run_star(hub, speak, silent, timeout=0.1)
    assert isinstance(ends[0], ProtocolError)
    assert "agency" in str(ends[0])
    assert all(isinstance(end, AtollError) for end in ends)


def test_a_lost_peer_is_told_to_the_others():
    async def vanish(session):
        await session.links["bank"].close()
        return await session.peers["bank"].recv(Word)

    ends = run_star(hub, speak, vanish)
    assert isinstance(ends[0], ConnectionLost)
    assert isinstance(ends[1], PeerFailed)


def without_agency(*bodies, timeout=2.0):
    """The star, where the bank can do without the agency."""

    def can_do_without(body):
        async def bank(session):
            session.dispensable = frozenset({"agency"})
            return await body(session)

        return bank

    return run_star(can_do_without(bodies[0]), *bodies[1:], timeout=timeout)


async def telco_only(session):
    word = (await session.peers["telco"].recv(Word)).text
    await asyncio.wait([session._done["agency"]])
    return word, {site: error.what for site, error in session.lost.items()}


def test_a_job_is_done_without_a_dispensable_site_that_fails():
    async def fails(session):
        raise InputError("the disk is full")

    bank, telco, agency = without_agency(telco_only, speak, fails)
    assert bank == ("telco", {"agency": "the disk is full"})
    assert telco == "ok"
    assert isinstance(agency, InputError)


def test_all_are_told_where_the_hub_cannot_go_on_without_a_dispensable_site():
    async def needs_all(session):
        return await session.peers["agency"].recv(Word)

    async def waits(session):
        return await session.peers["bank"].recv(Word)

    async def fails(session):
        raise InputError("the disk is full")

    bank, telco, _ = without_agency(needs_all, waits, fails)
    assert [type(bank), type(telco)] == [ConnectionLost, PeerFailed]
    assert bank.what == telco.what == "the disk is full"


def test_a_dispensable_site_is_told_that_the_job_goes_on_without_it():
    async def leaves(session):
        await session.leave("agency", ConnectionLost("the job goes on without agency"))
        assert list(session.peers) == ["telco"]
        return await telco_only(session)

    async def listens(session):
        return await session.peers["bank"].recv(Word)

    bank, telco, agency = without_agency(leaves, speak, listens)
    assert (bank[0], telco) == ("telco", "ok")
    assert isinstance(agency, PeerFailed)
    assert agency.what == "the job goes on without agency"


async def hub_in_haste(session):
    session.gate.timeout = 0.1
    return await hub(session)


async def speak_and_linger(session):
    await speak(session)
    await session.links["bank"].recv("a stream on which nothing comes")


def test_who_is_late_at_the_end_is_named_unless_it_is_dispensable():
    ends = run_star(hub_in_haste, speak_and_linger, speak)
    assert isinstance(ends[0], ProtocolError)
    assert "telco did not acknowledge the end of the job" in str(ends[0])
    ends = without_agency(hub_in_haste, speak, speak_and_linger)
    assert ends[:2] == [["telco", "agency"], "ok"]


def test_a_step_declares_what_may_leave_and_forgets_it_afterwards():
    session = star()[0]
    with session.step("talk", kinds=[Word]):
        session.gate.check(Word)
    with pytest.raises(ProtocolError, match="has not declared"):
        session.gate.check(Word)
