"""The shape of the rows without a label: clusters and principal components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from atoll.data.columns import Columns
from atoll.node.models.base import F64, Fitted, Grid, Here, Kind, frozen, thawed

if TYPE_CHECKING:
    from atoll.protocols.secure_sum.totals import Totals


class KMeans(Kind, frozen=True, tag="kmeans"):
    """Clusters: k-means, seeded by k-means++ over all sites.

    Attributes:
        clusters: how many.
        most: iterations at most.
    """

    title = "k-means"
    label = "none"
    baseline = False
    learns = (
        "means, spreads and the size of every column",
        "for each seed: the mean of `minimum` rows of one site that lie near each other, not of which site",
        "in every round: rows, means and spreads of every cluster, and how many rows have changed theirs; of a small "
        "cluster these are the means of few rows",
    )

    clusters: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    most: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 300

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.kmeans`."""
        from atoll.learn.horizontal import kmeans

        params = kmeans.KMeansParams(self.clusters, seed_rows=here.minimum, most=self.most)
        model = await kmeans.fit(totals, here.X, params, rng=here.rng)
        heads = tuple(f"cluster {at}" for at in range(self.clusters))
        centres = dict(zip(here.X.names, map(tuple, model.centres.T.tolist()), strict=True))
        grid = Grid("Centres", heads, {"rows": tuple(map(float, model.counts.tolist())), **centres})
        figures = {"squared distances to the centres": model.inertia, "rounds": float(model.iterations)}
        return Fitted(int(model.counts.sum()), frozen(model), figures, grids=(grid,))

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) numbers of the nearest centres; NaN where a value is missing."""
        from atoll.learn.horizontal.kmeans import KMeansModel

        X = self.numbers(table)
        return np.where(np.isnan(X).any(axis=1), np.nan, thawed(KMeansModel, values).predict(X))


class Pca(Kind, frozen=True, tag="pca"):
    """Principal components.

    Attributes:
        components: how many.
        standardise: whether columns are brought to spread 1 first.
        solver: `exact`, or `randomised` for thousands of columns.
    """

    title = "principal components"
    label = "none"
    baseline = False
    learns = (
        "means, spreads and the size of every column",
        "products of all pairs of columns: their covariances; with `randomised`, products of these with a basis that "
        "all sites know",
    )

    components: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    standardise: bool = False
    solver: Literal["exact", "randomised"] = "exact"

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.pca`."""
        from atoll.learn.horizontal import pca

        params = pca.PcaParams(self.components, self.standardise, self.solver)
        model = await pca.fit(totals, here.X, params)
        heads = tuple(f"component {at + 1}" for at in range(self.components))
        axes = dict(zip(here.X.names, map(tuple, model.components.T.tolist()), strict=True))
        grid = Grid("Components", heads, {"share of the variance": tuple(model.ratio.tolist()), **axes})
        return Fitted(
            here.rows, frozen(model), {"share of the variance, together": float(model.ratio.sum())}, grids=(grid,)
        )

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n, k) places along the components."""
        from atoll.learn.horizontal.pca import PcaModel

        return thawed(PcaModel, values).transform(self.numbers(table))
