"""Every two partners of a star share a key that the hub, which carries all their messages, does not know.

Partner i                                                  Hub
(1) draws a_i, sends g^a_i and its signature on it
                                                           (2) passes on all of them
checks signatures; key of i and j: H(g^(a_i·a_j))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from atoll.core.channel import Channel
from atoll.core.errors import IdentityError, ProtocolError
from atoll.core.group import Group
from atoll.core.identity import Card as SiteCard
from atoll.core.identity import sign
from atoll.core.message import Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols.intersection_result import context_hash

KEY_BYTES = 32
PURPOSE = "pairwise key"
"""What a site signs a key for; see `atoll.core.identity.sign`."""

SIGNATURE_LIMIT = 512


class PublicKey(Message, frozen=True):
    """(1) partner → hub: its X25519 key, and its signature on the key and on what it is for; empty if unsigned."""

    key: bytes
    signature: bytes


class PublicKeys(Message, frozen=True):
    """(2) hub → partner: name, key and signature of every partner."""

    lines: list[tuple[str, bytes, bytes]]


@dataclass(frozen=True)
class Seal:
    """How a partner shows the others that a key is its own, by the key of its site.

    Attributes:
        sign: Signs bytes.
        verify: Checks (name, bytes, signature); raises `IdentityError`.
    """

    sign: Callable[[bytes], bytes]
    verify: Callable[[str, bytes, bytes], None]

    @classmethod
    def of(cls, key: EllipticCurvePrivateKey, cards: Mapping[str, SiteCard]) -> Seal:
        """Sign with a site's key, and check by the cards that the site trusts.

        Args:
            key: This site's private key.
            cards: The other partners' cards by name.
        """

        def verify(name: str, data: bytes, signature: bytes) -> None:
            if name not in cards:
                raise IdentityError(f"no card of {name!r} is trusted here", cure=f"Ask {name} for its card file.")
            cards[name].verify(data, signature, purpose=PURPOSE)

        return cls(partial(sign, key, purpose=PURPOSE), verify)


async def relay(peers: Mapping[str, Channel]) -> None:
    """Be the hub: collect all public keys, and pass them on.

    Args:
        peers: Channels to the partners by name; each runs `agree`.

    Raises:
        ProtocolError: As the card says.
    """
    found = await Group(peers).gather(PublicKey)  # (1)
    lines = [(name, found[name].key, found[name].signature) for name in sorted(found)]
    for name, key, signature in lines:
        _check_sizes(name, key, signature)
    await Group(peers).broadcast(PublicKeys(lines))  # (2)


async def agree(
    hub: Channel, partners: Sequence[str], *, rng: Rng, seal: Seal | None = None, context: Sequence[str] = ()
) -> dict[str, bytes]:
    """Be a partner: come to a key with every other one.

    Args:
        hub: Channel to the hub.
        partners: Names of all partners, this site's own among them, as the job says.
        rng: Secret randomness.
        seal: Signs and checks keys; without it the hub is trusted not to put in keys of its own.
        context: What the keys are for; other contexts give other keys.

    Returns:
        16 secret bytes for each other partner, the same at both.

    Raises:
        ProtocolError: As the card says.
        IdentityError: A signature is not by the partner that it names.
    """
    me, secret = hub.gate.site, X25519PrivateKey.from_private_bytes(rng.bytes(KEY_BYTES))
    if me not in partners or len(set(partners)) < len(partners):
        raise ValueError(f"the partners {sorted(partners)} are not distinct, or {me} is none of them")
    domain = context_hash(("atoll/pairwise-keys/v1", *sorted(partners), *context))
    mine = secret.public_key().public_bytes_raw()
    await hub.send(PublicKey(mine, seal.sign(_signed(domain, me, mine)) if seal else b""))  # (1)
    lines = (await hub.recv(PublicKeys)).lines  # (2)
    if sorted(name for name, _, _ in lines) != sorted(partners):
        raise ProtocolError(f"{hub.peer} passed on the keys of other sites than the job names")
    keys = {}
    for name, key, signature in lines:
        _check_sizes(name, key, signature)
        if name == me:
            if key != mine:
                raise ProtocolError(f"{hub.peer} passed on another key of this site than the one that it was sent")
            continue
        if seal:
            seal.verify(name, _signed(domain, name, key), signature)
        keys[name] = _shared(secret, mine, name, key, domain)
    return keys


def _check_sizes(name: str, key: bytes, signature: bytes) -> None:
    if len(key) != KEY_BYTES or len(signature) > SIGNATURE_LIMIT:
        raise ProtocolError(f"{name} sent a key of {len(key)} bytes and a signature of {len(signature)}")


def _signed(domain: bytes, name: str, key: bytes) -> bytes:
    return context_hash((domain.hex(), name, key.hex()))


def _shared(secret: X25519PrivateKey, mine: bytes, name: str, key: bytes, domain: bytes) -> bytes:
    try:
        point = secret.exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        raise ProtocolError(f"{name} sent a key of small order") from None
    info = domain + b"".join(sorted((mine, key)))
    return HKDF(SHA256(), 16, None, info).derive(point)


PROTOCOL = Protocol(
    name="pairwise-keys",
    version=1,
    title="Every two partners of a star share a key that the hub does not know",
    card=Card(
        source="X25519: RFC 7748; HKDF with SHA-256: RFC 5869. The relay is Atoll's.",
        security="Computational Diffie-Hellman on Curve25519. With signatures (ECDSA by the sites' pinned cards) also "
        "against a malicious hub; without them a hub that swaps keys reads everything, which the semi-honest model "
        "leaves out.",
        inputs="partner: the names of all partners, and its site's key if keys are signed. hub: nothing.",
        reveals={"hub": ("Nothing of any key.",), "partner": ("One key with every other partner, and no others.",)},
        cost="2 messages for each partner; for k partners about 110 bytes (1 + k) each.",
        fails="ProtocolError when names are not those of the job, a key has a wrong size or small order, or the hub "
        "changed this site's key; IdentityError on a wrong signature.",
        assurance="tested",
        notes=("A fresh key for each run: a signature that is played again fits no secret that anybody still has.",),
    ),
    roles={"hub": relay, "partner": agree},
    messages=(PublicKey, PublicKeys),
)
