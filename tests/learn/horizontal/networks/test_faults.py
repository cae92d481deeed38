"""Training between real processes in which one site goes wrong: all end with one cause, and nothing hangs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.cli.stage import free_ports
from atoll.core.errors import ContractError, InputError, PeerFailed, ProtocolError
from atoll.learn.horizontal.networks import Plan
from atoll.transport.site import init_site
from tests.learn.horizontal.networks import fault_process
from tests.learn.horizontal.networks.fault_process import GUILTY, NAMES, rows, trainer
from tests.learn.horizontal.networks.runs import fit_all
from tests.nursery import Nursery

DIVERGED = "not finite or far too large"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_in = tmp_path_factory.mktemp("networks")
    made = [init_site(made_in / n, n, f"127.0.0.1:{port}") for n, port in zip(NAMES, free_ports(3), strict=True)]
    for one in made:
        for other in made:
            if one is not other:
                one.trust(other.card)
    return made_in


def ran(nursery: Nursery, folder: Path, fault: str) -> dict[str, tuple[int, Any]]:
    """Each site's exit code, and the network or the error that it printed."""
    nursery.load("torch")
    nursery.load(fault_process.__name__)
    code = f"from {fault_process.__name__} import run; run({str(folder)!r}, {{!r}}, {fault!r})"
    children = {name: nursery.start([], folder / f"{name}.out", code.format(name)) for name in NAMES}
    try:
        ended = {name: child.communicate(40)[0] for name, child in children.items()}
    finally:
        for child in children.values():
            child.kill()
    return {name: (children[name].returncode or 0, json.loads(text.splitlines()[-1])) for name, text in ended.items()}


@pytest.mark.processes
@pytest.mark.parametrize(("fault", "words"), [("gradients", DIVERGED), ("divergence", DIVERGED)])
def test_gradients_that_are_no_numbers_and_a_loss_that_diverges_name_their_site(
    nursery: Nursery, folder: Path, fault: str, words: str
) -> None:
    ended = ran(nursery, folder, fault)
    for name, (code, error) in ended.items():
        assert code == (InputError.exit_code if name == GUILTY else PeerFailed.exit_code), ended
        assert words in error["what"]
        assert (error["site"], error["step"]) == (GUILTY, "networks")
        assert "clip gradients" in error["cure"]


@pytest.mark.processes
def test_a_network_of_another_shape_is_noticed_by_all(nursery: Nursery, folder: Path) -> None:
    for code, error in ran(nursery, folder, "shape").values():
        assert code in (ContractError.exit_code, PeerFailed.exit_code, ProtocolError.exit_code), error
        assert "the network" in error["what"]


@pytest.mark.processes
def test_a_site_whose_software_counts_more_rows_than_the_plan_allows_is_noticed(nursery: Nursery, folder: Path) -> None:
    ended = ran(nursery, folder, "lie")
    for code, error in ended.values():
        assert code in (ProtocolError.exit_code, PeerFailed.exit_code), ended
        assert "1,000,080 rows together, and 3 sites have 300 at most" in error["what"]


def test_a_site_that_says_it_has_more_rows_counts_for_as_many_as_the_plan_allows() -> None:
    plan = Plan(rounds=1, lr=0.5, batch=0, evaluate=0, most_rows=20, seed=5)
    made = [trainer(*rows(name)) for name in NAMES]
    capped = fit_all([trainer(*rows(name)) for name in NAMES], plan)
    alike = fit_all(made, Plan(rounds=1, lr=0.5, batch=0, evaluate=0, weights="equal", seed=5))
    np.testing.assert_allclose(capped[0].model, alike[0].model, rtol=1e-6)
    assert (Plan(most_rows=20).weight(1_000_000), Plan().weight(50)) == (20.0, 50.0)
    with pytest.raises(InputError, match="most_rows"):
        Plan(most_rows=-1)
