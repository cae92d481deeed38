"""What every benchmark shares: the report, timing, child processes and environments for peers.

A benchmark is one module, `bench/NAME.py`:

    from bench.harness import Report, timed

    TITLE = "Trees on split columns, beside XGBoost on pooled ones"      # heading in docs/benchmarks.md
    SIZES = {"small": 20_000, "medium": 100_000, "large": 1_000_000}     # a tuple of names will do as well

    def run(size: str, report: Report) -> None:
        rows = SIZES[size]
        report.row(
            what=f"{rows:,} rows, 10 trees",        # one line of the table
            ours=timed(train, rows).seconds,        # the figure of ours, in `unit`
            peer=None, peer_name="",                # the same task in another system, or None
            limit=0.22, limit_name="XGBoost, pooled",
            unit="s",                               # "s" and "ms": less is better; "GB/s", "rows/s": more is better
            bytes=12_000_000, peak_mb=310.0,        # sent in all; the biggest process
            goal=5.0,                               # what the row must reach, or None
            note="2 sites, TLS",
        )

Each row is printed at once and appended to bench/results/NAME.jsonl, so that a crash loses nothing.

`run_processes({"bank": ["bench/trees_site.py", "bank"], ...})` starts one Python process for each entry, at the same
time, and returns what each printed as its last line (JSON), with its peak memory. `peer_environment("spu", ["spu"])`
makes (once) a virtual environment under .bench/ and its `.run("script.py", ...)` does the same inside of it.
"""

import contextlib
import hashlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
ENVIRONMENTS = ROOT / ".bench"
VERSIONS = ("atoll-fl", "numpy", "numba", "cryptography", "grpcio", "msgspec", "duckdb", "scikit-learn", "xgboost-cpu")


class BenchError(RuntimeError):
    """A benchmark could not be finished; the text says which process failed and how."""


class PeerUnavailable(BenchError):
    """A peer's packages cannot be installed here: give the row `peer=None` and this text as its note."""


# ------------------------------------------------------------------------------------------------- rows and results


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table. `ours`, `peer`, `limit` and `goal` are in `unit`."""

    what: str
    ours: float
    unit: str = "s"
    peer: float | None = None
    peer_name: str = ""
    limit: float | None = None
    limit_name: str = ""
    goal: float | None = None
    bytes: int | None = None
    peak_mb: float | None = None
    note: str = ""

    @property
    def more_is_better(self) -> bool:
        return "/s" in self.unit or self.unit in ("AUC", "KS", "%")

    @property
    def ratios(self) -> dict[str, float]:
        """Ours divided by the peer's and by the limit's figure."""
        known = {"peer": self.peer, "limit": self.limit}
        return {name: self.ours / value for name, value in known.items() if value}

    @property
    def reached(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.ours >= self.goal if self.more_is_better else self.ours <= self.goal

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "ratios": {name: round(ratio, 4) for name, ratio in self.ratios.items()},
            "reached": self.reached,
        }


@dataclass
class Report:
    """Collects the rows of one benchmark at one size."""

    name: str
    size: str
    on_row: Callable[[Row], None] = lambda row: None
    folder: Path = RESULTS
    rows: list[Row] = field(default_factory=list)

    def row(self, what: str, ours: float, **figures: Any) -> Row:
        """Print and store one result.

        Args:
            what: the task in a few words, with its size.
            ours: our figure, in `unit`.
            figures: the other fields of `Row`, by name.
        """
        row = Row(what, ours, **figures)
        self.rows.append(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"name": self.name, "size": self.size} | row.to_json() | circumstances()
        with (self.folder / f"{self.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.on_row(row)
        return row


def circumstances() -> dict[str, Any]:
    """Under what a figure was measured: versions, commit, time, cores and memory."""
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "versions": versions,
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "memory_gb": round(memory / 2**30), "arch": platform.machine()},
    }


def commit() -> str:
    """The commit measured, with "+" when tracked files differ from it; empty outside of a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    dirty = any(not line[3:].startswith("bench/results/") for line in changed.stdout.splitlines())
    return head.stdout.strip() + ("+" if dirty else "")


# ----------------------------------------------------------------------------------------------------------- timing


@dataclass(frozen=True)
class Timing:
    """`seconds` is the median over the repeats, `best` the least, `value` what the last call returned."""

    seconds: float
    best: float
    value: Any


def timed(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Timing:
    """Call `fn` once to warm up and three times on the clock. For other counts see `repeated`."""
    return repeated(lambda: fn(*args, **kwargs))


def repeated(fn: Callable[[], Any], *, repeat: int = 3, warm: int = 1) -> Timing:
    """Call `fn` `warm` times, then `repeat` times on the clock."""
    for _ in range(warm):
        fn()
    seconds, value = [], None
    for _ in range(repeat):
        start = time.perf_counter()
        value = fn()
        seconds.append(time.perf_counter() - start)
    return Timing(statistics.median(seconds), min(seconds), value)


# -------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Finished:
    """One process that ended well.

    `value` is the JSON of the last line that it printed (None if that is no JSON), `seconds` its life from start to
    end, `peak_mb` the peak resident memory of the biggest process in its tree.
    """

    value: Any
    seconds: float
    peak_mb: float
    stdout: str


def run_processes(
    commands: Mapping[str, Sequence[str | os.PathLike[str]]],
    *,
    python: str | os.PathLike[str] = sys.executable,
    timeout: float = 600.0,
    env: Mapping[str, str] | None = None,
) -> dict[str, Finished]:
    """Run one Python process for each entry at the same time and wait for all.

    Args:
        commands: name → arguments after `python`, such as `["-m", "bench.trees_site", "bank"]` or `["file.py"]`.
        python: the interpreter.
        timeout: seconds until all are stopped.
        env: environment variables to add.

    Raises:
        BenchError: one of them failed or the time is up; the others are stopped.
    """
    whole_env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **(env or {})}
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(_Running(name, [str(python), *map(str, arguments)], whole_env))
            for name, arguments in commands.items()
        }
        end = time.monotonic() + timeout
        waiting = list(running.values())
        while waiting:
            for process in list(waiting):
                if process.poll():
                    waiting.remove(process)
            if waiting and time.monotonic() > end:
                raise BenchError(f"{', '.join(p.name for p in waiting)} did not end within {timeout:.0f} s")
            time.sleep(0.02)
        return {name: process.finished() for name, process in running.items()}


class _Running:
    """A started process: its output goes to files, its memory is looked at while it runs."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        self.name, self.command, self.env = name, command, env
        self.peak_mb = 0.0

    def __enter__(self) -> "_Running":
        self.stdout, self.stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=self.stderr
        )
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.stdout.close()
        self.stderr.close()

    def poll(self) -> bool:
        """Look at the process: True once it has ended well.

        Raises:
            BenchError: it ended with an error.
        """
        self.peak_mb = max(self.peak_mb, *(peak_mb(pid) for pid in _tree(self.process.pid)))
        code = self.process.poll()
        if code is None:
            return False
        self.seconds = time.perf_counter() - self.start
        if code:
            raise BenchError(f"{self.name} ended with exit code {code}:\n{self._read(self.stderr)[-4000:]}")
        return True

    def finished(self) -> Finished:
        text = self._read(self.stdout)
        lines = text.strip().splitlines()
        value = None
        with contextlib.suppress(ValueError):
            value = json.loads(lines[-1]) if lines else None
        return Finished(value, self.seconds, round(self.peak_mb, 1), text)

    @staticmethod
    def _read(file: Any) -> str:
        file.seek(0)
        return str(file.read().decode(errors="replace"))


def peak_mb(pid: int | str = "self") -> float:
    """Peak resident memory of a process in MB (10^6 bytes); 0 where the system does not say or it has ended.

    Read from /proc, because `ru_maxrss` of a child starts at the size of its parent.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found, at = [pid], 0
    while at < len(found):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{found[at]}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        at += 1
    return found


# ------------------------------------------------------------------------------------------------------------ peers


@dataclass(frozen=True)
class Environment:
    """A virtual environment for a peer's packages."""

    python: Path

    def run(self, *arguments: str | os.PathLike[str], timeout: float = 600.0) -> Finished:
        """Run one script in it; see `run_processes`."""
        return run_processes({"peer": arguments}, python=self.python, timeout=timeout)["peer"]


def peer_environment(name: str, requirements: Sequence[str], *, python: str = sys.executable) -> Environment:
    """Make a virtual environment under .bench/ with these packages, or take the one made before.

    Raises:
        PeerUnavailable: the interpreter is missing or the packages cannot be installed.
    """
    digest = hashlib.sha256(json.dumps([list(requirements), python]).encode()).hexdigest()[:8]
    folder = ENVIRONMENTS / f"{name}-{digest}"
    environment = Environment(folder / "bin" / "python")
    if (folder / "ready").exists():
        return environment
    try:
        make: list[str] = [python, "-m", "venv", "--clear", str(folder)]
        install: list[str] = [str(environment.python), "-m", "pip", "-q", "install", *requirements]
        subprocess.run(make, check=True, capture_output=True, text=True)
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise PeerUnavailable(f"{name} cannot be installed here: {lines[-1] if lines else error}") from error
    (folder / "ready").touch()
    return environment


# --------------------------------------------------------------------------------------------------------- bits


def free_ports(count: int) -> list[int]:
    """TCP ports on this machine that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def watching_memory(every: float = 0.02) -> Iterator[Callable[[], float]]:
    """Watch this process's resident memory; the value given returns the peak in MB since the block began."""
    peak, stop = [0.0], threading.Event()

    def look() -> None:
        while not stop.wait(every):
            with contextlib.suppress(OSError):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                peak[0] = max(peak[0], pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: round(peak[0], 1)
    finally:
        stop.set()
        thread.join()
