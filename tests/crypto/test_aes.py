"""AES in bulk: the standard's own vectors, the shape of streams, and room that is checked."""

import copy

import numpy as np
import pytest

from atoll.crypto.aes import FixedKey, Streams, blocks, expand


def test_counter_mode_equals_the_standard() -> None:
    # NIST SP 800-38A, F.5.1: the key stream is the ciphertext XOR the plaintext
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    plain = np.frombuffer(bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"), np.uint8)
    cipher = "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
    assert (expand(key, 32, counter) ^ plain).tobytes().hex() == cipher


def test_fixed_key_equals_the_standard_and_works_in_place() -> None:
    pi = FixedKey(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))  # FIPS 197, appendix B of AES-128
    block = np.frombuffer(bytes.fromhex("00112233445566778899aabbccddeeff"), np.uint64)
    room = blocks(2)
    room[:] = block
    pi.encrypt_into(room, room)
    assert room[0].tobytes().hex() == room[1].tobytes().hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


@pytest.mark.parametrize("nbytes", [0, 1, 15, 16, 17, 1000])
def test_a_shorter_stream_is_a_prefix(nbytes: int) -> None:
    assert expand(bytes(16), nbytes).tobytes() == expand(bytes(16), 1024)[:nbytes].tobytes()


def test_room_without_slack_is_refused() -> None:
    pi = FixedKey(bytes(16))
    with pytest.raises(ValueError, match=r"two words|blocks"):
        pi.encrypt_into(np.zeros((2, 2), np.uint64), np.zeros(4, np.uint64)[:].reshape(2, 2))
    with pytest.raises(ValueError, match="contiguous"):
        pi.encrypt_into(np.zeros((2, 2), np.uint64), blocks(4)[::2])


def test_wrong_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        expand(b"short", 1)
    with pytest.raises(ValueError, match="16 bytes"):
        FixedKey(b"short")


def test_streams_go_forward_together_and_cannot_be_copied() -> None:
    keys = np.arange(48, dtype=np.uint8).reshape(3, 16)
    streams = Streams(keys)
    parts = np.hstack([streams.next(words) for words in (1, 5, 0, 2)])
    whole = np.stack([expand(key.tobytes(), 64).view(np.uint64) for key in keys])
    assert np.array_equal(parts, whole)
    assert repr(streams) == "Streams(3)"
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(streams)
