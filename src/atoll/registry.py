"""Where everything that can be found by name is listed: protocols, and modules with kernels to compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from atoll.core.protocol import Protocol

PROTOCOL_MODULES = (
    "atoll.protocols.blind_rsa_intersection",
    "atoll.protocols.circuit_intersection",
    "atoll.protocols.bucketed_intersection",
    "atoll.protocols.decoy_lookup",
    "atoll.protocols.ecdh_intersection",
    "atoll.protocols.fixed_matrix_product.protocol",
    "atoll.protocols.fixed_matrix_product.to_owner",
    "atoll.protocols.fixed_matrix_product.to_shares",
    "atoll.protocols.garbled_circuit",
    "atoll.protocols.hidden_sum",
    "atoll.protocols.hidden_table",
    "atoll.protocols.hidden_totals",
    "atoll.protocols.intersection_result",
    "atoll.protocols.kkrt_intersection",
    "atoll.protocols.oblivious_choice",
    "atoll.protocols.oblivious_transfer",
    "atoll.protocols.salted_hash_intersection",
    "atoll.protocols.intersection_size",
    "atoll.protocols.intersection_sum",
    "atoll.protocols.labelled_intersection",
    "atoll.protocols.multi_intersection",
    "atoll.protocols.pairwise_keys",
    "atoll.protocols.prepared_intersection",
    "atoll.protocols.hidden_permutation",
    "atoll.protocols.hidden_quantiles",
    "atoll.protocols.hidden_rows",
    "atoll.protocols.row_order",
    "atoll.protocols.hidden_sum",
    "atoll.protocols.hidden_table",
    "atoll.protocols.masked_values",
    "atoll.protocols.silent_transfer",
    "atoll.protocols.keyword_lookup.protocol",
    "atoll.protocols.oprf",
    "atoll.protocols.shares.compact_transfer",
    "atoll.protocols.shares.dealer",
    "atoll.protocols.shares.homomorphic",
    "atoll.protocols.shares.party",
    "atoll.protocols.shares.replicated",
    "atoll.protocols.shares.transfers",
    "atoll.protocols.secure_sum.direct",
    "atoll.protocols.secure_sum.dropouts",
    "atoll.protocols.secure_sum.ring",
    "atoll.protocols.secure_sum.star",
    "atoll.protocols.silent_vole",
    "atoll.protocols.transfer_check",
    "atoll.protocols.vole_intersection",
    "atoll.protocols.vole_oprf",
    "atoll.learn.horizontal.networks.seen_updates",
    "atoll.learn.vertical.trees.predict",
    "atoll.learn.vertical.trees.protocol",
    "atoll.node.border",
    "atoll.node.contract",
    "atoll.node.departures",
    "atoll.node.steps.compare",
    "atoll.node.steps.evaluate",
    "atoll.node.steps.split",
)
"""Modules that define a `PROTOCOL`."""


def protocols() -> Mapping[str, Protocol]:
    """Return every protocol by name, in alphabetical order."""
    found = [import_module(module).PROTOCOL for module in PROTOCOL_MODULES]
    return {protocol.name: protocol for protocol in sorted(found, key=lambda protocol: protocol.name)}


def kernels(modules: Sequence[str] = ()) -> Mapping[str, Callable[[], None]]:
    """Return, for modules with compiled kernels, or for all such, the functions that compile them."""
    return {module: import_module(module).warm for module in modules or KERNEL_MODULES}


KERNEL_MODULES = (
    "atoll.align.packed",
    "atoll.crypto.bit_transpose",
    "atoll.crypto.boolean_circuit",
    "atoll.crypto.choice_pads",
    "atoll.crypto.circuit_schedule",
    "atoll.crypto.cuckoo",
    "atoll.crypto.compact_columns",
    "atoll.crypto.expand_convolute",
    "atoll.crypto.garbling",
    "atoll.crypto.filled_store",
    "atoll.crypto.fixed_point",
    "atoll.crypto.gaussian",
    "atoll.crypto.gf128",
    "atoll.crypto.homomorphic",
    "atoll.crypto.item_hash",
    "atoll.crypto.matrix_tiles",
    "atoll.crypto.okvs",
    "atoll.crypto.pir",
    "atoll.crypto.packed_bits",
    "atoll.crypto.prime_transform",
    "atoll.crypto.punctured_trees",
    "atoll.crypto.random",
    "atoll.crypto.ring",
    "atoll.crypto.ristretto",
    "atoll.crypto.row_hash",
    "atoll.crypto.switching_network",
    "atoll.crypto.secret_shares",
    "atoll.crypto.sum_tags",
    "atoll.crypto.table_pads",
    "atoll.crypto.tmmo",
    "atoll.data.buckets",
    "atoll.crypto.transfer_products",
    "atoll.crypto.word_matrix",
    "atoll.crypto.word_ring",
    "atoll.learn.vertical.trees.kernels",
    "atoll.protocols.fixed_matrix_product.kernels",
    "atoll.protocols.vole_intersection",
)
"""Modules that define `warm()`; a test finds the ones that are missing here."""
