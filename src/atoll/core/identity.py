"""Who a site is: one key, one certificate, and one small card that a person can mail.

A site makes its key once; the key never leaves its folder. The card holds the certificate, the name and the
address, signed with that key. Two sites exchange cards by any means, compare the fingerprints by telephone, and
from then on accept exactly each other's certificate: there is no authority in between. Job contracts are signed
with the same key.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from atoll.core.errors import IdentityError

CARD_LIMIT = 1 << 14
"""Largest card file in bytes."""

KEY, CARD, TRUSTED = "site.key", "site.card", "trusted"
"""Files of a site's folder: its private key, its own card, and the folder of the cards it trusts."""

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


@dataclass(frozen=True)
class Site:
    """This site's own identity, private key included."""

    folder: Path
    card: Card
    key: ec.EllipticCurvePrivateKey

    @property
    def name(self) -> str:
        """The site's name."""
        return self.card.name

    @property
    def key_pem(self) -> bytes:
        """The private key as unencrypted PEM, for the TLS library only."""
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())

    def sign(self, data: bytes, *, purpose: str) -> bytes:
        """Sign bytes with the site's key; a signature is good for its purpose only."""
        return self.key.sign(_signed(purpose, data), _ECDSA)

    def trusted(self) -> dict[str, Card]:
        """Return the cards this site trusts, by name; expired ones are left out.

        Raises:
            IdentityError: A card file was changed.
        """
        found = [read_card(path, expired=True) for path in sorted((self.folder / TRUSTED).glob("*.card"))]
        now = datetime.now(UTC)
        return {card.name: card for card in found if card.expires > now}

    def peer(self, name: str) -> Card:
        """Return the trusted card of another site.

        Raises:
            IdentityError: There is no card of that name, or it has expired.
        """
        path = self.folder / TRUSTED / f"{dns_name(name)}.card"
        if not path.exists():
            known = ", ".join(sorted(self.trusted())) or "none yet"
            raise IdentityError(
                f"no card of {name!r} is trusted here (trusted: {known})",
                site=self.name,
                cure=f"Ask {name} for its card file and run `atoll site trust FILE`.",
            )
        return read_card(path)

    def trust(self, card: Card, *, replace: bool = False) -> None:
        """Accept another site's card from now on.

        Args:
            card: The card, already checked by `read_card`.
            replace: Accept a new certificate under a name that is known with another one.

        Raises:
            IdentityError: It is this site's own card, or its name is taken by another certificate.
        """
        mine = _public(card.x509) == _public(self.card.x509)
        if mine or _clash(card.name) == _clash(self.name):
            what = "this is the site's own card" if mine else f"the other site is also called {card.name!r}"
            raise IdentityError(what, site=self.name, cure="Trust the card file that the other site sent you.")
        for known in [read_card(path, expired=True) for path in (self.folder / TRUSTED).glob("*.card")]:
            same_name, same_key = _clash(known.name) == _clash(card.name), _public(known.x509) == _public(card.x509)
            if same_name != same_key and not (replace and same_name):
                raise IdentityError(
                    f"the card of {card.name!r} conflicts with the trusted card of {known.name!r}: "
                    + ("same name, another key" if same_name else "same key, another name"),
                    site=self.name,
                    cure="Compare the fingerprints by telephone; if the new card is right, trust it with --replace.",
                )
        path = self.folder / TRUSTED / f"{dns_name(card.name)}.card"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write(path, card.text().encode(), mode=0o644)


def init_site(folder: Path, name: str, address: str, *, days: int = 730) -> Site:
    """Make a site: its key, its certificate and its card.

    Args:
        folder: Where they are kept; made if missing.
        name: The site's name as people write it, 1 to 64 characters.
        address: host:port under which other sites reach this one; empty if it only dials.
        days: Validity of the certificate.

    Raises:
        IdentityError: The name or the address cannot be used, or the folder holds a site already.
    """
    _check_name(name)
    _check_address(address)
    if (folder / KEY).exists():
        raise IdentityError(
            f"{folder} holds a site's key already", cure="Use another folder, or `atoll site show` to see the site."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.now(UTC).replace(microsecond=0)
    end = start + timedelta(days=days)
    card = _sign_card(key, name, address, _certificate(key, name, start, end), start, end)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    site = Site(folder, card, key)
    _write(folder / KEY, site.key_pem, mode=0o600)
    _write(folder / CARD, card.text().encode(), mode=0o644)
    return site


def load_site(folder: Path) -> Site:
    """Load this site's own identity.

    Raises:
        IdentityError: No site there, a key others can read, a key that is not the card's, an expired card.
    """
    path = folder / KEY
    if not path.exists():
        raise IdentityError(f"there is no site in {folder}", cure="Run `atoll site init` first.")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise IdentityError("the site's key can be read by other users", cure=f"Run `chmod 600 {path}`.")
    card = read_card(folder / CARD)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        raise IdentityError("the site's key file is damaged", cure=f"Restore {path} from a backup.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != card.x509.public_key():
        raise IdentityError("the site's key and card do not belong together", cure="Restore both from one backup.")
    return Site(folder, card, key)


def move_site(site: Site, address: str) -> Site:
    """Write the site's card anew with another address; key and certificate stay."""
    _check_address(address)
    old = site.card
    card = _sign_card(site.key, old.name, address, old.certificate, datetime.now(UTC), old.expires)
    _write(site.folder / CARD, card.text().encode(), mode=0o644)
    return Site(site.folder, card, site.key)


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
    _check_name(card.name)
    _check_address(card.address)
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


def certificates(cards: Mapping[str, Card]) -> bytes:
    """Return the certificates of cards as one PEM text: the only roots a site accepts."""
    return "".join(card.certificate for card in cards.values()).encode()


def _certificate(key: ec.EllipticCurvePrivateKey, name: str, start: datetime, end: datetime) -> str:
    """A leaf that signs itself and nobody else: CA:FALSE, signatures only."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, dns_name(name))])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name(name))]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _sign_card(
    key: ec.EllipticCurvePrivateKey, name: str, address: str, certificate: str, created: datetime, expires: datetime
) -> Card:
    card = Card(name=name, address=address, certificate=certificate, created=created, expires=expires)
    signature = key.sign(_signed("card", card.body()), _ECDSA)
    return msgspec.structs.replace(card, signature=base64.b64encode(signature).decode())


def _signed(purpose: str, data: bytes) -> bytes:
    return f"atoll signature: {purpose}\n".encode() + data


def _public(certificate: x509.Certificate) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(serialization.Encoding.DER, form)


def _is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _clash(name: str) -> str:
    """Names that people would take for the same."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _check_name(name: str) -> None:
    bad = any(unicodedata.category(letter)[0] == "C" for letter in name) or name != unicodedata.normalize("NFC", name)
    if bad or not 1 <= len(name) <= 64 or name != name.strip():
        raise IdentityError(
            f"{name[:80]!r} cannot be a site's name",
            cure="Use 1 to 64 printable characters without space at the ends.",
        )


def _check_address(address: str) -> None:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253}):(\d{1,5})", address)
    if address and not (match and 0 < int(match[2]) < 65536):
        raise IdentityError(f"{address[:80]!r} is not an address", cure="Write host:port, like bank.example:7443.")


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file whole or not at all, never readable by more than `mode` says."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
