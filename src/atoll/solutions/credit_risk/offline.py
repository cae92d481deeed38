"""What the demonstration shows when no package index can be reached: 1,000 real applications that come with Atoll.

German credit (H. Hofmann, "Statlog (German Credit Data)", UCI Machine Learning Repository, 1994, CC BY 4.0), with
codes written out and without sex, age, and whether a worker is foreign. A lender has the outcome and what stands in
the application, the applicant's own bank the accounts, an agency housing and work.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from atoll.solutions.credit_risk.institutions import Institution

TABLE = Path(__file__).with_name("german_credit.csv")
KEPT = 0.9

INSTITUTIONS = (
    Institution(
        "lender",
        "label-holder",
        "applications",
        ("amount", "months", "purpose", "instalment_rate", "guarantor"),
        label="bad",
        id="applicant",
    ),
    Institution(
        "bank",
        "feature-holder",
        "accounts",
        ("checking", "savings", "history", "other_plans", "credits_here"),
        id="applicant",
    ),
    Institution(
        "agency",
        "feature-holder",
        "residents",
        ("property", "housing", "residence_years", "employment", "job"),
        id="applicant",
    ),
)


def write(folder: Path) -> dict[str, int]:
    """Write one CSV for each institution; each lacks its own tenth of the applicants.

    Returns:
        Rows of each institution's file.
    """
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {}
    for place in INSTITUTIONS:
        kept = [row for row in rows if _share(place.name, row[place.id]) < KEPT]
        names = [place.id, *place.columns, *filter(None, [place.label])]
        with open(folder / f"{place.data}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        counts[place.name] = len(kept)
    return counts


def _share(site: str, applicant: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{site} {applicant}".encode()).digest()[:4], "big") / 2**32
