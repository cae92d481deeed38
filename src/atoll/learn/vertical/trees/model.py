"""Model parts: what each site keeps of a forest, as plain data.  Neither part says anything without the other."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Columns
from atoll.learn.vertical.trees.binning import BinnedTable, Rule


class UsedColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that splits refer to, with every category it had in training."""

    name: str
    kind: str
    categories: tuple[str, ...] = ()


class TreeNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node of a tree at the label holder.

    Args:
        left: The left child's number in its tree, the right child's is one more; -1 for a leaf.
        weight: What a leaf adds to the log-odds.
        rows: Training rows that came here.
        gain: What the split gained.
        rule: The split, if the label holder's own column decides.
        site: Otherwise the feature holder that decides ("" for a leaf and for an own split),
        split: and the split's id there.
    """

    left: int = -1
    weight: float = 0.0
    rows: int = 0
    gain: float = 0.0
    rule: Rule | None = None
    site: str = ""
    split: str = ""


class HeldSplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A split at the feature holder that owns its column: the random id, and what it means."""

    id: str
    rule: Rule


class LabelPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label holder's part: structure, own rules, leaf weights, and ids of other sites' splits.

    Args:
        model: 128-bit id that all parts of a model share, hex.
        base_margin: Log-odds before the first tree.
        depth: Levels of splits in every tree.
        used: Trees that count; those after it were grown before early stopping was certain.
        trees: Nodes of every tree.
        asked: For every feature holder, tree and level the ids sent to it, in the order sent.
        columns: Own columns that splits refer to.
    """

    model: str
    base_margin: float
    depth: int
    used: int
    trees: tuple[tuple[TreeNode, ...], ...]
    asked: dict[str, tuple[tuple[tuple[str, ...], ...], ...]]
    columns: tuple[UsedColumn, ...]


class FeaturePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature holder's part: what the random ids mean.

    Args:
        model: The model's id, hex.
        splits: For every tree and level the splits received, in the order received.
        columns: Columns that splits refer to.
    """

    model: str
    splits: tuple[tuple[tuple[HeldSplit, ...], ...], ...]
    columns: tuple[UsedColumn, ...]


class Importance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one feature contributed; another site's feature is a number, in an order drawn for the job.

    Args:
        site: Its owner.
        number: Its number at its owner, from 1.
        name: Its name, only for the label holder's own.
        gain: Sum of the gains of its splits in the trees that count.
        splits: How many they are.
    """

    site: str
    number: int
    name: str
    gain: float
    splits: int


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How training went, tree by tree; validation series are empty without a validation part.

    Args:
        train_log_loss: After every tree.
        train_auc: After every tree.
        valid_log_loss: After every tree.
        valid_auc: After every tree.
        seconds: Wall-clock time of every tree.
        best: The tree, from 1, after which early stopping ended the model; None without early stopping.
        vectors: Vectors sent to each feature holder.
        rows: Rows n that every vector covers; T/n is `vectors / rows`.
        importance: By gain, largest first.
        scores: The training rows' probabilities under the model: quantiles at even steps from the least to the largest.
    """

    train_log_loss: tuple[float, ...]
    train_auc: tuple[float, ...]
    valid_log_loss: tuple[float, ...]
    valid_auc: tuple[float, ...]
    seconds: tuple[float, ...]
    best: int | None
    vectors: int
    rows: int
    importance: tuple[Importance, ...]
    scores: tuple[float, ...]


def to_json(part: LabelPart | FeaturePart) -> bytes:
    """Write a part as JSON."""
    return msgspec.json.encode(part)


def used_columns(table: BinnedTable, rules: Iterable[Rule]) -> tuple[UsedColumn, ...]:
    """Describe the columns of a binned table that rules refer to, in the table's order."""
    names = {rule.column for rule in rules}
    return tuple(UsedColumn(c.name, c.kind, c.categories) for c in table.columns if c.name in names)


def check_columns(table: Columns, used: Iterable[UsedColumn]) -> None:
    """Check that a table can be scored with a part's rules.

    Raises:
        InputError: A column is absent or of another kind, is infinite somewhere, or has a category that was not there
            in training.
    """
    for want in used:
        if want.name not in table.names:
            raise InputError(
                "the model needs it and the table does not have it", column=want.name, cure="Give a table with it."
            )
        column = table[want.name]
        if column.kind != want.kind:
            raise InputError(
                f"it is {column.kind}, in training it was {want.kind}", column=want.name, cure="Read it as then."
            )
        if column.kind == "numeric" and np.isinf(column.values).any():
            raise InputError("it holds an infinite value", column=want.name, cure="Make infinite values missing.")
        known = set(want.categories)
        present = np.unique(column.values) if column.kind == "categorical" else ()
        new = [column.categories[code] for code in present if code >= 0 and column.categories[code] not in known]
        if new:
            raise InputError(
                f"it holds {len(new)} categories that did not occur in training",
                column=want.name,
                cure="Make them missing, map them to known ones, or train again.",
                detail=f"The first is {new[0]!r}.",
            )
