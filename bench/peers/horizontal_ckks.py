"""Sums under CKKS through TenSEAL, whose one key opens everything: python horizontal_ckks.py SITES PARAMETERS.

Prints JSON: seconds to encrypt one site's vector, to add all sites' and to decrypt the sum, bytes of one encrypted
vector, and the largest error.
"""

import json
import sys
import time

import numpy as np
import tenseal as ts

N, PRIMES, SCALE = 8192, [60, 60], 2.0**40
SLOTS = N // 2


def main(sites: int, n: int) -> None:
    """Measure a sum, one thread, everything in one process."""
    context = ts.context(ts.SCHEME_TYPE.CKKS, N, coeff_mod_bit_sizes=PRIMES, n_threads=1)
    context.global_scale = SCALE
    rng = np.random.default_rng(1)
    values = rng.uniform(-1, 1, (sites, n))
    seconds = {"encrypt": 0.0, "add": 0.0, "decrypt": 0.0}
    size, error = 0, 0.0
    for at in range(0, n, SLOTS):
        part = values[:, at : at + SLOTS]
        start = time.perf_counter()
        first = ts.ckks_vector(context, part[0].tolist())
        seconds["encrypt"] += time.perf_counter() - start
        size += len(first.serialize())
        others = [ts.ckks_vector(context, row.tolist()) for row in part[1:]]
        start = time.perf_counter()
        for other in others:
            first += other
        seconds["add"] += time.perf_counter() - start
        start = time.perf_counter()
        found = first.decrypt()
        seconds["decrypt"] += time.perf_counter() - start
        error = max(error, float(np.abs(np.array(found) - part.sum(axis=0)).max()))
    print(json.dumps({**seconds, "bytes": size, "error": error, "version": ts.__version__}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
