"""Which network a version is: the sites that come to it vouch for it, and the aggregator can only pass that on.

Who hands out networks could lead all sites but one to a dead network, in which these have nothing to say; the next
total is then that site's update (Pasquini et al., ACM CCS 2022, "Eluding secure aggregation").  So a network goes with
a MAC under a key that all sites have and the aggregator has not.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.bound import Bond
from atoll.protocols.intersection_result import context_hash
from atoll.protocols.secure_sum.ties import derived

Proof = NDArray[np.uint8]

BYTES = 32
"""Of a proof."""


@dataclass(frozen=True)
class Voucher:
    """What a site needs to vouch for a network, and to believe others.

    Attributes:
        key: 32 secret bytes that the sites of a job share.
    """

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, common: bytes, context: Sequence[str]) -> Voucher:
        """Return that of the sites which share a secret, in one job."""
        return cls(derived(common, "network", context_hash(context), BYTES))

    async def proof(self, version: int, model: F32) -> Proof:
        """Return HMAC-SHA256 over the version and the hash of its network, (32,) uint8."""
        bond = Bond()
        await bond.told(model)
        return np.frombuffer(hmac.digest(self.key, bond.label(f"version {version}").encode(), "sha256"), np.uint8)

    async def check(self, version: int, model: F32, proof: Proof, peer: str) -> None:
        """Make sure that a site vouches for the network that a peer hands out.

        Raises:
            ProtocolError: no site does.
        """
        if not hmac.compare_digest((await self.proof(version, model)).tobytes(), proof.tobytes()):
            raise ProtocolError(
                f"{peer} handed out a network as version {version} that no site has made",
                cure="It was changed on its way, or the aggregator leads sites astray. Do not use the network.",
            )
