"""Noise on whole numbers from OpenDP, whose samplers are exact and draw from the operating system's randomness.

No float is ever sampled and rounded: that is how the lowest bits of a noisy sum have told the sum (Mironov, CCS 2012).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atoll.privacy.mechanism import Mechanism

I64 = NDArray[np.int64]


def noise(mechanism: Mechanism, n: int) -> I64:
    """Draw the noise of n releases that concern different people, such as the groups of a table.

    Args:
        mechanism: what is added to the K numbers of one release.
        n: how many.

    Returns:
        (n, K) int64.

    Raises:
        InputError: OpenDP is not installed, or a scale is too large for 64 bits.
    """
    return draw(mechanism.noise, mechanism.scales, n)


def draw(kind: str, scales: Sequence[float], n: int) -> I64:
    """Draw n rows of independent noise, one column a scale, (n, K) int64; `kind` and errors as `noise`."""
    require()
    found, wanted = np.zeros((n, len(scales)), np.int64), np.array(scales)
    for scale in sorted(set(scales) - {0.0}) if n else ():
        columns = np.flatnonzero(wanted == scale)
        found[:, columns] = np.reshape(_sampler(kind, scale)([0] * (n * len(columns))), (n, len(columns)))
    return found


def require() -> None:
    """Refuse to go on where OpenDP is not installed.

    Raises:
        InputError: it is not.
    """
    try:
        import opendp.measurements  # noqa: F401
    except ImportError:
        raise InputError(
            "noise is drawn by OpenDP, which is not installed here", cure="Install it: pip install 'atoll-fl[dp]'."
        ) from None


def _sampler(kind: str, scale: float) -> Any:
    """Return OpenDP's measurement, which adds noise to a list of whole numbers."""
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian, make_laplace
    from opendp.metrics import l1_distance, l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")
    numbers = vector_domain(atom_domain(T="i64"))
    if kind == "laplace":
        return make_laplace(numbers, l1_distance(T="i64"), scale=scale)
    return make_gaussian(numbers, l2_distance(T="f64"), scale=scale)
