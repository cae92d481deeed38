"""One party of SPU's set intersection, on CSV files: `psi_spu.py RANK FOLDER PORT0 PORT1 PROTOCOL`.

Runs inside an environment with the package `spu`; writes seconds and the number of common ids to
`peer-RANK.json`.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Intersect once."""
    from spu import libspu, psi

    rank, folder, protocol = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[5]
    link = libspu.link
    description = link.Desc()
    description.recv_timeout_ms = 600_000
    for number, port in enumerate(sys.argv[3:5]):
        description.add_party(f"party{number}", f"127.0.0.1:{port}")
    context = link.create_brpc(description, rank)
    config = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=getattr(psi.PsiProtocol, f"PROTOCOL_{protocol}"),
            receiver_rank=0,
            broadcast_result=True,
            ecdh_params=psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519),
        ),
        input_params=psi.InputParams(path=str(folder / f"{'ab'[rank]}.csv"), selected_keys=["id"], keys_unique=True),
        output_params=psi.OutputParams(path=str(folder / f"spu-{rank}.csv"), disable_alignment=True),
    )
    start, before = time.perf_counter(), time.process_time()
    report = psi.psi_execute(config, context)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    figures = {"seconds": seconds, "cpu": cpu, "common": report.intersection_count}
    context.stop_link()
    (folder / f"peer-{rank}.json").write_text(json.dumps(figures))  # its log goes to where we would print


if __name__ == "__main__":
    main()
