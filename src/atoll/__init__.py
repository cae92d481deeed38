"""Atoll: sites compute together, and each can prove what left its door.

Importing this package does no work: names are looked up in their modules when they are first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that defines it.
_LAZY: dict[str, str] = {
    "Job": "atoll.node.job",
    "Lookup": "atoll.notebook.lookup",
    "VerticalBoostedTreesClassifier": "atoll.notebook.estimators",
    "load_model": "atoll.node.kept",
    "lookup": "atoll.notebook.lookup",
    "simulate": "atoll.notebook.simulation",
}

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'atoll' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])
