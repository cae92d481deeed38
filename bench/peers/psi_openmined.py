"""One party of OpenMined's set intersection, on CSV files: `psi_openmined.py client|server FOLDER PORT`.

Runs inside an environment with the package `openmined-psi`; writes seconds and the number of common ids
to `peer-ROLE.json`.
The two speak through a plain socket. Only the client learns the result.
"""

import json
import socket
import struct
import sys
import time
from pathlib import Path


def main() -> None:
    """Intersect once."""
    role, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with connected(role, port) as peer:
        start, before = time.perf_counter(), time.process_time()
        lines = (folder / ("a.csv" if role == "client" else "b.csv")).read_text().splitlines()[1:]
        ids = [line.split(",")[0] for line in lines]
        common = (client if role == "client" else server)(peer, ids)
        seconds, cpu = time.perf_counter() - start, time.process_time() - before
    figures = {"seconds": seconds, "cpu": cpu, "common": common}
    (folder / f"peer-{role}.json").write_text(json.dumps(figures))


def client(peer: socket.socket, ids: list[str]) -> int:
    """Ask, and learn which ids are common; return their number."""
    import private_set_intersection.python as psi

    one = psi.client.CreateWithNewKey(True)
    send(peer, struct.pack("<Q", len(ids)))
    send(peer, one.CreateRequest(ids).SerializeToString())
    setup, response = psi.ServerSetup(), psi.Response()
    setup.ParseFromString(receive(peer))
    response.ParseFromString(receive(peer))
    return len(one.GetIntersection(setup, response))


def server(peer: socket.socket, ids: list[str]) -> None:
    """Answer a client."""
    import private_set_intersection.python as psi

    one = psi.server.CreateWithNewKey(True)
    (clients,) = struct.unpack("<Q", receive(peer))
    setup = one.CreateSetupMessage(1e-9, clients, ids, psi.DataStructure.GCS)
    request = psi.Request()
    request.ParseFromString(receive(peer))
    send(peer, setup.SerializeToString())
    send(peer, one.ProcessRequest(request).SerializeToString())


def connected(role: str, port: int) -> socket.socket:
    """Return a socket to the other process, which the server accepts."""
    if role == "server":
        with socket.create_server(("127.0.0.1", port)) as waiting:
            return waiting.accept()[0]
    for _ in range(500):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server did not start")


def send(peer: socket.socket, data: bytes) -> None:
    """Send a message with its length."""
    peer.sendall(struct.pack("<Q", len(data)) + data)


def receive(peer: socket.socket) -> bytes:
    """Receive a message."""
    (size,) = struct.unpack("<Q", exactly(peer, 8))
    return exactly(peer, size)


def exactly(peer: socket.socket, size: int) -> bytes:
    """Receive so many bytes."""
    data = bytearray()
    while len(data) < size:
        part = peer.recv(min(1 << 20, size - len(data)))
        if not part:
            raise RuntimeError("the other process went away")
        data += part
    return bytes(data)


if __name__ == "__main__":
    main()
