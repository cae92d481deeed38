"""Run a job as the only work of a process: a stop signal ends it in order, and every other site is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal

from atoll.core.errors import AtollError, InputError
from atoll.node.runner import Run
from atoll.node.store import Store


class Stopped(AtollError):
    """The operator stopped the job at this site."""

    exit_code = 130


def settle() -> None:
    """Keep what is loaded out of later garbage collections: they would walk through compilers and schemas each time."""
    gc.collect()
    gc.freeze()


async def drive(run: Run) -> Store:
    """Run a job until it ends or SIGINT or SIGTERM arrives.

    Raises:
        Stopped: a signal arrived; the other sites were told.
        AtollError: as of `Run.go`.
    """
    if not os.environ.get("ATOLL_DEBUG"):
        logging.disable(logging.CRITICAL)  # libraries log tracebacks; the job's own log says what people need
    settle()
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(run.go())
    stopped: list[str] = []

    def stop(name: str) -> None:
        stopped.append(name)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)
    try:
        return await task
    except asyncio.CancelledError:
        name = stopped[0] if stopped else "a signal"
        raise Stopped(
            f"the job was stopped by {name}", site=run.site.name, cure="Start it again at every site."
        ) from None
    except MemoryError:
        raise InputError(
            "there is not enough memory", site=run.site.name, cure="Use fewer rows, or more memory."
        ) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
