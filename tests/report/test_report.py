"""The report: complete, self-contained, escaped, deterministic, and honest about what a site may show."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from atoll import report
from atoll.core.errors import InputError
from tests.report import sample

VOID = {"meta", "br", "img", "link", "input", "hr"}
SECTIONS = (
    "discrimination",
    "use",
    "gain",
    "thresholds",
    "training",
    "learned",
    "protection",
    "cost",
    "audit",
    "contract",
)
CHARTS = ("roc", "ks", "lift", "bands", "calibration", "features", "history")
NASTY = '<script>alert("x")</script>&\u202eevil\x00 名称 "quoted" \'single\' {{ 7*7 }} </style>'


@cache
def full() -> report.ReportData:
    return sample.cancer(demo=True)


@cache
def page(kind: str = "full") -> str:
    return report.render(full() if kind == "full" else sample.holder())


class Tree(HTMLParser):
    """Collects elements and text, and fails on a tag that is closed out of turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_label_holders_page_has_every_section_and_chart() -> None:
    tree = Tree(page())
    assert set(SECTIONS) - {"thresholds"} <= set(tree.ids)
    assert {f"chart-{name}" for name in CHARTS} <= set(tree.ids)
    assert len(tree.ids) == len(set(tree.ids))


def test_the_feature_holders_page_shows_its_own_part_only() -> None:
    tree = Tree(page("holder"))
    present = {name for name in SECTIONS if name in tree.ids}
    assert present == {"thresholds", "training", "learned", "protection", "cost", "audit", "contract"}
    assert not [name for name in tree.ids if name.startswith("chart")]
    assert "AUC" not in tree.text
    assert "mean texture" in tree.text
    assert len(page("holder")) < 60_000  # no charts, no Plotly


@pytest.mark.parametrize(
    ("field", "value", "gone"),
    [
        ("performances", (), {"discrimination", "use", "chart-roc", "chart-ks", "chart-lift", "chart-bands"}),
        ("features", (), {"gain", "chart-features"}),
        ("history", None, {"chart-history"}),
        ("costs", (), {"cost"}),
        ("audit", None, {"audit"}),
    ],
)
def test_a_part_without_data_is_absent(field: str, value: Any, gone: set[str]) -> None:
    before = set(Tree(page()).ids)
    after = set(Tree(report.render(msgspec.structs.replace(full(), **{field: value}))).ids)
    assert gone <= before
    assert not gone & after


def test_learned_section_needs_one_of_its_parts() -> None:
    bare = msgspec.structs.replace(full(), disclosures=(), leakage=(), comparisons=())
    assert "learned" not in Tree(report.render(bare)).ids
    meter = msgspec.structs.replace(bare, leakage=full().leakage)
    assert "Leakage meter" in Tree(report.render(meter)).text


def test_the_smallest_record_renders() -> None:
    data = report.ReportData(job=full().job)
    tree = Tree(report.render(data))
    assert [name for name in SECTIONS if name in tree.ids] == ["protection", "contract"]
    assert report.summary_text(data).startswith("sample")


def test_key_figures_and_plain_words_are_there() -> None:
    text = Tree(page()).text
    alone, after = full().performance("alone"), full().performance("partnership")
    assert alone is not None
    assert after is not None
    assert after.auc > alone.auc
    for value in (alone.auc, after.auc, alone.ks.statistic, after.ks.statistic):
        assert f"{value:.3f}" in text
    for words in (
        "What each party learned",
        "Did not learn",
        "SecureBoost",
        "计算过程保护",
        "计算结果保护",
        "安全信任模式",
        "联邦学习",
        "no seed exists",
        full().job.contract_hash,
        full().audit.sha256 if full().audit else "",
    ):
        assert words in text
    assert "laboratory · feature 1" in json.dumps(json.loads(Tree(page()).scripts[0]), ensure_ascii=False)


def test_nothing_is_loaded_from_outside() -> None:
    tree = Tree(page())
    for tag, name, value in tree.attributes:
        assert name not in {"src", "srcset", "href", "data", "action", "poster"}, (tag, name, value)
        assert not (name == "style" and "url(" in value)
    css = re.findall(r"<style>(.*?)</style>", page(), re.DOTALL)[0]
    assert "url(" not in css
    assert "@import" not in css
    policy = next(value for tag, name, value in tree.attributes if value.startswith("default-src"))
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline' ; script" not in policy
    assert "unsafe-eval" not in policy


def test_only_our_two_scripts_may_run() -> None:
    tree = Tree(page())
    specs, *scripts = tree.scripts
    policy = next(value for _, _, value in tree.attributes if value.startswith("default-src"))
    assert len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "script-src 'unsafe-inline'" not in policy
    assert {spec["name"] for spec in json.loads(specs)} == set(CHARTS)


def nasty() -> report.ReportData:
    """Every text field of the record, as a hostile peer would fill it."""
    keep = {"kind", "direction", "profile", "started", "finished"}

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoil(item, name) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [spoil(item, key) for item in value]
        if key == "name" and value == "":
            return value
        return value if not isinstance(value, str) or key in keep else f"{value}{NASTY}"

    return msgspec.convert(spoil(msgspec.to_builtins(full())), report.ReportData)


def test_foreign_text_is_escaped_everywhere() -> None:
    text = report.render(nasty())
    tree = Tree(text)
    assert len(tree.scripts) == 3
    body = text[: text.index('<script type="application/json"')]
    assert "<script>alert" not in body
    assert "\u202e" not in text.split("<script>")[0]
    assert "\x00" not in text
    assert "{{ 7*7 }}" in tree.text
    assert "49" not in re.findall(r"evil.{0,30}", tree.text)[0]
    specs = json.dumps(json.loads(tree.scripts[0]), ensure_ascii=False)
    assert "<script" not in specs
    assert "&lt;script" in specs
    assert "<a href" not in specs


def test_tables_of_figures_are_shown_with_foreign_text_escaped() -> None:
    table = report.Table(
        title="Numbers", columns=("Column", "Mean"), rows=((NASTY, "−1.5"),), numeric=(False, True), note="In DM."
    )
    text = report.render(msgspec.structs.replace(sample.holder(), tables=(table,), headline="Learnt together."))
    tree = Tree(text)
    for word in ("Numbers", "−1.5", "In DM.", "Learnt together."):
        assert any(word in words for words in tree.words)
    assert 'alert("x")' in " ".join(tree.words)
    assert not any("alert" in script for script in tree.scripts)


def test_survival_curves_are_drawn_in_steps_with_their_intervals() -> None:
    times = tuple(float(day) for day in range(1, 1001))
    left = tuple(1 - day / 1000 for day in times)
    curve = report.SurvivalCurve(group=f"treated{NASTY}", times=times, survival=left, low=left, high=left)
    short = report.SurvivalCurve(group="", times=(), survival=(), low=(), high=())
    found = report.SurvivalCurves(title=f"Survival{NASTY}", time="days", curves=(curve, short))
    text = report.render(msgspec.structs.replace(sample.holder(), survivals=(found, found)))
    tree = Tree(text)
    assert {"chart-survival-1", "chart-survival-2"} <= set(tree.ids)
    (spec,) = [spec for spec in json.loads(tree.scripts[0]) if spec["name"] == "survival-1"]
    low, high, line, *rest = spec["data"]
    assert line["line"]["shape"] == "hv"
    assert (line["x"][0], line["y"][0], line["x"][-1], line["y"][-1]) == (0, 1, 1000, 0)
    assert 300 < len(line["x"]) == len(line["y"]) == len(low["y"]) == len(high["y"]) < 500
    assert "&lt;script" in line["name"]
    assert "<script" not in json.dumps(spec)
    assert [trace["y"] for trace in rest] == [[1]] * 3


def test_the_json_beside_the_page_reads_back(tmp_path: Path) -> None:
    path = report.write_report(full(), tmp_path / "deep" / "bank.html")
    assert path == tmp_path / "deep" / "bank.html"
    assert sorted(part.name for part in path.parent.iterdir()) == ["bank.html", "bank.json"]
    assert report.read_data(path.with_suffix(".json")) == full()
    assert path.stat().st_size < 6_000_000
    with pytest.raises(InputError, match="not the record of a report"):
        report.read_data(path)


def test_equal_records_give_equal_files() -> None:
    again = msgspec.json.decode(msgspec.json.encode(full()), type=report.ReportData)
    assert report.render(again) == page()


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written") as caught:
        report.write_report(sample.holder(), tmp_path / "file" / "page.html")
    assert caught.value.cure


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"job": msgspec.structs.replace(full().job, demo=False)}, "demonstration only"),
        ({"job": msgspec.structs.replace(full().job, profile="secur")}, "no protection profile"),
        ({"performances": full().performances[:1] * 2}, "two models of one kind"),
        (
            {"costs": (report.StepCost(step="train", seconds=float("nan")),)},
            r"report\.costs\[0\]\.seconds is not a finite",
        ),
        (
            {
                "history": report.History(
                    metric="m",
                    series=(report.Series(name="a", values=(1.0,)), report.Series(name="b", values=())),
                )
            },
            "different lengths",
        ),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        report.render(msgspec.structs.replace(full(), **change))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"job": {}, "extra": 1}', type=report.ReportData)


def test_curves_are_thin_and_keep_their_ends() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    score = rng.random(20_000)
    label = (rng.random(20_000) < score).astype(int)
    found = report.performance("alone", label, score)
    assert len(found.roc.false_positive_rate) < 260
    assert len(found.ks_curve.population) < 260
    assert (found.roc.true_positive_rate[0], found.roc.true_positive_rate[-1]) == (0.0, 1.0)
    assert found.ks.rows_above in found.ks_curve.population
    assert found.calibration
    assert report.performance("alone", label, 10 * score).calibration is None
    assert len(msgspec.json.encode(found)) < 40_000


def test_disclosure_says_each_sentence_once() -> None:
    found = report.disclosure("bank", "label holder", [("a", "b"), ("b", "c")], ("d", "d"))
    assert found.learned == ("a", "b", "c")
    assert found.hidden == ("d",)
    card = ("Bins.", "Not: labels, gains (own, others'), which rows are kept.")
    split = report.disclosure("registry", "feature holder", [card])
    assert split.learned == ("Bins.",)
    assert split.hidden == ("labels", "gains (own, others')", "which rows are kept")


def test_a_raised_limit_is_named() -> None:
    sentence = "names the rows themselves among what is revealed"
    assert sentence not in Tree(page()).text
    raised = tuple(msgspec.structs.replace(meter, limit=99) for meter in full().leakage)
    assert Tree(report.render(msgspec.structs.replace(full(), leakage=raised))).text.count(sentence) == 1


def test_summary_for_the_terminal() -> None:
    text = report.summary_text(full())
    assert "Partnership      AUC" in text
    assert "95% interval" in text
    assert "569 samples in common" in text
    assert "laboratory: 5 of at most 5 vectors answered" in text
    assert "2 of laboratory's columns in 3 splits" in report.summary_text(sample.holder())
