"""Two or three parties compute on secret shares: numbers that none knows, operations that all see."""

from atoll.protocols.shares.functions import divide, exponential, logistic, reciprocal
from atoll.protocols.shares.operations import (
    choose,
    conjunction,
    disjunction,
    equal,
    from_bits,
    joined,
    less,
    negative,
    select,
    to_arithmetic,
    to_bits,
)
from atoll.protocols.shares.order import largest, quantiles, smallest, sort
from atoll.protocols.shares.party import FRACTION, Party, first, second
from atoll.protocols.shares.replicated import Member, member
from atoll.protocols.shares.replicated_values import Replicated, ReplicatedBits
from atoll.protocols.shares.source import Source
from atoll.protocols.shares.values import Arithmetic, Bits

__all__ = [
    "FRACTION",
    "Arithmetic",
    "Bits",
    "Member",
    "Party",
    "Replicated",
    "ReplicatedBits",
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
