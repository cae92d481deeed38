"""What sites agree on through sums alone: common randomness, and that they run the same thing."""

from __future__ import annotations

import hashlib

import numpy as np

from atoll.core.errors import ContractError
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum.totals import Totals

SEED_WORDS = 4


async def agree_on_seed(totals: Totals, rng: Rng) -> bytes:
    """Draw 16 bytes that are uniform as long as one site draws its part at random.

    Args:
        totals: the sums; parts are 32-bit words, so that the sum of up to 2^21 sites is exact in float64.
        rng: this site's randomness.
    """
    sums = await totals.total(rng.u32(SEED_WORDS).astype(np.float64), what="random words for a common seed")
    return (sums % 2.0**32).astype("<u4").tobytes()


def stream(seed: bytes, *labels: str | int) -> Rng:
    """Return the generator that a seed gives for one purpose.  All who know the seed get the same: it hides nothing."""
    text = "/".join(["atoll networks", *map(str, labels)])
    return Rng(hashlib.sha256(len(seed).to_bytes(4, "big") + seed + text.encode()).digest())


def number(seed: bytes, *labels: str | int) -> int:
    """Return a whole number below 2^63 for one purpose, as seeds of learning libraries are."""
    return int(stream(seed, *labels).u64(1)[0] >> np.uint64(1))


async def check_same(totals: Totals, document: bytes, *, what: str) -> None:
    """Make sure that all sites hold the same document, and show nothing of it but sums of its hash.

    The n words of one place of the hash are equal exactly if n Σh² = (Σh)² (Cauchy and Schwarz).

    Raises:
        ContractError: sites hold different documents.
    """
    words = np.frombuffer(hashlib.sha256(document).digest()[:16], "<u2").astype(np.float64)
    sums = await totals.total(np.concatenate([words, words**2]), what=f"hash of {what}")
    n, half = len(totals.sites), words.size
    if not (np.array_equal(sums[:half], n * words) and np.array_equal(sums[half:], n * words**2)):
        raise ContractError(
            f"sites do not agree about {what}",
            site=totals.site,
            step="networks",
            cure="Give every site the same network, algorithm and plan.",
        )
