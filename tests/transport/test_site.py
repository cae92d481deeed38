import base64
import stat
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.core.errors import IdentityError
from atoll.core.identity import Card, dns_name, read_card
from atoll.transport import site as site_module
from atoll.transport.site import Site, init_site, load_site, move_site


@pytest.fixture
def bank(tmp_path) -> Site:
    return init_site(tmp_path / "bank", "Bank of Åland", "bank.example:7443")


@pytest.fixture
def telco(tmp_path) -> Site:
    return init_site(tmp_path / "telco", "電信", "[::1]:7444")


def changed(card: Card, **fields) -> str:
    return msgspec.structs.replace(card, **fields).text()


def resigned(site: Site, **fields) -> str:
    card = msgspec.structs.replace(site.card, **fields)
    return changed(card, signature=base64.b64encode(site.sign(card.body(), purpose="card")).decode())


def test_a_site_is_made_once_and_loads_again(bank):
    assert load_site(bank.folder).card == bank.card
    with pytest.raises(IdentityError, match="already"):
        init_site(bank.folder, "Bank of Åland", "bank.example:7443")


def test_the_key_can_be_read_by_its_owner_only(bank):
    key = bank.folder / "site.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(IdentityError, match=r"other users.*chmod 600"):
        load_site(bank.folder)


def test_the_certificate_can_sign_nobody_else(bank):
    certificate = bank.card.x509
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert timedelta(days=700) < certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(days=740)


def test_a_card_travels_as_text_in_any_script(telco):
    card = read_card(telco.card.text())
    assert (card, card.name, card.address) == (telco.card, "電信", "[::1]:7444")
    assert len(card.text()) < 2000
    assert len(card.fingerprint.split()) == 16


@pytest.mark.parametrize(
    "fields",
    [{"name": "Bank of Oland"}, {"address": "evil.example:1"}, {"expires": datetime(2099, 1, 1, tzinfo=UTC)}],
)
def test_a_changed_card_is_refused(bank, fields):
    with pytest.raises(IdentityError, match="signature"):
        read_card(changed(bank.card, **fields))


def test_a_card_signed_by_its_key_must_still_fit_its_certificate(bank, telco):
    with pytest.raises(IdentityError, match="not made for"):
        read_card(resigned(bank, name="Another bank"))
    with pytest.raises(IdentityError, match="dates"):
        read_card(resigned(bank, expires=datetime(2099, 1, 1, tzinfo=UTC)))
    with pytest.raises(IdentityError, match="signature"):
        read_card(resigned(bank, certificate=telco.card.certificate))


def test_an_expired_card_is_refused_with_a_cure(tmp_path):
    old = init_site(tmp_path / "old", "old", "old.example:1", days=0)
    with pytest.raises(IdentityError, match=r"expired on .*new one"):
        read_card(old.card.text())
    with pytest.raises(IdentityError, match="expired"):
        load_site(old.folder)


@pytest.mark.parametrize("text", ["", "{}", "not json", "[1]", '{"format": "atoll-card-2"}', "x" * 20_000, b"\xff\xfe"])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(IdentityError, match="is not a site's card"):
        read_card(text)


def test_a_missing_card_file_names_its_path(tmp_path):
    with pytest.raises(IdentityError, match=r"gone\.card cannot be read"):
        read_card(tmp_path / "gone.card")


@pytest.mark.parametrize("name", ["", " bank", "bank\n", "a" * 65, "a\u0000", "a\u202eb", "A\u030a"])
def test_names_that_mislead_are_refused(tmp_path, name):
    with pytest.raises(IdentityError, match="name"):
        init_site(tmp_path / "x", name, "")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("address", ["bank", "bank:0", "bank:70000", "bank:1/x", "b nk:1", "a:b:1"])
def test_addresses_must_be_host_and_port(tmp_path, address):
    with pytest.raises(IdentityError, match="host:port"):
        init_site(tmp_path / "x", "x", address)


def test_host_names_are_safe_and_differ_for_different_names():
    names = ["Bank", "bank", "Bank ", "電信", "電力", "ß" * 64, "a-b", "a.b", "*.x"]
    hosts = [dns_name(name) for name in names]
    assert len(set(hosts)) == len(names)
    for host in hosts:
        x509.DNSName(host)
        assert max(map(len, host.split("."))) <= 63
        assert len(host) <= 64  # it is the certificate's common name too


def test_trusted_cards_are_found_by_name(bank, telco):
    bank.trust(read_card(telco.card.text()))
    bank.trust(telco.card)
    assert bank.trusted() == {"電信": telco.card}
    assert bank.peer("電信") == telco.card
    with pytest.raises(IdentityError, match=r"no card of 'nobody'.*trusted: 電信.*atoll site trust"):
        bank.peer("nobody")


def test_ones_own_card_is_not_trusted(bank, tmp_path):
    with pytest.raises(IdentityError, match="own card"):
        bank.trust(bank.card)
    twin = init_site(tmp_path / "twin", "BANK OF ÅLAND", "")
    with pytest.raises(IdentityError, match="also called"):
        bank.trust(twin.card)


def test_a_name_cannot_be_taken_over_silently(bank, telco, tmp_path):
    bank.trust(telco.card)
    impostor = init_site(tmp_path / "impostor", "電信", "evil.example:1")
    with pytest.raises(IdentityError, match=r"same name, another key.*telephone"):
        bank.trust(impostor.card)
    assert bank.peer("電信") == telco.card
    bank.trust(impostor.card, replace=True)
    assert bank.peer("電信") == impostor.card


def test_a_site_that_moves_keeps_its_certificate(bank, telco):
    bank.trust(telco.card)
    moved = move_site(telco, "new.example:9")
    bank.trust(read_card(moved.card.text()))
    assert bank.peer("電信").address == "new.example:9"
    assert moved.card.certificate == telco.card.certificate
    assert load_site(telco.folder).card == moved.card


def test_expired_partners_are_left_out_but_named_when_asked_for(bank, tmp_path):
    old = init_site(tmp_path / "old", "old", "", days=0)
    bank.trust(old.card)
    assert bank.trusted() == {}
    with pytest.raises(IdentityError, match="the card of old expired"):
        bank.peer("old")


def test_a_damaged_trusted_card_is_reported(bank, telco):
    bank.trust(telco.card)
    (path,) = (bank.folder / "trusted").iterdir()
    path.write_text(changed(telco.card, address="evil.example:1"))
    with pytest.raises(IdentityError, match="signature"):
        bank.trusted()


def test_key_and_card_must_belong_together(bank, telco):
    (bank.folder / "site.card").write_text(telco.card.text())
    with pytest.raises(IdentityError, match="do not belong together"):
        load_site(bank.folder)
    (telco.folder / "site.key").write_text("no key")
    with pytest.raises(IdentityError, match="damaged"):
        load_site(telco.folder)


def test_no_site_says_how_to_make_one(tmp_path):
    with pytest.raises(IdentityError, match="atoll site init"):
        load_site(tmp_path)


def test_a_failed_write_leaves_the_old_file(bank, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site_module.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        move_site(bank, "new.example:9")
    monkeypatch.undo()
    assert load_site(bank.folder).card == bank.card
    assert sorted(path.name for path in bank.folder.iterdir()) == ["site.card", "site.key"]


def test_signatures_are_good_for_their_purpose_and_signer_only(bank, telco):
    signature = bank.sign(b"contract", purpose="job contract")
    bank.card.verify(b"contract", signature, purpose="job contract")
    for card, data, purpose in (
        (bank.card, b"Contract", "job contract"),
        (bank.card, b"contract", "card"),
        (telco.card, b"contract", "job contract"),
    ):
        with pytest.raises(IdentityError, match="is not by"):
            card.verify(data, signature, purpose=purpose)
