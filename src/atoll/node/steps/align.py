"""Find the rows that all sites have in common, without showing the others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.sources import Table
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.keys import usable_keys

INTERSECTIONS: Mapping[str, str] = {
    "vole": "atoll.protocols.bucketed_intersection",
    "ecdh": "atoll.protocols.ecdh_intersection",
    "kkrt": "atoll.protocols.kkrt_intersection",
    "blind-rsa": "atoll.protocols.blind_rsa_intersection",
    "salted-hash": "atoll.protocols.salted_hash_intersection",
}
"""Choices of `protocol:` and the modules that hold `receive_from_all`, `sender` and `PROTOCOL`."""

Intersection = Literal["vole", "ecdh", "kkrt", "blind-rsa", "salted-hash"]
Kind = Literal["text", "caseless", "email", "phone", "resident"]


class Align(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="align"):
    """Params of `align`.

    Attributes:
        protocol: how the sites compare ids. `vole` is fast at any size, and compares several partners at once, so that
            nobody learns who is in some of the tables only. By pairs: `ecdh`, which rests on fewer assumptions;
            `kkrt`, an independent second way; `blind-rsa` and `salted-hash`, weak ones that need every site's consent.
        minimum: fewest common rows; with less the job ends, for small groups say something of single persons.
        kinds: how each id column is written: `text`, `caseless`, `email`, `phone` or `resident`; text if left out.
        security: what the other site may be: `semi-honest`, or `malicious` for two sites with `vole`, which then notice
            when the other cheats.
        pad_to: each site tells the number of its ids rounded up to a multiple of this, by ids that nobody has.
    """

    protocol: Intersection = "vole"
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 100
    kinds: tuple[Kind, ...] = ()
    security: Literal["semi-honest", "malicious"] = "semi-honest"
    pad_to: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 1


class AlignStep(Step[Align]):
    """The rows that all sites have in common: of several partners at once, or by pairs where the job says so."""

    name = "align"
    title = "Find the ids in common"
    gives = ("rows",)
    leaves = ("rows.npy",)

    def uses(self) -> tuple[Protocol, ...]:
        """The intersection, and the announcement of its result."""
        from atoll.protocols import intersection_result, multi_intersection

        if self._together:
            return (multi_intersection.PROTOCOL,)
        return (self._intersection().PROTOCOL, intersection_result.PROTOCOL)

    @property
    def _together(self) -> bool:
        """Whether several partners are compared at once, so that nobody learns who is in only some of the tables."""
        return self.partners > 1 and self.params.protocol == "vole"

    def _intersection(self) -> Any:
        return import_module(INTERSECTIONS[self.params.protocol])

    def check(self, work: Work) -> None:
        """Refuse ids that are missing or stand twice, and a form of alignment that does not notice cheating.

        Raises:
            InputError: with the number of ids.
        """
        if self.params.security == "malicious" and (self.params.protocol != "vole" or self.partners > 1):
            raise InputError(
                "alignment notices cheating between two sites with `protocol: vole` only",
                step=self.name,
                cure="Choose that, or `security: semi-honest`.",
            )
        work.state["keys"] = usable_keys(work, self.name, self.params.kinds)

    async def run(self, session: Session, work: Work) -> str:
        """Align.

        Raises:
            InputError: fewer common rows than the minimum.
        """
        table: Table = present(work.table, "table")
        keys: list[bytes] = work.state.pop("keys")
        near = await offload(self._remember, work, keys)
        keys += [b"none:" + work.rng.bytes(16) for _ in range(-len(keys) % self.params.pad_to)]
        context = (work.job.name, work.job.digest().hex(), *self.params.kinds)
        align = self._all_at_once if self._together else self._each_alone
        rows = await align(session, work, keys, context)
        work.store.write_array("rows.npy", rows)
        self._take(work, rows)
        work.report["align"] = {"own": table.rows, "common": len(rows)}
        return f"{len(rows):,} of {table.rows:,} {work.subject} are in common{near}"

    async def _all_at_once(
        self, session: Session, work: Work, keys: list[bytes], context: tuple[str, ...]
    ) -> NDArray[np.int64]:
        """Compare the ids of all sites at once: of pairs nothing is learnt."""
        from atoll.protocols import multi_intersection

        options: dict[str, Any] = {"rng": work.rng.spawn(), "context": context, "minimum": self.params.minimum}
        if work.labels:
            peers = {name: channel.sub("align") for name, channel in session.peers.items()}
            told = partial(session.progress, "sites")
            return await multi_intersection.receive_common(peers, keys, progress=told, **options)
        hub, partners = session.peers[work.job.hub].sub("align"), work.job.partners
        return await multi_intersection.join(hub, keys, partners=partners, seal=work.seal, **options)

    async def _each_alone(
        self, session: Session, work: Work, keys: list[bytes], context: tuple[str, ...]
    ) -> NDArray[np.int64]:
        """Compare the hub's ids with those of each partner: the hub learns every pair's common ids."""
        from atoll.protocols import intersection_result as result

        chosen = self._intersection()
        options: dict[str, Any] = {"context": context, "progress": partial(session.progress, "ids")}
        if self.params.security != "semi-honest":
            options["security"] = self.params.security
        if not work.labels:
            hub = session.peers[work.job.hub].sub("align")
            shuffled = await chosen.sender(hub, keys, rng=work.rng.spawn(), **options)
            rows = await result.learn(hub, shuffled.order)
            self._refuse_few(len(rows), {})
            return rows
        peers = {name: channel.sub("align") for name, channel in session.peers.items()}
        found: dict[str, Any] = await chosen.receive_from_all(peers, keys, rng=work.rng.spawn(), **options)
        rows, places = result.common_rows(list(found.values()), work.rng)
        pairs = {name: len(match.mine) for name, match in found.items()}
        work.report["overlaps"] = pairs
        self._refuse_few(len(rows), pairs)
        for peer, place in zip(peers.values(), places, strict=True):
            await result.announce(peer, place)
        return rows

    def _remember(self, work: Work, keys: list[bytes]) -> str:
        """Note an earlier alignment that differs by few ids only, and remember this one."""
        if work.reruns is None:
            return ""
        partners = [name for name in work.job.sites if name != work.site]
        tags = work.reruns.tags(keys)
        near = work.reruns.nearest(work.job.id, partners, tags, self.params.minimum)
        work.reruns.keep(work.job.id, partners, tags)
        if near is None:
            return ""
        work.report["near"] = msgspec.to_builtins(near)
        changed = " and ".join(
            f"{count:,} {what}" for count, what in ((near.added, "more"), (near.removed, "fewer")) if count
        )
        return f"; ! its ids are those of job {near.job} but for {changed}"

    async def resume(self, work: Work) -> None:
        """Take the common rows again."""
        del work.state["keys"]
        self._take(work, work.store.read_array("rows.npy"))

    def _take(self, work: Work, rows: NDArray[np.int64]) -> None:
        table: Table = present(work.table, "table")
        work.rows, work.X = rows, table.columns.take(rows)
        if work.y is not None:
            work.y = work.y[rows]

    def _refuse_few(self, common: int, pairs: dict[str, int]) -> None:
        if common >= self.params.minimum:
            return
        what = "no row is common to all sites" if not common else f"only {common:,} rows are common to all sites"
        alone = ", ".join(f"with {name} alone {count:,}" for name, count in pairs.items())
        raise InputError(
            f"{what} (minimum {self.params.minimum:,})",
            detail=f"In common {alone}." if alone else "",
            cure="Check that all sites write the id in the same way and hold the same rows.",
        )
