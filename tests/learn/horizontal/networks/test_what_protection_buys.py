"""Attacks that must succeed on plain averages, and fail where protection promises it.

What is attacked is what an onlooker's side of the protocol has received.  The attacks are those of the benchmark
`privacy_attacks`, smaller.
"""

from __future__ import annotations

import numpy as np
import pytest

from atoll.learn.horizontal.networks import NormBound, Quantised, TopBlocks
from atoll.privacy.accountant import rho_of
from bench import attack_members as people
from bench import attack_pictures as attacks
from bench import digits, membership
from bench.inversion import Score

HIDDEN_PSNR = 10.0
"""dB; two pictures of digits that have nothing to do with each other have about as much."""


def attacked(update: np.ndarray, rows: int, *, bins: bool = False) -> tuple[Score, Score]:
    return attacks.exposed(update, digits.digits()[0][:rows], bins=bins)


def test_an_aggregator_that_sees_updates_sees_pictures() -> None:
    score, guess = attacked(attacks.plainly(attacks.honest(0), 4), 4)
    assert score.recovered == 1
    assert score.psnr > 40 > guess.psnr


def test_local_passes_do_not_hide_pictures() -> None:
    score, guess = attacked(attacks.plainly(attacks.honest(0), 16, attacks.FIVE_PASSES), 16)
    assert score.recovered > guess.recovered == 0
    assert score.psnr > guess.psnr + 3


@pytest.mark.parametrize("combine", [NormBound(radius=0.1), TopBlocks(keep=0.1), Quantised(bits=8)])
def test_neither_clipping_nor_compression_hides_a_picture(combine: object) -> None:
    score, _ = attacked(attacks.added(attacks.honest(0), 1, 1, combine=combine), 1)
    assert score.psnr > 30


def test_a_total_over_many_rows_shows_no_more_than_a_guess() -> None:
    score, guess = attacked(attacks.added(attacks.honest(0), 16, 10), 160)
    assert score.psnr < guess.psnr + 1
    assert score.recovered < 0.03


def test_a_total_over_few_rows_shows_pictures_all_the_same() -> None:
    """The page says so: what counts is how many rows are in a step, not how many sites."""
    score, guess = attacked(attacks.added(attacks.honest(0), 4, 2), 8)
    assert score.recovered > 0.5
    assert score.psnr > guess.psnr + 10


def test_a_total_does_not_stop_a_trap_that_all_walk_into() -> None:
    """The page says so: masks cannot know what a network is for."""
    score, guess = attacked(attacks.added(attacks.trapped(0), 4, 10), 40, bins=True)
    assert score.recovered > 0.3
    assert guess.recovered == 0


def test_a_hub_that_leads_one_site_astray_gets_noise_since_masks_are_bound_to_the_network() -> None:
    trap = attacks.trapped(0)
    bound, _ = attacked(attacks.led_astray(trap, 8, 3, bound=True), 8, bins=True)
    assert bound.psnr < HIDDEN_PSNR
    assert bound.recovered == 0
    free, _ = attacked(attacks.led_astray(trap, 8, 3, bound=False), 8, bins=True)
    assert free.recovered > 0.7
    assert free.psnr > 40


@pytest.mark.parametrize(("start", "bins"), [(attacks.honest, False), (attacks.trapped, True)])
def test_noise_hides_pictures_even_in_a_trap(start: object, bins: bool) -> None:
    score, _ = attacked(attacks.with_noise(start(0), 2, 4), 8, bins=bins)  # type: ignore[operator]
    assert score.psnr < HIDDEN_PSNR
    assert score.recovered == 0


@pytest.mark.slow
def test_a_search_finds_the_picture_of_an_update_and_none_under_noise() -> None:
    plain, labels = attacks.searched(attacks.update_of(1, 1, 0), 1, 120, 0)
    assert labels == 1
    assert plain["differences (DLG)"][0].psnr > 30
    assert plain["direction"][0].psnr > 15
    noisy, _ = attacks.searched(attacks.update_of(2, 1, 0, epsilon=8.0), 2, 120, 0)
    assert max(score.psnr for score, _ in noisy.values()) < HIDDEN_PSNR


def test_an_update_tells_who_is_in_it_and_a_total_less() -> None:
    found = people.few(5)
    alone = people.guessed(found, people.looks_alone)
    total = people.guessed(found, lambda world: people.looks_in_sum(world, 10))
    assert alone.auc > 0.7
    assert alone.found(0.01) > 0.03
    assert total.auc < alone.auc - 0.1


@pytest.mark.slow
def test_a_network_tells_who_is_in_it_unless_noise_was_added() -> None:
    found = people.few(5)
    open_ = people.guessed(found, people.AtTheEnd(people.trained))
    strict = membership.allowed_auc(rho_of(1.0, 1e-5))
    assert open_.auc > strict + open_.chance, "a network that promised ε = 1 and forgot its noise is caught"
    look = people.AtTheEnd(lambda world: people.trained_with_noise(world, rounds=1, epsilon=1.0))
    noisy = people.guessed(found, look)
    assert look.spent <= rho_of(1.0, 1e-5) * (1 + 1e-9)
    assert noisy.auc < strict + noisy.chance
