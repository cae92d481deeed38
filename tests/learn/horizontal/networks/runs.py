"""Running the loop at simulated sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.learn.horizontal.networks import Fitted, Plan, fit, simulate
from atoll.learn.horizontal.networks.trainer import Trainer
from atoll.protocols.secure_sum.totals import Totals


def fit_all(trainers: Sequence[Trainer], plan: Plan, **options: Any) -> list[Fitted]:
    """Fit at as many sites as there are trainers; a list of options has one for each site."""

    async def site(totals: Totals) -> Fitted:
        at = totals.sites.index(totals.site)
        mine = {name: value[at] if isinstance(value, list) else value for name, value in options.items()}
        return await fit(trainers[at], totals, plan, **mine)

    return simulate(len(trainers), site)
