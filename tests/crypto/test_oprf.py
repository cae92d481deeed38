"""The OPRF against the RFC's vectors, and what must be refused."""

import numpy as np
import pytest

from atoll.core.errors import ProtocolError
from atoll.crypto import oprf, ristretto
from atoll.testing import seeded_rng

TAG = b"HashToGroup-" + oprf.context(False)
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
    points = ristretto.multiply_each(ristretto.hash_to_points(inputs, TAG), rows(r))
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


# RFC 9497, appendix A.1.2: key, public key; then the first vector, and the points and the proof of the batch of two.
VERIFIABLE_KEY = bytes.fromhex("e6f73f344b79b379f1a0dd37e07ff62e38d9f71345ce62ae3a9bc60b04ccd909")
PUBLIC = "c803e2cc6b05fc15064549b5920659ca4a77b2cca6f04f6b357009335476ad4e"
BLIND = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"
BLINDED = (
    "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
    "90a0145ea9da29254c3a56be4fe185465ebb3bf2a1801f7124bbbadac751e654",
)
EVALUATED = (
    "aa8fa048764d5623868679402ff6108d2521884fa138cd7f9c7669a9a014267e",
    "cc5ac221950a49ceaa73c8db41b82c20372a4c8d63e5dded2db920b7eee36a2a",
)
OUTPUT = (
    "b58cfbe118e0cb94d79b5fd6a6dafb98764dff49c14e1770b566e42402da1a7d"
    "a4d8527693914139caee5bd03903af43a491351d23b430948dd50cde10d32b3c"
)
PROOF = (
    "ddef93772692e535d1a53903db24367355cc2cc78de93b3be5a8ffcc6985dd06"
    "6d4346421d17bf5117a2a1ff0fcb2a759f58a539dfbe857a40bce4cf49ec600d"
)
PROOF_SCALAR = "222a5e897cf59db8145db8d16e597e8facb80ae7d4e26d9881aa6f61d645fc0e"
PROOF_OF_TWO = (
    "cc203910175d786927eeb44ea847328047892ddf8590e723c37205cb74600b0a"
    "5ab5337c8eb4ceae0494c2cf89529dcf94572ed267473d567aeed6ab873dee08"
)


def test_the_verifiable_vectors_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ristretto.multiply_base(VERIFIABLE_KEY).tobytes().hex() == PUBLIC
    points = ristretto.multiply_each(
        ristretto.hash_to_points([b"\0"], b"HashToGroup-" + oprf.context(True)), rows(BLIND)
    )
    assert points.tobytes().hex() == BLINDED[0]
    evaluated = oprf.evaluate_blinded(points, VERIFIABLE_KEY)
    assert evaluated.tobytes().hex() == EVALUATED[0]
    assert oprf.finalize([b"\0"], rows(BLIND), evaluated).tobytes().hex() == OUTPUT
    assert oprf.evaluate([b"\0"], VERIFIABLE_KEY, verifiable=True).tobytes().hex() == OUTPUT
    monkeypatch.setattr(ristretto, "random_scalar", lambda rng: bytes.fromhex(PROOF_SCALAR))
    assert oprf.prove(points, evaluated, VERIFIABLE_KEY, seeded_rng(1)).hex() == PROOF
    public = rows(PUBLIC)[0]
    assert oprf.verify(rows(*BLINDED), rows(*EVALUATED), public, bytes.fromhex(PROOF_OF_TWO))


def test_proofs_hold_and_nothing_else_does() -> None:
    key, other = (ristretto.random_scalar(seeded_rng(n)) for n in (1, 2))
    public = ristretto.multiply_base(key)
    _, points = oprf.blind([b"id %d" % i for i in range(7)], seeded_rng(3), verifiable=True)
    evaluated = oprf.evaluate_blinded(points, key)
    proof = oprf.prove(points, evaluated, key, seeded_rng(4))
    assert oprf.verify(points, evaluated, public, proof)
    mixed = evaluated.copy()
    mixed[3] = oprf.evaluate_blinded(points[3:4], other)[0]
    assert not oprf.verify(points, mixed, public, proof)
    assert not oprf.verify(points, mixed, public, oprf.prove(points, mixed, key, seeded_rng(4)))
    assert not oprf.verify(points, evaluated, ristretto.multiply_base(other), proof)
    assert not oprf.verify(points[::-1], evaluated, public, proof)
    for bad in (proof[:-1], bytes(64), proof[:32] + b"\xff" * 32, b"\x01" + proof[1:]):
        assert not oprf.verify(points, evaluated, public, bad)
    off = evaluated.copy()
    off[0] = 255
    assert not oprf.verify(points, off, public, proof)
