"""Conformance suites and test helpers, public so that new protocols and transports can be held to them."""

from atoll.testing.check_channel import LinkPair, check_channel, check_channel_case
from atoll.testing.check_protocol import ProtocolCheck, check_card, check_protocol
from atoll.testing.links import FAULTS, FaultyLink, Frame, end_pair, recorded_pair, run_pair
from atoll.testing.random import seeded_rng

__all__ = [
    "FAULTS",
    "FaultyLink",
    "Frame",
    "LinkPair",
    "ProtocolCheck",
    "check_card",
    "check_channel",
    "check_channel_case",
    "check_protocol",
    "end_pair",
    "recorded_pair",
    "run_pair",
    "seeded_rng",
]
