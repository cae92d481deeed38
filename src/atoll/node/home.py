"""A site's folder: its key and card, the cards it trusts, its data sets, and what its jobs left.

site.key, site.card, trusted/       identity
policy.yaml                         what the site allows its jobs; nothing that needs consent where it is missing
data/NAME.json                      data sets
budgets.jsonl, budgets.head         what answers with noise may tell, and have told, about each data set
alignments/                         tags of the ids of earlier alignments, to notice small differences
jobs/JOB/                           one folder a finished job: contract, audit, log, model, result, report
jobs/JOB.failed/                    the last try, if it failed: audit, log, and what another try goes on from
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from atoll.core.errors import InputError
from atoll.data.catalogue import Catalogue
from atoll.data.scan import nearest
from atoll.node import checkpoint
from atoll.node.budgets import Budgets
from atoll.node.policy import Policy
from atoll.node.reruns import Reruns
from atoll.node.store import Store
from atoll.transport.site import Site, load_site

VARIABLE = "ATOLL_HOME"


@dataclass(frozen=True)
class Home:
    """The folder of one site.

    Args:
        folder: where it is.
    """

    folder: Path

    @classmethod
    def find(cls, given: Path | None = None) -> Home:
        """Return the given folder, else the one that ATOLL_HOME names, else `.atoll` here."""
        return cls(given or Path(os.environ.get(VARIABLE) or ".atoll"))

    def site(self) -> Site:
        """The site's identity.

        Raises:
            IdentityError: there is no site here yet.
        """
        return load_site(self.folder)

    def policy(self) -> Policy:
        """What the site allows its jobs.

        Raises:
            InputError: the document holds an unknown key or name.
        """
        return Policy.load(Store(self.folder))

    def decide(self, policy: Policy) -> None:
        """Keep another policy; jobs that begin from now on go by it."""
        policy.save(Store(self.folder))

    @property
    def catalogue(self) -> Catalogue:
        """The site's data sets."""
        return Catalogue(self.folder / "data")

    @property
    def reruns(self) -> Reruns:
        """What the site remembers of earlier alignments."""
        return Reruns(self.folder / "alignments")

    @property
    def budgets(self) -> Budgets:
        """The privacy budgets of the site's data sets."""
        return Budgets(self.folder, self.site().name)

    @property
    def jobs(self) -> Path:
        """The folder of jobs."""
        return self.folder / "jobs"

    def finished(self) -> list[str]:
        """Ids of the jobs that finished here, the newest first."""
        found = [path for path in self.jobs.glob("*/result.json") if "." not in path.parent.name]
        return [path.parent.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]

    def cut_off(self) -> dict[str, str]:
        """Ids of the jobs that can go on where their last try was cut off, and the last step that is done."""
        found = {path.name.rpartition(".")[0]: Store(path) for path in sorted(self.jobs.glob("*.failed"))}
        steps = {job: checkpoint.last_step(store) for job, store in found.items()}
        return {job: step for job, step in steps.items() if step}

    def result(self, job: str) -> Store:
        """Return what a finished job left.

        Args:
            job: its id, or its name for the newest run of that name.

        Raises:
            InputError: no such job finished here.
        """
        ids = self.finished()
        for known in ids:
            if job == known or job == known.rpartition("-")[0]:
                return Store(self.jobs / known)
        close = nearest(job, ids)
        raise InputError(
            f"no job {job!r} has finished at this site",
            detail=f"Did you mean {close!r}?" if close else "",
            cure="`atoll job list` names those that have.",
        )
