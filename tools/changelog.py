"""Move the news fragments into CHANGELOG.md: `python tools/changelog.py VERSION` (without VERSION: show them)."""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "security": "Security",
    "removal": "Removed",
    "change": "Changed",
    "feature": "Added",
    "fix": "Fixed",
}


def fragments(folder: Path) -> list[tuple[str, str, Path]]:
    """Kind, issue number and file of every fragment.

    Raises:
        ValueError: A file's name is not NUMBER.KIND.md.
    """
    found = []
    for file in sorted(folder.glob("*.md")):
        if file.name == "README.md":
            continue
        number, _, kind = file.stem.partition(".")
        if not number.isdigit() or kind.split(".")[0] not in KINDS:
            raise ValueError(f"{file.name}: call it NUMBER.KIND.md with a kind out of {', '.join(KINDS)}")
        found.append((kind.split(".")[0], number, file))
    return found


def section(version: str, found: list[tuple[str, str, Path]]) -> str:
    """One version's entry."""
    lines = [f"## {version} ({time.strftime('%Y-%m-%d')})"]
    for kind, title in KINDS.items():
        entries = [
            f"- {' '.join(file.read_text(encoding='utf-8').split())} (#{number})"
            for at, number, file in found
            if at == kind
        ]
        if entries:
            lines += ["", f"### {title}", "", *entries]
    return "\n".join(lines) + "\n"


def main(version: str | None) -> None:
    found = fragments(ROOT / "newsfragments")
    text = section(version or "Unreleased", found)
    if version is None:
        print(text, end="")
        return
    changelog = ROOT / "CHANGELOG.md"
    head, mark, rest = changelog.read_text(encoding="utf-8").partition("\n## ")
    changelog.write_text(f"{head.rstrip()}\n\n{text}{mark}{rest}", encoding="utf-8")
    for _, _, file in found:
        file.unlink()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
