"""Numbers, sizes, dates and foreign text as people read them."""

from __future__ import annotations

import pytest

from atoll.evaluate.results import Ks, KsCurve, Roc
from atoll.report import Job, Party, Performance, ReportData, Threshold, story, words


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.number(1234567.8), "1,234,568"),
        (words.number(-0.04, 1), "0.0"),
        (words.number(-1234.5, 1), "−1,234.5"),
        (words.percent(0.3412), "34.1%"),
        (words.percent(0.3412, 0, sign=True), "+34%"),
        (words.percent(-0.3412, 0, sign=True), "−34%"),
        (words.percent(0.0, sign=True), "0.0%"),
        (words.signed(0.0431), "+0.043"),
        (words.signed(-0.0431), "−0.043"),
        (words.signed(-0.0001), "0.000"),
        (words.size(0), "0\u202fB"),
        (words.size(999), "999\u202fB"),
        (words.size(1000), "1.0\u202fkB"),
        (words.size(99_960), "100\u202fkB"),
        (words.size(999_999), "1.0\u202fMB"),
        (words.size(5.2e9), "5.2\u202fGB"),
        (words.size(7e18), "7,000\u202fPB"),
        (words.duration(0), "0\u202fms"),
        (words.duration(0.0849), "85\u202fms"),
        (words.duration(0.9999), "1.0\u202fs"),
        (words.duration(59.96), "1\u202fmin 0\u202fs"),
        (words.duration(72), "1\u202fmin 12\u202fs"),
        (words.duration(4000), "1\u202fh 6\u202fmin"),
        (words.moment("2026-03-01T09:05:00Z"), "1 March 2026, 09:05 UTC"),
        (words.moment("2026-03-01T01:05:00+08:00"), "28 February 2026, 17:05 UTC"),
        (words.moment("2026-03-01T09:05:00"), "1 March 2026, 09:05"),
        (words.moment("2026-03-01T09:05:00Z", time=False), "1 March 2026"),
        (words.moment("2026-12-31"), "31 December 2026"),
        (words.moment("never\u202e"), "never"),
        (words.listing([]), ""),
        (words.listing(["a"]), "a"),
        (words.listing(["a", "b", "c"]), "a, b and c"),
        (words.short("0123456789abcdef"), "0123456789ab…"),
        (words.short("short"), "short"),
    ],
)
def test_as_people_read_it(shown: str, expected: str) -> None:
    assert shown == expected


def test_foreign_text_is_cleaned_but_kept() -> None:
    assert words.clean("名称 שלום 😀") == "名称 שלום 😀"
    assert words.clean("a\u202eb\x00c\td\ud800") == "ab\ufffdc d\ufffd"
    assert words.clean("x" * 50, 10) == "x" * 9 + "…"


def data(**parts: object) -> ReportData:
    parties = tuple(Party(site=site, role="r") for site in ("bank", "registry"))
    head = {"name": "j", "purpose": "p", "id": "1", "site": "bank", "role": "r", "profile": "secure"}
    job = Job(**head, parties=parties, started="", finished="", contract_hash="")
    return ReportData(job=job, **parts)


def model(kind: str, ks: float, auc: float = 0.6) -> Performance:
    flat = (0.0, 1.0)
    return Performance(
        kind=kind, rows=10, positives=5, auc=auc, ks=Ks(ks, 0.5, 0.5, 0.5, 0.5), roc=Roc(flat, flat, (None, 0.0)),
        ks_curve=KsCurve(flat, flat, flat), gains=(), bands=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "words_expected"),
    [
        (0.2, 0.25, "better than alone: KS 0.200 alone, 0.250 in partnership (+25%)"),
        (0.2, 0.15, "worse than alone: KS 0.200 alone, 0.150 in partnership (−25%)"),
        (0.2, 0.201, "as well as alone"),
        (0.0, 0.1, "KS 0.000 alone, 0.100 in partnership."),
    ],
)
def test_the_headline_tells_gains_and_losses_alike(before: float, after: float, words_expected: str) -> None:
    found = data(performances=(model("alone", before), model("partnership", after)))
    assert words_expected in story.headline(found)
    assert story.headline(found).startswith("With registry, bank ranks its customers")


def test_the_headline_without_a_model_of_its_own() -> None:
    assert story.headline(data(performances=(model("partnership", 0.3, 0.7),))) == (
        "With registry, the model reaches AUC 0.700 and KS 0.300."
    )
    assert story.headline(data()) == "bank took part in a job with registry."
    one = data(thresholds=(Threshold(column="age", rule="≤ 30", tree=1, level=1),))
    assert story.headline(one) == "The joint model uses one of bank's columns in 1 split. No column left bank."
