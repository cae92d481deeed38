"""Every protocol has a complete card, and every message that can leave is declared by one."""

import re
from importlib import import_module

from atoll.core.message import Message, array_fields
from atoll.registry import protocols
from atoll.testing import check_card
from tests.repo.source import SRC, python_files


def test_cards_are_complete() -> None:
    for protocol in protocols().values():
        check_card(protocol)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", protocol.name)
        assert re.match(r"(sketch|tested|reviewed)\b", protocol.card.assurance), protocol.name
        assert set(protocol.card.reveals) == set(protocol.roles), protocol.name


def test_every_message_says_what_it_is() -> None:
    for protocol in protocols().values():
        for kind in protocol.messages:
            assert (kind.__doc__ or "").strip().endswith("."), f"{protocol.name}: {kind.__name__} needs a sentence"
            array_fields(kind)


def test_every_message_of_a_protocol_is_declared() -> None:
    declared = {kind for protocol in protocols().values() for kind in protocol.kinds}
    for file in python_files("src/atoll/protocols", "src/atoll/learn", "src/atoll/align"):
        import_module(".".join(file.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__"))
    known, pending = set(), [Message]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__.startswith(("atoll.protocols.", "atoll.learn.", "atoll.align.")):
            known.add(kind)
    assert {f"{kind.__module__}.{kind.__qualname__}" for kind in known - declared} == set()
