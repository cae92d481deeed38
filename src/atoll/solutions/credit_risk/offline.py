"""What the demonstration shows when no package index can be reached: a small real table that scikit-learn carries.

Breast cancer of Wisconsin: 569 tumours, 30 measurements of cell nuclei. A clinic has the diagnosis and the means, a
laboratory the standard errors, an imaging centre the worst values. Licence: CC BY 4.0 (UCI).
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from atoll.core.errors import InputError
from atoll.solutions.credit_risk.institutions import Institution

GROUPS = {"mean": "clinic", "error": "laboratory", "worst": "imaging"}
KEPT = 0.9


def institutions() -> tuple[Institution, ...]:
    """Who takes part, with columns as the table names them."""
    names = _table()[0]
    columns = {site: tuple(name for name in names if word in name.split("_")) for word, site in GROUPS.items()}
    return (
        Institution("clinic", "label-holder", "patients", columns["clinic"], label="malignant", id="patient"),
        Institution("laboratory", "feature-holder", "samples", columns["laboratory"], id="patient"),
        Institution("imaging", "feature-holder", "images", columns["imaging"], id="patient"),
    )


def write(folder: Path) -> dict[str, int]:
    """Write one CSV for each institution; each lacks its own tenth of the patients.

    Returns:
        Rows of each institution's file.
    """
    names, values, malignant = _table()
    counts = {}
    for place in institutions():
        chosen = [names.index(column) for column in place.columns]
        kept = [row for row in range(len(values)) if _share(place.name, row) < KEPT]
        with open(folder / f"{place.data}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["patient", *place.columns, *filter(None, [place.label])])
            for row in kept:
                label = [malignant[row]] if place.label else []
                writer.writerow([f"P{row:04d}", *(values[row][at] for at in chosen), *label])
        counts[place.name] = len(kept)
    return counts


def _share(site: str, row: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{site} {row}".encode()).digest()[:4], "big") / 2**32


def _table() -> tuple[list[str], list[list[float]], list[int]]:
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        raise InputError(
            "there is no data set for an offline demonstration", cure="Install scikit-learn, or connect to an index."
        ) from None
    found = load_breast_cancer()
    names = [name.replace(" ", "_") for name in found.feature_names.tolist()]
    return names, found.data.tolist(), (1 - found.target).tolist()
