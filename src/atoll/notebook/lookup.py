"""`atoll.lookup`: look records up at a partner, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.crypto.random import Rng
from atoll.node.home import Home
from atoll.node.policy import require_protocol
from atoll.notebook.simulation import run
from atoll.query.records import About, Value
from atoll.serving.lookup_client import Answer, Decoys, Keys, LookupClient


@dataclass(frozen=True)
class Lookup:
    """What was found.

    Attributes:
        hits: For each key that has a record its rows, each a dict of column and value.
        misses: The keys that have none, in order.
        answer: Sizes, versions, times and what is left of the limit.
    """

    hits: dict[Any, list[dict[str, Value]]]
    misses: list[Any]
    answer: Answer

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict for each row found, its key under `key`: ready for a pandas or polars frame."""
        return [{"key": key, **row} for key, rows in self.hits.items() for row in rows]


def lookup(
    keys: Sequence[Any],
    source: str,
    *,
    home: Path | str | None = None,
    decoys: int = 0,
    pool: Sequence[Any] = (),
    wait: float = 20.0,
) -> Lookup:
    """Look up keys at a partner's lookup service; the partner learns how many, and not which.

    Args:
        keys: Texts; or tuples of texts, for a composite key.
        source: SERVICE@SITE, such as `registry@partner`.
        home: This site's folder; by default $ATOLL_HOME, else ./.atoll.
        decoys: Weak: hide each key among so many, itself included, instead of asking privately.
        pool: With `decoys`, plausible keys to take them from; the keys themselves by default.
        wait: Seconds to wait for the partner.

    Returns:
        The records, and the keys that have none.

    Raises:
        AtollError: Each as the command `atoll query` reports it.
    """
    found = Home.find(Path(home) if home is not None else None)
    client = LookupClient.at(found.site(), source, found.folder, join_within=wait)
    if decoys:
        require_protocol(found.policy(), client.site.name, "decoy-lookup")
    among = Decoys(decoys, lambda about: _keys(pool or keys, about)) if decoys else None
    answer: Answer = run(client.look_up(lambda about: _keys(keys, about), rng=Rng.system(), decoys=among))
    names = [field.name for field in answer.about.fields]
    hits, misses = dict[Any, list[dict[str, Value]]](), list[Any]()
    for key, rows in zip(keys, answer.rows, strict=True):
        if rows is None:
            misses.append(key)
        else:
            hits[key] = [dict(zip(names, row, strict=True)) for row in rows]
    return Lookup(hits, misses, answer)


def _keys(keys: Sequence[Any], about: About) -> Keys:
    rows = [key if isinstance(key, tuple) else (key,) for key in keys]
    width = len(rows[0]) if rows else len(about.key)
    columns = [[str(row[at]) if at < len(row) else "" for row in rows] for at in range(width)]
    return Keys(columns, [f"key {at}" for at in range(1, len(rows) + 1)])
