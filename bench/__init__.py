"""Benchmarks as commands: `python -m bench NAME [--size small|medium|large]`.

Each `bench/NAME.py` puts our figure beside a peer's and beside the limit (what the same machine does with pooled
data, plain text or a bare library), in one run. `bench.harness` is what they share.
"""

# In the order in which `python -m bench all` runs them: cheap first.
NAMES = (
    "channel",
    "ecdh",
    "dp",
    "psi",
    "psi_multi",
    "psi_unbalanced",
    "psi_circuit",
    "align",
    "lookup",
    "statistics",
    "shares",
    "secure_sum",
    "topologies",
    "garbled",
    "product",
    "fedavg",
    "text",
    "robust",
    "privacy_attacks",
    "trees",
    "lossless",
    "demo",
)
