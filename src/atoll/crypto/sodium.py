"""libsodium, and how a kernel calls its functions: by address, so that a whole chunk runs without the interpreter."""

import contextlib
import ctypes
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@dataclass(frozen=True)
class Library:
    """Addresses of libsodium's functions, and the loaded library itself."""

    sodium: Any
    sha512: int
    from_hash: int
    multiply: int


@cache
def library() -> Library:
    """Load libsodium."""
    from rbcl import _sodium as sodium

    # rbcl unpacks the library into a temporary file at every start and leaves it there; once loaded it is not needed.
    if os.name == "posix" and os.path.basename(sodium._name).startswith("tmp"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sodium._name)

    def address(name: str) -> int:
        return int(ctypes.cast(getattr(sodium, name), ctypes.c_void_p).value or 0)

    return Library(
        sodium,
        address("crypto_hash_sha512"),
        address("crypto_core_ristretto255_from_hash"),
        address("crypto_scalarmult_ristretto255"),
    )


@intrinsic  # type: ignore[untyped-decorator]
def call(typing: Any, address: Any, a: Any, b: Any, c: Any) -> Any:
    """Call the C function at `address`, int f(word, word, word): pointers and sizes are words here."""
    word = types.uint64

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.IntType(32), [i64, i64, i64]).as_pointer())
        return builder.call(function, args[1:])

    return types.int32(word, word, word, word), generate
