"""Robust rules against attacks, on scikit-learn's digits among simulated sites: accuracy per attack and rule."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.learn.horizontal.networks import (
    AtAggregator,
    AtSite,
    Average,
    CentredClipping,
    Fitted,
    GeometricMedian,
    Median,
    MultiKrum,
    NormBound,
    Plan,
    Seen,
    TrimmedMean,
    fit,
    simulate,
)
from atoll.learn.horizontal.networks.combine import Combine
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL
from atoll.protocols.secure_sum.totals import Totals
from atoll.transport.memory import memory_links
from bench import attacks, digits
from bench.harness import Report
from bench.partition import evenly, skewed

TITLE = "Robust rules against wrong sites: accuracy on digits per attack and rule"
SIZES = {"small": (10, 2, 6, 0.0), "medium": (20, 4, 15, 0.0), "large": (20, 4, 30, 1.0)}
"""Sites, wrong ones among them, rounds, and the α of the skew of labels, 0 for an even split."""

ATTACKS = ("no attack", "label flip", "sign flip", "little is enough", "backdoor")


def rules(wrong: int, sites: int) -> dict[str, Combine]:
    """What is compared: first the rules that need sums alone, then those of an aggregator that sees every update."""
    return {
        "plain average": Average(),
        "norm bound": NormBound(radius=1.0),
        "geometric median": GeometricMedian(),
        "centred clipping": CentredClipping(radius=1.0, momentum=0.5),
        "median (seen)": Seen(rule=Median()),
        "trimmed mean (seen)": Seen(rule=TrimmedMean(trim=wrong / sites)),
        "multi-Krum (seen)": Seen(rule=MultiKrum(wrong=wrong)),
    }


@dataclass(frozen=True)
class Outcome:
    """Accuracy and how often the backdoor opens, in %, and seconds."""

    accuracy: float
    opened: float
    seconds: float


def run(size: str, report: Report) -> None:
    """Every attack against every rule."""
    import torch

    torch.set_num_threads(1)
    sites, wrong, rounds, alpha = SIZES[size]
    x, y, *_ = digits.digits()
    parts = skewed(y, sites, alpha=alpha, least=8) if alpha else evenly(len(x), sites)
    plan = Plan(rounds=rounds, epochs=3, batch=20, lr=0.3, weights="equal", evaluate=rounds, seed=1)
    calm = None
    for attack in ATTACKS:
        for name, combine in rules(wrong, sites).items():
            done = attacked(attack, combine, plan, parts, wrong)
            calm = calm or done.accuracy
            opened = f"the backdoor opens in {done.opened:.0f} %; " if attack == "backdoor" else ""
            report.row(
                f"{attack}, {wrong} of {sites} sites: {name}" if attack != ATTACKS[0] else f"{attack}: {name}",
                done.accuracy, unit="%", limit=calm, limit_name="plain average, no attack",
                note=f"{opened}{rounds} rounds in {done.seconds:.1f} s",
            )  # fmt: skip


def attacked(attack: str, combine: Combine, plan: Plan, parts: list[Any], wrong: int) -> Outcome:
    """Train with the last sites wrong."""
    trainers = sites_under(attack, parts, wrong)
    links: dict[str, Any] = {}

    async def site(totals: Totals) -> Fitted:
        centre, *others = totals.sites
        if not links:
            links.update({name: memory_links(name, centre) for name in others})
        here = totals.site == centre
        ends = {name: Channel(pair[here], Gate(totals.site, "bench", PROTOCOL.kinds)) for name, pair in links.items()}
        seen = AtAggregator(ends) if here else AtSite(ends[totals.site])
        mine = trainers[totals.sites.index(totals.site)]
        return await fit(mine, totals, plan, combine=combine, aggregator=seen)

    start = time.perf_counter()
    done = simulate(len(parts), site)[0]
    seconds = time.perf_counter() - start
    return Outcome(100 * done.rounds[-1].metrics["accuracy"], 100 * opened(trainers[0].module), seconds)


def sites_under(attack: str, parts: list[Any], wrong: int) -> list[Any]:
    """Trainers of all sites; the first sites are honest."""
    change = {"label flip": attacks.flip_labels, "backdoor": attacks.backdoor}.get(attack)
    sites = len(parts)
    bad = range(sites - wrong, sites)
    made = digits.trainers(parts, change=lambda k, x, y: change(x, y) if change and k in bad else (x, y))
    honest, others = made[: sites - wrong], made[sites - wrong :]
    if attack == "sign flip":
        others = [attacks.sign_flip(one) for one in others]
    if attack == "backdoor":
        others = [attacks.boosted(one, scale=sites / wrong) for one in others]
    if attack == "little is enough":
        known = [[part for i, part in enumerate(parts) if i in bad and i != k] for k in bad]
        teams = [[one, *digits.trainers(rows)] for one, rows in zip(others, known, strict=True)]
        others = attacks.little_is_enough(teams, sites)
    return [*honest, *others]


def opened(module: Any) -> float:
    """Share of held-out pictures of other digits that are called 0 once they carry the trigger."""
    import torch

    *_, x, y = digits.digits()
    with torch.no_grad():
        called = module(torch.as_tensor(attacks.stamped(x[y != 0]))).argmax(dim=1)
    return float(np.mean(called.numpy() == 0))
