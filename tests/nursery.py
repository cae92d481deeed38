"""Sites as processes that start at once: all are forked from one that has loaded what they need.

A site's own process takes most of its time to import. Here one process imports, opens nothing, and forks: each site is
a process of its own all the same, with its own memory, sockets and signals, and can be killed by itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MODULES = (
    *("atoll.cli.job", "atoll.node.runner", "atoll.node.reporting", "atoll.notebook.simulation", "atoll.registry"),
    *("atoll.protocols.secure_sum.topology", "atoll.learn.horizontal.glm", "atoll.learn.horizontal.describe"),
    *("atoll.learn.horizontal.trees.forest", "atoll.report", "duckdb", "yaml", "grpc", "grpc.aio", "numba"),
)
KERNELS = ("fixed_point", "random", "word_ring", "secret_shares", "sum_tags")
ENV = {"GRPC_SSL_CIPHER_SUITES": "ECDHE-RSA-AES128-GCM-SHA256", "GRPC_VERBOSITY": "NONE"}


class Child:
    """A forked process; like `subprocess.Popen` as far as tests need it."""

    def __init__(self, nursery: Nursery, pid: int, out: Path) -> None:
        self.nursery, self.pid, self.out = nursery, pid, out
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = self.nursery.ask({"wait": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 45.0) -> tuple[str, None]:
        """Wait for its end, and return what it wrote."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout, self.text)
            time.sleep(0.02)
        return self.text, None

    @property
    def text(self) -> str:
        """What it wrote so far."""
        return self.out.read_text(errors="replace")


class Nursery:
    """The process that forks."""

    def __init__(self) -> None:
        pipe: Any = subprocess.PIPE
        words = [sys.executable, "-m", "tests.nursery"]
        root = str(Path(__file__).parents[1])
        env = {**os.environ, **ENV, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), root])}
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=env, cwd=root)
        self.ask({"wait": 0})  # until it is there

    def ask(self, what: dict[str, Any]) -> Any:
        """Say one line to it, and return its answer."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("no pipes")
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def load(self, module: str) -> None:
        """Import a module before further sites are forked."""
        self.ask({"load": module})

    def start(self, words: list[str], out: Path, before: str = "") -> Child:
        """Fork a process that runs some Python, and then `atoll` with these words."""
        return Child(self, self.ask({"words": words, "out": str(out), "before": before}), out)

    def close(self) -> None:
        """End it; it kills what still runs."""
        self.process.communicate("", timeout=20)


def _fork(what: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(what["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(1, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv[1:] = what["words"]
        exec(what["before"], {"__name__": "before"})  # noqa: S102 - a test's own text
        from atoll.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(pid: int) -> int | None:
    if not pid:
        return None
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve() -> None:
    """Import, then fork on request until the pipe is closed."""
    from importlib import import_module

    for module in MODULES:
        import_module(module)
    for name in KERNELS:
        import_module(f"atoll.crypto.{name}").warm()
    running = set[int]()
    for line in sys.stdin:
        what = json.loads(line)
        answer: int | None
        if "load" in what:
            import_module(what["load"])
            answer = None
        elif "wait" in what:
            answer = _ended(what["wait"])
            if answer is not None:
                running.discard(what["wait"])
        else:
            answer = _fork(what)
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    serve()
