"""Trees of pseudorandom blocks of which one side knows all leaves, the other all but one in each tree.

A node x has the children π₀(x) ⊕ x and π₁(x) ⊕ x under two fixed-key permutations.  Level by level the sum of all left
children and the sum of all right children suffice to know everything but one path.

Source: Goldreich, Goldwasser, Micali, J. ACM 1986; Boyle et al., ACM CCS 2019 (distributed set-up by level sums);
fixed-key blocks as in Guo et al., IEEE S&P 2020, section 6 (correlation robustness is not needed of siblings here).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

LEFT, RIGHT = (
    FixedKey(hashlib.sha256(f"atoll/punctured-trees/v1/{side}".encode()).digest()[:16]) for side in ("left", "right")
)

_TREES = 8
"""Trees that are grown together: their nodes stay in the cache."""


def depth(leaves: int) -> int:
    """Levels below the root of a tree with so many leaves."""
    return max(1, (leaves - 1).bit_length())


def grow(roots: U64, leaves: int) -> tuple[U64, U64]:
    """Grow whole trees.

    Args:
        roots: (t, 2) uint64, secret and uniform.
        leaves: Leaves of each tree, at least 1.

    Returns:
        The leaves (t, leaves, 2), and for each tree and level the sums of its left and of its right children,
        (t, depth, 2, 2).
    """
    t, levels = len(roots), depth(leaves)
    out, sums = np.empty((t, leaves, 2), np.uint64), np.empty((t, levels, 2, 2), np.uint64)
    for lo in range(0, t, _TREES):
        part = slice(lo, min(lo + _TREES, t))
        nodes = roots[part, np.newaxis]
        for level in range(levels):
            nodes = _children(nodes, _width(leaves, levels, level + 1))
            _sums(nodes, sums[part, level])
        out[part] = nodes
    return out, sums


def grow_punctured(missing: I64, leaves: int, sums: U64) -> U64:
    """Grow trees of which one leaf each is not known.

    Args:
        missing: (t,) int64, the leaf of each tree that stays unknown; its place is left zero.
        leaves: Leaves of each tree.
        sums: (t, depth, 2) uint64: for each level the sum of the children on the other side than the path.

    Returns:
        The leaves, (t, leaves, 2).
    """
    t, levels = len(missing), depth(leaves)
    out = np.empty((t, leaves, 2), np.uint64)
    for lo in range(0, t, _TREES):
        part = slice(lo, min(lo + _TREES, t))
        nodes = np.zeros((part.stop - lo, 1, 2), np.uint64)
        for level in range(levels):
            nodes = _children(nodes, _width(leaves, levels, level + 1))
            _mend(nodes, missing[part] >> (levels - 1 - level), read_only(np.ascontiguousarray(sums[part, level])))
        out[part] = nodes
    return out


def sides(missing: I64, leaves: int) -> NDArray[np.uint8]:
    """Return for each tree and level on which side the path does *not* go: 0 left, 1 right; (t, depth)."""
    levels = depth(leaves)
    path = (missing[:, np.newaxis] >> np.arange(levels - 1, -1, -1)) & 1
    return (1 - path).astype(np.uint8)


def _width(leaves: int, levels: int, level: int) -> int:
    """Nodes of a level that have leaves below them."""
    return -(-leaves >> (levels - level)) if level < levels else leaves


def _children(nodes: U64, width: int) -> U64:
    t, count, _ = nodes.shape
    flat = nodes.reshape(-1, 2)
    left, right, out = blocks(len(flat)), blocks(len(flat)), np.empty((t, width, 2), np.uint64)
    LEFT.encrypt_into(flat, left)
    RIGHT.encrypt_into(flat, right)
    _interleave(flat.reshape(t, count, 2), left.reshape(t, count, 2), right.reshape(t, count, 2), out)
    return out


@njit
def _interleave(nodes: U64, left: U64, right: U64, out: U64) -> None:
    for t in range(out.shape[0]):
        for i in range(out.shape[1] // 2):
            a, b = nodes[t, i, 0], nodes[t, i, 1]
            out[t, 2 * i, 0], out[t, 2 * i, 1] = left[t, i, 0] ^ a, left[t, i, 1] ^ b
            out[t, 2 * i + 1, 0], out[t, 2 * i + 1, 1] = right[t, i, 0] ^ a, right[t, i, 1] ^ b
        if out.shape[1] % 2:
            i = out.shape[1] // 2
            out[t, 2 * i, 0] = left[t, i, 0] ^ nodes[t, i, 0]
            out[t, 2 * i, 1] = left[t, i, 1] ^ nodes[t, i, 1]


@njit
def _sums(nodes: U64, out: U64) -> None:
    out[:] = np.uint64(0)
    for t in range(nodes.shape[0]):
        for i in range(nodes.shape[1]):
            out[t, i & 1, 0] ^= nodes[t, i, 0]
            out[t, i & 1, 1] ^= nodes[t, i, 1]


@njit
def _mend(nodes: U64, path: I64, known: U64) -> None:
    """Clear the node on the path, and set its sibling so that its side has the sum that is known."""
    for t in range(nodes.shape[0]):
        nodes[t, path[t], 0], nodes[t, path[t], 1] = np.uint64(0), np.uint64(0)
        sibling = path[t] ^ 1
        if sibling < nodes.shape[1]:
            a, b = known[t, 0], known[t, 1]
            nodes[t, sibling, 0], nodes[t, sibling, 1] = np.uint64(0), np.uint64(0)
            for i in range(sibling & 1, nodes.shape[1], 2):
                a ^= nodes[t, i, 0]
                b ^= nodes[t, i, 1]
            nodes[t, sibling, 0], nodes[t, sibling, 1] = a, b


def warm() -> None:
    """Compile this module's kernels."""
    _, sums = grow(np.zeros((2, 2), np.uint64), 3)
    grow_punctured(np.zeros(2, np.int64), 3, sums[:, :, 1])
