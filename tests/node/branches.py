"""Three branches of one bank: the same columns, other customers; real loans (Statlog German credit), dealt by rows."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.cli.stage import free_ports
from atoll.node.job import Job
from atoll.node.progress import Silent
from atoll.node.runner import Run
from atoll.solutions import credit_risk
from atoll.transport.site import init_site
from tests.node.sites import Ended, Sites, finish

NUMBERS = ("amount", "months", "instalment_rate")
TEXTS = ("checking", "housing")
SPLITS = {"north": slice(0, 450), "south": slice(450, 800), "west": slice(800, 1000)}


def loans() -> list[dict[str, str]]:
    """All thousand loans."""
    with (Path(credit_risk.__path__[0]) / "german_credit.csv").open() as file:
        return list(csv.DictReader(file))


def frames() -> dict[str, dict[str, Any]]:
    """Each branch's loans as columns."""
    found = {}
    for name, rows in SPLITS.items():
        mine = loans()[rows]
        numbers = {key: [float(row[key]) for row in mine] for key in (*NUMBERS, "bad")}
        found[name] = {**numbers, **{key: [row[key] for row in mine] for key in TEXTS}}
    return found


def small(name: str, **changes: Any) -> dict[str, Any]:
    """Sixty rows of a branch, some columns changed."""
    return {**{key: column[:60] for key, column in frames()[name].items()}, **changes}


def pooled(parts: Mapping[str, Mapping[str, Any]], numbers: tuple[str, ...] = NUMBERS) -> NDArray[np.float64]:
    """All rows in one place, as a model sees them: numbers, then 0 and 1 for all categories but the first."""
    columns = [np.concatenate([np.array(part[key], float) for part in parts.values()]) for key in numbers]
    for key in TEXTS:
        text = np.concatenate([np.array(part[key], object) for part in parts.values()])
        columns += [(text == value).astype(float) for value in sorted(set(text.tolist()))[1:]]
    return np.stack(columns, axis=1)


def label(parts: Mapping[str, Mapping[str, Any]], name: str = "bad") -> NDArray[np.float64]:
    """The label of all rows."""
    return np.concatenate([np.array(part[name], float) for part in parts.values()])


def document(*steps: Mapping[str, Any], label: str = "bad", **changes: Any) -> dict[str, Any]:
    """A job of the three branches; the first one aggregates."""
    return {
        "name": "branches",
        "purpose": "learn what goes with default",
        "expires": "2099-12-31",
        "sites": {
            name: {
                "role": "member" if at else "aggregator",
                "data": "loans",
                "label": label,
                "columns": [*NUMBERS, *TEXTS],
            }
            for at, name in enumerate(SPLITS)
        },
        "timeouts": {"join": 20, "message": 30, "lost": 3},
        "steps": [{"step": "compare"}, *deepcopy(steps)],
        **changes,
    }


HIT = """
import os, signal
from atoll.learn.horizontal import glm
real = glm.descend
def hit(*args, **rest):
    os.kill(os.getpid(), signal.{})
    return real(*args, **rest)
glm.descend = hit
"""
"""Runs before a site: a signal hits it in the middle of a fit."""


@dataclass
class Branches(Sites):
    """The branches as sites with keys, cards and data sets."""

    @classmethod
    def of(cls, folder: Path, parts: Mapping[str, Mapping[str, Any]], **options: Any) -> Branches:
        """Make keys, exchange cards, add data."""
        sites, made = cls(folder), []
        for (name, part), port in zip(parts.items(), free_ports(len(parts)), strict=True):
            made.append(init_site(folder / name, name, f"127.0.0.1:{port}"))
            sites.put(name, part, **options)
        for one in made:
            for other in made:
                if one is not other:
                    one.trust(other.card)
        return sites

    def copy(self, folder: Path) -> Branches:
        """The same sites in another folder; making keys and looking at tables takes longer."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        for record in folder.glob("*/data/*.json"):
            record.write_text(record.read_text().replace(str(self.folder), str(folder)))
        return Branches(folder, nursery=self.nursery)

    def put(self, name: str, part: Mapping[str, Any], **options: Any) -> None:
        """Write a branch's table and add it as its data set."""
        with (self.folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("loan", *part))
            writer.writerows((at, *row) for at, row in enumerate(zip(*part.values(), strict=True)))
        self.home(name).catalogue.add("loans", self.folder / f"{name}.csv", ["loan"], **options)

    def run_here(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Run all branches over real links in this process; return the store or the error of each."""

        async def go() -> list[Any]:
            names = list(job["sites"])
            runs = [Run(self.home(name), self.home(name).site(), Job.of(job), Silent()) for name in names]
            return await asyncio.gather(*(run.go() for run in runs), return_exceptions=True)

        return dict(zip(job["sites"], asyncio.run(go()), strict=True))

    def run_all(self, job: Mapping[str, Any], **before: str) -> dict[str, Ended]:
        """Run every branch as a process of its own to its end; `before` is code that runs first at a branch."""
        children = {name: self.start(name, job, before=before.get(name, "")) for name in job["sites"]}
        return {name: finish(child) for name, child in children.items()}
