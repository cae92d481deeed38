"""The job's two files at a site: `audit.jsonl`, one line a message, and `log.jsonl`, one line an event."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

import msgspec

from atoll.core.channel import AuditLine
from atoll.core.errors import InputError
from atoll.node.store import Store, writing

AUDIT, LOG = "audit.jsonl", "log.jsonl"


class JobLog:
    """Writes both files while the job runs; those of tries that failed are continued.

    Args:
        store: the job's folder.

    Attributes:
        lines: of the audit file.
        summary: number, bytes and first digest by (step, kind, direction, peer).
        tries: how often the job began here.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.lines, self.tries = store, 0, 1
        self.summary: dict[tuple[str, str, str, str], list[Any]] = {}
        with writing(store.folder):
            self._read_back()
            self._audit = open(store.path(AUDIT), "ab", buffering=0)  # noqa: SIM115
            self._log = open(store.path(LOG), "ab", buffering=0)  # noqa: SIM115

    def audit(self, line: AuditLine) -> None:
        """Write the line of one message.

        Raises:
            InputError: the disk is full; the job ends, for nothing may cross a border unrecorded.
        """
        with writing(self.store.folder):
            self._audit.write(msgspec.json.encode(line) + b"\n")
        self._count(line)

    def traffic(self) -> dict[tuple[str, str, str], int]:
        """Bytes by (step, peer, direction), of all tries."""
        found: dict[tuple[str, str, str], int] = {}
        for (step, _, way, peer), row in self.summary.items():
            found[step, peer, way] = found.get((step, peer, way), 0) + row[1]
        return found

    def _read_back(self) -> None:
        """Count the lines of an earlier try; a last line that was cut off in the middle is taken away."""
        path, log = self.store.path(AUDIT), self.store.path(LOG)
        if not path.exists():
            return
        self.tries += log.read_bytes().count(b'"event":"began"') if log.exists() else 0
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
        try:
            for line in whole.splitlines():
                self._count(msgspec.json.decode(line, type=AuditLine))
        except msgspec.MsgspecError as cause:
            raise InputError(
                f"{AUDIT} of the job's last try is damaged",
                detail=str(cause),
                cure="Move the job's folder, which ends in .failed, away; the job then begins anew.",
            ) from None

    def _count(self, line: AuditLine) -> None:
        self.lines += 1
        key = (line.step, line.kind, line.direction, line.peer)
        row = self.summary.setdefault(key, [0, 0, line.sha256])
        row[0] += 1
        row[1] += line.bytes

    def event(self, event: str, **fields: Any) -> None:
        """Write one event to the log."""
        with writing(self.store.folder):
            self._log.write(msgspec.json.encode({"time": time.time(), "event": event, **fields}) + b"\n")

    def flush(self) -> str:
        """Bring the audit file to disk and return its SHA-256 so far, in hex."""
        with writing(self.store.folder):
            os.fsync(self._audit.fileno())
        with open(self.store.path(AUDIT), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        """Close both files; what cannot be written any more is lost."""
        for file in (self._audit, self._log):
            try:
                file.close()
            except OSError:
                continue
