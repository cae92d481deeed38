"""What this site remembers of earlier alignments: enough to notice that two of them differ by a few persons only.

Whoever learns the result of two alignments learns what the difference of the inputs changed.  If one person was added
in between, that is whether the partners have this person.  A site can see its own side of it: it keeps a keyed tag of
every id that it brought, and compares before the next alignment with the same partner.

FOLDER/key                 16 secret bytes of this site; tags mean nothing without them
FOLDER/JOB/partners.json   names of the sites
FOLDER/JOB/tags.npy        (n,) uint64, sorted: the tags of the ids of that alignment
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto.item_hash import Texts, hash_texts
from atoll.crypto.random import Rng
from atoll.node.store import Store, writing

KEEP = 50
"""Alignments that are remembered; the oldest is forgotten."""

KEY, PARTNERS, TAGS = "key", "partners.json", "tags.npy"
Tags = NDArray[np.uint64]


class Nearest(msgspec.Struct, frozen=True):
    """The earlier alignment that differs least.

    Attributes:
        job: its id.
        added: ids of now that were not in it.
        removed: ids of it that are not there now.
    """

    job: str
    added: int
    removed: int


@dataclass(frozen=True)
class Reruns:
    """The alignments that a site remembers.

    Args:
        folder: where they are kept; made when the first one is.
    """

    folder: Path

    def tags(self, batches: Iterable[Texts]) -> Tags:
        """Return the sorted tags of n distinct ids, (n,); two share one with a probability below n² / 2^65."""
        key = self._key()
        tags: Tags = np.sort(np.concatenate([hash_texts(texts, key)[:, 0] for texts in batches]))
        again = np.flatnonzero(tags[1:] == tags[:-1])
        return np.delete(tags, again)  # np.unique takes five times as long

    def nearest(self, job: str, partners: Sequence[str], tags: Tags, below: int) -> Nearest | None:
        """Return the earlier alignment with one of these partners that differs least, if by fewer ids than `below`.

        Alignments of the same ids do not count, nor do earlier tries of the same job.

        Args:
            job: the id of the job that begins.
            partners: the other sites that learn something of its result.
            tags: of this site's ids.
            below: how many differing ids are few.
        """
        found: list[Nearest] = []
        for store in self._kept():
            if store.folder.name != job and not set(partners).isdisjoint(store.read_json(PARTNERS, list[str])):
                before = store.read_array(TAGS)
                common = len(np.intersect1d(before, tags, assume_unique=True))
                found.append(Nearest(store.folder.name, len(tags) - common, len(before) - common))
        few = [one for one in found if 0 < one.added + one.removed < below]
        return min(few, key=lambda one: one.added + one.removed, default=None)

    def keep(self, job: str, partners: Sequence[str], tags: Tags) -> None:
        """Remember an alignment, before its first message leaves: a try that fails may have told something, too.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        store = Store(self.folder / job)
        with writing(self.folder):
            store.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        store.write_array(TAGS, tags)
        store.write_json(PARTNERS, sorted(partners))
        kept = sorted(self._kept(), key=lambda store: store.path(TAGS).stat().st_mtime)
        for old in kept[:-KEEP]:
            for name in (PARTNERS, TAGS):
                old.path(name).unlink(missing_ok=True)
            old.folder.rmdir()

    def _kept(self) -> Iterator[Store]:
        yield from (Store(path.parent) for path in sorted(self.folder.glob(f"*/{PARTNERS}")))

    def _key(self) -> bytes:
        path = self.folder / KEY
        if not path.exists():
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            Store(self.folder).write(KEY, Rng.system().bytes(16))
            os.chmod(path, 0o600)
        key = path.read_bytes()
        if len(key) != 16:
            raise InputError(
                "the key of remembered alignments is damaged",
                cure=f"Remove the folder {self.folder.name} of the site; it then remembers no earlier alignment.",
            )
        return key
