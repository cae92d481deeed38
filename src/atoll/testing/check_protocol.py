"""The conformance suite that every two-party protocol passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np

from atoll.core.channel import Channel
from atoll.core.errors import AtollError
from atoll.core.message import kind_of
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.testing.links import FAULTS, Frame, end_pair, recorded_pair, run_pair
from atoll.testing.random import seeded_rng

Case = TypeVar("Case")
Role = Callable[[Channel, Case, Rng], Awaitable[Any]]


@dataclass(frozen=True)
class ProtocolCheck(Generic[Case]):
    """How to run one protocol on drawn cases.

    Attributes:
        protocol: The protocol under test.
        cases: Inputs, ugly ones among them: n = 1, ties, empty where allowed.
        first: Runs one role: (channel, case, rng) to its result.
        second: Runs the other role.
        reference: What both roles should return for a case, computed in the plain.
        max_bytes: The card's bound on all bytes of a run.
        equal: Compares a result with the reference; exact equality by default.
        faults_at: Case on which every message is damaged in turn; the first one by default.
        patience: Seconds a role waits for a message while messages are being damaged.
    """

    protocol: Protocol
    cases: Sequence[Case]
    first: Role[Case]
    second: Role[Case]
    reference: Callable[[Case], tuple[Any, Any]]
    max_bytes: Callable[[Case], float]
    equal: Callable[[Any, Any], bool] = lambda got, want: same(got, want)
    faults_at: int = 0
    patience: float = 0.3


def same(got: Any, want: Any) -> bool:
    """Compare results exactly; arrays by dtype-independent equality, tuples and dataclasses part by part."""
    if want is None or isinstance(want, np.ndarray):
        return got is None if want is None else np.array_equal(got, want)
    if isinstance(want, tuple):
        return len(got) == len(want) and all(same(g, w) for g, w in zip(got, want, strict=True))
    return bool(got == want)


def check_protocol(check: ProtocolCheck[Case]) -> None:
    """Hold a protocol to its card and to its plain reference.

    Raises:
        AssertionError: With the first promise that is broken, the case and what was seen.
    """
    check_card(check.protocol)
    for number, case in enumerate(check.cases):
        transcript = check_equals_reference(check, case, number)
        size = sum(frame.size for frame in transcript)
        _hold(size <= check.max_bytes(case), f"case {number}: {size:,} bytes, more than the card's bound")
        again = _play(check, case, seed=number)[1]
        alike = by_stream(again) == by_stream(transcript)
        _hold(alike, f"case {number}: the same randomness gave another transcript")
    check_faults(check)


def by_stream(transcript: Sequence[Frame]) -> list[Frame]:
    """Return frames stream by stream of each sender: within one they have an order, between streams they have none."""
    return sorted(transcript, key=lambda frame: (frame.sender, frame.stream))


def check_card(protocol: Protocol) -> None:
    """A card says everything that a reviewer needs."""
    for part in fields(protocol.card):
        value = getattr(protocol.card, part.name)
        _hold(bool(value) or part.name in ("notes", "weak"), f"{protocol.name}: the card's {part.name} is empty")
    missing = set(protocol.roles) - set(protocol.card.reveals)
    _hold(not missing, f"{protocol.name}: the card does not say what {sorted(missing)} learn")
    _hold(bool(protocol.messages or protocol.uses), f"{protocol.name}: no message kinds are declared")


def check_equals_reference(check: ProtocolCheck[Case], case: Case, seed: int) -> list[Frame]:
    """Both roles return what the plain computation returns, and send declared kinds only."""
    results, transcript = _play(check, case, seed)
    for name, got, want in zip(("first", "second"), results, check.reference(case), strict=True):
        _hold(check.equal(got, want), f"case {seed}: the {name} role returned {got!r}, the reference is {want!r}")
    declared = {kind_of(kind) for kind in check.protocol.kinds}
    undeclared = {frame.kind for frame in transcript} - declared
    _hold(not undeclared, f"kinds that the protocol does not declare were sent: {sorted(undeclared)}")
    return transcript


def check_faults(check: ProtocolCheck[Case]) -> None:
    """Damage every message in every way: somebody notices, nobody hangs, nobody ends in a foreign error."""
    case = check.cases[check.faults_at]
    transcript = _play(check, case, check.faults_at)[1]
    first_of_kind = {(frame.sender, frame.kind): number for number, frame in reversed(list(enumerate(transcript)))}
    for number in sorted(first_of_kind.values()):
        for fault in FAULTS:
            here = f"message {number} ({transcript[number].kind}) {fault}"
            ends = _play_damaged(check, case, number, fault)
            errors = [end for end in ends if isinstance(end, BaseException)]
            _hold(bool(errors), f"{here}: nobody noticed")
            for error in errors:
                _hold(isinstance(error, AtollError), f"{here}: ended in {error!r} instead of an error of ours")


def _play(check: ProtocolCheck[Case], case: Case, seed: int) -> tuple[tuple[Any, Any], list[Frame]]:
    a, b, transcript = recorded_pair(allowed=check.protocol.kinds)
    results = run_pair(_run(check.first, a, case, seed), _run(check.second, b, case, seed + 1_000))
    return results, transcript


def _play_damaged(check: ProtocolCheck[Case], case: Case, number: int, fault: str) -> tuple[Any, Any]:
    a, b, _ = recorded_pair(allowed=check.protocol.kinds, target=number, fault=fault, timeout=check.patience)
    seed = check.faults_at
    return end_pair(_run(check.first, a, case, seed), _run(check.second, b, case, seed + 1_000))


async def _run(role: Role[Case], channel: Channel, case: Case, seed: int) -> Any:
    """Run a role; when it fails, end the link as a session would, so that the peer does not wait in vain."""
    try:
        return await role(channel, case, seeded_rng(seed))
    except AtollError:
        await channel.link.close()
        raise


def _hold(promise: bool, otherwise: str) -> None:
    if not promise:
        raise AssertionError(otherwise)
