"""Comparing ids in the way that a job has chosen: all partners at once, or the label holder with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atoll.align.matching import Compare
from atoll.align.row_keys import Offer
from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.session import Session
from atoll.node.steps.base import Work
from atoll.protocols import intersection_result as result
from atoll.protocols import multi_intersection

if TYPE_CHECKING:
    from atoll.node.steps.align import Align

ON_DISK = 1 << 22
"""Ids of a comparison beyond which their hashes wait on disk where the protocol can do that."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of one job at one site.

    Args:
        params: those of the step.
        session: the joined session.
        work: this site's side.
        chosen: the module of the protocol that compares two sites; None where all partners are compared at once.
        streams: whether it takes ids as a stream.

    Attributes:
        pairs: how many ids the label holder has found in common with each partner, where it learns that.
    """

    params: Align
    session: Session
    work: Work
    chosen: Any
    streams: bool
    pairs: dict[str, int] = field(default_factory=dict)

    def lead(self, names: Sequence[str], *, tell: bool = True) -> Compare:
        """Return the label holder's comparison with partners: what is common to all of them, told to them or not."""
        return partial(self._lead_each if self.chosen else self._lead_all, names, tell)

    def help(self, *, told: bool = True) -> Compare:
        """Return a partner's comparison with the label holder."""
        return partial(self._help, told) if self.chosen else self._join

    async def _lead_all(self, names: Sequence[str], tell: bool, number: int, offer: Offer, before: int) -> Rows:
        peers = {name: self._channel(name, number) for name in names}
        progress = partial(self.session.progress, "sites")
        options = self._options(offer, number) | self._minimum(number, before) | {"tell": tell}
        ids = await offload(offer.items)
        return await multi_intersection.receive_common(peers, ids, progress=progress, **options)

    async def _join(self, number: int, offer: Offer, before: int) -> Rows:
        job, options = self.work.job, self._options(offer, number) | self._minimum(number, before)
        hub, ids = self._channel(job.hub, number), await offload(offer.items)
        return await multi_intersection.join(hub, ids, partners=job.partners, seal=self.work.seal, **options)

    async def _lead_each(self, names: Sequence[str], tell: bool, number: int, offer: Offer, before: int) -> Rows:
        peers = {name: self._channel(name, number) for name in names}
        found = await self.chosen.receive_from_all(peers, await self._ids(offer), **self._pair_options(offer, number))
        for name, match in found.items():
            self.pairs[name] = self.pairs.get(name, 0) + len(match.mine)
        rows, places = result.common_rows(list(found.values()), self.work.rng)
        if tell:
            self._refuse_few(number, before + len(rows), names)
            for peer, place in zip(peers.values(), places, strict=True):
                await result.announce(peer, place)
        return rows

    async def _help(self, told: bool, number: int, offer: Offer, before: int) -> Rows:
        hub = self._channel(self.work.job.hub, number)
        shuffled = await self.chosen.sender(hub, await self._ids(offer), **self._pair_options(offer, number))
        if not told:
            return np.empty(0, np.int64)
        rows = await result.learn(hub, shuffled.order)
        self._refuse_few(number, before + len(rows), ())
        return rows

    def _channel(self, name: str, number: int) -> Channel:
        channel = self.session.peers[name].sub("align")
        return channel.sub(f"key {number + 1}") if number else channel

    def _options(self, offer: Offer, number: int) -> dict[str, Any]:
        job = self.work.job
        context = (job.name, job.digest().hex(), *self.params.kinds, f"key {number + 1}")
        return {"rng": offer.rng.spawn(), "context": context}

    def _pair_options(self, offer: Offer, number: int) -> dict[str, Any]:
        more: dict[str, Any] = {"progress": partial(self.session.progress, "ids")}
        if self.params.security != "semi-honest":
            more["security"] = self.params.security
        if self.streams and offer.size > ON_DISK:
            more["folder"] = self.work.store.folder
        return self._options(offer, number) | more

    async def _ids(self, offer: Offer) -> Any:
        return offer if self.streams else await offload(offer.items)

    def _minimum(self, number: int, before: int) -> dict[str, int]:
        """What the last comparison must come to, with the pairs that were found before."""
        return {"minimum": self.params.minimum, "before": before} if number == self._last else {}

    @property
    def _last(self) -> int:
        return len(self.work.mine.keys) - 1

    def _refuse_few(self, number: int, common: int, names: Sequence[str]) -> None:
        if number < self._last or common >= self.params.minimum:
            return
        everywhere, other = self.params.rows == "common", ", ".join(names) or self.work.job.hub
        where = "common to all sites" if everywhere else f"in common with {other}"
        what = f"only {common:,} rows are {where}" if common else f"no row is {where}"
        alone = ", ".join(f"with {name} alone {self.pairs[name]:,}" for name in names)
        raise InputError(
            f"{what} (minimum {self.params.minimum:,})",
            detail=f"In common {alone}." if alone else "",
            cure="Check that all sites write the id in the same way and hold the same rows.",
        )
