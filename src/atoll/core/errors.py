"""Every error that Atoll raises on purpose, in one tree.

AtollError
├── InputError       this site's own data, parameters or files          exit 2
├── ContractError    job documents differ, are refused or expired       exit 3
├── ProtocolError    a peer sent what the protocol does not allow       exit 4
├── PeerFailed       another site ended the job; carries its cause      exit 5
├── IdentityError    a card, certificate or key is wrong                exit 6
└── ConnectionLost   a peer cannot be reached any more                  exit 7
"""

from __future__ import annotations

from typing import ClassVar


class AtollError(Exception):
    """An error that a person can act on: what happened, where, and the cure.

    Args:
        what: One sentence without a full stop at the end is fine; it is shown first.
        site: Name of the site where it happened.
        step: Step of the job, or protocol, in which it happened.
        column: Column of the data concerned.
        cure: What the reader can do about it.
        detail: What only this site may read, such as values and paths; it is never sent to a peer.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, what: str, *, site: str = "", step: str = "", column: str = "", cure: str = "", detail: str = ""
    ) -> None:
        super().__init__(what)
        self.what, self.site, self.step, self.column, self.cure, self.detail = what, site, step, column, cure, detail

    def __str__(self) -> str:
        places = (("site", self.site), ("step", self.step), ("column", self.column))
        where = ", ".join(f"{name} {value!r}" for name, value in places if value)
        text = self.what.rstrip(".") + (f" ({where})" if where else "") + "."
        return " ".join(part for part in (text, self.detail, self.cure) if part)

    def located(self, *, site: str = "", step: str = "") -> AtollError:
        """Fill in the site and the step where they are still unknown, and return this error."""
        self.site, self.step = self.site or site, self.step or step
        return self

    def to_dict(self) -> dict[str, str]:
        """Return the parts that peers may read as plain strings, for JSON lines and for the broadcast."""
        parts = ("what", "site", "step", "column", "cure")
        return {"error": type(self).__name__, **{name: getattr(self, name) for name in parts}}


class InputError(AtollError):
    """This site's own data, parameters or files cannot be used."""

    exit_code = 2


class ContractError(AtollError):
    """The job's documents differ between sites, or a site refuses the job."""

    exit_code = 3


class ProtocolError(AtollError):
    """A peer sent something that the protocol does not allow here, or nothing in time."""

    exit_code = 4


class PeerFailed(AtollError):
    """Another site ended the job; the fields are that site's own words."""

    exit_code = 5


class IdentityError(AtollError):
    """A card, certificate or key is missing, wrong or expired."""

    exit_code = 6


class ConnectionLost(AtollError):
    """A peer could not be reached, or came back as another process."""

    exit_code = 7
