"""One of the operations in SPU: two processes over TCP.  Run in an environment of its own, see `bench.shares`.

    python spu_shares.py semi2k|cheetah OPERATION SIZE GB PORT PORT

SIZE is the number of values, or of rows and columns; GB bounds each party's address space.
Prints one line of JSON: the median seconds of the slower process, the processor seconds of both,
and the largest error.
"""

import json
import multiprocessing
import resource
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from spu import api, libspu
from spu.utils import frontend

OPERATIONS = {
    "products": (jnp.multiply, lambda x, y: x * y),
    "comparisons": (jnp.less, lambda x, y: x < y),
    "matrix": (jnp.matmul, lambda x, y: x @ y),
    "logistic": (lambda x, y: jax.nn.sigmoid(x), lambda x, y: 1 / (1 + np.exp(-x))),
}
REPEATS = 3
LONG = 20.0  # seconds after which an operation is not repeated


def data(operation, size):
    """The inputs of an operation."""
    shape = (size, size) if operation == "matrix" else (size,)
    x, y = np.random.default_rng(1).uniform(-8, 8, (2, *shape))
    return x, y


def config(protocol):
    kind = {"semi2k": libspu.ProtocolKind.SEMI2K, "cheetah": libspu.ProtocolKind.CHEETAH}[protocol]
    made = libspu.RuntimeConfig(protocol=kind, field=libspu.FieldType.FM64)
    made.fxp_fraction_bits = 18
    return made


def party(rank, protocol, ports, operation, gigabytes, shapes, shares, pipe):
    """One party: run the operation on its shares."""
    bound = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    desc = libspu.link.Desc()
    for number, port in enumerate(ports):
        desc.add_party(f"id_{number}", f"127.0.0.1:{port}")
    desc.recv_timeout_ms = 1_800_000
    link = libspu.link.create_brpc(desc, rank)
    runtime = api.Runtime(link, config(protocol))
    executable, _ = frontend.compile(
        frontend.Kind.JAX, OPERATIONS[operation][0], [np.zeros(shape) for shape in shapes], {}, ["x", "y"],
        [libspu.Visibility.VIS_SECRET] * 2, lambda flat: ["z"],
    )  # fmt: skip
    for name, (meta, chunks) in zip("xy", shares, strict=True):
        share = libspu.Share()
        share.meta, share.share_chunks = meta, chunks
        runtime.set_var(name, share)
    seconds, cpu = [], []
    for _ in range(REPEATS + 1):
        start, busy = time.perf_counter(), time.process_time()
        runtime.run(executable)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
        if seconds[-1] > LONG:
            break
    out = runtime.get_var("z")
    pipe.send(
        (statistics.median(seconds[1:] or seconds), statistics.median(cpu[1:] or cpu), out.meta, list(out.share_chunks))
    )


def main():
    protocol, operation, size, gigabytes, *ports = sys.argv[1:]
    io = api.Io(2, config(protocol))
    arrays = data(operation, int(size))
    made = [io.make_shares(array, libspu.Visibility.VIS_SECRET) for array in arrays]
    shapes = [array.shape for array in arrays]
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in range(2):
        here, there = context.Pipe()
        shares = [(one[rank].meta, list(one[rank].share_chunks)) for one in made]
        job = (rank, protocol, list(map(int, ports)), operation, float(gigabytes), shapes, shares, there)
        processes.append(context.Process(target=party, args=job, daemon=True))
        processes[-1].start()
        there.close()  # so that a party that dies is noticed
        pipes.append(here)
    results = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join(10)
    halves = []
    for *_, meta, chunks in results:
        share = libspu.Share()
        share.meta, share.share_chunks = meta, chunks
        halves.append(share)
    got, want = np.asarray(io.reconstruct(halves)), OPERATIONS[operation][1](*arrays)
    report = {
        "seconds": max(result[0] for result in results),
        "cpu": sum(result[1] for result in results),
        "error": float(np.max(np.abs(got.astype(float) - want.astype(float)))),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
