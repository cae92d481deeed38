"""Before anything else: all sites show each other that they hold the same job and put their name to it.

Site A                                                     Site B
(1) sends its canonical document and its signature         likewise
(2) compares the document with its own, checks the         likewise
    signature with B's card
(3) the label holder passes on all signatures              each site checks those of the others too
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import numpy as np

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, IdentityError
from atoll.core.identity import Card as SiteCard
from atoll.core.message import U8, AtMost, Message
from atoll.core.protocol import Card, Protocol
from atoll.node.job import Job, differences
from atoll.transport.site import Site

LIMIT = 1 << 18
SHOWN = 12
PURPOSE = "job contract"


class Statement(Message, frozen=True):
    """A site's name under a document: who signs, when, and the signature over digest, name and time."""

    site: str
    signed: str
    signature: bytes
    document: U8


class Signatures(Message, frozen=True):
    """The names under the document, passed on by the label holder: (site, time, signature)."""

    lines: list[tuple[str, str, bytes]]


class Signature(msgspec.Struct, frozen=True):
    """One stored signature."""

    site: str
    signed: str
    signature: str
    certificate: str


class Contract(msgspec.Struct, frozen=True):
    """What is kept as evidence: the document, its digest, and every site's signature."""

    document: msgspec.Raw
    digest: str
    signatures: tuple[Signature, ...]


async def sign(site: Site, job: Job, peers: Mapping[str, Channel], cards: Mapping[str, SiteCard]) -> Contract:
    """Exchange and check documents and signatures with all sites of the job.

    Args:
        site: this site, with its key.
        job: the job as this site holds it.
        peers: channels to the sites this one is linked to.
        cards: the trusted cards of all other sites of the job.

    Raises:
        ContractError: another site holds another document; the differing lines are in the message.
        IdentityError: a signature is not by the site it names.
    """
    document, now = job.canonical(), datetime.now(UTC).isoformat(timespec="seconds")
    mine = site.sign(_signed(job, site.name, now), purpose=PURPOSE)
    channels = {name: channel.sub("contract") for name, channel in peers.items()}
    for channel in channels.values():
        await channel.send(Statement(site.name, now, mine, np.frombuffer(document, np.uint8)))  # (1)
    lines = {site.name: (now, mine)}
    for name, channel in channels.items():
        theirs = await channel.recv(Statement, document=(AtMost(LIMIT),))
        _compare(document, theirs.document.tobytes(), site.name, name)  # (2)
        _check(job, cards, name, theirs.signed, theirs.signature)
        lines[name] = (theirs.signed, theirs.signature)
    if site.name == job.hub:
        everything = Signatures([(name, *line) for name, line in sorted(lines.items())])
        for channel in channels.values():
            await channel.send(everything)  # (3)
    else:
        passed_on = await channels[job.hub].recv(Signatures)
        for name, signed, signature in passed_on.lines:
            if name not in lines:
                _check(job, cards, name, signed, signature)
                lines[name] = (signed, signature)
    if lines.keys() != job.sites.keys():
        missing = ", ".join(sorted(job.sites.keys() - lines.keys()))
        raise ContractError(f"the signature of {missing} is missing", cure="Run the job again at every site.")
    known = {**cards, site.name: site.card}
    return Contract(
        msgspec.Raw(document),
        job.digest().hex(),
        tuple(
            Signature(name, signed, base64.b64encode(signature).decode(), known[name].fingerprint)
            for name, (signed, signature) in sorted(lines.items())
        ),
    )


def clocks(contract: Contract, now: datetime, within: float) -> list[str]:
    """Say which sites' clocks are off from this one's by more than `within` seconds.

    Nothing rests on another site's time: each holds `expires` against its own clock, and people read the others.
    """
    found = []
    for one in contract.signatures:
        try:
            ahead = (datetime.fromisoformat(one.signed) - now).total_seconds()
        except (ValueError, TypeError):
            continue  # a text that is no time with a zone; it is signed as it is
        if abs(ahead) > within:
            way = "ahead of" if ahead > 0 else "behind"
            found.append(f"the clock of {one.site} is {abs(ahead) / 3600:.1f} hours {way} this site's")
    return found


def _signed(job: Job, site: str, time: str) -> bytes:
    return job.digest() + f"\n{site}\n{time}".encode()


def _compare(mine: bytes, theirs: bytes, me: str, them: str) -> None:
    if mine == theirs:
        return
    lines = differences(mine, theirs, me, them)
    more = f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    shown = "".join(f"\n  {line}" for line in lines[:SHOWN])
    raise ContractError(
        f"{me} and {them} hold different jobs:{shown}{more}",
        cure="Agree on one job file and start it again at every site.",
    )


def _check(job: Job, cards: Mapping[str, SiteCard], name: str, signed: str, signature: bytes) -> None:
    card = cards.get(name)
    if card is None:
        raise IdentityError(f"{name} signed the job but is not one of its sites", cure="Compare the job files.")
    card.verify(_signed(job, name, signed), signature, purpose=PURPOSE)


PROTOCOL = Protocol(
    name="job-contract",
    version=1,
    title="All sites sign the same job document before anything runs",
    card=Card(
        source="Atoll; ECDSA on P-256 with SHA-256 (FIPS 186-5), keys pinned by exchanged cards.",
        security="Authentic against anybody without a site's key; the job document is not secret between its sites.",
        inputs="Every site: the job document (at most 256 KiB of JSON) and its own private key.",
        reveals={
            "label holder": ("Each feature holder's copy of the job document, and its signature with the time.",),
            "feature holder": (
                "The label holder's copy of the job document, and the signatures of all sites with their times.",
            ),
        },
        cost="2 messages of the document's size between the label holder and each other site, 1 of 100 bytes a site.",
        fails="ContractError at both sites with the differing lines; IdentityError if a signature is not its site's.",
        assurance="tested",
        notes=("A signature covers the document's digest, the site's name and the time, for this purpose only.",),
    ),
    roles={"label holder": sign, "feature holder": sign},
    messages=(Statement, Signatures),
)
