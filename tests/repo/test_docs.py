"""The documentation cannot rot: its code runs, its commands exist, its generated pages are fresh."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from atoll.core.errors import AtollError
from tests.repo.blocks import PAGES, blocks, pages_that_run, run_page
from tests.repo.source import ROOT
from tools import changelog, generate_docs


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", pages_that_run(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


def test_generated_pages_are_fresh() -> None:
    stale = [str(path) for path, text in generate_docs.pages().items() if generate_docs.read(path) != text]
    assert stale == [], "run `make docs` and commit the pages"


def test_no_generated_page_is_left_over() -> None:
    on_disk = {path.relative_to(generate_docs.DOCS) for path in (generate_docs.DOCS / "protocols").glob("*.md")}
    assert on_disk <= generate_docs.protocol_pages().keys(), "run `make docs` and commit what it removes"


def test_every_error_has_its_cure() -> None:
    text = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    missing = [error.__name__ for error in generate_docs.error_classes(AtollError) if f"`{error.__name__}`" not in text]
    assert missing == [], "docs/how-to/troubleshooting.md does not name them"


def test_every_command_in_the_documentation_exists() -> None:
    from typer.main import get_command

    from atoll.cli import app

    wrong = []
    for page in PAGES:
        for block in blocks(page):
            if block.language != "bash":
                continue
            for line in block.code.replace("\\\n", " ").splitlines():
                problem = unknown(get_command(app), line)
                if problem:
                    wrong.append(f"{page.relative_to(ROOT)}:{block.line}: {problem} in {line!r}")
    assert wrong == []


def unknown(command: Any, line: str) -> str:
    """The first word of an `atoll ...` line that the command line does not know; empty if all is well."""
    words = shlex.split(line, comments=True)
    if "atoll" not in words:
        return ""
    words = words[words.index("atoll") + 1 :]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if getattr(command, "commands", {}) and words and not words[0].startswith("-"):
        return words[0]
    known = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]} | {"--help"}
    return next((word for word in words if word.startswith("--") and word.split("=")[0] not in known), "")


def test_an_unknown_command_is_noticed() -> None:
    from typer.main import get_command

    from atoll.cli import app

    assert unknown(get_command(app), "atoll site int bank") == "int"
    assert unknown(get_command(app), "atoll site init bank --adress x") == "--adress"
    assert unknown(get_command(app), "ATOLL_HOME=bank atoll site init bank --address x:1") == ""


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text(encoding="utf-8")
    assert [file.name for file in folder.glob("0*.md") if file.name not in index] == []


def test_every_news_fragment_has_a_good_name() -> None:
    changelog.fragments(ROOT / "newsfragments")


def test_a_fragment_moves_into_the_changelog(tmp_path: Path) -> None:
    (tmp_path / "12.fix.md").write_text("Ids with blanks\nmatch.\n", encoding="utf-8")
    text = changelog.section("1.2.0", changelog.fragments(tmp_path))
    assert text.startswith("## 1.2.0 (")
    assert "### Fixed\n\n- Ids with blanks match. (#12)" in text
    (tmp_path / "later.md").touch()
    with pytest.raises(ValueError, match=r"later\.md"):
        changelog.fragments(tmp_path)
