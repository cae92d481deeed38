"""Signatures under the job: all sites' names, or an error at both."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ContractError, IdentityError, ProtocolError
from atoll.node import contract
from atoll.node.contract import Signatures, Statement
from atoll.node.job import Job
from atoll.testing import check_card, run_pair
from atoll.transport.memory import memory_pair
from atoll.transport.site import Site, init_site
from tests.node.sites import document


def two(folder: Path) -> tuple[Site, Site]:
    bank = init_site(folder / "bank", "bank", "127.0.0.1:9")
    shop = init_site(folder / "shop", "shop", "")
    return bank, shop


def sides(folder: Path, job: Job, other: Job) -> tuple[object, object]:
    bank, shop = two(folder)
    a, b = memory_pair("bank", "shop", allowed=contract.PROTOCOL.kinds, timeout=1.0)
    return run_pair(
        contract.sign(bank, job, {"shop": a}, {"shop": shop.card}),
        contract.sign(shop, other, {"bank": b}, {"bank": bank.card}),
    )


def test_both_sites_keep_the_same_signatures(tmp_path: Path) -> None:
    job = Job.of(document())
    first, second = sides(tmp_path, job, job)
    assert isinstance(first, contract.Contract)
    assert first == second
    assert [signature.site for signature in first.signatures] == ["bank", "shop"]
    assert first.digest == job.digest().hex()


def test_different_jobs(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r'purpose: ".*" at (bank|shop), ".*" at (bank|shop)'):
        sides(tmp_path, Job.of(document()), Job.of(document(purpose="another purpose")))


@pytest.mark.parametrize("forged", ["signature", "name", "extra"])
def test_forged_signatures(tmp_path: Path, forged: str) -> None:
    job = Job.of(document())
    bank, shop = two(tmp_path)
    a, b = memory_pair("bank", "shop", timeout=1.0)

    async def liar(peer: Channel) -> None:
        channel = peer.sub("contract")
        theirs = await channel.recv(Statement, document=(len(job.canonical()),))
        own = shop.sign(job.digest() + b"\nbank\n2020", purpose=contract.PURPOSE)
        signature = b"no" if forged == "signature" else own
        await channel.send(Statement("bank", "2020" if forged == "name" else theirs.signed, signature, theirs.document))
        await channel.send(Signatures([("nobody", "2020", b"no")]))

    with pytest.raises((IdentityError, ProtocolError)) as caught:
        run_pair(liar(a), contract.sign(shop, job, {"bank": b}, {"bank": bank.card}))
    assert isinstance(caught.value, AtollError)


def test_the_card_is_complete() -> None:
    check_card(contract.PROTOCOL)
