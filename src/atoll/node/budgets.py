"""The privacy budget (隐私预算) of each data set of a site: reserved before a job, spent before an answer is opened.

FOLDER/budgets.head     how many lines there are, and the SHA-256 of the last; put in place whole after every line
FOLDER/budgets.jsonl    one line an entry, never rewritten; each names the SHA-256 of the line before it
    limit     the operator sets what may be told about one person in all
    reserve   a job asks for a part of it; from here on that part counts as spent
    spend     written, and on the disk, just before anything with noise is opened; final
    release   the job ended, or was cut off, before that; the part is free again

Whatever is killed at whatever moment, no answer has been opened without its line of `spend`.  A part that is only
reserved was certainly not used, so another try of the same job, or the operator, may release it; whoever still holds
it is then refused when it would open.  A torn last line is what a crash leaves: its writer had not gone on yet.  A
crash may also leave one whole line more than the head knows.  Fewer lines, or others, mean that something was taken
away, as an old copy put back would do: nothing is spent then.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from atoll import whole_files
from atoll.core.errors import ContractError, InputError
from atoll.node.store import writing
from atoll.privacy.accountant import NOTHING, Limit, Loss, spent, together

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.node.steps import Step

FILE, HEAD = "budgets.jsonl", "budgets.head"
WAIT = 10.0
"""Seconds to wait for another job of this site that is writing an entry."""

START = "0" * 64


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of the file as it was last known.

    Attributes:
        lines: how many.
        digest: SHA-256 of the last, hex.
    """

    lines: Annotated[int, msgspec.Meta(ge=0)] = 0
    digest: str = START


Kind = Literal["limit", "reserve", "spend", "release"]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the file.

    Attributes:
        before: SHA-256 of the line before, hex.
        at: when, ISO 8601 in UTC.
        what: the kind of entry.
        data: the data set's name.
        part: number of the reserved part, from 1; 0 for a limit.
        limit: the limit that is set.
        loss: what is reserved.
        job: the job that reserves.
        to: who gets the answer.
    """

    before: str
    at: str
    what: Kind
    data: str
    part: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Limit | None = None
    loss: Loss | None = None
    job: str = ""
    to: str = ""


@dataclass
class Part:
    """A part of a budget that a job has asked for.

    Attributes:
        number: its number.
        data: the data set's name.
        loss: how much.
        job: the job's id.
        to: who gets the answer.
        at: when it was reserved, ISO 8601.
        state: `reserve`, `spend` or `release`.
    """

    number: int
    data: str
    loss: Loss
    job: str
    to: str
    at: str
    state: str = "reserve"


@dataclass
class Account:
    """What is known of one data set's budget.

    Attributes:
        limit: what may be told; None if the operator has set no budget.
        parts: all that jobs have asked for, in order.
    """

    limit: Limit | None = None
    parts: list[Part] = field(default_factory=list)

    def losses(self) -> list[Loss]:
        """What counts as spent: all parts but the released ones."""
        return [part.loss for part in self.parts if part.state != "release"]

    def spent(self) -> float:
        """The share of the limit that is spent or reserved; at most 1, unless the limit was lowered later."""
        return spent(self.losses(), self.limit) if self.limit else 0.0

    def sentence(self) -> str:
        """Say what is left."""
        if self.limit is None:
            return "No budget is set."
        at, gone = f" at δ = {self.limit.delta:g}" if self.limit.delta else "", self.spent()
        left = max(0.0, 1 - gone)
        return f"Of ε = {self.limit.epsilon:g}{at}, {gone:.1%} is spent or reserved and {left:.1%} is left."


@dataclass(frozen=True)
class Budgets:
    """The budgets of a site's data sets.

    Args:
        folder: the site's folder.
        site: its name, for errors.
    """

    folder: Path
    site: str

    def accounts(self) -> dict[str, Account]:
        """Return what is known, by data set.

        Raises:
            InputError: the file was damaged or changed; nothing can be spent then.
        """
        if not any((self.folder / name).exists() for name in (FILE, HEAD)):
            return {}
        with self._book() as book:
            return book.accounts

    def set(self, data: str, limit: Limit) -> None:
        """Set how much may be told about one person in a data set, over all jobs; what was spent stays spent."""
        with self._book() as book:
            book.write("limit", data, limit=limit)

    def reserve(self, data: str, loss: Loss, *, job: str, to: str) -> Reserved:
        """Reserve a part of a budget before a job runs.

        Parts that an earlier try of the same job reserved and did not use are released first.

        Raises:
            ContractError: the data set has no budget, or too little is left.
            InputError: the file was damaged, or cannot be written.
        """
        with self._book() as book:
            account = book.accounts.get(data, Account())
            for part in account.parts:
                if part.job == job and part.state == "reserve":
                    book.write("release", data, part=part.number)
            self._require(data, account, loss)
            number = len(book.parts) + 1
            book.write("reserve", data, part=number, loss=loss, job=job, to=to)
        return Reserved(self, number)

    def release(self, data: str) -> int:
        """Free all parts of a data set's budget that are reserved and not spent, and return their number.

        A job that still runs is refused when it would open its answer.
        """
        with self._book() as book:
            open_parts = [part for part in book.accounts.get(data, Account()).parts if part.state == "reserve"]
            for part in open_parts:
                book.write("release", data, part=part.number)
        return len(open_parts)

    def _require(self, data: str, account: Account, loss: Loss) -> None:
        if account.limit is None:
            raise ContractError(
                f"data set {data} has no privacy budget",
                site=self.site,
                cure=f"Decide how much may be told: `atoll site budget set {data} --epsilon 1` at {self.site}.",
            )
        if spent([*account.losses(), loss], account.limit) > 1:
            raise ContractError(
                f"the privacy budget of data set {data} does not allow this answer any more",
                site=self.site,
                detail=account.sentence(),
                cure="Ask with a smaller epsilon, or let the operator decide on a larger budget: "
                f"`atoll site budget show {data}` at {self.site} lists what was spent.",
            )

    @contextmanager
    def _book(self) -> Iterator[_Book]:
        """Open the file for this process alone."""
        with writing(self.folder), open(self.folder / FILE, "a+b", buffering=0) as file:
            end = time.monotonic() + WAIT
            while not _lock(file):
                if time.monotonic() > end:
                    raise InputError(f"another process has held {FILE} for {WAIT:g} s", cure="End it, and run again.")
                time.sleep(0.005)
            yield _Book(file, self.folder)


def reserve_for(budgets: Budgets, job: Job, site: str, steps: Sequence[Step[Any]]) -> Reserved | None:
    """Reserve what a job tells about a site's data set, before anything is sent; None if that is nothing.

    A data set with a budget takes part only in jobs whose every step says what it tells: one exact answer would make
    the budget worthless.

    Raises:
        ContractError: a step would answer without noise, there is no budget, or too little is left.
        InputError: the file was damaged, or cannot be written.
    """
    data = job.sites[site].data
    if (account := budgets.accounts().get(data)) and account.limit:
        for step in steps:
            if step.loss(job, site) is None:
                raise ContractError(
                    f"step {step.name} adds no noise, and data set {data} has a privacy budget",
                    site=site,
                    step=step.name,
                    cure="Ask with `privacy:`, or use a data set without a budget.",
                )
    losses = [loss for step in steps if (loss := step.loss(job, site)) and loss != NOTHING]
    if not losses:
        return None
    try:
        return budgets.reserve(data, together(losses), job=job.id, to=job.hub)
    except ContractError as error:
        raise error.located(step=steps[0].name) from None


@dataclass
class Reserved:
    """A part of a budget that a running job holds.

    Args:
        budgets: the site's budgets.
        number: of the part.
    """

    budgets: Budgets
    number: int
    final: bool = False

    def spend(self) -> None:
        """Make the part final; when this returns it is on the disk, and the answer may be opened.

        Raises:
            ContractError: the part was released meanwhile.
            InputError: the file was damaged, or cannot be written.
        """
        if not self.final:
            self._end("spend")
        self.final = True

    def release(self) -> None:
        """Free the part, unless it is spent."""
        if not self.final:
            self._end("release")

    def sentence(self) -> str:
        """Say what the job took, and what is left."""
        with self.budgets._book() as book:
            part = book.parts[self.number]
            left = book.accounts[part.data].sentence()
        return f"This job took {part.loss} from the privacy budget (隐私预算) of data set {part.data}. {left}"

    def _end(self, what: Literal["spend", "release"]) -> None:
        with self.budgets._book() as book:
            part = book.parts.get(self.number)
            if part is None or part.state != "reserve":
                raise ContractError(
                    f"part {self.number} of the privacy budget is no longer reserved",
                    site=self.budgets.site,
                    cure="Another try of the job, or the operator, has released it. Run the job again.",
                )
            book.write(what, part.data, part=self.number)


class _Book:
    """The file, read and checked, while no other process can write it.

    Args:
        file: opened for reading and appending, and locked.
        folder: where it is.

    Raises:
        InputError: a line was damaged, changed or taken out.
    """

    def __init__(self, file: IO[bytes], folder: Path) -> None:
        self.file, self.folder, self.lines, head = file, folder, 0, _head(folder)
        self.accounts: dict[str, Account] = {}
        self.parts: dict[int, Part] = {}
        self.digest = START
        file.seek(0)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                self._play(line)
            except (msgspec.MsgspecError, LookupError):
                raise _damaged(f"{FILE} was damaged or changed at line {number}") from None
            if number == head.lines and self.digest != head.digest:
                raise _damaged(f"{FILE} is not the one that {HEAD} belongs to")
        if self.lines < head.lines:
            raise _damaged(f"{FILE} has {self.lines:,} lines, and had {head.lines:,}: its end was cut off")
        if self.lines > head.lines + 1:
            raise _damaged(f"{HEAD} knows of {head.lines:,} lines, and {FILE} has {self.lines:,}")
        if whole < len(data):
            file.truncate(whole)
        if self.lines > head.lines:
            self._keep_head()

    def write(self, what: Kind, data: str, **fields: Any) -> None:
        """Write an entry; it is on the disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = msgspec.json.encode(Entry(self.digest, now, what, data, **fields))
        if self.file.write(line + b"\n") != len(line) + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self.file.fileno())
        if self.digest == START:
            whole_files.keep(self.folder)
        self._play(line)
        self._keep_head()

    def _keep_head(self) -> None:
        whole_files.write(self.folder / HEAD, msgspec.json.encode(Head(self.lines, self.digest)))

    def _play(self, line: bytes) -> None:
        """Take in one line; LookupError if it does not follow those before."""
        entry = msgspec.json.decode(line, type=Entry)
        if entry.before != self.digest:
            raise LookupError
        self.digest, self.lines = hashlib.sha256(line).hexdigest(), self.lines + 1
        account = self.accounts.setdefault(entry.data, Account())
        if entry.what == "limit":
            account.limit = entry.limit
        elif entry.what == "reserve" and entry.loss is not None:
            part = Part(entry.part, entry.data, entry.loss, entry.job, entry.to, entry.at)
            self.parts[entry.part] = part
            account.parts.append(part)
        else:
            self.parts[entry.part].state = entry.what


def _head(folder: Path) -> Head:
    """Return the kept end; that of an empty file where none is kept.

    Raises:
        InputError: it was damaged.
    """
    try:
        return msgspec.json.decode((folder / HEAD).read_bytes(), type=Head)
    except FileNotFoundError:
        return Head()
    except msgspec.MsgspecError:
        raise _damaged(f"{HEAD} was damaged or changed") from None


def _damaged(what: str) -> InputError:
    return InputError(
        what,
        cure=f"Put back a whole copy of {FILE}, the newest, with the {HEAD} of the same time; until then no job can "
        "spend from a budget of this site.",
    )


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
