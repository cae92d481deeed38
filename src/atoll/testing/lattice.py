"""Parameter sets for tests, without noise or security; no job can name them."""

from __future__ import annotations

from atoll.crypto import lwe


def toy_set(
    N: int = 64, q_bits: int = 40, sigma: float = 0.0, *, dropped_bits: int = 0, gradient_bits: int | None = None
) -> lwe.ParameterSet:
    """Return a set that `lwe.get` does not know.

    Args:
        N: Degree of the ring, a power of two from 16 on.
        q_bits: 32, 40 or 64.
        sigma: Noise of the masks; with 0 (and no dropped bits) results are exact and the output noise is off.
        dropped_bits: Low bits left out of corrections to the asker.
        gradient_bits: The same where vectors are gradients; as many if left out.
    """
    drop = (dropped_bits, dropped_bits if gradient_bits is None else gradient_bits)
    return lwe._set(f"toy-{N}-{q_bits}-{sigma:g}", N, q_bits, sigma, drop, (0, 0), True, "tests only")


def exact_set(name: str) -> lwe.ParameterSet:
    """Return a named set with its noise switched off: same ring, words and messages, exact results."""
    real = lwe.get(name)
    return toy_set(real.N, real.q_bits)
