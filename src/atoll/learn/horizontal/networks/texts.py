"""Texts as numbers, alike at every site without a common vocabulary: words and pairs of words, hashed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError

WORD = re.compile(r"\w+", re.UNICODE)


def hashed_words(texts: Sequence[str], *, buckets: int = 1 << 14, longest: int = 256) -> NDArray[np.int64]:
    """Return the buckets of every text's words and pairs of neighbouring words, as `torch.nn.EmbeddingBag` reads them.

    A word, or a pair, always falls into the same bucket, so that nobody has to tell which words occur at a site
    (Weinberger et al., ICML 2009).  Capital letters count as small ones.

    Args:
        texts: n texts.
        buckets: how many there are, at least 1.
        longest: words and pairs of a text that count, at least 1; the first ones.

    Returns:
        (n, longest) int64 from 1 to `buckets`, and 0 where a text has no more: `EmbeddingBag(buckets + 1, …,
        padding_idx=0)`.

    Raises:
        InputError: there is no bucket, or nothing of a text would count.
    """
    if buckets < 1 or longest < 1:
        raise InputError("texts need at least 1 bucket and 1 word", step="networks", cure="Give more.")
    found = np.zeros((len(texts), longest), np.int64)
    for row, text in zip(found, texts, strict=True):
        words = WORD.findall(text.lower())
        terms = [*words, *(f"{first} {second}" for first, second in pairwise(words))][:longest]
        row[: len(terms)] = [zlib.crc32(term.encode()) % buckets + 1 for term in terms]
    return found
