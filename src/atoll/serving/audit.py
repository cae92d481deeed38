"""The audit file of a service, or of a client: one line for every message that crossed the border."""

from __future__ import annotations

from pathlib import Path

import msgspec

from atoll.core.channel import AuditLine
from atoll.query.files import writing


class AuditFile:
    """`audit.jsonl`, continued by every session.

    Args:
        path: The file; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.sent, self.received = path, 0, 0
        with writing(path.parent):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def __call__(self, line: AuditLine) -> None:
        """Write a line.

        Raises:
            InputError: The disk is full; the session ends, for nothing may cross a border unrecorded.
        """
        with writing(self.path.parent):
            self._file.write(msgspec.json.encode(line) + b"\n")
        if line.direction == "sent":
            self.sent += line.bytes
        else:
            self.received += line.bytes

    def close(self) -> None:
        """Close the file."""
        self._file.close()
