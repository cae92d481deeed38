"""What a job says about the privacy of an answer; `private` makes a plan of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from atoll.privacy.accountant import Share

Key = tuple[str | float | bool | None, ...]


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much an answer may tell about one row of the helping site.

    Attributes:
        epsilon: ε, 0.001 to 100; it is taken from the privacy budget of the helping site's data set.
        delta: δ; 0 for Laplace noise, more for Gaussian noise.
        bounds: for each expression that is summed or averaged, its smallest and largest value, decided without looking
            at the data; values beyond count as the bound.
        groups: the groups to count, one list of values each and at most 256, where the helping site makes the groups.
    """

    epsilon: Annotated[float, msgspec.Meta(ge=0.001, le=100)]
    delta: Share = 0.0
    bounds: dict[str, tuple[float, float]] = {}
    groups: Annotated[tuple[Key, ...], msgspec.Meta(max_length=256)] = ()
