"""The trees of silent vectors and silent transfers: both sides grow leaves that differ in one place of each tree.

The receiver's choices, one for each level of each tree and one for each bit of each value, went through correlated
transfers (q_j = t_j ⊕ choice_j·Δ), in this order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.core.message import U64, Message
from atoll.crypto import gf128, punctured_trees, tmmo
from atoll.protocols.oblivious_transfer import CorrelatedBlocks, ReceivedBlocks

Words = NDArray[np.uint64]


class Trees(Message, frozen=True):
    """Sender → receiver: masked sums of left and right children, (t, depth, 2, 2); sums of leaves, (t, 2)."""

    sums: U64
    leaves: U64


def masked(leaves: Words, sums: Words, blocks: CorrelatedBlocks, bits: int) -> Trees:
    """Hide the level sums under the transfers' pads, and correct each tree's sum by the share of Δ times its value.

    Args:
        leaves: (t, block, 2), all leaves.
        sums: (t, depth, 2, 2), sums of left and right children.
        blocks: the sender's side of the transfers; further ones are not used here.
        bits: bits of a value.
    """
    paths, shares = _split(blocks.q, sums.shape[0] * sums.shape[1], len(leaves), bits)
    pads = [tmmo.hash_blocks(x, blocks.first) for x in (paths, paths ^ blocks.delta)]
    hidden = sums ^ np.stack(pads, axis=1).reshape(sums.shape)
    return Trees(hidden, np.bitwise_xor.reduce(leaves, axis=1) ^ shares)


def regrow(
    trees: Trees, missing: NDArray[np.int64], sides: NDArray[np.uint8], blocks: ReceivedBlocks, block: int, bits: int
) -> Words:
    """Open the sums, grow the trees around their missing leaves, and fill those in.

    Args:
        trees: what the sender sent.
        missing: (t,) the place that each tree must not show.
        sides: (t, depth) the choices that go with it.
        blocks: the receiver's side of the transfers.
        block: leaves of a tree.
        bits: bits of a value.

    Returns:
        (t, block, 2) the leaves; the missing ones are off by Δ times the tree's value.
    """
    paths, shares = _split(blocks.t, sides.size, len(missing), bits)
    pads = tmmo.hash_blocks(paths, blocks.first).reshape(*sides.shape, 2)
    chosen = sides[:, :, np.newaxis, np.newaxis].astype(np.int64)
    sums = np.take_along_axis(trees.sums, chosen, axis=2)[:, :, 0] ^ pads
    leaves = punctured_trees.grow_punctured(missing, block, sums)
    leaves[np.arange(len(missing)), missing] = trees.leaves ^ np.bitwise_xor.reduce(leaves, axis=1) ^ shares
    return leaves


def joined(strings: Words, bits: int) -> Words:
    """Make Σ X^i·s_i of every `bits` strings, (n · bits, 2) to (n, 2): what stood for bits stands for numbers."""
    out = np.empty((len(strings) // bits, 2), np.uint64)
    gf128.inner_with_powers(np.ascontiguousarray(strings).reshape(-1, bits, 2), out)
    return out


def _split(strings: Words, on_paths: int, values: int, bits: int) -> tuple[Words, Words]:
    """Return the strings of the paths, and one joined string for each value."""
    paths, rest = strings[:on_paths], strings[on_paths : on_paths + values * bits]
    return np.ascontiguousarray(paths), joined(rest, bits)
