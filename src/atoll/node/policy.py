"""What a site has decided about its jobs, in one small document of its folder; what it does not allow is refused.

policy.yaml
    weak: [salted-hash-intersection]        weak protocols that jobs may use here
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from atoll.core.errors import ContractError, InputError
from atoll.core.protocol import Protocol
from atoll.data.scan import nearest
from atoll.node.document import parse
from atoll.node.steps import Step
from atoll.node.store import Store

FILE = "policy.yaml"

CURE = "Choose another protocol in the job, or allow it: `atoll site allow {name}` at {site}."


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site allows its jobs; a site without the document allows nothing that needs consent.

    Attributes:
        weak: weak protocols that jobs may use here, by name.
    """

    weak: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names of no protocol.

        Raises:
            InputError: with the nearest right name.
        """
        for name in self.weak:
            named(name)

    @classmethod
    def load(cls, store: Store) -> Policy:
        """Read the document of a site's folder.

        Raises:
            InputError: it holds an unknown key, or names an unknown protocol.
        """
        read, _ = store.slot(FILE)
        text = (read() or b"").decode("utf-8", "replace")
        return parse(text, cls, FILE) if text.strip() else cls()

    def save(self, store: Store) -> None:
        """Write the document, whole or not at all."""
        import yaml

        text: str = yaml.safe_dump(msgspec.to_builtins(self), default_flow_style=None)
        store.write(FILE, text.encode())

    def allowing(self, name: str) -> Policy:
        """Return a policy that allows a weak protocol, too.

        Raises:
            InputError: there is no such protocol, or it is not weak.
        """
        if not named(name).card.weak:
            raise InputError(
                f"{name} is not weak, and jobs may use it already", cure="`atoll protocol list` names all."
            )
        return msgspec.structs.replace(self, weak=tuple(sorted({*self.weak, name})))

    def refusing(self, name: str) -> Policy:
        """Return a policy that does not allow a protocol.

        Raises:
            InputError: there is no such protocol.
        """
        named(name)
        return msgspec.structs.replace(self, weak=tuple(one for one in self.weak if one != name))


def require_protocol(policy: Policy, site: str, name: str) -> None:
    """Refuse a weak protocol that the site has not allowed, outside of jobs.

    Raises:
        ContractError: it has not.
    """
    if named(name).card.weak and name not in policy.weak:
        raise ContractError(
            f"{site} has not allowed the weak protocol {name}",
            site=site,
            cure=f"Do without it, or allow it: `atoll site allow {name}` at {site}.",
        )


def named(name: str) -> Protocol:
    """Return the protocol of this name.

    Raises:
        InputError: there is none; with the nearest name.
    """
    from atoll.registry import protocols

    found = protocols()
    if name not in found:
        close = nearest(name, list(found))
        raise InputError(
            f"there is no protocol {name!r}",
            cure=f"Did you mean {close!r}?" if close else f"There are {', '.join(found)}.",
        )
    return found[name]


def require(policy: Policy, site: str, steps: Iterable[Step[Any]], *, cure: str = CURE) -> None:
    """Refuse a job that would do what the site has not allowed, before anything is sent.

    Args:
        policy: the site's policy.
        site: its name.
        steps: the job's steps.
        cure: what to do; {name} and {site} are filled in.

    Raises:
        ContractError: naming site, step, protocol and why it is weak.
    """
    for step in steps:
        for protocol in weak_of(step):
            if protocol.name not in policy.weak:
                raise ContractError(
                    f"step {step.name} uses {protocol.name}, which is weak and not allowed at {site}: "
                    + protocol.card.weak,
                    site=site,
                    step=step.name,
                    cure=cure.format(name=protocol.name, site=site),
                )


def weak_of(step: Step[Any]) -> list[Protocol]:
    """The weak protocols among those that a step uses, and those inside of them."""
    return [protocol for used in step.uses() for protocol in _all_of(used) if protocol.card.weak]


def _all_of(protocol: Protocol) -> Iterator[Protocol]:
    yield protocol
    for inner in protocol.uses:
        yield from _all_of(inner)
