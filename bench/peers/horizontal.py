"""What averaging rounds take in Flower and NVFlare, and sums in TenSEAL, each in an environment of its own."""

import sys
from pathlib import Path

from bench.harness import BenchError, PeerUnavailable, peer_environment

HERE = Path(__file__).parent
ROUNDS = 4


def ckks(sites: int, parameters: int) -> dict[str, float] | None:
    """Return what a sum under CKKS takes through TenSEAL, see `horizontal_ckks`; None where it cannot be installed."""
    try:
        environment = peer_environment("tenseal", ["tenseal==0.3.18", "numpy"])
        found: dict[str, float] = environment.run(
            HERE / "horizontal_ckks.py", str(sites), str(parameters), timeout=400
        ).value
        return found
    except (PeerUnavailable, BenchError) as error:
        print(f"  TenSEAL did not run: {str(error)[:300]}", file=sys.stderr)
        return None


def rounds(sites: int, parameters: int) -> dict[str, float]:
    """Return the median seconds of a round by peer; peers that cannot be installed or do not finish are left out."""
    found = {}
    for name, requirements, script, arguments in (
        ("Flower, plain", ["flwr[simulation]>=1.20", "numpy"], "horizontal_flower.py", ["plain"]),
        ("Flower, SecAgg+", ["flwr[simulation]>=1.20", "numpy"], "horizontal_flower.py", ["secagg"]),
        ("NVFlare, plain", ["nvflare", "numpy"], "horizontal_nvflare.py", []),
    ):
        try:
            environment = peer_environment(name.split(",")[0].lower(), requirements)
            done = environment.run(HERE / script, *arguments, str(sites), str(parameters), str(ROUNDS), timeout=400)
            found[name] = float(done.value["seconds"])
        except (PeerUnavailable, BenchError) as error:
            print(f"  {name} did not run: {str(error)[:300]}", file=sys.stderr)
    return found
