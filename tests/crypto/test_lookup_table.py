"""Shapes of lookup tables, and slots that open for their key only."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import lookup_table as table
from atoll.testing import seeded_rng

IDENTITY = bytes(range(16))


@given(st.integers(0, 20_000_000), st.integers(3, 65_536))
def test_every_table_has_a_shape(count: int, record: int) -> None:
    layout = table.layout_for(count, record)
    assert layout.columns <= 1 << 17
    assert layout.columns <= max(1, 4 * count)
    assert layout.slots * layout.columns >= 0.9 * count


def test_a_million_records_of_256_bytes() -> None:
    layout = table.layout_for(1_000_000, 256)
    assert (layout.columns, layout.slots, layout.rows) == (32_768, 35, 9_520)
    loads = np.bincount(table.columns_of(seeded_rng(1).u8(1_000_000, 64), layout.columns), minlength=layout.columns)
    assert np.maximum(loads - layout.slots, 0).sum() < 25_000


@pytest.mark.parametrize("sizes", [(3, 1, 16), (4, 0, 16), (4, 1, 0), (1 << 18, 1, 16), (4, 1, 65_537), (4, 65_537, 9)])
def test_impossible_shapes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"columns|slots"):
        table.Layout(*sizes)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6), st.integers(0, 99))
def test_a_slot_opens_for_its_key_only(records: list[bytes], seed: int) -> None:
    outputs = seeded_rng(seed).u8(len(records), 64)
    slots = table.seal(outputs, records, 32, IDENTITY)
    assert slots.shape == (len(records), 48)
    for output, record in zip(outputs, records, strict=True):
        assert table.unseal(output, slots, IDENTITY) == record
        assert table.unseal(output, slots, bytes(16)) is None
    stranger = seeded_rng(seed + 1000).u8(64)
    assert table.unseal(stranger, slots, IDENTITY) is None
    slots = np.array(slots)
    slots[0, 20] ^= 1
    assert table.unseal(outputs[0], slots[:1], IDENTITY) is None


def test_frozen_slot() -> None:
    outputs = np.arange(64, dtype=np.uint8)[None]
    slot = table.seal(outputs, [b"record"], 16, IDENTITY)
    assert hashlib.sha256(slot.tobytes()).hexdigest()[:16] == FROZEN
    assert table.columns_of(outputs, 1 << 17).tolist() == [0x020100 & ((1 << 17) - 1)]
    assert table.names_of(outputs)[0].tolist() == list(range(8, 24))


FROZEN = "de6a48859a233964"
