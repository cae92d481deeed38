"""One way to compile kernels: cached on disk, free of the interpreter lock, with the function's own type for mypy."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

import numba
import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Scalar = TypeVar("Scalar", bound=np.generic)


@overload
def njit(fn: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def njit(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def njit(fn: Callable[P, R] | None = None, /, **options: Any) -> Any:
    """Compile a kernel on its first call, keep the machine code on disk, and run it without the interpreter lock.

    Args:
        fn: A function of arrays and numbers in numba's subset of Python.
        **options: Further options of `numba.njit`, for instance `fastmath=False` or `inline="always"`.

    Returns:
        The compiled function, with the type of `fn`.
    """
    compile_ = numba.njit(cache=True, nogil=True, **options)
    return compile_ if fn is None else compile_(fn)


def read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return a read-only view.

    Arrays out of messages are read-only, which is a type of its own to the compiler; a kernel that takes such arrays
    always takes them in this way, and is compiled once only.
    """
    view = array.view()
    view.flags.writeable = False
    return view
