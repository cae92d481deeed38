"""A site's folder: its private key, its own card, and the cards of the sites that it trusts.

A site makes its key once; the key never leaves the folder.
"""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from atoll import whole_files
from atoll.core.errors import IdentityError
from atoll.core.identity import Card, check_address, check_name, dns_name, read_card, sign

KEY, CARD, TRUSTED = "site.key", "site.card", "trusted"
"""Files of a site's folder: its private key, its own card, and the folder of the cards it trusts."""

AHEAD = timedelta(days=1)
"""How far the clock of a site may be ahead of others, so that a card that it has just made is not from the future."""


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
        return sign(self.key, data, purpose=purpose)

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
        whole_files.write(path, card.text().encode(), mode=0o644)


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
    check_name(name)
    check_address(address)
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
    whole_files.write(folder / KEY, site.key_pem, mode=0o600)
    whole_files.write(folder / CARD, card.text().encode(), mode=0o644)
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
    check_address(address)
    old = site.card
    card = _sign_card(site.key, old.name, address, old.certificate, datetime.now(UTC), old.expires)
    whole_files.write(site.folder / CARD, card.text().encode(), mode=0o644)
    return Site(site.folder, card, site.key)


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
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), start - AHEAD, end)
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
    signature = sign(key, card.body(), purpose="card")
    return msgspec.structs.replace(card, signature=base64.b64encode(signature).decode())


def _public(certificate: x509.Certificate) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(serialization.Encoding.DER, form)


def _clash(name: str) -> str:
    """Names that people would take for the same."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
