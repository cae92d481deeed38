"""Randomness that can be replayed, for tests only; no job can reach it."""

from __future__ import annotations

import hashlib

from atoll.crypto.random import Rng


def seeded_rng(seed: int) -> Rng:
    """Return a generator whose stream depends on `seed` alone."""
    return Rng(hashlib.sha256(b"atoll test randomness" + seed.to_bytes(8, "big")).digest()[:16])
