"""What every step is: frozen params, what it needs and gives, what it may send, and `run`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.crypto.random import Rng
from atoll.data.columns import Columns
from atoll.data.sources import Table

if TYPE_CHECKING:
    from atoll.node.budgets import Reserved
    from atoll.node.job import Job, Part
    from atoll.node.reruns import Reruns
    from atoll.node.store import Store
    from atoll.privacy.accountant import Loss
    from atoll.protocols.pairwise_keys import Seal
    from atoll.protocols.secure_sum.noisy import Release

Topology = Literal["star", "dropouts", "ring", "direct", "leader", "lattice", "aggregators"]
"""How the sites of a horizontal job add; see `atoll.protocols.secure_sum.topology`."""

SURVIVING: frozenset[Topology] = frozenset(("dropouts", "ring"))
"""Where the job goes on without a site that fails; what it has summed with it begins again."""

Called = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9][a-z0-9-]{0,39})?$")]
"""What a job calls one of several steps of a kind."""

P = TypeVar("P", bound=msgspec.Struct)


@dataclass
class Work:
    """What a job has come to at one site; each step reads what it needs and adds what it gives.

    Attributes:
        job: the document.
        site: this site's name.
        load: reads this site's data set: `load(columns, kinds={})`.
        rng: this site's secret randomness.
        store: where this job writes at this site.
        earlier: opens what an earlier job left here, by its id or name.
        reruns: what this site remembers of earlier alignments; None where nothing is kept.
        units: of this site's numeric columns, where their owner has said them.
        budget: the part of the data set's privacy budget that this job has reserved; None where nothing is kept.
        seal: signs and checks keys between partners, which travel through the hub; None where nobody could swap them.
        run: random id that the sites share while this job is tried until it is done; empty where nothing is kept.
        table: this site's rows as read.
        rows: (n,) own row numbers in the common order, after alignment.
        X: the own columns of the common rows.
        y: (n,) 0 or 1 at the label holder, else None; the label of a horizontal job is a column of `table`.
        part: (n,) 0 for training, 1 for validation, 2 for test.
        state: further things by name, such as the model.
        report: what the report will say, by name; JSON only.
    """

    job: Job
    site: str
    load: Callable[..., Table]
    rng: Rng
    store: Store
    earlier: Callable[[str], Store]
    reruns: Reruns | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    budget: Reserved | None = None
    seal: Seal | None = None
    run: bytes = b""
    table: Table | None = None
    rows: NDArray[np.int64] | None = None
    X: Columns | None = None
    y: NDArray[np.float64] | None = None
    part: NDArray[np.uint8] | None = None
    state: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def mine(self) -> Part:
        """What this site brings."""
        return self.job.sites[self.site]

    @property
    def subject(self) -> str:
        """What a row is, in the plural, as the job calls it for the report."""
        return next((step.subject for step in self.job.steps if hasattr(step, "subject")), "customers")

    @property
    def labels(self) -> bool:
        """Whether this site is the job's hub: the label holder, the asker, or the aggregator."""
        return self.site == self.job.hub


class Step(ABC, Generic[P]):
    """One step of a job; the same class runs at every site and looks at its role.

    Args:
        params: what the job says about it.
        partners: how many sites the job has beside its hub.
        topology: how the sites of a horizontal job add.

    Attributes:
        name: what the step is called in the job; of several of a kind each has its own name in it.
        hub: the role in the middle of the jobs that it is for.
        hides_rows: whether no site learns which rows are in common.
        leaves: files in the job's folder from which `resume` can put back what `run` gave; None where a job that
            was cut off runs the step again.
    """

    name: str
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ()
    leaves: tuple[str, ...] | None = None
    hub: ClassVar[str] = "label-holder"
    hides_rows: ClassVar[bool] = False

    def __init__(self, params: P, partners: int = 1, topology: Topology = "star") -> None:
        self.params, self.partners, self.topology = params, partners, topology
        self.called: str = getattr(params, "name", "")
        if self.called:
            self.name = f"{self.name} {self.called}"
            self.leaves = None if self.leaves is None else tuple(self.file(name) for name in self.leaves)

    def file(self, name: str) -> str:
        """A file that the step leaves: `model.json`, or `model-NAME.json` where the job calls the step NAME."""
        path = PurePath(name)
        return f"{path.stem}-{self.called}{path.suffix}" if self.called else name

    def uses(self) -> tuple[Protocol, ...]:
        """The protocols that may send messages while the step runs."""
        return ()

    def says(self, job: Job) -> tuple[str, ...]:
        """Lines that people should read before they approve the job, beside the cards of its protocols."""
        return ()

    def plan_noise(self, job: Job) -> tuple[Release, ...]:
        """Return the totals with noise that the step will open in a job with `privacy:`; `loss` says what they tell."""
        return ()

    def loss(self, job: Job, site: str) -> Loss | None:
        """What the step can tell about one person in a site's data set; None if no noise bounds it."""
        return None

    def check(self, work: Work) -> None:
        """Refuse, before anything is sent, what cannot work with this site's own data."""

    @abstractmethod
    async def run(self, session: Session, work: Work) -> str:
        """Do the step, and return one line for people about what came of it."""

    async def resume(self, work: Work) -> None:
        """Put back what `run` gave in a try that was cut off later, from the files that it left."""
        raise NotImplementedError(f"step {self.name} leaves nothing")


def present(value: Any, what: str) -> Any:
    """Return a value that an earlier step must have given.

    Raises:
        InputError: no step gave it.
    """
    if value is None:
        raise InputError(f"the job has no {what} at this point", cure="Add the step that makes it before this one.")
    return value
