"""Who takes part in the demonstration, and the job document that they sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Institution:
    """One participant.

    Args:
        name: its site name.
        role: its role in the job.
        data: its name for its data set, and of its file.
        columns: its columns.
        label: its column of outcomes, if it has it.
        id: the id column that all share.
        categorical: columns that look like numbers and are not.
    """

    name: str
    role: str
    data: str
    columns: tuple[str, ...]
    label: str = ""
    id: str = "loan"
    categorical: tuple[str, ...] = ()


def document(
    institutions: Sequence[Institution], trees: Mapping[str, Any], words: Mapping[str, str], max_bin: int = 32
) -> dict[str, Any]:
    """Return the job as plain data, ready for YAML.

    Args:
        institutions: who takes part, the label holder among them.
        trees: params of step train.
        words: `name`, `purpose`, and what the report calls rows and labels: `subject`, `positive`, `negative`.
        max_bin: most bins of a column.
    """
    sites = {}
    for place in institutions:
        site: dict[str, Any] = {"role": place.role, "data": place.data, "id": place.id}
        if place.label:
            site["label"] = place.label
        sites[place.name] = {**site, "columns": list(place.columns)}
    report = {name: words[name] for name in ("subject", "positive", "negative")}
    return {
        "name": words["name"],
        "purpose": words["purpose"],
        "expires": "2099-12-31",
        "profile": "secure",
        "sites": sites,
        "timeouts": {"join": 90, "message": 300},
        "steps": [
            {"step": "align"},
            {"step": "split", "test": 0.2},
            {"step": "bin", "max_bin": max_bin},
            {"step": "train", **trees},
            {"step": "evaluate", "share": True, **report},
        ],
    }
