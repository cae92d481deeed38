"""BLAS in one thread: sites may share cores, a site's products run side by side anyway, and idle threads would spin.

Two sites on two busy cores need 38 times the processor time for matrices of 64 rows when BLAS brings its own threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@cache
def one_thread() -> Any:
    """Let BLAS work in the calling thread alone, from the first call of this on, in the whole process.

    A limit for the time of one product would be of no use: products run in several threads at once, and the library
    has one number of threads for all of them.
    """
    return ThreadpoolController().limit(limits=1, user_api="blas")
