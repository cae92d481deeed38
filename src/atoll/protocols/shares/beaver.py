"""Beaver's product of matrices, for sources that give triples: open D = X − A and E = Y − B."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.core.offload import offload
from atoll.crypto import word_matrix
from atoll.protocols.shares.source import Opener, Triple, both

Words = NDArray[np.uint64]


async def matrix_product(triple: Triple, x: Words, y: Words, opener: Opener) -> Words:
    """Return a half of X·Y = C + D·B + A·E + D·E, from halves of X (m, k) and Y (k, n) and a triple of these sizes."""
    masked = np.concatenate(((x - triple.a).reshape(-1), (y - triple.b).reshape(-1)))
    opened = await opener.swap(masked)
    d, e = opened[: x.size].reshape(x.shape), opened[x.size :].reshape(y.shape)
    # D·B + A·E (+ D·E at one party) as two products
    terms = (d, triple.b if opener.number else triple.b + e), (triple.a, e)
    parts = await both(*(offload(word_matrix.product, *term) for term in terms))
    out: Words = triple.c + parts[0] + parts[1]
    return out
