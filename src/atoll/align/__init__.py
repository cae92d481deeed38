"""Canonical ids: the same customer gives the same bytes at every site, once."""

from atoll.align.ids import KINDS, Ids, canonical, pack_keys, unique_ids

__all__ = ["KINDS", "Ids", "canonical", "pack_keys", "unique_ids"]
