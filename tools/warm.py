"""Compile all kernels into their cache: `python tools/warm.py`."""

from atoll.registry import kernels

if __name__ == "__main__":
    for warm in kernels().values():
        warm()
