"""Bins, weight of evidence, and recipes of scaling and encoding, against NumPy and scikit-learn on pooled rows."""

from typing import Any

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal import binning, recipe
from atoll.learn.horizontal.binning import BinningParams
from atoll.learn.horizontal.recipe import Recipe, RecipeParams
from atoll.learn.horizontal.rows import Rows
from tests.learn.horizontal.drawn import F64, difference, draw
from tests.learn.horizontal.together import together


@pytest.mark.parametrize("method", ["quantile", "width"])
@pytest.mark.parametrize("seed", range(6))
def test_bins_are_numpys(seed: int, method: str) -> None:
    task = draw(seed)
    X = np.where(task.rng.random(task.X.shape) < 0.1, np.nan, task.X)
    params = BinningParams(method=method, bins=6)  # type: ignore[arg-type]
    found = together(binning.fit, [(Rows(task.names, X[at]), params) for at in task.rows])[0]
    for one, column in zip(found, X.T, strict=True):
        known = column[~np.isnan(column)]
        if method == "quantile":
            cuts = np.unique(np.quantile(known, np.arange(1, 6) / 6))
            cuts = cuts[cuts > known.min()]
            assert one.cuts.tolist() == cuts.tolist()
        else:
            assert difference(one.cuts, np.histogram_bin_edges(known, 6)[1:-1]) < 1e-12
        codes = one.code(column)
        assert (codes[np.isnan(column)] == one.bins).all()
        assert codes[~np.isnan(column)].tolist() == np.digitize(known, one.cuts).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_weight_of_evidence_is_its_formula(seed: int) -> None:
    task = draw(seed)
    codes, y = task.rng.integers(0, 5, len(task.X)), (task.rng.random(len(task.X)) < 0.3).astype(np.float64)
    y[codes == 3] = 0  # a bin with one label
    codes[codes == 4] = 2  # a bin without rows
    params = BinningParams()
    found = together(
        lambda t, c, label: binning.evidence(t, c, 5, label, params, column="age"),
        [(codes[at], y[at]) for at in task.rows],
    )[0]
    information = 0.0
    for b in range(5):
        one, zero = np.sum((codes == b) & (y == 1)), np.sum((codes == b) & (y == 0))
        assert (found.positive[b], found.negative[b]) == (one, zero)
        extra = 0.5 if 0 in (one, zero) else 0.0
        wanted = np.log((one + extra) / y.sum() / ((zero + extra) / (1 - y).sum())) if one + zero else 0.0
        assert found.weight[b] == pytest.approx(wanted, rel=1e-12)
        information += (one / y.sum() - zero / (1 - y).sum()) * wanted
    assert found.information == pytest.approx(information, rel=1e-10)


def mixed(seed: int) -> tuple[Columns, list[Any]]:
    """A table with missing numbers and texts, and which rows are where."""
    task = draw(seed, p=2)
    X = np.where(task.rng.random(task.X.shape) < 0.1, np.nan, task.X)
    texts = np.array(["北京", "上海", "rare", "c"])
    codes = task.rng.choice([-1, 0, 1, 3], len(X)).astype(np.int32)
    codes[:2] = 2
    numbers = [Column(f"x{j}", "numeric", X[:, j]) for j in range(2)]
    return Columns((numbers[0], Column("城市", "categorical", codes, tuple(texts)), numbers[1]), len(X)), task.rows


def renumbered(table: Columns, at: Any, site: int) -> Columns:
    """One site's rows, whose categories stand in an order of their own."""
    part = table.take(at)
    city = part["城市"]
    order = np.roll(np.arange(4), site)
    place = np.append(np.argsort(order), -1).astype(np.int32)
    mine = Column(city.name, city.kind, place[city.values], tuple(city.categories[i] for i in order))
    return Columns((part.columns[0], mine, part.columns[2]), part.rows)


@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
@pytest.mark.parametrize("fill", ["none", "mean", "median"])
@pytest.mark.parametrize("seed", range(3))
def test_recipes_are_scikit_learns(seed: int, scale: str, fill: str) -> None:
    table, rows = mixed(seed)
    params = RecipeParams(scale=scale, fill=fill, smallest=3)  # type: ignore[arg-type]
    parts = [renumbered(table, at, site) for site, at in enumerate(rows)]
    found: list[Recipe] = together(recipe.fit, [(part, params) for part in parts])
    assert all(one == found[0] for one in found)
    X = np.stack([table["x0"].values, table["x1"].values], axis=1)
    scaler = {"standard": StandardScaler(), "minmax": MinMaxScaler()}.get(scale)
    wanted: F64 = X
    if scaler is not None:
        scaler.fit(X)
    if fill != "none":
        wanted = SimpleImputer(strategy=fill).fit_transform(X)
    if scaler is not None:
        wanted = scaler.transform(wanted)
    texts = np.array([table["城市"].categories[c] if c >= 0 else "?" for c in table["城市"].values])[:, None]
    names = sorted({"北京", "上海", "c"}, key=str.encode)
    ones = OneHotEncoder(categories=[np.array(names)], handle_unknown="ignore", sparse_output=False).fit_transform(
        texts
    )
    assert found[0].names == ("x0", "x1", *(f"城市={name}" for name in names))
    for at, part in zip(rows, parts, strict=True):
        ours = found[0].apply(part).values
        assert np.allclose(ours[:, :2], wanted[at], rtol=1e-9, atol=1e-9, equal_nan=True)
        assert ours[:, 2:].tolist() == ones[at].tolist()


def test_declared_categories_and_a_dropped_first_one() -> None:
    table, rows = mixed(1)
    params = RecipeParams(declared={"城市": ("上海", "北京", "广州")}, drop_first=True)
    found = together(recipe.fit, [(table.take(at), params) for at in rows])[0]
    assert found.names == ("x0", "x1", "城市=北京", "城市=广州")


def test_what_cannot_be_used_is_named() -> None:
    table, _ = mixed(1)
    found = together(recipe.fit, [(table, RecipeParams())])[0]
    with pytest.raises(InputError, match=r"does not have it .*'x0'"):
        found.apply(Columns((), 3))
    with pytest.raises(InputError, match=r"numeric, not categorical .*'城市'"):
        found.apply(
            Columns((*(table[n] for n in ("x0", "x1")), Column("城市", "numeric", np.zeros(table.rows))), table.rows)
        )
    empty = Columns((Column("x", "numeric", np.full(3, np.nan)),), 3)
    with pytest.raises(InputError, match=r"no site has a value .*'x'"):
        together(recipe.fit, [(empty, RecipeParams())])
    with pytest.raises(InputError, match=r"bin is out of range .*'age'"):
        together(lambda t: binning.evidence(t, np.array([5]), 5, np.ones(1), BinningParams(), column="age"), [()])
    with pytest.raises(InputError, match="bins must be 2"):
        BinningParams(bins=1)
