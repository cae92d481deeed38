from typing import Annotated

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import ProtocolError
from atoll.core.message import (
    F64,
    HEADER_LIMIT,
    U8,
    U64,
    AtMost,
    Message,
    decode,
    encode,
    expect,
    kind_of,
)


class Parcel(Message, frozen=True):
    label: str
    narrow: U8
    count: Annotated[int, msgspec.Meta(ge=0)]
    wide: U64


class Reals(Message, frozen=True):
    values: F64


class Plain(Message, frozen=True):
    text: str = ""


def travel(message, **shapes):
    header, parts = encode(message)
    head, size = expect(header, type(message), shapes)
    payload = np.frombuffer(bytearray(b"".join(parts)), np.uint8)
    assert len(payload) == size
    return decode(head, payload, type(message))


@given(st.integers(0, 9), st.integers(0, 9), st.text(max_size=20))
def test_a_message_arrives_as_it_left(n, m, label):
    sent = Parcel(label, np.arange(n, dtype=np.uint8), 7, np.arange(2 * m, dtype=np.uint64).reshape(2, m))
    got = travel(sent, narrow=(AtMost(9),), wide=(2, m))
    assert (got.label, got.count) == (label, 7)
    np.testing.assert_array_equal(got.narrow, sent.narrow)
    np.testing.assert_array_equal(got.wide, sent.wide)
    assert got.wide.shape == (2, m)
    assert got.wide.flags.aligned
    assert not got.wide.flags.writeable


def test_contiguous_arrays_are_not_copied():
    values = np.arange(1000, dtype=np.float64)
    _, parts = encode(Reals(values))
    assert np.shares_memory(np.frombuffer(parts[0], np.float64), values)


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), (), (AtMost(3),)])
def test_another_shape_is_refused_before_anything_is_allocated(shape):
    header, _ = encode(Reals(np.zeros(4)))
    with pytest.raises(ProtocolError, match="has shape"):
        expect(header, Reals, {"values": shape})


def test_negative_and_huge_dimensions_are_refused():
    for dims in ([-1], [2**62], [2**40, 2**40]):
        header = msgspec.msgpack.encode([kind_of(Reals), [dims], {}])
        with pytest.raises(ProtocolError, match="has shape"):
            expect(header, Reals, {"values": tuple(AtMost(100) for _ in dims)})


def test_another_kind_is_refused_by_name():
    header, _ = encode(Plain("x"))
    with pytest.raises(ProtocolError, match=r"expected .*Reals, received .*Plain"):
        expect(header, Reals, {"values": (1,)})


def test_a_reader_who_forgets_a_shape_is_told():
    header, _ = encode(Reals(np.zeros(1)))
    with pytest.raises(TypeError, match="state the expected shape"):
        expect(header, Reals, {})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_that_is_not_finite_is_refused(value):
    with pytest.raises(ProtocolError, match="not finite"):
        travel(Reals(np.array([0.0, value])), values=(2,))


@pytest.mark.parametrize(
    "fields",
    [{"label": "x", "count": 1, "more": 2}, {"label": "x"}, {"label": 3, "count": 1}, {"label": "x", "count": -1}, 7],
)
def test_fields_that_do_not_fit_are_refused(fields):
    header = msgspec.msgpack.encode([kind_of(Parcel), [[0], [0]], fields])
    head, _ = expect(header, Parcel, {"narrow": (0,), "wide": (0,)})
    with pytest.raises(ProtocolError, match="fields that do not fit"):
        decode(head, np.empty(0, np.uint8), Parcel)


@given(st.binary(max_size=200))
def test_no_header_makes_the_reader_fail_in_another_way(junk):
    with pytest.raises(ProtocolError):
        expect(junk, Plain, {})


def test_mistakes_of_our_own_code_are_type_errors():
    with pytest.raises(TypeError, match="must be an array of float64"):
        encode(Reals(np.zeros(3, np.float32)))
    with pytest.raises(TypeError, match="outside its arrays"):
        encode(Plain("x" * HEADER_LIMIT))


def test_a_kind_is_named_by_the_place_where_it_is_defined():
    from atoll.core.session import Notice

    assert kind_of(Notice) == "core.session.Notice"
