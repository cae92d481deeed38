"""A fixed small RSA key: tests replay runs, and keys of full size are slow."""

import pytest

from atoll.protocols import blind_rsa_intersection as blind

P = int(
    "efe74f119086d912b422813400b6289ce230c18e88e938265576658373b29638cd9c4bcb22ceafe956b132284b0b6a59a029"
    "ac3340620263e9f0cb20de5d5a93",
    16,
)
Q = int(
    "c7295cc6a96792e4307f22181635b3bcadc402417a1e5ad496d2943ad8c8ccc3228a57fcc7a043cc4f547105c81362e70570"
    "97d2a2af5a794a040198b803de5b",
    16,
)


def small_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs use the fixed key of 1,024 bits."""
    d = pow(blind.E, -1, (P - 1) * (Q - 1))
    secret = blind._Secret(P * Q, P, Q, d % (P - 1), d % (Q - 1), pow(Q, -1, P))
    monkeypatch.setattr(blind, "KEY_BITS", 1024)
    monkeypatch.setattr(blind, "_fresh_key", lambda: secret)
