"""Small sites for tests: two institutions, 400 customers, and their processes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.cli.stage import free_ports
from atoll.node.home import Home
from atoll.node.job import Job
from atoll.transport.site import Site, init_site
from tests.nursery import Nursery

ROWS = 400
BANK = ["id,age,income,left"]
SHOP = ["id,visits,region"]


def tables(seed: int = 5) -> dict[str, list[str]]:
    """Lines of both sites' CSV files; nine tenths of the customers are in each."""
    draw = random.Random(seed)
    bank, shop = list(BANK), list(SHOP)
    for row in range(ROWS):
        age, visits = draw.randint(18, 80), draw.randint(0, 20)
        left = int(draw.random() < (0.7 if visits < 6 else 0.25) - (0.15 if age > 50 else 0))
        if draw.random() < 0.9:
            bank.append(f"C{row:04d},{age},{draw.randint(10, 90)},{left}")
        if draw.random() < 0.9:
            shop.append(f"C{row:04d},{visits},{draw.choice('NESW')}")
    return {"bank": bank, "shop": shop}


def document(**changes: Any) -> dict[str, Any]:
    """A job of two trees that small tables can run."""
    return {
        "name": "leavers",
        "purpose": "find customers who leave",
        "expires": "2099-12-31",
        "sites": {
            "bank": {"role": "label-holder", "data": "people", "id": "id", "label": "left"},
            "shop": {"role": "feature-holder", "data": "people", "id": "id"},
        },
        "limits": {"reveals": ["rows of M"]},
        "timeouts": {"join": 10, "message": 20, "lost": 3},
        "steps": [
            {"step": "align", "minimum": 50},
            {"step": "split", "test": 0.3},
            {"step": "bin", "max_bin": 4},
            {"step": "train", "n_estimators": 2, "max_depth": 2, "min_node": 20},
            {"step": "evaluate", "share": True},
        ],
        **changes,
    }


@dataclass
class Ended:
    """How a site's process ended."""

    code: int
    text: str


@dataclass
class Sites:
    """Two sites with their folders in one place.

    Args:
        folder: where they are.
        nursery: starts their processes, if they shall start at once.
    """

    folder: Path
    nursery: Nursery | None = None
    started: list[Any] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, lines: Mapping[str, list[str]] | None = None, nursery: Nursery | None = None) -> Sites:
        """Make keys, exchange cards, add data."""
        sites = cls(folder, nursery)
        made: list[Site] = []
        for (name, content), port in zip((lines or tables()).items(), free_ports(2), strict=True):
            sites.write(name, content)
            made.append(init_site(folder / name, name, f"127.0.0.1:{port}"))
            Home(folder / name).catalogue.add("people", folder / f"{name}.csv", ["id"])
        made[0].trust(made[1].card)
        made[1].trust(made[0].card)
        return sites

    def write(self, name: str, lines: list[str]) -> None:
        """Write a site's table anew."""
        (self.folder / f"{name}.csv").write_text("\n".join(lines) + "\n")

    def home(self, name: str) -> Home:
        """A site's folder."""
        return Home(self.folder / name)

    def start(
        self, name: str, job: Mapping[str, Any] | None = None, *, before: str = "", limit: int = 0, json: bool = False
    ) -> Any:
        """Start a site's process; `before` is Python that runs first, `limit` the largest file it may write."""
        path = self.folder / f"{name}.yaml"
        path.write_text(Job.of(job or document()).to_yaml())
        words = [
            "job",
            "run",
            str(path),
            "--as",
            name,
            "--home",
            str(self.folder / name),
            *(["--json"] if json else []),
        ]
        if self.nursery and not limit:
            self.started.append(child := self.nursery.start(words, self.folder / f"{name}.out", before))
            return child
        code = f"import sys; {before}\nfrom atoll.cli import main\nsys.argv[1:] = {words!r}\nmain()"
        if limit:
            code = f"import resource; from atoll.crypto import ristretto; ristretto._library()\nlimit = {limit}\n" + (
                "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n" + code
            )
        popen = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder
        )
        self.started.append(popen)
        return popen

    def both(
        self, bank: Mapping[str, Any] | None = None, shop: Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, Ended]:
        """Run both processes to their end; `options` go to the shop's."""
        children = {"shop": self.start("shop", shop or bank, **options), "bank": self.start("bank", bank)}
        return {name: finish(child) for name, child in children.items()}

    def close(self) -> None:
        """End what still runs."""
        for child in self.started:
            if child.poll() is None:
                child.kill()
            child.communicate()


def finish(child: Any) -> Ended:
    """Wait for a process."""
    text, _ = child.communicate(timeout=45)
    return Ended(child.returncode, text)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen")
        time.sleep(0.02)
