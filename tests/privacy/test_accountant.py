"""Losses add up to what independent accountants say, and never pass a limit, whatever is asked and answered."""

from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest

from atoll.core.errors import InputError
from atoll.privacy.accountant import NOTHING, Drawn, Limit, Loss, epsilon_of, pure, rho_of, spent, together

DELTAS = (1e-9, 1e-6, 1e-3)


@pytest.mark.parametrize(("rho", "delta"), list(itertools.product((1e-6, 1e-3, 0.1, 1.0, 20.0), DELTAS)))
def test_rho_becomes_epsilon_as_an_independent_accountant_says(rho: float, delta: float) -> None:
    """A Gaussian of that ρ, by dp-accounting: the least over its list of orders is never below ours by much."""
    from dp_accounting.dp_event import ZCDpEvent
    from dp_accounting.rdp import RdpAccountant

    ours = epsilon_of(rho, delta)
    orders = [1 + math.exp(t / 40) for t in range(-500, 700)]
    theirs = RdpAccountant(orders).compose(ZCDpEvent(rho)).get_epsilon(delta)
    assert ours <= theirs * (1 + 1e-9)
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert ours < rho + 2 * math.sqrt(rho * math.log(1 / delta))  # the textbook's looser conversion


@pytest.mark.parametrize(("epsilon", "delta"), list(itertools.product((0.01, 0.5, 1.0, 8.0, 100.0), DELTAS)))
def test_the_largest_rho_spends_the_whole_limit_and_not_more(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon
    assert epsilon_of(rho * 1.000001, delta) > epsilon
    limit = Limit(epsilon, delta)
    assert 1 - 1e-11 < spent([Loss(None, rho)], limit) <= 1
    assert 1 - 1e-11 < spent([Loss(None, rho / 4)] * 4, limit) <= 1
    assert spent([Loss(None, rho), Loss(None, rho * 1e-6)], limit) > 1


@pytest.mark.parametrize(
    ("epsilon", "alpha"), list(itertools.product((1e-3, 0.1, 1.0, 5.0, 80.0), (1.1, 2.0, 12.0, 90.0)))
)
def test_the_loss_of_a_pure_epsilon_at_an_order_is_that_of_randomised_response(epsilon: float, alpha: float) -> None:
    from mpmath import exp, log, mp

    with mp.workdps(60):
        true = exp(epsilon) / (1 + exp(epsilon))
        lie = 1 - true
        loss = log(true**alpha * lie ** (1 - alpha) + lie**alpha * true ** (1 - alpha)) / (alpha - 1)
        assert pure(epsilon).at(alpha) == pytest.approx(float(loss), rel=1e-8)


def test_without_delta_only_pure_losses_fit() -> None:
    assert rho_of(1.0, 0.0) == 0.0
    assert epsilon_of(0.0, 0.0) == 0.0
    assert epsilon_of(1e-12, 0.0) == math.inf
    assert spent([], Limit(1.0)) == 0.0
    assert spent([Loss(None, 1e-12)], Limit(100.0)) == math.inf
    assert spent([pure(1.0), NOTHING], Limit(1.0)) == 1.0
    assert spent([pure(1.0), Loss(None, 1e-12)], Limit(100.0)) == math.inf
    assert spent([Loss(None, 1e-12)], Limit(1e-6, 1e-9)) > 0  # too small a limit for any Gaussian to speak of
    assert rho_of(1e-9, 1e-300) < 1e-20


def test_decimals_add_up_as_they_are_written() -> None:
    assert spent([pure(0.1)] * 10, Limit(1.0)) == 1.0
    assert spent([pure(0.1)] * 3, Limit(0.3)) == 1.0  # 0.1 + 0.1 + 0.1 > 0.3 in floats
    assert spent([pure(0.1)] * 11, Limit(1.0)) > 1
    assert together([pure(0.7), pure(0.1)]).epsilon == 0.8


def test_where_delta_allows_many_small_questions_cost_less_together() -> None:
    many = [pure(0.01)] * 1_000
    assert spent(many, Limit(2.0)) == 5.0
    assert spent(many, Limit(2.0, 1e-6)) < 0.7
    assert spent([pure(2.0)], Limit(2.0, 1e-6)) == 1.0  # and never more than their plain sum
    assert spent([pure(0.5), Loss(None, 0.01)], Limit(2.0, 1e-6)) < 0.6  # kinds can be mixed


@pytest.mark.parametrize("seed", range(20))
def test_no_sequence_of_questions_that_depend_on_answers_passes_the_limit(seed: int) -> None:
    """The asker sees noisy answers and chooses on; an accountant that knows all losses at once finds less than ε*."""
    draw = random.Random(seed)
    limit = Limit(draw.choice((0.5, 1.0, 3.0)), draw.choice((0.0, 1e-6)))
    granted: list[Loss] = []
    hint = 1.0
    for _ in range(60):
        epsilon = limit.epsilon * draw.random() * 0.2 * abs(hint) + 1e-4
        loss = pure(epsilon) if draw.random() < 0.5 else Loss(None, rho_of(epsilon, 1e-7))
        if spent([*granted, loss], limit) <= 1:
            granted.append(loss)
            hint = draw.gauss(0, 1 / epsilon) % 2  # an answer
    whole = together(granted)
    orders = [1 + math.exp(t / 5) for t in range(-20, 40)]
    later = min(
        math.fsum(loss.at(alpha) for loss in granted) + math.log1p(-1 / alpha) - math.log(alpha * 1e-6) / (alpha - 1)
        for alpha in orders
    )
    assert granted
    assert (whole.epsilon or math.inf) <= limit.epsilon or (limit.delta and later <= limit.epsilon * 1.02)


@pytest.mark.parametrize(("rate", "noise", "rounds"), [(0.01, 1.1, 1000), (0.3, 1.5, 12), (0.5, 0.6, 1), (1.0, 3.0, 7)])
def test_rounds_over_people_drawn_at_random_are_those_of_an_independent_accountant(
    rate: float, noise: float, rounds: int
) -> None:
    import dp_accounting as other
    from dp_accounting.rdp import RdpAccountant

    orders = [2, 3, 5, 8, 17, 40, 255]
    theirs = RdpAccountant(orders=orders)
    event = other.PoissonSampledDpEvent(rate, other.GaussianDpEvent(noise))
    theirs.compose(other.SelfComposedDpEvent(event, rounds))
    ours = Loss(None, 0.0, (Drawn(noise, rate, rounds),))
    for order, their in zip(orders, theirs._rdp, strict=True):
        assert ours.at(order) == pytest.approx(min(their, order * rounds / (2 * noise**2)), rel=1e-9, abs=1e-12)
    between = [ours.at(1 + at / 7) for at in range(1, 400)]
    steps = itertools.pairwise(between)
    assert all(one <= two * (1 + 1e-9) for one, two in steps)  # it never falls, also where it is interpolated
    for alpha in (1.01, 9.5, 600.0):
        assert ours.at(alpha) <= alpha * rounds / (2 * noise**2) * (1 + 1e-12)
    mean, whole = Drawn(noise, 1.0, rounds), Loss(None, rounds / (2 * noise**2))
    assert mean.at(7.3) == pytest.approx(whole.at(7.3), rel=0.01)


def test_losses_of_all_kinds_add_up_in_one_filter() -> None:
    part = Loss(None, 0.0, (Drawn(1.1, 0.01, 100),))
    both = together([part, Loss(None, 0.1), part])
    assert (both.epsilon, both.rho, len(both.drawn)) == (None, 0.1, 2)
    assert both.at(9.0) == pytest.approx(2 * part.at(9.0) + 0.9)
    limit = Limit(2.0, 1e-5)
    assert spent([part] * 3, limit) == pytest.approx(3 * spent([part], limit))
    assert spent([part], limit) < spent([Loss(None, part.drawn[0].rho)], limit)
    assert spent([part], Limit(2.0)) == math.inf  # there is no pure ε
    again = msgspec.json.decode(msgspec.json.encode(both), type=Loss)
    assert again == both
    assert b"drawn" not in msgspec.json.encode(Loss(None, 0.1))
    assert str(part) == "100 rounds of noise 1.1 at rate 0.01"
    assert str(both).startswith("ρ = 0.1 and 100 rounds")
    with pytest.raises(InputError, match="no pure epsilon"):
        Loss(1.0, 0.5, part.drawn)
