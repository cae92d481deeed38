"""Branches as sites on the disk, made once for a module and copied for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.branches import SPLITS, Branches, small
from tests.nursery import Nursery


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Branches:
    made = Branches.of(tmp_path_factory.mktemp("branches"), {name: small(name) for name in SPLITS})
    made.nursery = nursery
    return made


@pytest.fixture
def branches(template: Branches, tmp_path: Path) -> Iterator[Branches]:
    made = template.copy(tmp_path)
    yield made
    made.close()
