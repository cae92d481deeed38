"""Every test gives back what it took: sockets, threads and processes that outlive it make it fail."""

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.nursery import Nursery

# The same examples in every run; no deadline, since the first call of a kernel compiles it.
settings.register_profile("repository", derandomize=True, deadline=None, database=None)
settings.load_profile("repository")

GRACE = 2.0
"""Seconds in which closing may finish: gRPC closes sockets after its call has returned."""

SHARED_THREADS = ("grpc", "_poll_wrapper", "pytest_timeout", "tmp_path_cleanup")
"""Parts of names of threads that libraries keep for the whole process."""


@dataclass(frozen=True)
class Held:
    """What this process holds at one moment."""

    sockets: frozenset[str]
    threads: frozenset[str]
    processes: frozenset[str]

    def beyond(self, earlier: "Held") -> list[str]:
        """What is held now and was not held earlier, in words."""
        parts = ("sockets", "threads", "processes")
        return [f"{part}: {one}" for part in parts for one in sorted(getattr(self, part) - getattr(earlier, part))]


def held() -> Held:
    """Look at this process; sockets and processes are seen on Linux only."""
    sockets = set()
    with suppress(OSError):
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{number}")
                if target.startswith("socket:"):
                    sockets.add(target)
    threads = {
        f"{thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if not any(name in thread.name for name in SHARED_THREADS)
    }
    return Held(frozenset(sockets), frozenset(threads), frozenset(children()))


def children() -> set[str]:
    """Processes started by this one that have not ended, or that nobody has waited for."""
    found = set()
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                for pid in (task / "children").read_text().split():
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if "resource_tracker" not in command:
                        found.add(f"{pid} {command or '(ended, not waited for)'}")
    return found


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What forks sites' processes, for all tests of this run."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before = held()
    yield
    left = held().beyond(before)
    end = time.monotonic() + GRACE
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
        left = held().beyond(before)
    if left:
        pytest.fail("the test left behind " + "; ".join(left), pytrace=False)
