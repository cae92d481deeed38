"""What an onlooker of training gets under each protection: pictures by gradient inversion, members by inference.

scikit-learn's digits are the pictures.  Beside every figure of an inversion stands what somebody gets who has seen
nothing, and offers as many pictures of other people instead: digits look alike, so that this is more than 10 dB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from atoll.learn.horizontal.networks import Quantised, TopBlocks
from bench import attack_figures, attack_members, digits, membership
from bench.attack_members import AtTheEnd, guessed, looks_alone, looks_in_sum, trained, trained_with_noise
from bench.attack_pictures import EPSILON, METHODS, cases, exposed, searched, update_of
from bench.harness import RESULTS, Report
from bench.inversion import Score

TITLE = "Attacks on training: what an onlooker gets under each protection"


STRICT = 1.0
"""ε of noise that allows next to nothing."""


@dataclass(frozen=True)
class Size:
    """How much is attacked.

    Attributes:
        starts: random networks over which figures of inversion are averaged.
        steps: of a search for pictures.
        worlds: trainings with and without each person.
        noisy: likewise where noise is added, which takes long to draw.
        rounds: of training with noise.
    """

    starts: int
    steps: int
    worlds: int
    noisy: int
    rounds: int


SIZES = {"small": Size(1, 150, 9, 5, 20), "medium": Size(3, 400, 17, 9, 30), "large": Size(10, 1000, 65, 33, 60)}


def run(size: str, report: Report) -> None:
    """Both kinds of attack; then the figures go into the documentation."""
    import torch

    torch.set_num_threads(1)
    pictures(SIZES[size], report)
    convolutions(SIZES[size], report)
    members(SIZES[size], report)
    if report.folder == RESULTS:
        attack_figures.write()


def pictures(size: Size, report: Report) -> None:
    """Inputs of the first layer, by division."""
    x, *_ = digits.digits()
    for case in cases():
        scores = []
        for seed in range(size.starts):
            start = case.start(seed)
            scores.append(exposed(case.seen(start), x[: case.rows], bins=case.bins))
        told(report, f"first layer, {case.name}", scores, safe=case.safe)


def told(
    report: Report, what: str, scores: Sequence[tuple[Score, Score]], *, safe: bool = False, note: str = ""
) -> None:
    """Write a row: mean PSNR beside that of a guess; where protection promises it, no better than the guess."""
    mine, guess = (float(np.mean([pair[i].psnr for pair in scores])) for i in (0, 1))
    recovered = float(np.mean([pair[0].recovered for pair in scores]))
    similar = float(np.mean([pair[0].ssim for pair in scores]))
    report.row(
        what, mine, unit="dB", limit=guess, limit_name="guess", goal=guess + 1 if safe else None,
        note=f"{100 * recovered:.0f} % of pictures recovered, SSIM {similar:.2f}{note}",
    )  # fmt: skip


def convolutions(size: Size, report: Report) -> None:
    """Pictures whose gradient is the one that was seen, and the labels."""
    cases: tuple[tuple[str, int, int, float, bool], ...] = (
        ("plain: 1 row", 1, 1, 0.0, False),
        ("plain: 4 rows", 1, 4, 0.0, False),
        ("plain: 8 rows", 1, 8, 0.0, False),
        ("secure sum of 2 sites: 8 rows each", 2, 8, 0.0, False),
        ("secure sum of 5 sites: 8 rows each", 5, 8, 0.0, False),
        ("secure sum of 10 sites: 1 row each", 10, 1, 0.0, False),
        ("secure sum of 10 sites: 8 rows each", 10, 8, 0.0, True),
        (f"secure sum of 10 sites and noise of ε = {EPSILON:g}: 1 row each", 10, 1, EPSILON, True),
    )
    for name, sites, rows, epsilon, safe in cases:
        both: dict[str, list[tuple[Score, Score]]] = {method: [] for method in METHODS}
        right = []
        for seed in range(size.starts):
            update = update_of(sites, rows, seed, epsilon=epsilon)
            found, share = searched(update, sites * rows, size.steps, seed)
            right.append(share)
            for method, pair in found.items():
                both[method].append(pair)
        best = max(both, key=lambda method: np.mean([pair[0].psnr for pair in both[method]]))
        note = f", {100 * np.mean(right):.0f} % of labels; the better search: {best}"
        told(report, f"convolutions, {name}", both[best], safe=safe, note=note)


def members(size: Size, report: Report) -> None:
    """Who was among the rows: few people, whom a network can learn by heart, and many."""
    few, many = attack_members.few(size.worlds), attack_members.many(size.noisy)
    inferred(report, "plain: one site's update, 10 rows", guessed(few, looks_alone))
    for name, combine in (("8 bits a number", Quantised(bits=8)), ("a tenth of the numbers", TopBlocks(keep=0.1))):
        inferred(report, f"plain, {name}: 10 rows", guessed(few, partial(looks_alone, combine=combine)))
    for sites in (2, 5, 10):
        done = guessed(few, partial(looks_in_sum, sites=sites), sites=sites)
        inferred(report, f"secure sum of {sites} sites: the total, {10 * sites} rows", done)
    with_noise = ((few[:4], EPSILON), (many, EPSILON), (many, STRICT))
    for found, epsilon in ((few, 0.0), with_noise[0], (many, 0.0), *with_noise[1:]):
        noisy = partial(trained_with_noise, rounds=size.rounds, epsilon=epsilon)
        look = AtTheEnd(noisy if epsilon else trained)
        done = guessed(found, look)
        noise = f" and noise of ε = {epsilon:g}" if epsilon else ""
        what = f"secure sum of {found[0].count} sites{noise}: the network at the end, {len(found[0].y) // 2} rows"
        inferred(report, what, done, look)


def inferred(report: Report, what: str, done: membership.Guessed, look: AtTheEnd | None = None) -> None:
    """Write a row: the attack's AUC; with noise, it may not be above what the noise allows, but for chance."""
    found, rarely = 100 * done.found(0.01), 100 * done.found(0.001)
    words = [f"finds {found:.1f} % of members at 1 % false alarms, {rarely:.1f} % at 0.1 %"]
    goal = None
    if look and look.spent < np.inf:
        goal = membership.allowed_auc(look.spent) + done.chance
        words.append(f"the noise allows {100 * membership.allowed(0.01, look.spent):.1f} % at 1 %")
    if look:
        words.append(f"accuracy of the network {100 * np.mean(look.right):.0f} %")
    report.row(
        f"members, {what}", done.auc, unit="AUC of the attack", limit=0.5, limit_name="guess", goal=goal,
        note=f"± {done.chance:.2f} by chance; {'; '.join(words)}",
    )  # fmt: skip
