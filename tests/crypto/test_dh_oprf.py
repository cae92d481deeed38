"""The function of RFC 9497: its published vectors, and blinding that hides."""

import hashlib

import numpy as np
import pytest

from atoll.core.errors import ProtocolError
from atoll.crypto import dh_oprf, ristretto
from atoll.testing import seeded_rng

KEY = bytes.fromhex("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e")
BLIND = bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706")
VECTORS = [
    (
        "00",
        "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
        "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
        "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3"
        "ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
    ),
    (
        "5a" * 17,
        "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
        "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
        "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4"
        "f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
    ),
]
"""RFC 9497, appendix A.1.1."""


@pytest.mark.parametrize(("given", "blinded", "evaluated", "output"), VECTORS, ids=["one byte", "17 bytes"])
def test_published_vectors(
    given: str, blinded: str, evaluated: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ristretto, "random_scalar", lambda rng: BLIND)
    inputs = [bytes.fromhex(given)]
    scalars, points = dh_oprf.blind(inputs, seeded_rng(1))
    assert points.tobytes().hex() == blinded
    answered = dh_oprf.evaluate_blinded(points, KEY)
    assert answered.tobytes().hex() == evaluated
    assert dh_oprf.finalize(inputs, scalars, answered).tobytes().hex() == output
    assert dh_oprf.evaluate(inputs, KEY).tobytes().hex() == output


@pytest.mark.parametrize("n", [0, 1, 5])
def test_both_sides_come_to_the_same(n: int) -> None:
    inputs, rng = [b"x" * i for i in range(n)], seeded_rng(1)
    key = ristretto.random_scalar(rng)
    scalars, points = dh_oprf.blind(inputs, rng)
    assert len(np.unique(scalars, axis=0)) == n
    got = dh_oprf.finalize(inputs, scalars, dh_oprf.evaluate_blinded(points, key))
    assert got.shape == (n, 64)
    assert np.array_equal(got, dh_oprf.evaluate(inputs, key))


def test_equal_inputs_are_blinded_differently() -> None:
    _, points = dh_oprf.blind([b"x", b"x"], seeded_rng(1))
    assert not np.array_equal(points[0], points[1])


@pytest.mark.parametrize("byte", [0, 255])
def test_points_off_the_group_are_refused(byte: int) -> None:
    bad = np.full((1, 32), byte, np.uint8)
    with pytest.raises(ProtocolError):
        dh_oprf.evaluate_blinded(bad, KEY)
    with pytest.raises(ProtocolError):
        dh_oprf.finalize([b"x"], np.frombuffer(BLIND, np.uint8).reshape(1, 32), bad)


def test_the_output_is_the_hash_of_input_and_point() -> None:
    point = ristretto.hash_and_multiply([b"x"], b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512", KEY).tobytes()
    text = b"\x00\x01x\x00\x20" + point + b"Finalize"
    assert dh_oprf.evaluate([b"x"], KEY).tobytes() == hashlib.sha512(text).digest()
