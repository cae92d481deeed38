"""The page in a real browser: charts are drawn under the page's own security policy, hostile text stays text."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll import report
from tests.report import sample
from tests.report.test_report import CHARTS, nasty
from tools import screenshot_report as shot

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shot.browser() is None, reason="no Chromium on this machine"),
]


@pytest.mark.parametrize("kind", ["clean", "nasty"])
def test_charts_are_drawn(tmp_path: Path, kind: str) -> None:
    data = sample.cancer(demo=True) if kind == "clean" else nasty()
    page = report.write_report(data, tmp_path / "page.html")
    seen = shot.run(page, "--dump-dom")
    assert seen.count('class="main-svg"') >= len(CHARTS)
    assert seen.count('class="plot-container') == len(CHARTS)
    assert "<script>alert" not in seen


def test_a_picture_is_taken(tmp_path: Path) -> None:
    page = report.write_report(sample.holder(), tmp_path / "page.html")
    picture = shot.picture(page, tmp_path / "page.png", 600, 800)
    assert picture.read_bytes().startswith(b"\x89PNG")
