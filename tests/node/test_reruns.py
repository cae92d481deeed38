"""Earlier alignments: small differences are noticed, equal and very different sets are not, and tags tell nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.crypto.item_hash import Texts
from atoll.node import reruns
from atoll.node.reruns import Nearest, Reruns


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"text:%d" % i for i in range(lo, hi)]


def remember(memory: Reruns, job: str, keys: list[bytes], *partners: str) -> None:
    memory.keep(job, partners or ("shop",), memory.tags([Texts.of(keys)]))


def nearest(memory: Reruns, keys: list[bytes], job: str = "now", partners: tuple[str, ...] = ("shop",)) -> object:
    return memory.nearest(job, partners, memory.tags([Texts.of(keys)]), 100)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (ids(0, 1000), None),  # the same ids tell nothing new
        (ids(0, 1001), Nearest("first", 1, 0)),
        (ids(3, 1000), Nearest("first", 0, 3)),
        (ids(2, 1005), Nearest("first", 5, 2)),
        (ids(0, 1099), Nearest("first", 99, 0)),
        (ids(0, 1100), None),
        (ids(500, 1500), None),
        (ids(0, 0), None),
    ],
)
def test_few_ids_more_or_less_are_noticed(tmp_path: Path, keys: list[bytes], found: Nearest | None) -> None:
    memory = Reruns(tmp_path / "alignments")
    remember(memory, "first", ids(0, 1000))
    assert nearest(memory, keys) == found


def test_the_order_of_ids_does_not_count_and_the_least_difference_is_told(tmp_path: Path) -> None:
    memory = Reruns(tmp_path)
    remember(memory, "a", ids(0, 300))
    remember(memory, "b", ids(0, 290))
    assert nearest(memory, ids(0, 292)[::-1]) == Nearest("b", 2, 0)


def test_another_partner_and_another_try_of_the_same_job_do_not_count(tmp_path: Path) -> None:
    memory = Reruns(tmp_path)
    remember(memory, "first", ids(0, 300), "clinic", "registry")
    assert nearest(memory, ids(0, 299)) is None
    assert nearest(memory, ids(0, 299), partners=("shop", "clinic")) == Nearest("first", 0, 1)
    assert nearest(memory, ids(0, 299), job="first", partners=("clinic",)) is None


def test_nothing_is_remembered_at_first(tmp_path: Path) -> None:
    assert nearest(Reruns(tmp_path / "none"), ids(0, 10)) is None


def test_tags_differ_from_site_to_site_and_the_key_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    one, two = Reruns(tmp_path / "one"), Reruns(tmp_path / "two")
    assert len(np.intersect1d(one.tags([Texts.of(ids(0, 100))]), two.tags([Texts.of(ids(0, 100))]))) == 0
    assert np.array_equal(one.tags([Texts.of(ids(0, 100))]), one.tags([Texts.of(ids(0, 100)[::-1])]))
    assert (tmp_path / "one" / reruns.KEY).stat().st_mode & 0o077 == 0


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reruns, "KEEP", 2)
    memory = Reruns(tmp_path)
    for age, job in enumerate("abc"):
        remember(memory, job, ids(0, 10 + age))
        os.utime(tmp_path / job / reruns.TAGS, (age, age))
    remember(memory, "d", ids(0, 20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "d", "key"]


def test_a_damaged_key_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / reruns.KEY).write_bytes(b"short")
    with pytest.raises(InputError, match="Remove the folder"):
        Reruns(tmp_path).tags([Texts.of(ids(0, 1))])
