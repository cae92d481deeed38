"""Keep the event loop moving bytes while a kernel computes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def offload(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a worker thread and await its result.

    Kernels release the interpreter's lock (numba `nogil`, OpenSSL, libsodium, hashlib), so transfer and
    computation overlap. Use it for anything above about a millisecond.
    """
    return await asyncio.to_thread(fn, *args, **kwargs)
