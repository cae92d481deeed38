"""Two parties compute on secret shares: numbers that neither knows, operations that both see."""

from atoll.protocols.shares.functions import divide, exponential, logistic, reciprocal
from atoll.protocols.shares.logic import (
    choose,
    conjunction,
    disjunction,
    equal,
    from_bits,
    less,
    negative,
    select,
    to_arithmetic,
    to_bits,
)
from atoll.protocols.shares.order import largest, quantiles, smallest, sort
from atoll.protocols.shares.party import FRACTION, Party, first, second
from atoll.protocols.shares.replicated import Member, Replicated, member
from atoll.protocols.shares.source import Source
from atoll.protocols.shares.values import Arithmetic, Bits, joined

__all__ = [
    "FRACTION",
    "Arithmetic",
    "Bits",
    "Member",
    "Party",
    "Replicated",
    "Source",
    "choose",
    "conjunction",
    "disjunction",
    "divide",
    "equal",
    "exponential",
    "first",
    "from_bits",
    "joined",
    "largest",
    "less",
    "logistic",
    "member",
    "negative",
    "quantiles",
    "reciprocal",
    "second",
    "select",
    "smallest",
    "sort",
    "to_arithmetic",
    "to_bits",
]
