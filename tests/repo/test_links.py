"""Links of the pages outside of docs/ lead somewhere; MkDocs checks those inside."""

import re

import pytest

from tests.repo.source import ROOT


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "newsfragments/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)]
    local = [target for target in targets if target and not target.startswith("http")]
    assert [target for target in local if not (ROOT / page).parent.joinpath(target).exists()] == []
