"""The OPRF against the RFC's vectors, and what must be refused."""

import numpy as np
import pytest

from atoll.core.errors import ProtocolError
from atoll.crypto import oprf, ristretto
from atoll.testing import seeded_rng

# RFC 9497, appendix A.1.1: key, then input, blind, blinded element, evaluation element, output.
KEY = bytes.fromhex("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e")
VECTORS = [
    (
        "00",
        "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706",
        "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
        "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
        "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3"
        "ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
    ),
    (
        "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
        "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706",
        "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
        "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
        "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4"
        "f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
    ),
]


def rows(*texts: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), -1)


@pytest.mark.parametrize(("text", "r", "blinded", "evaluated", "output"), VECTORS)
def test_the_vectors_of_the_rfc(text: str, r: str, blinded: str, evaluated: str, output: str) -> None:
    inputs = [bytes.fromhex(text)]
    points = ristretto.multiply_each(ristretto.hash_to_points(inputs, oprf.HASH_TAG), rows(r))
    assert points.tobytes().hex() == blinded
    assert oprf.evaluate_blinded(points, KEY).tobytes().hex() == evaluated
    assert oprf.finalize(inputs, rows(r), rows(evaluated)).tobytes().hex() == output
    assert oprf.evaluate(inputs, KEY).tobytes().hex() == output


def test_blinding_comes_off_again() -> None:
    inputs = [b"", b"\x00", "顾客".encode(), b"x" * oprf.LONGEST_INPUT] + [b"id %d" % i for i in range(300)]
    scalars, points = oprf.blind(inputs, seeded_rng(1))
    outputs = oprf.finalize(inputs, scalars, oprf.evaluate_blinded(points, KEY))
    assert np.array_equal(outputs, oprf.evaluate(inputs, KEY))
    assert len({row.tobytes() for row in outputs}) == len(inputs)
    assert oprf.evaluate([], KEY).shape == (0, 64)


def test_one_input_blinded_twice_looks_like_two() -> None:
    _, points = oprf.blind([b"same", b"same"], seeded_rng(1))
    assert points[0].tobytes() != points[1].tobytes()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65,535"):
        oprf.blind([bytes(oprf.LONGEST_INPUT + 1)], seeded_rng(1))
    with pytest.raises(ProtocolError, match="not a point"):
        oprf.evaluate_blinded(np.zeros((1, 32), np.uint8), KEY)
    with pytest.raises(ValueError, match="as many scalars"):
        ristretto.multiply_each(np.zeros((2, 32), np.uint8), np.zeros((1, 32), np.uint8))
    with pytest.raises(ValueError, match="inverse"):
        ristretto.invert(np.zeros((1, 32), np.uint8))
