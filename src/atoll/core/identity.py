"""Who a site is, to the others: one small card that a person can mail.

A card holds a site's certificate, its name and its address, signed with the certificate's key. Two sites exchange
cards by any means, compare the fingerprints by telephone, and from then on accept exactly each other's certificate:
there is no authority in between. Job contracts are signed with the same key.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.core.errors import IdentityError

CARD_LIMIT = 1 << 14
"""Largest card file in bytes."""

_ECDSA = ec.ECDSA(hashes.SHA256())


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A site's identity, as a file that may be shown to anybody.

    Attributes:
        name: The site's name, any script, 1 to 64 characters.
        address: Where the site listens, as host:port; empty for a site that only dials.
        certificate: The self-signed certificate, PEM.
        created: When the card was written.
        expires: When the certificate, and so the card, ends.
        signature: By the certificate's key over all other fields, base64.
    """

    format: Literal["atoll-card-1"] = "atoll-card-1"
    name: str
    address: str
    certificate: str
    created: datetime
    expires: datetime
    signature: str = ""

    @property
    def x509(self) -> x509.Certificate:
        """The certificate, parsed."""
        return x509.load_pem_x509_certificate(self.certificate.encode())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in groups of four hex digits, to be compared by telephone."""
        digest = self.x509.fingerprint(hashes.SHA256()).hex()
        return " ".join(digest[at : at + 4] for at in range(0, 64, 4))

    def text(self) -> str:
        """Return the card as the text of its file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"

    def body(self) -> bytes:
        """Return the bytes that the card's signature covers."""
        return msgspec.json.encode(msgspec.structs.replace(self, signature=""))

    def verify(self, data: bytes, signature: bytes, *, purpose: str) -> None:
        """Check that this site signed `data` for `purpose`.

        Raises:
            IdentityError: It did not.
        """
        key = self.x509.public_key()
        try:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise InvalidSignature
            key.verify(signature, _signed(purpose, data), _ECDSA)
        except InvalidSignature:
            raise IdentityError(
                f"the signature on the {purpose} is not by {self.name}",
                cure=f"The file was changed on its way; ask {self.name} to send it again.",
            ) from None


def read_card(source: Path | str | bytes, *, expired: bool = False) -> Card:
    """Read and check a card.

    Args:
        source: A path, or the text of the file.
        expired: Accept a card that has expired.

    Raises:
        IdentityError: Unreadable, changed, expired, or the certificate is not the one of this name and key.
    """
    where = f"card {source}" if isinstance(source, Path) else "card"
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
        if len(raw) > CARD_LIMIT:
            raise ValueError("too long")
        card = msgspec.json.decode(raw, type=Card)
        certificate = card.x509
        signature = base64.b64decode(card.signature, validate=True)
    except OSError as cause:
        raise IdentityError(f"{where} cannot be read: {cause.strerror}", cure="Check the path.") from None
    except (ValueError, msgspec.MsgspecError):
        raise IdentityError(f"{where} is not a site's card", cure="Ask the site for its card file again.") from None
    check_name(card.name)
    check_address(card.address)
    card.verify(card.body(), signature, purpose="card")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if names.get_values_for_type(x509.DNSName) != [dns_name(card.name)] or _is_authority(certificate):
        raise IdentityError(f"the certificate in the {where} is not made for {card.name!r}", cure="Do not trust it.")
    if card.expires != certificate.not_valid_after_utc:
        raise IdentityError(f"the dates in the {where} are not its certificate's", cure="Do not trust it.")
    if not expired and card.expires <= datetime.now(UTC):
        raise IdentityError(
            f"the card of {card.name} expired on {card.expires:%Y-%m-%d}",
            cure=f"{card.name} must make a new one with `atoll site init` and send it to its partners.",
        )
    return card


def dns_name(name: str) -> str:
    """Return the host name that stands for a site in its certificate; equal for equal names only."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "site"
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.atoll.internal"


def sign(key: ec.EllipticCurvePrivateKey, data: bytes, *, purpose: str) -> bytes:
    """Sign bytes; a signature is good for its purpose only, and `Card.verify` checks it."""
    return key.sign(_signed(purpose, data), _ECDSA)


def _signed(purpose: str, data: bytes) -> bytes:
    return f"atoll signature: {purpose}\n".encode() + data


def _is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def check_name(name: str) -> None:
    """Refuse what cannot be a site's name."""
    bad = any(unicodedata.category(letter)[0] == "C" for letter in name) or name != unicodedata.normalize("NFC", name)
    if bad or not 1 <= len(name) <= 64 or name != name.strip():
        raise IdentityError(
            f"{name[:80]!r} cannot be a site's name",
            cure="Use 1 to 64 printable characters without space at the ends.",
        )


def check_address(address: str) -> None:
    """Refuse what is neither empty nor host:port."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253}):(\d{1,5})", address)
    if address and not (match and 0 < int(match[2]) < 65536):
        raise IdentityError(f"{address[:80]!r} is not an address", cure="Write host:port, like bank.example:7443.")
