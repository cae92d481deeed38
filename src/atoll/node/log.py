"""The job's two files at a site: `audit.jsonl`, one line a message, and `log.jsonl`, one line an event."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec

from atoll.core.channel import AuditLine
from atoll.node.store import Store, writing

AUDIT, LOG = "audit.jsonl", "log.jsonl"


class JobLog:
    """Writes both files while the job runs.

    Args:
        store: the job's folder.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.lines = store, 0
        self.summary: dict[tuple[str, str, str, str], list[Any]] = {}
        with writing(store.folder):
            self._audit = open(store.path(AUDIT), "wb")  # noqa: SIM115
            self._log = open(store.path(LOG), "wb", buffering=0)  # noqa: SIM115

    def audit(self, line: AuditLine) -> None:
        """Write the line of one message.

        Raises:
            InputError: the disk is full; the job ends, for nothing may cross a border unrecorded.
        """
        with writing(self.store.folder):
            self._audit.write(msgspec.json.encode(line) + b"\n")
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
            self._audit.flush()
        with open(self.store.path(AUDIT), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        """Close both files; what cannot be written any more is lost."""
        for file in (self._audit, self._log):
            try:
                file.close()
            except OSError:
                continue
