import asyncio

import pytest

from atoll.core.errors import ProtocolError
from atoll.core.group import Group
from atoll.core.message import Message
from atoll.transport.memory import memory_pair


class Vote(Message, frozen=True):
    value: int


def test_gather_waits_for_all_or_for_a_quorum():
    async def play():
        pairs = {name: memory_pair("hub", name, timeout=0.1) for name in "abc"}
        group = Group({name: pair[0] for name, pair in pairs.items()}).sub("vote")
        for value, name in enumerate("ab"):
            await pairs[name][1].sub("vote").send(Vote(value))
        some = await group.gather(Vote, quorum=2)
        for name in "ab":
            await pairs[name][1].sub("vote").send(Vote(9))
        with pytest.raises(ProtocolError, match="from c within"):
            await group.gather(Vote)
        with pytest.raises(ProtocolError, match=r"missing: a, b, c"):
            await group.gather(Vote, quorum=1, timeout=0.01)
        await group.broadcast(Vote(5))
        told = [(await pair[1].sub("vote").recv(Vote)).value for pair in pairs.values()]
        return some, told

    some, told = asyncio.run(play())
    assert {name: vote.value for name, vote in some.items()} == {"a": 0, "b": 1}
    assert told == [5, 5, 5]
